"""Parts of captions, gutters, labels: each expectation written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from eosin.documents.captions.labels import caption_label, mentions
from eosin.documents.item import Item
from eosin.documents.kinds.said import magnification_of, said_of, scale_bar_of
from eosin.documents.panels.divide import divide
from eosin.documents.panels.parts import parts_of
from eosin.documents.references.sentences import sentences_in


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("as shown in Figs. 3b and 4", ["3b", "4"]),
        ("see Figure 3-12", ["3-12"]),
        ("Figs. 2-4", ["2", "3", "4"]),
        ("Fig. 2a\u2013c and 3d", ["2a", "2b", "2c", "3d"]),
        ("Fig. 3(a), (b)", ["3a", "3b"]),
        ("Figures 1, 2, and 6A", ["1", "2", "6a"]),
        ("Abb. 2 und 3", ["2", "3"]),
        ("Supplementary Fig. 1", ["S1"]),
        ("Extended Data Fig. 2", ["ED2"]),
        ("Figs 1A-1D", ["1a", "1b", "1c", "1d"]),
        ("Fig. 2; Table 3", ["2"]),
        ("Fig. 1d, e and a lot", ["1d", "1e"]),
        ("Fig. 2 a tumour", ["2"]),
        ("configuration 3", []),
    ],
)
def test_what_a_text_points_to(text: str, found: list[str]) -> None:
    assert [m.number + m.panel for m in mentions(text)] == found


def test_known_figures_decide_what_a_dash_means() -> None:
    assert [m.number for m in mentions("Fig. 3-5", {"3-5", "3-6"})] == ["3-5"]
    assert [m.number for m in mentions("Fig. 3-5", {"3", "4", "5"})] == ["3", "4", "5"]
    assert [m.number for m in mentions("Fig. 3, 15 cases", {"3"})] == ["3"]


@pytest.mark.parametrize(
    ("text", "kind", "numbers"),
    [
        ("Figure 3. Low power", "figure", ("3",)),
        ("FIGURE 3 | Low power", "figure", ("3",)),
        ("Fig. 3 Low power", "figure", ("3",)),
        ("Abb. 2: \u00dcbersicht", "figure", ("2",)),
        ("Figures 3 and 4. Low power", "figure", ("3", "4")),
        ("Plate IV. Low power", "figure", ("4",)),
        ("Table 1. Cases", "table", ("1",)),
        ("Figure 3 shows a gland", None, ()),
        ("Fig. 3, in which", None, ()),
        ("Figured glands", None, ()),
    ],
)
def test_what_begins_a_caption(text: str, kind: str | None, numbers: tuple[str, ...]) -> None:
    label = caption_label(text)
    assert (label.kind, label.numbers) == (kind, numbers) if kind else label is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("caption", "parts"),
    [
        ("Figure 1. Glands. (A) low power. (B) High power. H&E.", [("a", "low power"), ("b", "High power")]),
        ("Fig. 2 Glands. a, crypts; b, nuclei; c, stroma. x200.", [("a", "crypts"), ("b", "nuclei"), ("c", "stroma")]),
        ("Figure 3. Low power (A) and high power (B).", [("a", "Low power"), ("b", "high power")]),
        ("Figure 4. (a,c) Original image, (b,d) decision. Both.",
         [("a", "Original image"), ("b", "decision"), ("c", "Original image"), ("d", "decision")]),
        ("Figure 5. (a\u2013c) Maps, (d) original.", [("a", "Maps"), ("b", "Maps"), ("c", "Maps"), ("d", "original")]),
        ("Figure 6. Low power (left) and high power (right).", [("left", "Low power"), ("right", "high power")]),
        ("Figure 7. Right: high power. Left: low power.", [("left", "low power"), ("right", "high power")]),
        ("Figure 8. A gland (arrow) of type A.", []),
        ("Figure 3. Colon. a Low power. b, c H&E and a CD3 stain. d 40 x.",
         [("a", "Low power"), ("b", "H&E and a CD3 stain"), ("c", "H&E and a CD3 stain"), ("d", "40 x")]),
    ],
)  # fmt: skip
def test_parts_of_a_caption(caption: str, parts: list[tuple[str, str]]) -> None:
    assert [(p.letter, p.text) for p in parts_of(caption)] == parts


def _picture(rows: int, columns: int, gutter: int) -> Image.Image:
    rng = np.random.default_rng(0)
    pixels = np.full((rows * 80 + (rows - 1) * gutter, columns * 80 + (columns - 1) * gutter, 3), 255, np.uint8)
    for r in range(rows):
        for c in range(columns):
            y, x = r * (80 + gutter), c * (80 + gutter)
            pixels[y : y + 80, x : x + 80] = rng.integers(60, 200, (80, 80, 3))
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "caption",
    [
        "Fig. 1. Low power (top left), high power (top right), CD3 (lower left) and Ki67 (lower right). Bar 5 um.",
        "Fig. 1. Top left: low power; top right: high power; lower left: CD3; lower right: Ki67. Bar 5 um.",
        "Fig. 1. Top right, high power; top left, low power; lower right, Ki67; lower left, CD3. Bar 5 um.",
    ],
)
def test_parts_named_by_their_corners_are_in_reading_order(caption: str) -> None:
    parts = parts_of(caption)
    assert [p.letter for p in parts] == ["top left", "top right", "lower left", "lower right"]
    assert [p.text.lower() for p in parts] == ["low power", "high power", "cd3", "ki67"]
    assert parts_of("Fig. 1. A gland (top left) beside another (top right).") == [], "of four panels two are named"


def test_gutters_give_the_boxes() -> None:
    item = Item("1", "Figure 1", "Figure 1. (A) one. (B) two. (C) three. (D) four.", image=_picture(2, 2, 6))
    boxes = {p.letter: p.box for p in divide(item)}
    assert boxes == {"a": [0, 0, 80, 80], "b": [86, 0, 166, 80], "c": [0, 86, 80, 166], "d": [86, 86, 166, 166]}


def test_an_equal_grid_where_there_are_no_gutters() -> None:
    item = Item("1", "Figure 1", "Figure 1. Low power (left) and high power (right).", image=_picture(1, 2, 0))
    assert [(p.letter, p.box, p.how) for p in divide(item)] == [
        ("left", [0, 0, 80, 80], "grid"), ("right", [80, 0, 160, 80], "grid"),
    ]  # fmt: skip


def test_letters_that_stand_as_text_name_their_panels() -> None:
    """Columns first: a over b, c over d."""
    item = Item("1", "Figure 1", "Figure 1. (a) one. (b) two. (c) three. (d) four.", image=_picture(2, 2, 6))
    item.words = [("a", [4, 4, 12, 14]), ("b", [4, 90, 12, 100]), ("c", [90, 4, 98, 14]), ("d", [90, 90, 98, 100])]
    assert {p.letter: p.box[:2] for p in divide(item)} == {"a": [0, 0], "b": [0, 86], "c": [86, 0], "d": [86, 86]}
    assert {p.letter: p.caption for p in divide(item)}["b"] == "two"


def test_one_picture_has_no_panels() -> None:
    assert divide(Item("1", "Figure 1", "Figure 1. A gland.", image=_picture(1, 1, 0))) == []


def test_what_a_caption_says() -> None:
    said = said_of("Fig. 2. Lymph node with adenocarcinoma. No necrosis. (H&E, original magnification \u00d7200).")
    assert (said.stain, said.organ, said.magnification) == ("H&E", "lymph node", 200.0)
    assert {(e.name, e.polarity) for e in said.entities} >= {("adenocarcinoma", "present"), ("necrosis", "absent")}
    assert said_of("Left: PAS stain. Right: Giemsa stain.").stain is None  # two stains: panels say which


@pytest.mark.parametrize(
    ("text", "times", "bar"),
    [("(HE, x100).", 100.0, None), ("Scale bar 50 \u00b5m.", None, 50.0), ("40x objective", 40.0, None),
     ("scale bars: 0.2 mm", None, 200.0), ("2 x 3 cm lesion", None, None), ("bars = 50 um, bar = 20 um", None, None)],
)  # fmt: skip
def test_magnification_and_scale_bar(text: str, times: float | None, bar: float | None) -> None:
    assert magnification_of(text) == times and scale_bar_of(text) == bar


def test_sentences() -> None:
    text = "Glands vary (Fig. 3A\u2013C; ref. 2). See e.g. Fig. 2. The next one (see Abb. 4). Ende."
    assert sentences_in(text)[1:] == ["See e.g. Fig. 2.", "The next one (see Abb. 4).", "Ende."]
