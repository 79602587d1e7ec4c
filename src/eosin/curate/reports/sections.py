"""The parts of a report: what was seen under the microscope, and what was diagnosed. English and Spanish headings."""

from __future__ import annotations

import re

_NAMES: dict[str, tuple[str, ...]] = {
    "diagnosis": (
        r"(?:final |pathologic(?:al)? |histologic(?:al)? )?diagnos[ie]s",
        r"diagn[o\u00f3]stico(?: anatomopatol[o\u00f3]gico)?",
        "impression", "conclusion",
    ),
    "microscopy": (
        r"micro(?:scopy|scopic(?: description| findings| examination)?)",
        r"descripci[o\u00f3]n microsc[o\u00f3]pica", "histology",
    ),
    "gross": (
        r"gross(?: description| examination)?", r"macro(?:scopy|scopic(?: description)?)",
        r"descripci[o\u00f3]n macrosc[o\u00f3]pica", r"specimens?(?: submitted)?", "tipo de muestra",
    ),
    "other": (
        r"clinical (?:history|data|information)", "history", "comments?", "notes?", "addendum", r"synoptic(?: report)?",
        "immunohistochemistry", r"inmunohistoqu[i\u00ed]mica[^:\n]{0,30}", r"signed[^:\n]{0,30}", "firmado", "case",
        r"fecha[^:\n]{0,30}", "paciente", r"m[e\u00e9]dico[^:\n]{0,30}", r"datos cl[i\u00ed]nicos",
        r"mitoses counted[^:\n]{0,30}",
    ),
}  # fmt: skip
_HEADS = {name: "|".join(words) for name, words in _NAMES.items()}
_ANY = "|".join(f"(?P<{name}>{words})" for name, words in _HEADS.items())
_HEAD = re.compile(
    rf"^[ \t]*(?:[A-Z0-9][.)]\s*)?(?:{_ANY})(?:\s*\([^)\n]*\))?[ \t]*(?::|\n)", re.IGNORECASE | re.MULTILINE
)


def sections(report: str) -> dict[str, str]:
    """Texts by section: "diagnosis", "microscopy", "gross", "other"; what stands before any heading is "head".

    A section that comes twice is joined.
    """
    found: dict[str, str] = {}
    marks = list(_HEAD.finditer(report))
    parts = [("head", report[: marks[0].start()] if marks else report)]
    for k, mark in enumerate(marks):
        end = marks[k + 1].start() if k + 1 < len(marks) else len(report)
        name = next(n for n in _HEADS if mark.group(n) is not None)
        parts.append((name, report[mark.end() : end]))
    for name, text in parts:
        if text.strip():
            found[name] = f"{found[name]}\n{text.strip()}" if name in found else text.strip()
    return found


def seen_part(report: str) -> str:
    """What speaks of the slide: the microscopy, else all but gross, history and diagnosis."""
    parts = sections(report)
    return parts.get("microscopy") or "\n".join(t for n, t in parts.items() if n == "head")


def diagnosis_part(report: str) -> str:
    """What was diagnosed; the whole report where it has no such section."""
    parts = sections(report)
    return parts.get("diagnosis") or report
