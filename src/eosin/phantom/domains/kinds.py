"""The four domains: what each shows, its labels, and how a picture of a label is made.

Within a domain every label spends the same ink: lesions have the same area, the same colours and the same contrast, and
differ in where and in which shape they lie. A colour histogram therefore says next to nothing about the label
(`tests/phantom/test_domains.py` holds it near chance). No picture is of a patient, and none looks like a diagnosis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from eosin.phantom.domains.fields import F64, curve, drawn, ellipse, grid, noise, soft, with_share

U8 = NDArray[np.uint8]
Paint = Callable[[str, int, np.random.Generator], F64]


@dataclass(frozen=True)
class Domain:
    """A kind of picture.

    Attributes:
        modality: in words, for the question.
        question: what is asked.
        labels: label -> what is seen, for the reasoning.
        paint: label, side, random numbers -> (side, side, 3), 0..1.
    """

    name: str
    modality: str
    question: str
    labels: dict[str, str]
    paint: Paint


def _grey(values: F64) -> F64:
    return np.repeat(np.clip(values, 0, 1)[..., None], 3, axis=2)


def _mixed(base: F64, over: F64, colour: tuple[float, float, float]) -> F64:
    """A colour laid over a picture by a mask 0..1."""
    return base * (1 - over[..., None]) + np.asarray(colour) * over[..., None]


# ---- CT ------------------------------------------------------------------------------------------------------------

_CT_AREA = 0.022


def _ct(label: str, side: int, rng: np.random.Generator) -> F64:
    """A chest in cross-section: two lungs; dense matter of one area lies as one round mass, as a mass with rays, as
    many small grains, or along the wall."""
    body = soft(ellipse(side, (0, 0), (0.92, 0.72)), 0.02)
    lungs = [ellipse(side, (0.02, s * 0.42), (0.36, 0.5), s * 0.12) for s in (-1, 1)]
    lung = np.maximum(soft(lungs[0], 0.02), soft(lungs[1], 0.02))
    spine = soft(ellipse(side, (0.5, 0), (0.13, 0.11)), 0.05)
    grey = 0.03 + 0.5 * body - 0.38 * lung + 0.35 * spine
    which = int(rng.integers(2))
    inside, away = lungs[which] < 0.92, lungs[which]
    field = _ct_field(label, side, away, inside, (0.02, (-1, 1)[which] * 0.42), rng)
    dense = gaussian_filter(with_share(field, _CT_AREA * side * side / inside.sum(), inside).astype(float), 0.7)
    grey = grey * (1 - dense) + 0.62 * dense
    return _grey(grey + 0.025 * noise(side, 0.8, rng) + 0.02 * noise(side, 6, rng))


def _ct_field(label: str, side: int, away: F64, inside: NDArray[np.bool_], centre: tuple[float, float],
              rng: np.random.Generator) -> F64:  # fmt: skip
    spot = (centre[0] + rng.uniform(-0.18, 0.18), centre[1] + rng.uniform(-0.12, 0.12))
    y, x = grid(side)
    far = np.hypot(y - spot[0], x - spot[1])
    if label == "round mass":
        return -far + 0.004 * noise(side, 3, rng)
    if label == "mass with rays":
        angle = np.arctan2(y - spot[0], x - spot[1]) * int(rng.integers(5, 8)) + rng.uniform(0, 6)
        return -far / (0.45 + np.abs(np.cos(angle)) ** 6 * 1.9)
    if label == "scattered grains":
        return noise(side, 1.6 * side / 160, rng)
    return np.where(inside, away, 0) + 0.01 * noise(side, 4, rng)


# ---- dermoscopy ----------------------------------------------------------------------------------------------------


def _skin(label: str, side: int, rng: np.random.Generator) -> F64:
    """A spot on skin; dark pigment of one area in it lies as a net, as dots, as rays at its rim, or in one half."""
    tone = np.array([0.86, 0.68, 0.58]) * (1 + 0.06 * rng.normal())
    picture = np.clip(tone + 0.02 * noise(side, 5, rng)[..., None], 0, 1)
    radii = (rng.uniform(0.58, 0.66),) * 2
    centre = (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1))
    away = ellipse(side, centre, radii)
    picture = _mixed(picture, soft(away, 0.04), (0.62, 0.42, 0.30))
    inside = away < 0.95
    pigment = with_share(_pigment(label, side, away, centre, rng), 0.34, inside)
    picture = _mixed(picture, gaussian_filter(pigment.astype(float), 0.7), (0.28, 0.16, 0.12))
    return picture + 0.012 * rng.normal(size=picture.shape)


def _pigment(label: str, side: int, away: F64, centre: tuple[float, float], rng: np.random.Generator) -> F64:
    y, x = grid(side)
    dy, dx = y - centre[0], x - centre[1]
    turn = rng.uniform(0, 2 * np.pi)
    if label == "net":
        cells = noise(side, 4.5 * side / 160, rng)
        return -np.abs(cells)
    if label == "dots":
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        wave = 7.5 * np.pi
        return np.cos(wave * u) * np.cos(wave * v) + 0.15 * noise(side, 3, rng)
    if label == "rays at the rim":
        spokes = np.cos(np.arctan2(dy, dx) * int(rng.integers(13, 18)) + turn)
        return 1.6 * away + 0.9 * spokes
    return dx * np.cos(turn) + dy * np.sin(turn) + 0.03 * noise(side, 5, rng)


# ---- fundus --------------------------------------------------------------------------------------------------------


def _fundus(label: str, side: int, rng: np.random.Generator) -> F64:
    """The back of an eye: disc, vessels; bright deposits of one area lie as scattered specks, in a ring, beside the
    disc, or in the middle."""
    y, x = grid(side)
    view = soft(np.hypot(y, x) / 0.95, 0.012)
    eye = int(rng.choice([-1, 1]))
    disc = (rng.uniform(-0.06, 0.06), eye * rng.uniform(0.42, 0.5))
    picture = np.empty((side, side, 3))
    picture[:] = np.array([0.62, 0.27, 0.13]) * (1 + 0.05 * rng.normal())
    picture *= (1 + 0.04 * noise(side, 8, rng))[..., None]
    picture = _mixed(picture, soft(ellipse(side, disc, (0.13, 0.15)), 0.08), (0.93, 0.75, 0.45))
    for up in (-1, 1):
        for tilt in (0.5, 0.95, 1.5):
            line = curve(side, disc, up * tilt + (np.pi if eye > 0 else 0), rng.uniform(0.8, 1.3), 1.2, rng)
            picture = _mixed(picture, 0.75 * drawn(side, line, 2.2 * side / 160), (0.36, 0.08, 0.06))
    inside = (np.hypot(y, x) < 0.86) & (ellipse(side, disc, (0.18, 0.2)) > 1)
    field = _deposits(label, side, disc, eye, rng)
    share = 0.03 * side * side / inside.sum()
    bright = gaussian_filter(with_share(field, share, inside).astype(float), 0.6)
    picture = _mixed(picture, 0.85 * bright, (0.92, 0.82, 0.4))
    return picture * view[..., None] + 0.012 * rng.normal(size=picture.shape)


def _deposits(label: str, side: int, disc: tuple[float, float], eye: int, rng: np.random.Generator) -> F64:
    y, x = grid(side)
    specks = noise(side, 1.5 * side / 160, rng)
    middle = np.hypot(y - disc[0] * 0.3, x + eye * 0.12)
    if label == "scattered specks":
        return specks
    if label == "ring":
        return specks * 0.35 - 14 * np.abs(middle - rng.uniform(0.36, 0.44))
    if label == "fan beside the disc":
        beside = np.hypot(y - disc[0], x - (disc[1] - eye * 0.3))
        return specks * 0.35 - 6 * beside
    return specks * 0.35 - 6 * middle


# ---- OCT -----------------------------------------------------------------------------------------------------------


def _oct(label: str, side: int, rng: np.random.Generator) -> F64:
    """Layers of a retina from the side; one dark area lies as a split below the layers, as holes within them, as a gap
    through them, or as a hump on the lowest layer."""
    y, x = grid(side)
    dip = 0.10 * np.exp(-((x - rng.uniform(-0.06, 0.06)) ** 2) / 0.03)
    bend = rng.uniform(-0.05, 0.05) * x**2 + 0.012 * noise(side, 12, rng)[0][None, :]
    top = -0.35 + dip + bend
    base = 0.28 + bend
    field, where = _fluid(label, side, top, base, rng)
    grey = np.full((side, side), 0.06)
    depth = (y - top) / (base - top)
    layers = (depth > 0) & (depth < 1)
    grey = np.where(layers, 0.36 + 0.16 * np.cos(depth * 4 * np.pi) ** 2, grey)
    grey = np.where(np.abs(y - base) < 0.035, 0.86, grey)
    grey = np.where(y > base + 0.05, 0.30 * np.exp(-(y - base) * 1.6), grey)
    mask = with_share(field, 0.045 * side * side / max(1, int(where.sum())), where)
    dark = gaussian_filter(mask.astype(float), 0.8)
    grey = grey * (1 - dark) + 0.07 * dark
    speckle = rng.gamma(9.0, 1 / 9.0, size=(side, side))
    return _grey(np.clip(grey * speckle, 0, 1))


def _fluid(label: str, side: int, top: F64, base: F64, rng: np.random.Generator) -> tuple[F64, NDArray[np.bool_]]:
    y, x = grid(side)
    at = rng.uniform(-0.25, 0.25)
    depth = (y - top) / (base - top)
    within = (depth > 0.06) & (depth < 0.94)
    if label == "split below":
        band = (depth > 0.7) & (depth < 1.0)
        return -np.abs(x - at) - 4 * np.abs(depth - 0.92), band
    if label == "holes within":
        return noise(side, 2.4 * side / 160, rng) - 1.2 * np.abs(x - at), (depth > 0.25) & (depth < 0.8)
    if label == "gap in the middle":
        return -np.abs(x - at * 0.4) - 0.02 * depth, within
    hump = np.hypot((x - at) / 1.0, (y - base + 0.06) / 0.5)
    return -hump, (depth > 0.3) & (depth < 1.0)


DOMAINS: dict[str, Domain] = {
    d.name: d
    for d in (
        Domain("ct", "CT of the chest", "What is seen in this CT picture?", {
            "round mass": "Dense matter lies in one lung, in one place, with an even, round outline.",
            "mass with rays": "Dense matter lies in one lung, in one place, and rays go out from it.",
            "scattered grains": "Dense matter lies in one lung as many small grains, far from each other.",
            "band along the wall": "Dense matter lies along the outer wall of one lung, as a band.",
        }, _ct),
        Domain("dermoscopy", "dermoscopy", "Which pattern does this spot show?", {
            "net": "The dark pigment forms thin lines that enclose lighter holes.",
            "dots": "The dark pigment forms separate round dots in rows.",
            "rays at the rim": "The dark pigment lies at the rim and ends in rays.",
            "one dark half": "The dark pigment fills one half of the spot and leaves the other free.",
        }, _skin),
        Domain("fundus", "a photograph of the back of the eye", "How do the bright deposits lie?", {
            "scattered specks": "Bright specks lie all over the field.",
            "ring": "Bright deposits form a ring around the middle.",
            "fan beside the disc": "Bright deposits lie together beside the disc.",
            "patch in the middle": "Bright deposits lie together in the middle.",
        }, _fundus),
        Domain("oct", "OCT of the retina", "Where is the dark space?", {
            "split below": "A flat dark space lies just above the lowest bright layer.",
            "holes within": "Several dark holes lie within the layers.",
            "gap in the middle": "A dark gap goes through all layers from top to bottom.",
            "hump": "A rounded dark space rises from the lowest bright layer.",
        }, _oct),
    )
}  # fmt: skip
