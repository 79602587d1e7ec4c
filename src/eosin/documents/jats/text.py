"""Elements of an article as plain text: formulas flattened, with the places that point to figures."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from eosin.documents.jats.xml import walk

_SKIPPED = {"tex-math", "object-id", "label", "graphic", "media", "annotation", "annotation-xml",
            "table", "permissions", "attrib"}  # fmt: skip
_FLOATS = {"fig", "fig-group", "table-wrap", "table-wrap-group", "supplementary-material"}
_BREAKS = {"p", "title", "sec", "break", "list-item", "disp-formula", "def", "caption"}


@dataclass
class Pointer:
    """A cross-reference: text[start:end] points to the element of this id."""

    start: int
    end: int
    target: str
    kind: str


@dataclass
class Flat:
    """Text with its cross-references."""

    text: str = ""
    pointers: list[Pointer] = field(default_factory=list)


def flattened(element: Element, *, floats: bool = False) -> Flat:
    """The text of an element, white space folded; figures and tables that stand in it are left out unless `floats`."""
    flat = Flat()
    _flatten(element, flat, floats, top=True)
    lead = len(flat.text) - len(flat.text.lstrip())
    flat.text = flat.text.strip()
    for p in flat.pointers:
        p.start, p.end = max(0, p.start - lead), min(max(0, p.end - lead), len(flat.text))
    return flat


def plain(element: Element | None) -> str:
    """The text of an element; empty where there is none."""
    return flattened(element).text if element is not None else ""


def _flatten(element: Element, flat: Flat, floats: bool, top: bool = False) -> None:
    tag = element.tag
    if not top and (tag in _SKIPPED or (tag in _FLOATS and not floats)):
        return
    if tag in _BREAKS and not top:
        _add(flat, " ")
    start = len(flat.text)
    if tag == "inline-formula" or tag == "disp-formula":
        _add(flat, _formula(element))
    else:
        _add(flat, element.text or "")
        for child in element:
            _flatten(child, flat, floats)
            _add(flat, child.tail or "")
    if tag == "xref" and element.get("rid"):
        kind = element.get("ref-type", "")
        flat.pointers += [Pointer(start, len(flat.text), target, kind) for target in str(element.get("rid")).split()]
    if tag in _BREAKS:
        _add(flat, " ")


def _formula(element: Element) -> str:
    """A formula by its MathML, else by what stands in it; TeX only where there is nothing else."""
    best = next((e for e in walk(element) if e.tag == "math"), None)
    if best is not None:
        return _math(best)
    told = "".join(
        t for e in walk(element, frozenset({"tex-math"})) if e.tag != "tex-math" for t in (e.text or "", e.tail or "")
    )
    if told.strip():
        return told
    tex = next((e.text or "" for e in walk(element) if e.tag == "tex-math"), "")
    inner = re.search(r"\\begin\{document\}(.*?)\\end\{document\}", tex, re.S)
    return (inner.group(1) if inner else tex).replace("$", "").strip()


def _math(element: Element) -> str:
    parts = [
        _math(child) + (child.tail or "").strip()
        for child in element
        if child.tag not in ("annotation", "annotation-xml")
    ]
    if element.tag == "mfrac" and len(parts) == 2:
        return f"{parts[0]}/{parts[1]}"
    if element.tag in ("msub", "munder") and len(parts) == 2:
        return f"{parts[0]}_{parts[1]}"
    if element.tag in ("msup", "mover") and len(parts) == 2:
        return f"{parts[0]}^{parts[1]}"
    if element.tag in ("msubsup", "munderover") and len(parts) == 3:
        return f"{parts[0]}_{parts[1]}^{parts[2]}"
    return (element.text or "").strip() + "".join(parts)


def _add(flat: Flat, text: str) -> None:
    """Append with white space folded across what is there already."""
    folded = re.sub(r"\s+", " ", text)
    if folded.startswith(" ") and (not flat.text or flat.text.endswith(" ")):
        folded = folded[1:]
    flat.text += folded
