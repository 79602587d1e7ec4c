"""What a phantom document holds: figures with panels and captions, sentences that point to them, and filler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Rng = np.random.Generator
Layout = Literal["plain", "strips", "separate", "plot", "over break", "next page", "beside"]
Letters = Literal["inside", "above", "none"]

ENGLISH: dict[str, Any] = {
    "fig": "Figure",
    "ref": "Fig.",
    "refs": "Figs.",
    "table": "Table",
    "and": "and",
    "subjects": [
        "The glands",
        "The crypts",
        "Goblet cells",
        "The nuclei of the epithelium",
        "Lymphocytes",
        "The stroma",
    ],
    "verbs": [
        "vary in size",
        "stand close to each other",
        "are dark and crowded",
        "lie at the base",
        "lose their order",
    ],
    "ends": [
        "in most of the cases",
        "without any necrosis",
        "as earlier work has found",
        "near the surface",
        "in 12 of 40 cases",
    ],
    "cites": ["as shown in {}", "(see {})", "({})", "as can be seen in {}", "compare {}"],
    "titles": [
        "Colonic mucosa with crowded crypts",
        "Tubular adenoma with dark nuclei",
        "Normal mucosa of the colon",
        "Signet ring cells in pools of mucin",
        "Chronic colitis with branching crypts",
    ],
    "views": [
        "low power",
        "high power",
        "detail of the crypts",
        "nuclei at the base",
        "goblet cells",
        "surface epithelium",
    ],
    "stains": [
        "(H&E, x100).",
        "(haematoxylin and eosin, original magnification x200).",
        "H&E.",
        "Scale bar 50 \u00b5m.",
    ],
    "plots": ["Number of cases by grade", "Survival by stage", "Share of goblet cells by site"],
    "sides": ["left", "right"],
}
GERMAN: dict[str, Any] = {
    "fig": "Abb.",
    "ref": "Abb.",
    "refs": "Abb.",
    "table": "Tabelle",
    "and": "und",
    "subjects": [
        "Die Dr\u00fcsen",
        "Die Krypten",
        "Becherzellen",
        "Die Kerne des Epithels",
        "Lymphozyten",
        "Das Stroma",
    ],
    "verbs": [
        "sind verschieden gro\u00df",
        "stehen dicht beieinander",
        "sind dunkel",
        "liegen an der Basis",
        "verlieren ihre Ordnung",
    ],
    "ends": [
        "in den meisten F\u00e4llen",
        "ohne Nekrose",
        "wie in fr\u00fcheren Arbeiten",
        "nahe der Oberfl\u00e4che",
        "in 12 von 40 F\u00e4llen",
    ],
    "cites": ["wie in {} gezeigt", "(siehe {})", "({})", "vergleiche {}"],
    "titles": [
        "Kolonschleimhaut mit dichten Krypten",
        "Tubul\u00e4res Adenom mit dunklen Kernen",
        "Normale Schleimhaut des Kolons",
    ],
    "views": [
        "\u00dcbersicht",
        "st\u00e4rkere Vergr\u00f6\u00dferung",
        "Ausschnitt der Krypten",
        "Kerne an der Basis",
        "Becherzellen",
        "Oberfl\u00e4che",
    ],
    "stains": ["(HE, x100).", "H\u00e4matoxylin-Eosin, x200.", "HE-F\u00e4rbung."],
    "plots": ["Zahl der F\u00e4lle nach Grad", "Anteil der Becherzellen nach Ort"],
    "sides": ["links", "rechts"],
}


@dataclass(frozen=True)
class PanelPlan:
    """A panel: its letter as printed ("A", "b"; empty without one) and its part of the caption."""

    letter: str
    caption: str


@dataclass(frozen=True)
class FigurePlan:
    """A figure as it shall be printed.

    Attributes:
        numbers: mostly one; two where two pictures share a caption.
        rows, columns: of panels. letters: where their letters stand. caption: label included.
        place: below, above. turned: on a page that is turned; rotated: by an entry of the page too.
    """

    numbers: tuple[str, ...]
    label: str
    caption: str
    layout: Layout
    letters: Letters
    rows: int = 1
    columns: int = 1
    panels: tuple[PanelPlan, ...] = ()
    place: Literal["below", "above"] = "below"
    turned: bool = False
    rotated: bool = False


@dataclass(frozen=True)
class Pointing:
    """A sentence of the running text, and what it points to: (number, panels), panels in lower case."""

    text: str
    to: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class DocumentPlan:
    """A document: paragraphs are lists of sentences; `order` says what stands where."""

    name: str
    language: Literal["en", "de"]
    columns: int
    figures: tuple[FigurePlan, ...]
    order: tuple[list[Pointing] | FigurePlan | str, ...] = field(repr=False)
    title: str = ""


def plan_document(seed: int, number: int) -> DocumentPlan:
    """The plan of document `number` of a series; the same for the same numbers."""
    rng = np.random.default_rng([seed, 77, number])
    language: Literal["en", "de"] = "de" if number % 4 == 3 else "en"
    words = GERMAN if language == "de" else ENGLISH
    columns = 1 + number % 2
    place: Literal["below", "above"] = "above" if number % 5 == 2 else "below"
    figures = _figures(rng, words, columns, place, number)
    order = _order(rng, words, figures)
    return DocumentPlan(f"phantom-{seed}-{number:03d}", language, columns, figures, order, f"PHANTOM atlas {number}")


def _figures(
    rng: Rng, words: dict[str, Any], columns: int, place: Literal["below", "above"], number: int
) -> tuple[FigurePlan, ...]:
    layouts: list[Layout] = ["plain", "strips", "separate", "plot", "plain"]
    if columns == 1:
        layouts += ["beside", "over break"] if place == "below" else ["beside"]
    layouts.append("next page")
    chapter = f"{number + 1}-" if number % 6 == 5 else ""
    figures = []
    for k in range(8):
        layout = layouts[int(rng.integers(len(layouts)))] if k else "plain"
        turned = k == 5 and layout in ("plain", "strips", "separate", "plot")
        figures.append(_figure(rng, words, f"{chapter}{k + 1}", layout, place, turned))
    return tuple(figures)


def _figure(
    rng: Rng, words: dict[str, Any], number: str, layout: Layout, place: Literal["below", "above"], turned: bool,
) -> FigurePlan:  # fmt: skip
    label = f"{words['fig']} {number}"
    mark = str(rng.choice([".", ":", " |"])) if words["fig"] != "Abb." else "."
    if layout == "plot":
        text = f"{label}{mark} {rng.choice(words['plots'])}. {_sentence(rng, words)}"
        return FigurePlan(
            (number,), label, text, layout, "none", place=place, turned=turned, rotated=bool(rng.integers(2))
        )
    rows, columns = [(1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (2, 1)][int(rng.integers(6))]
    letters: Letters = "none"
    panels: tuple[PanelPlan, ...] = ()
    body = f"{rng.choice(words['titles'])} {rng.choice(words['stains'])}"
    if rows * columns > 1:
        letters = "inside" if layout != "separate" or rng.integers(2) else "above"
        panels, body = _panels(rng, words, rows * columns, str(rng.choice(words["titles"])))
        if not panels[0].letter:
            letters = "none"
    if layout == "separate" and rows * columns == 1:
        layout = "plain"
    return FigurePlan((number,), label, f"{label}{mark} {body}", layout, letters, rows, columns, panels, place, turned,
                      bool(rng.integers(2)))  # fmt: skip


def _panels(rng: Rng, words: dict[str, Any], num: int, title: str) -> tuple[tuple[PanelPlan, ...], str]:
    """Panels with their captions, and the caption that names them all."""
    views = [str(v) for v in rng.permutation(words["views"])[:num]]
    style = int(rng.integers(4))
    upper = style in (0, 1)
    names = [chr((ord("A") if upper else ord("a")) + i) for i in range(num)]
    stain = str(rng.choice(words["stains"]))
    if num == 2 and rng.integers(3) == 0:
        sides = words["sides"]
        parts = [f"{v.capitalize()} ({s})" for v, s in zip(views, sides, strict=True)]
        text = f"{title}. {parts[0]} {words['and']} {parts[1].lower()}. {stain}"
        return tuple(PanelPlan("", v) for v in views), text
    if style == 0:
        text = " ".join(f"({n}) {v.capitalize()}." for n, v in zip(names, views, strict=True))
    elif style == 1:
        text = " ".join(
            f"{n}, {v}." if i == num - 1 else f"{n}, {v};" for i, (n, v) in enumerate(zip(names, views, strict=True))
        )
    elif style == 2:
        text = ", ".join(f"({n}) {v}" for n, v in zip(names, views, strict=True)) + "."
    else:
        text = " ".join(f"{n}) {v.capitalize()}." for n, v in zip(names, views, strict=True))
    return tuple(PanelPlan(n, v) for n, v in zip(names, views, strict=True)), f"{title}. {text} {stain}"


def _sentence(rng: Rng, words: dict[str, Any]) -> str:
    return f"{rng.choice(words['subjects'])} {rng.choice(words['verbs'])} {rng.choice(words['ends'])}."


def _order(
    rng: Rng, words: dict[str, Any], figures: Sequence[FigurePlan]
) -> tuple[list[Pointing] | FigurePlan | str, ...]:
    """Paragraphs around the figures; each figure is pointed to at least once."""
    order: list[list[Pointing] | FigurePlan | str] = []
    for k, figure in enumerate(figures):
        for p in range(2):
            sentences = [Pointing(_sentence(rng, words)) for _ in range(int(rng.integers(3, 7)))]
            pointing = _pointing(rng, words, figures, figure if p == 0 else figures[int(rng.integers(len(figures)))])
            sentences.insert(int(rng.integers(len(sentences))), pointing)
            order.append(sentences)
        order.append(figure)
        if k == 2:
            order.append("table")
        if k == 4:
            order.append("sign")
    order.append([Pointing(_sentence(rng, words)) for _ in range(5)])
    return tuple(order)


def _pointing(rng: Rng, words: dict[str, Any], figures: Sequence[FigurePlan], to: FigurePlan) -> Pointing:
    """A sentence that points to a figure, to some of its panels, or to several figures."""
    number = to.numbers[0]
    letters = [p.letter for p in to.panels if p.letter]
    plain = number.isdigit()
    style = int(rng.integers(5))
    named: list[tuple[str, tuple[str, ...]]] = [(number, ())]
    told = f"{words['ref']} {number}"
    if style == 1 and letters:
        one = letters[int(rng.integers(len(letters)))]
        named, told = [(number, (one.lower(),))], f"{words['ref']} {number}{one}"
    elif style == 2 and len(letters) > 2:
        named = [(number, tuple(c.lower() for c in letters[:3]))]
        told = f"{words['ref']} {number}{letters[0]}\u2013{letters[2]}"
    elif style == 3 and plain and int(number) + 2 <= len(figures):
        last = int(number) + 2
        named = [(str(n), ()) for n in range(int(number), last + 1)]
        told = f"{words['refs']} {number}\u2013{last}"
    elif style == 4 and plain and len(figures) > 1:
        other = str(int(number) % len(figures) + 1)
        named, told = [(number, ()), (other, ())], f"{words['refs']} {number} {words['and']} {other}"
    body = _sentence(rng, words).rstrip(".")
    return Pointing(f"{body} {str(rng.choice(words['cites'])).format(told)}.", tuple(named))
