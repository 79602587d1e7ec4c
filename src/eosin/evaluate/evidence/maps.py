"""Scores of patches as a picture over the slide, as GeoJSON for QuPath, and as a list of the first patches."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.images import open_own
from eosin.core.nouns.bags import F64, PatchBag
from eosin.core.nouns.sample import SlideBag
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.evaluate.evidence.tests import inside, ranked, shares_of
from eosin.slides.annotations.geojson import Shape, write_geojson
from eosin.slides.annotations.geojson_read import NO_AREA, read_geojson

MAX_SIDE_PX = 720
BINS = 5
LESION_KIND = "Lesion"
NOTE = "A score says what the reply's probability depends on in this model. Research use only, not for diagnosis."
_RED, _BLUE, _GREY = (178, 24, 43), (33, 102, 172), (200, 200, 200)
Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Background:
    """What a map is drawn on.

    Attributes:
        pixels: (h, w, 3) uint8, the whole slide, or None where it is not at hand.
        side_um: width and height of what is shown, in µm.
        mpp_level0: µm per pixel of level 0, or None.
        outlines: rings in µm of what is known to be a lesion.
    """

    pixels: NDArray[np.uint8] | None
    side_um: tuple[float, float]
    mpp_level0: float | None
    outlines: tuple[F64, ...] = ()


# ---- places --------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def mpp_of_level0(ref: SlideBag) -> float | None:
    """µm per pixel of level 0: from the feature file, else from the slide; None where neither says."""
    from eosin.slides.features.files import read_features
    from eosin.slides.open.slide import open_slide

    try:
        told = read_features(Path(ref.path)).geometry.level0_mpp
        if told is not None:
            return told
        if ref.slide is not None:
            with open_slide(ref.slide) as slide:
                return slide.mpp
    except EosinError:
        return None
    return None


def lesion_rings(truth: Path, mpp_level0: float) -> list[list[F64]]:
    """Polygons of the class Lesion: each an outer ring and its holes (n, 2), in µm.

    Raises:
        EosinError: no GeoJSON, or one with a damaged feature: a lesion that is lost would make the truth wrong.
    """
    found = read_geojson(truth)
    damaged = {reason: num for reason, num in found.reasons().items() if reason != NO_AREA}
    if damaged:
        raise EosinError("Some outlines of this slide cannot be read.", where=truth,
                         found=", ".join(f"{num} x {reason}" for reason, num in damaged.items()))  # fmt: skip
    shapes = [s for s in found.kept if s.kind == LESION_KIND]
    return [[np.asarray(r, dtype=float) * mpp_level0 for r in rings] for s in shapes for rings in s.parts]


def lesion_mask(bag: PatchBag, polygons: Sequence[Sequence[F64]]) -> NDArray[np.bool_]:
    """Which patches have their centre in a polygon: (N,)."""
    found = np.zeros(len(bag), dtype=bool)
    for rings in polygons:
        found |= inside(bag.centres_um, list(rings))
    return found


def background(bag: PatchBag, ref: SlideBag | None, truth: Path | None = None) -> Background:
    """The slide itself where it is at hand, else the frame of the patches."""
    edge = bag.centres_um.max(axis=0) + bag.tile_um / 2
    frame = (float(edge[0]), float(edge[1]))
    mpp = mpp_of_level0(ref) if ref is not None else None
    outlines: tuple[F64, ...] = ()
    if truth is not None and mpp is not None:
        outlines = tuple(r for rings in lesion_rings(truth, mpp) for r in rings)
    if ref is None or ref.slide is None:
        return Background(None, frame, mpp, outlines)
    from eosin.slides.open.slide import open_slide

    try:
        with open_slide(ref.slide, mpp=mpp) as slide:
            pixels = slide.overview(slide.fit_px(MAX_SIDE_PX))[0]
            side = slide.size_px[0] * slide.mpp, slide.size_px[1] * slide.mpp
            return Background(pixels, side, slide.mpp, outlines)
    except EosinError:
        return Background(None, frame, mpp, outlines)


# ---- GeoJSON and lists ---------------------------------------------------------------------------------------------


def strengths(scores: F64) -> F64:
    """Scores over the 99th percentile of their size, cut to -1..1: what the colours show. (N,)"""
    top = float(np.quantile(np.abs(scores), 0.99)) or float(np.abs(scores).max()) or 1.0
    return np.asarray(np.clip(np.asarray(scores, dtype=float) / top, -1, 1))


def patch_shapes(bag: PatchBag, scores: Mapping[str, F64], mpp_level0: float) -> list[Shape]:
    """A square a patch in pixels of level 0, coloured by the first method's score, with every score as measurement."""
    main = next(iter(scores.values()))
    share, strength = shares_of(main), strengths(main)
    rank = np.empty(len(bag), dtype=int)
    rank[ranked(main, 0)] = np.arange(1, len(bag) + 1)
    half = bag.tile_um / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    shapes = []
    for i in range(len(bag)):
        ring = np.round((bag.centres_um[i] + half) / mpp_level0, 2)
        values = {"Share of evidence": float(share[i]), "Rank": float(rank[i])}
        values |= {f"Score {name}": float(column[i]) for name, column in scores.items()}
        kind, colour = _bin(float(strength[i]), is_signed=bool((main < 0).any()))
        number = int(bag.numbers[i])
        shapes.append(Shape([[ring]], kind, f"patch {number}", "tile", values, colour))
    return shapes


def _bin(strength: float, *, is_signed: bool) -> tuple[str, Rgb]:
    """Class and colour of a patch: QuPath colours by class."""
    step = min(BINS, int(np.ceil(abs(strength) * BINS - 0.5)))
    if step == 0:
        return "Evidence near 0", _GREY
    deep = _RED if strength > 0 else _BLUE
    mix = (step - 1) / (BINS - 1) * 0.8 + 0.2
    red, green, blue = (round(c * mix + 235 * (1 - mix)) for c in deep)
    side = ("for " if strength > 0 else "against ") if is_signed else ""
    return f"Evidence {side}{step}", (red, green, blue)


def top_patches(bag: PatchBag, scores: F64, num: int, seed: int = 0) -> list[dict[str, Any]]:
    """The first `num` patches with positive scores: number in the feature file, centre in µm, share of the
    evidence. Patches without any are not listed."""
    shares = shares_of(scores)
    return [
        {
            "patch": int(bag.numbers[i]),
            "x_um": round(float(bag.centres_um[i, 0]), 2),
            "y_um": round(float(bag.centres_um[i, 1]), 2),
            "share": round(float(shares[i]), 6),
        }
        for i in ranked(scores, seed)[:num]
        if shares[i] > 0
    ]


# ---- picture -------------------------------------------------------------------------------------------------------


def heat_layer(bag: PatchBag, scores: F64, size_px: tuple[int, int], side_um: tuple[float, float]) -> F64:
    """Colours (h, w, 4) in 0..1: red speaks for the reply, blue against it, clear says nothing."""
    layer = np.zeros((size_px[1], size_px[0], 4))
    scale = np.array([size_px[0] / side_um[0], size_px[1] / side_um[1]])
    strength = strengths(scores)
    start = np.floor((bag.centres_um - bag.tile_um / 2) * scale + 1e-6).astype(int).clip(0)
    stop = np.maximum(np.floor((bag.centres_um + bag.tile_um / 2) * scale + 1e-6).astype(int), start + 1)
    for i in np.argsort(np.abs(strength), kind="stable"):  # the strongest is painted last
        box = slice(start[i, 1], stop[i, 1]), slice(start[i, 0], stop[i, 0])
        layer[box] = (*np.divide(_RED if strength[i] > 0 else _BLUE, 255), 0.85 * abs(strength[i]))
    return layer


def heat_map(bag: PatchBag, scores: F64, ground: Background, title: str) -> Image.Image:
    """The slide, and beside it the scores over its grey picture; outlines are known lesions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, high = ground.side_um
    scale = MAX_SIDE_PX / max(wide, high)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    plain = ground.pixels
    columns = 1 if plain is None else 2
    inches = 4.6 * wide / max(wide, high), 4.6 * high / max(wide, high)
    figure = Figure(figsize=(columns * inches[0] + 0.3 * (columns + 1), inches[1] + 1.15), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    extent = (0, wide / 1000, high / 1000, 0)
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    if plain is not None:
        axes[0].imshow(plain, extent=extent, interpolation="none")
        axes[-1].imshow(_faded(plain), extent=extent, interpolation="none")
    else:
        places = heat_layer(bag, np.ones(len(bag)), size, ground.side_um)[..., 3] > 0
        axes[-1].imshow(np.where(places[..., None], 0.86, 1.0) * np.ones(3), extent=extent, interpolation="none")
    axes[-1].imshow(heat_layer(bag, scores, size, ground.side_um), extent=extent, interpolation="none")
    for axis in axes:
        for ring in ground.outlines:
            axis.plot(*(ring / 1000).T, color="#00695c", lw=1.3)
        axis.set_xlim(0, wide / 1000)
        axis.set_ylim(high / 1000, 0)
        axis.tick_params(labelsize=7, length=2)
        axis.set_xlabel("mm", fontsize=7)
    is_signed = bool((scores < 0).any())
    legend = "red: speaks for the reply, blue: against it" if is_signed else "red: the reply depends on it"
    legend += "; green line: known lesion" if ground.outlines else ""
    figure.suptitle(_one_line(title), fontsize=9, x=0.02, ha="left")
    figure.text(0.02, 0.015, f"{legend}\n{NOTE}", fontsize=6.5, color="#444444", ha="left", va="bottom")
    figure.tight_layout(rect=(0, 0.07, 1, 0.97))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return open_own(buffer.getvalue()).convert("RGB")


def _faded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A light grey copy, on which colours are seen."""
    grey = pixels.astype(float) @ np.array([0.299, 0.587, 0.114])
    return np.repeat((80 + 175 * grey / 255).astype(np.uint8)[..., None], 3, axis=2)


def _one_line(text: str, limit: int = 110) -> str:
    line = " ".join(text.split()).replace("$", r"\$")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def write_map(
    folder: Path, name: str, bag: PatchBag, scores: Mapping[str, F64], ground: Background, title: str
) -> dict[str, str]:
    """FOLDER/NAME.png, and NAME.geojson where the scale of level 0 is known; returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    method = next(iter(scores))
    buffer = io.BytesIO()
    heat_map(bag, scores[method], ground, title).save(buffer, "PNG", optimize=True)
    write_bytes_atomic(folder / f"{name}.png", buffer.getvalue())
    files = {"picture": f"{name}.png"}
    if ground.mpp_level0 is not None:
        shapes = patch_shapes(bag, scores, ground.mpp_level0)
        write_geojson(folder / f"{name}.geojson", shapes, {"note": NOTE, "slide": bag.name, "method": method})
        files["geojson"] = f"{name}.geojson"
    return files
