"""Pictures of a PDF come out with the pixels that are stored: strips joined, masks laid on white, any colour space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.pdfs import WORDS, image, one_figure, placed, text, tissue, write_pdf

from eosin.documents.figures.figure import Found, figures_of
from eosin.documents.item import Item
from eosin.documents.page.boxes import Box
from eosin.documents.pdf.open import opened
from eosin.documents.pdf.rasters import Raster
from eosin.documents.pdf.read import read_page, read_raster
from eosin.documents.pdf.reading import read_pdf


def _read(path: Path) -> tuple[Found, list[Raster]]:
    with opened(path) as document:
        found = figures_of([read_page(document, i + 1) for i in range(len(document))], path.stem)
        rasters = [
            read_raster(document, found.pages[f.page - 1], f.box, f.pictures, overlaid=f.overlaid)
            for f in found.figures
        ]
    return found, rasters


def _pixels(raster: Raster) -> NDArray[np.int16]:
    return np.asarray(raster.image, np.int16)


def test_rgb_is_what_is_stored(tmp_path: Path) -> None:
    pixels = tissue()
    found, (raster,) = _read(one_figure(tmp_path / "a.pdf", image(pixels.tobytes(), 60, 40)))
    assert raster.how == "native" and np.array_equal(np.asarray(raster.image), pixels)
    assert found.figures[0].caption == "Figure 1. A gland with nuclei at its base. The lumen is empty."
    assert found.figures[0].box.rounded() == [100.0, 202.0, 340.0, 362.0]  # 842 - 640, 842 - 480


def test_indexed_colours(tmp_path: Path) -> None:
    indices = (np.arange(60 * 40) % 3).astype(np.uint8)
    palette = np.array([[255, 0, 0], [0, 128, 0], [90, 20, 200]], np.uint8)
    space = f"[/Indexed /DeviceRGB 2 <{palette.tobytes().hex()}>]"
    _, (raster,) = _read(one_figure(tmp_path / "a.pdf", image(indices.tobytes(), 60, 40, space)))
    assert np.array_equal(np.asarray(raster.image), palette[indices].reshape(40, 60, 3))


def test_sixteen_bits_a_colour_become_eight(tmp_path: Path) -> None:
    deep = (tissue().astype(">u2") * 257).tobytes()
    _, (raster,) = _read(one_figure(tmp_path / "a.pdf", image(deep, 60, 40, bits=16)))
    assert np.abs(_pixels(raster) - tissue().astype(np.int16)).max() <= 1


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    ink = np.zeros((40, 60, 4), np.uint8)
    ink[:20, :, 1] = 255  # magenta above, paper below
    _, (raster,) = _read(one_figure(tmp_path / "a.pdf", image(ink.tobytes(), 60, 40, "/DeviceCMYK")))
    above, below = _pixels(raster)[5, 30], _pixels(raster)[35, 30]
    assert above[0] > 180 and above[1] < 90 and (below > 245).all()


def test_a_soft_mask_shows_white_where_it_is_clear(tmp_path: Path) -> None:
    mask = np.full((40, 60), 255, np.uint8)
    mask[:, 30:] = 0
    picture = image(np.zeros((40, 60, 3), np.uint8).tobytes(), 60, 40, more="/SMask 7 0 R")
    path = one_figure(tmp_path / "a.pdf", picture, extra=[image(mask.tobytes(), 60, 40, "/DeviceGray")])
    _, (raster,) = _read(path)
    shown = _pixels(raster)
    assert shown[20 * len(shown) // 40, 5].max() < 20 and shown[20 * len(shown) // 40, -5].min() > 235


def test_strips_are_joined_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = tissue(60, 40)
    strips = {f"Im{i}": image(pixels[10 * i : 10 * i + 10].tobytes(), 60, 10) for i in range(4)}
    content = text(72, 780, [WORDS] * 4)
    content += "".join(placed(f"Im{i}", 100, 600 - 40 * i, 240, 40) for i in range(4))
    content += text(100, 462, ["Figure 1. A gland in four strips."])
    _, (raster,) = _read(write_pdf(tmp_path / "a.pdf", content, strips))
    assert raster.how == "joined" and np.array_equal(np.asarray(raster.image), pixels)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_page_is_read_as_the_upright_one(tmp_path: Path, degrees: int) -> None:
    """The page's own entry turns it; text that lies on its side turns it back."""
    path = one_figure(tmp_path / "a.pdf", image(tissue().tobytes(), 60, 40), page=f"/Rotate {degrees}")
    found, (raster,) = _read(path)
    (figure,) = found.figures
    assert figure.caption.startswith("Figure 1. A gland") and figure.box.rounded() == [100.0, 202.0, 340.0, 362.0]
    wide = _pixels(raster)
    assert abs(wide.shape[1] / wide.shape[0] - 1.5) < 0.03
    assert np.abs(wide[2:8, 2:8].mean((0, 1)) - tissue()[2:8, 2:8].mean((0, 1))).max() < 12


def test_text_that_lies_on_its_side_sets_the_page_upright(tmp_path: Path) -> None:
    """No entry turns the page: its text runs upwards, so that it is read from the right."""
    lines = "BT /F1 10 Tf 0 1 -1 0 100 100 Tm (Figure 1. A gland on its side, with nuclei at its base.) Tj ET\n"
    content = "q 0 200 -60 0 80 100 cm /Im0 Do Q\n" + lines
    found, (raster,) = _read(write_pdf(tmp_path / "a.pdf", content, {"Im0": image(tissue().tobytes(), 60, 40)}))
    assert found.pages[0].size == (842.0, 595.0)
    assert found.figures[0].box.rounded() == [100.0, 20.0, 300.0, 80.0]
    corner = _pixels(raster)[2:8, 2:8].mean((0, 1))
    assert np.abs(corner - tissue()[0:3, 0:3].mean((0, 1))).max() < 25


def test_a_clip_crops_the_picture(tmp_path: Path) -> None:
    """The left half can be seen: box and pixels are of that half."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = (200, 30, 30)
    content = text(72, 780, [WORDS] * 4) + "q 100 480 120 160 re W n " + placed("Im0", 100, 480, 240, 160) + "Q\n"
    content += text(100, 462, ["Figure 1. The left half of a gland."])
    found, (raster,) = _read(write_pdf(tmp_path / "a.pdf", content, {"Im0": image(pixels.tobytes(), 60, 40)}))
    assert found.figures[0].box.rounded() == [100.0, 202.0, 220.0, 362.0]
    assert _pixels(raster)[:, :, 0].min() > 150


def test_a_picture_inside_a_moved_form_is_where_the_page_shows_it(tmp_path: Path) -> None:
    form = (b"<< /Type /XObject /Subtype /Form /BBox [0 0 120 80] /Matrix [1 0 0 1 0 0] "
        b"/Resources << /XObject << /In 7 0 R"
            b" >> >> /Length 29 >>\nstream\nq 120 0 0 80 0 0 cm /In Do Q\n\nendstream")  # fmt: skip
    content = text(72, 780, [WORDS] * 4) + "q 2 0 0 2 100 480 cm /Im0 Do Q\n"
    content += text(100, 462, ["Figure 1. A gland inside a form."])
    path = write_pdf(tmp_path / "a.pdf", content, {"Im0": form}, extra=[image(tissue().tobytes(), 60, 40)])
    found, _ = _read(path)
    assert found.figures[0].box.rounded() == [100.0, 202.0, 340.0, 362.0]


def test_a_drawing_is_drawn_with_the_words_at_its_axes(tmp_path: Path) -> None:
    lines = "".join(f"{120 + 20 * i} 500 m {120 + 20 * i} {520 + 10 * i} l S\n" for i in range(8))
    lines += "110 500 m 300 500 l S 110 500 m 110 640 l S\n"
    content = text(72, 780, [WORDS] * 4) + lines + text(180, 484, ["grade"]) + text(98, 560, ["n"])
    content += text(100, 440, ["Figure 2. Number of cases by grade."])
    found, (raster,) = _read(write_pdf(tmp_path / "a.pdf", content, {}))
    (figure,) = found.figures
    assert figure.number == "2" and sorted(w.text for w in figure.words) == ["grade", "n"]
    assert figure.box.x0 < 99 and figure.box.y1 > 842 - 490
    assert raster.how == "drawn" and _pixels(raster).min() < 60


def _scanned(path: Path, strips: int, *, text_only: bool = False) -> Path:
    """A page drawn as one picture, or in strips, with its words invisible on it, as OCR programs leave scans."""
    words = text(72, 780, [WORDS] * 6) + text(72, 400, [WORDS, "As shown in Fig. 1, glands have lumina. " + WORDS])
    if not text_only:
        words += text(100, 462, ["Figure 1. A gland with nuclei at its base.", "The lumen is empty."])
    plain = words if text_only else words + placed("Im0", 100, 480, 240, 160)
    with opened(write_pdf(path, plain, {"Im0": image(tissue().tobytes(), 60, 40)})) as document:
        pixels = np.asarray(document[0].render(scale=1240 / 595).to_pil().convert("RGB"))
    parts = np.array_split(pixels, strips)
    ends = np.cumsum([len(p) for p in parts]) * 842 / len(pixels)
    content = "".join(placed(f"Im{i}", 0, 842 - ends[i], 595, 842 * len(p) / len(pixels)) for i, p in enumerate(parts))
    pictures = {f"Im{i}": image(p.tobytes(), p.shape[1], p.shape[0]) for i, p in enumerate(parts)}
    return write_pdf(path, content + "3 Tr " + words, pictures)


def _figures(path: Path) -> tuple[list[Item], list[str]]:
    with opened(path) as document:
        reading = read_pdf(document, path, path.name)
        return list(reading.items), [d.reason for d in reading.dropped]


@pytest.mark.parametrize("strips", [1, 5])
def test_a_scan_with_a_text_layer_gives_its_figures_and_not_its_pages(tmp_path: Path, strips: int) -> None:
    """The whole page, its text and caption with it, was taken for the figure."""
    (item,), dropped = _figures(_scanned(tmp_path / "a.pdf", strips))
    assert Box(*item.place["box_pt"]).iou(Box(100, 202, 340, 362)) > 0.9 and not dropped
    assert item.caption == "Figure 1. A gland with nuclei at its base. The lumen is empty."
    assert [r.text[:22] for r in item.references] == ["As shown in Fig. 1, gl"]
    assert item.image is not None and 0.85 < item.image.width / 1000 < 1.1  # 300 dots an inch
    assert _figures(_scanned(tmp_path / "b.pdf", strips, text_only=True)) == ([], [])


def test_pictures_on_a_background_keep_their_pixels(tmp_path: Path) -> None:
    pixels = tissue()
    content = placed("Im1", 0, 0, 595, 842) + text(72, 780, [WORDS] * 6) + placed("Im0", 100, 480, 240, 160)
    content += text(100, 462, ["Figure 1. A gland with nuclei at its base."]) + text(72, 400, [WORDS] * 2)
    for grey in (245, 200):  # paper, and a tint that is ink itself
        tint = image(np.full((20, 14, 3), grey, np.uint8).tobytes(), 14, 20)
        path = write_pdf(tmp_path / f"{grey}.pdf", content, {"Im0": image(pixels.tobytes(), 60, 40), "Im1": tint})
        (item,), dropped = _figures(path)
        assert item.place["pixels"] == "native" and np.array_equal(np.asarray(item.image), pixels) and not dropped
    plate = placed("Im0", 0, 42, 595, 800) + text(72, 25, ["Figure 1. A gland that fills its page."])
    (item,), _ = _figures(write_pdf(tmp_path / "plate.pdf", plate, {"Im0": image(pixels.tobytes(), 60, 40)}))
    assert item.place["pixels"] == "native" and np.array_equal(np.asarray(item.image), pixels)
