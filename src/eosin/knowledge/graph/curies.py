"""One spelling for ids: CURIEs from URLs, dated prefixes and the habits of sources (prefixes.tsv)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib.resources import files

_URL = re.compile(r"^<?(?:https?://)([^\s<>]+)>?$")
_CURIE = re.compile(r"^[A-Za-z][\w.\-]*:\S+$")
_RDFS = {
    "www.w3.org/2000/01/rdf-schema#": "rdfs", "www.w3.org/2002/07/owl#": "owl",
    "www.w3.org/2004/02/skos/core#": "skos", "www.geneontology.org/formats/oboInOwl#": "oboInOwl",
    "www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf", "purl.org/dc/terms/": "dcterms",
    "purl.org/dc/elements/1.1/": "dc", "identifiers.org/": "", "w3id.org/biolink/vocab/": "biolink",
    "www.orpha.net/ORDO/Orphanet_": "ORPHANET", "www.ebi.ac.uk/efo/EFO_": "EFO",
}  # fmt: skip


@functools.cache
def _tables() -> tuple[Mapping[str, str], tuple[tuple[str, str], ...], frozenset[str]]:
    """Exact aliases, beginnings of dated aliases, and the prefixes whose codes identify."""
    exact: dict[str, str] = {}
    dated: list[tuple[str, str]] = []
    identity = set()
    lines = files("eosin.knowledge").joinpath("prefixes.tsv").read_text("utf-8").splitlines()
    for line in [x for x in lines if x and not x.startswith("#")][1:]:
        prefix, yes, aliases = line.split("\t")
        if yes == "yes":
            identity.add(prefix)
        exact[prefix.casefold()] = prefix
        for alias in filter(None, aliases.split(";")):
            if alias.endswith("*"):
                dated.append((alias[:-1].casefold(), prefix))
            else:
                exact[alias.casefold()] = prefix
    return exact, tuple(dated), frozenset(identity)


@functools.lru_cache(maxsize=4096)
def canonical_prefix(prefix: str) -> str:
    """The one spelling of a prefix: NCI -> NCIT, SNOMEDCT_US_2025_09_01 -> SNOMEDCT; unknown ones as they are."""
    exact, dated, _ = _tables()
    folded = prefix.casefold()
    if folded in exact:
        return exact[folded]
    return next((p for begin, p in dated if folded.startswith(begin)), prefix)


def curie(text: str) -> str | None:
    """The CURIE that a source means by `text` (CURIE, OBO URL, URL), or None where it is no id."""
    text = text.strip().strip('"')
    url = _URL.match(text)
    if url:
        return _of_url(url.group(1))
    if not _CURIE.match(text):
        return None
    prefix, local = text.split(":", 1)
    return f"{canonical_prefix(prefix)}:{local}"


def _of_url(rest: str) -> str:
    for begin, prefix in _RDFS.items():
        if rest.startswith(begin):
            local = rest[len(begin) :]
            return f"{prefix}:{local}" if prefix else (curie(local) or local)
    tail = re.split(r"[/#]", rest)[-1]
    obo = re.match(r"^([A-Za-z][A-Za-z0-9]*)_(\S+)$", tail)
    if obo and rest.startswith("purl.obolibrary.org/obo/") and "#" not in rest:
        return f"{canonical_prefix(obo.group(1))}:{obo.group(2)}"
    if "#" in rest:
        space = re.split(r"[/.]", rest.split("#")[0].removesuffix(".owl"))[-1]
        return f"{canonical_prefix(space)}:{tail}"
    return f"https://{rest}"


def prefix_of(identifier: str) -> str:
    return identifier.split(":", 1)[0]


def identifies(identifier: str) -> bool:
    """Whether an equal code of this prefix means an equal concept."""
    return prefix_of(identifier) in _tables()[2]
