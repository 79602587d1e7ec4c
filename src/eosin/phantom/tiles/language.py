"""Words for phantom tiles: question, caption, reasoning steps. Only findings that are true of the tile are said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eosin.phantom.tiles.scenes import ADENOMA, CARCINOMA, COLITIS, LEIOMYOMA, MUCINOUS, NORMAL, Finding
from eosin.phantom.tiles.tile import PhantomTile

QUESTIONS = (
    "What is the diagnosis?",
    "Which diagnosis does this tile show?",
    "What does this field show?",
    "Which option fits best?",
)

# For each finding: ways to say that it is there, and ways to say that it is not.
_PRESENT: dict[str, tuple[str, ...]] = {
    "round glands": ("round glands stand apart", "the glands are round and evenly spaced"),
    "crowded glands": ("the glands are crowded and long", "crowded tubular glands lie close together"),
    "irregular glands": ("irregular glands invade the stroma", "the glands are irregular and angular"),
    "cribriform glands": ("cribriform glands with punched holes are seen", "there are cribriform nests"),
    "distorted glands": ("the glands are few and distorted", "distorted glands are left"),
    "goblet cells": ("goblet cells are seen", "there are goblet cells"),
    "basal nuclei": ("the nuclei are basal", "small nuclei line the base"),
    "stratified nuclei": ("the nuclei are pencil-like and stratified", "dark stratified nuclei fill the wall"),
    "pleomorphic nuclei": ("the nuclei are large and pleomorphic", "pleomorphic nuclei are seen"),
    "mitoses": ("mitoses are seen", "there are mitoses"),
    "necrosis": ("necrosis is seen", "there is dirty necrosis"),
    "desmoplastic stroma": ("the stroma is desmoplastic", "desmoplastic stroma surrounds them"),
    "mucin pools": ("there are pools of mucin", "mucin forms large pools"),
    "floating tumour cells": ("clumps of tumour cells float in it", "tumour cells float in the mucin"),
    "dense inflammation": ("plasma cells and lymphocytes crowd the stroma", "the stroma is full of inflammation"),
    "crypt abscess": ("neutrophils fill a lumen", "a crypt abscess is seen"),
    "lymphoid aggregate": ("a lymphoid aggregate is seen", "lymphocytes form an aggregate"),
    "interlacing fascicles": ("spindle cells run in interlacing fascicles", "fascicles cross each other"),
    "spindle cells": ("the nuclei are blunt and long", "the cells are long spindles"),
    "adipose tissue": ("some fat is seen", "there is adipose tissue"),
    "haemorrhage": ("there is some blood", "a haemorrhage is seen"),
    "muscle strip": ("a strip of muscle is seen", "there is some smooth muscle"),
}
_ABSENT: dict[str, tuple[str, ...]] = {
    "mitoses": ("no mitoses are seen", "mitoses are absent"),
    "goblet cells": ("goblet cells are absent", "there are no goblet cells"),
    "crowded glands": ("the glands are not crowded",),
    "desmoplastic stroma": ("there is no desmoplastic stroma", "the stroma is not desmoplastic"),
    "necrosis": ("there is no necrosis", "necrosis is absent"),
    "pleomorphic nuclei": ("there is no pleomorphism",),
    "glands": ("there are no glands", "glands are absent"),
    "round glands": ("no normal glands are left",),
    "crypt abscess": ("no crypt abscess is seen",),
}

# What speaks for each diagnosis, first the architecture, then the cells, then the rest. One of each of the first two
# groups is said, and of all that is left as much as the reader cares to say.
_ARGUMENT: dict[str, tuple[tuple[str, ...], ...]] = {
    NORMAL: (("round glands",), ("goblet cells", "basal nuclei"), ("mitoses", "crowded glands")),
    ADENOMA: (("crowded glands",), ("stratified nuclei",), ("mitoses", "goblet cells", "desmoplastic stroma")),
    CARCINOMA: (("cribriform glands", "irregular glands"), ("pleomorphic nuclei",),
                ("necrosis", "desmoplastic stroma", "mitoses", "goblet cells")),
    MUCINOUS: (("mucin pools",), ("floating tumour cells",), ("pleomorphic nuclei", "mitoses", "round glands")),
    COLITIS: (("dense inflammation",), ("distorted glands", "crypt abscess"),
              ("goblet cells", "crypt abscess", "pleomorphic nuclei")),
    LEIOMYOMA: (("interlacing fascicles",), ("spindle cells",), ("mitoses", "necrosis", "glands")),
}  # fmt: skip
_ASIDE = ("adipose tissue", "haemorrhage", "lymphoid aggregate", "muscle strip")
_FURTHER = (0.15, 0.4, 0.2, 0.15, 0.1)  # how often so many further findings are said
_CONCLUDE = ("This fits {d}.", "Together this is {d}.", "The picture is that of {d}.", "This points to {d}.")
_CAPTION = ("{d}: {f}, and {g}.", "Tissue of the colon with {d}; {f}, {g}.", "{F}; {g}. {D}.")

Rng = np.random.Generator


def say(finding: Finding, rng: Rng) -> str | None:
    """A finding in words, present or absent; None where there are no words for it."""
    wordings = (_PRESENT if finding.present else _ABSENT).get(finding.name)
    return str(rng.choice(wordings)) if wordings else None


def _first_said(names: Sequence[str], tile: PhantomTile, rng: Rng, shuffle: bool = False) -> str | None:
    order = list(rng.permutation(list(names))) if shuffle else list(names)
    for name in order:
        finding = tile.findings.get(str(name))
        words = say(finding, rng) if finding is not None else None
        if words is not None and (finding is None or finding.present or name not in _ARCHITECTURE):
            return words
    return None


_ARCHITECTURE = {"round glands", "crowded glands", "irregular glands", "cribriform glands", "distorted glands",
                 "mucin pools", "floating tumour cells", "dense inflammation", "interlacing fascicles"}  # fmt: skip


def steps(tile: PhantomTile, rng: Rng) -> tuple[str, ...]:
    """A chain from findings to the diagnosis, every statement true of the tile.

    Architecture and cells come first. What else is said differs from reader to reader: one goes straight to the
    diagnosis, another names up to four further findings, absent ones and bystanders included.
    """
    groups = _ARGUMENT[tile.case.diagnosis]
    first, second = (_first_said(g, tile, rng) for g in groups[:2])
    said = [s for s in (first, second) if s]
    chain = [_sentence(", and ".join(said))] if said else []
    rest = [n for n in rng.permutation([*dict.fromkeys(n for g in groups for n in g), *_ASIDE]) if _is_further(n, tile)]
    further = [w for n in rest if (w := say(tile.findings[str(n)], rng)) is not None and not _is_said(str(n), said)]
    chain += [_sentence(w) for w in further[: int(rng.choice(len(_FURTHER), p=_FURTHER))]]
    chain.append(str(rng.choice(_CONCLUDE)).format(d=tile.case.diagnosis))
    return tuple(chain)


def _is_further(name: str, tile: PhantomTile) -> bool:
    finding = tile.findings.get(str(name))
    return finding is not None and (finding.present or name not in _ARCHITECTURE)


def _is_said(name: str, said: Sequence[str]) -> bool:
    return any(s in (*_PRESENT.get(name, ()), *_ABSENT.get(name, ())) for s in said)


def caption(tile: PhantomTile, rng: Rng) -> str:
    """A description of the tile, for continued pretraining: diagnosis, two findings, and what lies beside it."""
    groups = _ARGUMENT[tile.case.diagnosis]
    found = [s for s in (_first_said(g, tile, rng, shuffle=True) for g in groups[:2]) if s] or ["tissue is seen"]
    text = str(rng.choice(_CAPTION)).format(
        d=tile.case.diagnosis, D=tile.case.diagnosis.capitalize(), f=found[0], F=found[0].capitalize(), g=found[-1]
    )
    aside = [say(tile.findings[n], rng) for n in _ASIDE if n in tile.findings and tile.findings[n].present]
    return " ".join([text[0].upper() + text[1:], *(_sentence(a) for a in aside if a)])


def question(rng: Rng) -> str:
    return str(rng.choice(QUESTIONS))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
