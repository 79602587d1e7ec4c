"""Cards in the Hub's form: README.md with YAML front matter, written into every checkpoint and samples artifact.

What a card says stands in the artifact already; nothing is asked of anybody, and no time and no path of this machine
is in it, so that equal artifacts have equal cards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CARD", "KINDS", "card_text", "hub_licence"]

CARD = "README.md"
KINDS = ("samples", "checkpoint", "clip-checkpoint")
_HUB_LICENCES = {
    "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-2.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "apache-2.0", "mit", "bsd-3-clause", "odbl",
}  # fmt: skip
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_WARNING = "**Research use only, not for diagnosis.**"


def card_text(
    folder: Path, kind: str, counts: Mapping[str, int], facts: Mapping[str, Any], parents: Sequence[Path] = ()
) -> str:
    """The card of an artifact that is being written into `folder`.

    Args:
        kind: one of `KINDS`.
        parents: folders of what it was made from; the data's names and licences are read there.
    """
    if kind == "samples":
        return _data_card(_read(folder / "card.json") or dict(facts.get("card") or {}), counts, folder)
    return _model_card(folder, kind, counts, facts, [c for p in parents if (c := _read(p / "card.json"))])


def hub_licence(licence: str) -> dict[str, str]:
    """The fields of a licence as the Hub reads them: its own identifier, or "other" with the licence's words."""
    plain = licence.strip().casefold().replace(" ", "-")
    if plain in _HUB_LICENCES:
        return {"license": plain}
    return {"license": "other", "license_name": _line(licence)[:96] or "unknown"}


def _data_card(card: Mapping[str, Any], counts: Mapping[str, int], folder: Path) -> str:
    files = sorted(p.name for p in folder.glob("*.parquet"))
    shown = {k: int(v) for k, v in counts.items() if k not in ("dropped", "samples")}
    total = int(counts.get("samples", sum(shown.values())))
    splits = [{"split": _SPLITS.get(Path(f).stem, "train"), "path": f} for f in files if counts.get(Path(f).stem, 1)]
    name = _line(str(card.get("title") or card.get("name") or "samples"))
    front: dict[str, Any] = {
        **hub_licence(str(card.get("licence") or "unknown")),
        "pretty_name": name,
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "tags": ["pathology", "eosin", *(_line(str(card[k])) for k in ("modality", "organ", "stain") if card.get(k))],
        "size_categories": [next((size for top, size in _SIZES if total < top), "n>10M")],
        "configs": [{"config_name": "default", "data_files": splits}],
    }
    body = [f"# {name}", "", f"Samples in Eosin's form. {_WARNING}", ""]
    for label, key in (
        ("Licence", "licence"),
        ("Cite", "citation"),
        ("From", "homepage"),
        ("Scale, µm a pixel", "mpp"),
    ):
        if card.get(key):
            body.append(f"- {label}: {_line(str(card[key]))}")
    unit = card.get("split_unit")
    body += [f"- Never in two splits: one {_line(str(unit))}"] if unit else []
    body += ["", *_table("split", "samples", shown or {"all": total}), "", f"Set aside: {counts.get('dropped', 0)}", ""]
    reasons = card.get("drop_reasons")
    body += _table("reason", "set aside", reasons) if isinstance(reasons, Mapping) and reasons else []
    body += [f"- Note: {_line(str(w))}" for w in card.get("warnings") or ()]
    return _joined(front, body)


def _model_card(
    folder: Path, kind: str, counts: Mapping[str, int], facts: Mapping[str, Any], data: Sequence[Mapping[str, Any]]
) -> str:
    config = _read(folder / "adapter_config.json") or _read(folder / "config.json") or {}
    base = str(config.get("base_model_name_or_path") or "")
    is_clip = kind == "clip-checkpoint"
    names = [str(c["name"]) for c in data if c.get("name")]
    licences = sorted({str(c["licence"]) for c in data if c.get("licence")})
    front: dict[str, Any] = {
        "license": "other",
        "license_name": _line("as the weights it started from and its data allow")[:96],
        "library_name": "open_clip" if is_clip and not config else "peft" if base else "transformers",
        "pipeline_tag": "zero-shot-image-classification" if is_clip else "image-text-to-text",
        **({"base_model": _line(base)} if base.count("/") == 1 and not base.startswith(".") else {}),
        **({"datasets": [_line(n) for n in names]} if names else {}),
        "tags": ["pathology", "eosin", *([str(facts["stage"])] if facts.get("stage") else [])],
    }
    grammar = facts.get("grammar")
    tags = grammar.get("tags") if isinstance(grammar, Mapping) else None
    rows: dict[str, Any] = {
        "architecture": ", ".join(map(str, config.get("architectures") or [])) or config.get("peft_type"),
        "parameters": counts.get("parameters"), "stage": facts.get("stage"), "optimiser steps": facts.get("step"),
        "replies in the blocks": "/".join(map(str, tags)) if isinstance(tags, (list, tuple)) else None,
        "data": ", ".join(names), "licences of the data": ", ".join(licences),
    }  # fmt: skip
    told = {k: v for k, v in rows.items() if v not in (None, "")}
    body = [f"# {_line(str(facts.get('stage') or 'model'))}", "", f"Trained with Eosin. {_WARNING}", "",
            *_table("", "", told), "", "Figures of exams stand in the run that this checkpoint is of, with n, an "
            "interval and probes; a figure without them is not worth copying here.", ""]  # fmt: skip
    return _joined(front, body)


def _table(first: str, second: str, rows: Mapping[str, Any]) -> list[str]:
    return [f"| {first} | {second} |", "|---|---|", *(f"| {_cell(k)} | {_cell(v)} |" for k, v in rows.items())]


def _joined(front: Mapping[str, Any], body: Sequence[str]) -> str:
    head = yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True, width=110)
    return f"---\n{head}---\n\n" + "\n".join(_squeezed(body)).rstrip() + "\n"


def _squeezed(lines: Sequence[str]) -> Iterator[str]:
    """Without two empty lines in a row."""
    last = "x"
    for line in lines:
        if line or last:
            yield line
        last = line


def _cell(value: Any) -> str:
    return _line(str(value)).replace("|", "\\|")


def _line(text: str) -> str:
    """Foreign text on one line, which cannot end the front matter or open a tag."""
    return " ".join(text.split()).replace("<", "&lt;")


def _read(file: Path) -> dict[str, Any] | None:
    """A JSON object of an artifact; None where there is none that can be read."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
