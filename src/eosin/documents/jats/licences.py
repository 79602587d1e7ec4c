"""Licences by one name each, whatever words a document has for them; and permission for single figures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eosin.documents.references.sentences import sentence_spans

_LINK = re.compile(
    r"creativecommons\.org/(?:licenses/(?P<kind>by(?:-nc)?(?:-nd|-sa)?)(?:/(?P<version>\d\.\d))?"
    r"|(?P<zero>publicdomain/zero))",
    re.I,
)
_KIND = r"(?P<kind>BY(?:[ -]NC)?(?:[ -](?:ND|SA))?)(?:[ -](?:licen[cs]e\s)?(?P<version>\d\.\d))?"
_CODE = re.compile(
    rf"^\s*{_KIND}\s*$|\bCC[ -]{_KIND.replace('<kind>', '<kind2>').replace('<version>', '<version2>')}", re.I
)
_WORDS = re.compile(
    r"Creative\s+Commons\s+Attribution(?P<nc>[ -]+Non-?\s?Commercial)?"
    r"(?P<more>[ -]+(?:No-?\s?Deriv\w*|Share-?\s?Alike))?"
    r"(?P<nc2>[ -]+Non-?\s?Commercial)?(?:\s+(?P<version>\d\.\d))?(?=[^\d])",
    re.I,
)
_ZERO = re.compile(r"\bCC0\b|free of all copyright|public domain dedication", re.I)
_PERMISSION = re.compile(
    r"(?:[Rr]e-?(?:produced|printed|published|used)|[Aa]dapted|[Mm]odified|[Tt]aken)\s[^.]{0,120}?"
    r"(?:with|by)\s(?:kind\s|the\s)?permission"
    r"|(?:[Ww]ith|[Bb]y)\s(?:kind\s)?permission\s(?:of|from)|permission\s(?:was|has been)\s(?:obtained|granted)"
    r"|[Mm]it\s(?:freundlicher\s)?(?:Genehmigung|Erlaubnis)"
    r"|(?:\u00a9|\([cC]\)\s*(?=\d{4})|[Cc]opyright)\s*(?:\d{4})?\s*(?!(?:[Tt]he\s)?[Aa]uthors?)[A-Z][^.]{2,80}"
)
_GRANT = re.compile(
    r"licen[sc]ed?\s(?:under|to)|distributed\sunder|under\s(?:an?|the)\s(?:terms\sof\s(?:the\s)?)?Creative"
    r"|available\sunder\san?\s?CC|creativecommons\.org/|unter\sder\sLizenz", re.I,
)  # fmt: skip
_SUBJECT = re.compile(
    r"\b(?:(?P<own>(?:sub-?)?article|work|paper|(?:text|hand)?book|chapter|page|publication|manuscript|preprint|document|content|"
    r"open[ -]access|Artikel|Werk|(?:Lehr)?[Bb]uch|Kapitel|Beitrag|Dokument)|"
    r"(?:meta)?data\w*|code|software|sources?|scripts?|repository|slides?|images?|pictures?|photo\w*|micrographs?|fig(?:ure)?s?|"
    r"tables?|videos?|supplement\w*|model|weights|atlas|collection|re-?produced|reprinted|adapted|modified|taken|Daten\w*|"
    r"Abb\w*|Bild\w*)\b", re.I,
)  # fmt: skip
_NO_SUBJECT = re.compile(
    r"\W*(?:(?:it|this|is|are|made|freely|available|published|distributed|released|shared|and|for|use|under|the|"
    r"terms|of|an?|licen[sc]ed?|licensee|copyright|c|by|authors?|cc|nc|nd|sa|international|unported|http\S*|www|"
    r"\d{4}|\d\.\d)\b\W*)*", re.I,
)  # fmt: skip
_BEFORE, _AFTER = 300, 260
"""Letters before a grant that say of what it is, and behind it, in which the licence is named."""


def own_licence(text: str, *, named: bool = False) -> tuple[str, str] | None:
    """The licence that a document states for itself, and its words; None where it states none.

    "This article is licensed under ..." is such a statement; a licence of data, code or pictures that the document
    speaks of ("the slides were released under ...", "Fig. 2 reproduced under ...") is not.

    Args:
        named: the sentence must name the document ("this article"): for a piece of text, whose first sentence may have
            begun elsewhere.
    """
    for start, end in sentence_spans(text):
        grant = _GRANT.search(text, start, end)
        if grant is None:
            continue
        before = text[max(start, grant.start() - _BEFORE) : grant.start()]
        subject = _SUBJECT.search(before)
        if subject["own"] is None if subject else named or _NO_SUBJECT.fullmatch(before) is None:
            continue
        told = text[max(start, grant.start() - 120) : grant.end() + _AFTER]
        name = licence_name(re.sub(r"\ba(?=CC[ -]BY)", "a ", told))  # preprint servers write "under aCC-BY 4.0"
        if name is not None:
            return name, told.strip()[:300]
    return None


def licence_name(text: str) -> str | None:
    """The SPDX-like name of a licence that a link, a code or a sentence gives; None where none is known."""
    link = _LINK.search(text)
    if link is not None:
        return "CC0-1.0" if link["zero"] else _named(link["kind"], link["version"])
    code = _CODE.search(text)
    if code is not None:
        return _named(code["kind"] or code["kind2"], code["version"] or code["version2"])
    if _ZERO.search(text):
        return "CC0-1.0"
    words = _WORDS.search(text + " ")
    if words is None:
        return None
    more = (words["more"] or "").lower()
    kind = "by" + ("-nc" if words["nc"] or words["nc2"] else "")
    kind += "-nd" if "deriv" in more else "-sa" if "share" in more else ""
    return _named(kind, words["version"])


def _named(kind: str, version: str | None) -> str:
    name = "CC-" + re.sub(r"[ ]", "-", kind.upper())
    return f"{name}-{version}" if version else name


def family(licence: str) -> str:
    """A licence without its version: CC-BY-4.0 and CC BY are CC-BY."""
    name = licence_name(licence) or licence
    return re.sub(r"-\d+\.\d+$", "", name).upper().replace(" ", "-")


def allowed(licence: str, asked: Sequence[str]) -> bool:
    """Whether a licence is among those asked for, whatever its version; all are where none is asked for."""
    return not asked or family(licence) in {family(a) for a in asked}


def permission_of(text: str) -> str:
    """The words that say that a figure is shown by permission of its owner; empty where there are none."""
    found = _PERMISSION.search(text)
    return " ".join(found.group().split())[:200] if found else ""
