"""Where things lie on a phantom slide, as functions of the position in µm: tissue, lesions, and what spoils slides."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eosin.core.errors import EosinError
from eosin.phantom.tiles.noise import F32, F64, RandomField
from eosin.phantom.tiles.scenes import NORMAL, OPTIONAL
from eosin.phantom.tiles.tile import PhantomCase, case_rng

ARTEFACTS = ("pen", "fat", "faint", "border", "tears", "bubble", "dust")
INKS = {"blue": (40, 60, 165), "green": (20, 120, 60), "black": (28, 26, 30), "red": (190, 30, 40)}
FAR_UM = -1e4


@dataclass(frozen=True)
class Stroke:
    """A line of felt pen: points (n, 2) in µm, width in µm, and the colour of the light it lets through."""

    points: F64
    width_um: float
    ink: str


@dataclass(frozen=True)
class Disc:
    """A round thing: centre and radius in µm."""

    x: float
    y: float
    radius_um: float


@dataclass(frozen=True)
class SlidePlan:
    """Where tissue, lesions and artefacts lie.

    Attributes:
        side_um: side of the square slide. lesions: centre x, centre y, radius of each, µm.
        faint: exponent of the light that passes: 1 is the usual stain, 0.2 a very faint one.
        border_um: width of the black border at the left, top, right, bottom.
        own_scenes: each lesion is a scene of its own, not a piece of one page.
        without: findings of `scenes.OPTIONAL` that no lesion with a scene of its own shows.
    """

    case: PhantomCase
    side_um: float
    lesions: tuple[tuple[float, float, float], ...]
    strokes: tuple[Stroke, ...] = ()
    fat_spots: tuple[Disc, ...] = ()
    tears: tuple[Disc, ...] = ()
    bubbles: tuple[Disc, ...] = ()
    dust: tuple[Disc, ...] = ()
    faint: float = 1.0
    border_um: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    own_scenes: bool = False
    without: frozenset[str] = frozenset()
    _waves: dict[str, RandomField] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        case: PhantomCase,
        side_um: float,
        artefacts: tuple[str, ...] = (),
        lesion_um: float | None = None,
        finding_share: float = 1.0,
    ) -> SlidePlan:
        """The plan of a case's slide.

        Args:
            artefacts: names of ARTEFACTS.
            lesion_um: usual radius of a lesion; each then is a scene of its own. None: 0.12 of the side, cut from
                one page.
            finding_share: share of the cases that may show one of the findings that a diagnosis need not show.
        """
        unknown = sorted(set(artefacts) - set(ARTEFACTS))
        if unknown:
            raise EosinError("There is no such artefact.", expected=", ".join(ARTEFACTS), found=", ".join(unknown))
        if lesion_um is not None and not 20 <= lesion_um <= 0.2 * side_um:
            raise EosinError("This is no radius for a lesion.", expected=f"20 to {0.2 * side_um:g} µm",
                             found=f"{lesion_um:g}")  # fmt: skip
        lesions = _lesions(case, side_um, 0.12 * side_um if lesion_um is None else lesion_um)
        draw = _Drawing(case, side_um)
        drawn = {k: v for name in artefacts for k, v in getattr(draw, name)().items()}
        drawn_away = case_rng(case, 16).random(len(OPTIONAL)) >= finding_share
        without = frozenset(name for name, away in zip(OPTIONAL, drawn_away, strict=True) if away)
        return cls(case, side_um, lesions, own_scenes=lesion_um is not None, without=without, **drawn)

    def _wave(self, salt: int, shortest: float, longest: float, xs: F64, ys: F64) -> F32:
        key = f"{salt} {shortest} {longest}"
        if key not in self._waves:
            seed = self.case.seed * salt + self.case.number
            self._waves[key] = RandomField(seed, shortest * self.side_um, longest * self.side_um)
        return self._waves[key].grid(xs, ys)

    def outline(self, xs: F64, ys: F64) -> F32:
        """Signed distance in µm to the border of the piece of tissue, positive inside: (len(ys), len(xs))."""
        centre = self.side_um / 2
        wave = self._wave(7919, 0.1, 0.5, xs, ys)
        u, v = (xs - centre)[None, :] / 0.44, (ys - centre)[:, None] / 0.37
        return np.asarray(self.side_um * (1 + 0.1 * wave) - np.hypot(u, v), dtype=np.float32) * np.float32(0.4)

    def tissue(self, xs: F64, ys: F64) -> F32:
        """As `outline`, without tears. Fat is tissue; ink and the black border are left out in `clean_tissue`."""
        inside = self.outline(xs, ys)
        return np.minimum(inside, -self._discs(self.tears, xs, ys, 0.25)) if self.tears else inside

    def clean_tissue(self, xs: F64, ys: F64) -> F32:
        """The tissue that can be used: not under ink, not under the black border."""
        return np.minimum(np.minimum(self.tissue(xs, ys), -self.pen(xs, ys)), -self.border(xs, ys))

    def lesion(self, xs: F64, ys: F64) -> F32:
        """Signed distance in µm to the border of the nearest lesion, positive inside."""
        return self._nearest(self.lesions, xs, ys)

    def one_lesion(self, number: int, xs: F64, ys: F64) -> F32:
        """Signed distance in µm to the border of one lesion, positive inside."""
        return self._nearest(self.lesions[number : number + 1], xs, ys)

    def shown_lesion(self, number: int, xs: F64, ys: F64) -> F32:
        """As `one_lesion`, where it can be seen: in clean tissue and not under fat."""
        clean = np.minimum(self.one_lesion(number, xs, ys), self.clean_tissue(xs, ys))
        return np.minimum(clean, -self.fat(xs, ys)) if self.fat_spots else clean

    def _nearest(self, lesions: tuple[tuple[float, float, float], ...], xs: F64, ys: F64) -> F32:
        best = np.full((len(ys), len(xs)), FAR_UM, dtype=np.float32)
        if not lesions:
            return best
        wave = self._wave(104729, 0.04, 0.2, xs, ys)
        for x, y, r in lesions:
            distance = r * (1 + 0.12 * wave) - np.hypot((xs - x)[None, :], (ys - y)[:, None])
            best = np.maximum(best, distance.astype(np.float32))
        return np.minimum(best, self.tissue(xs, ys))

    def fat(self, xs: F64, ys: F64) -> F32:
        """Signed distance to the border of fat, positive inside; never outside the tissue."""
        if not self.fat_spots:
            return np.full((len(ys), len(xs)), FAR_UM, dtype=np.float32)
        return np.minimum(self._discs(self.fat_spots, xs, ys, 0.3), self.tissue(xs, ys))

    def pen(self, xs: F64, ys: F64) -> F32:
        """Signed distance to the border of the nearest ink, positive inside."""
        best = np.full((len(ys), len(xs)), FAR_UM, dtype=np.float32)
        for stroke in self.strokes:
            best = np.maximum(best, stroke_distance(stroke, xs, ys))
        return best

    def border(self, xs: F64, ys: F64) -> F32:
        """Signed distance to the inner edge of the black border, positive in the black."""
        left, top, right, bottom = self.border_um
        across, down = _beyond(xs, left, self.side_um, right), _beyond(ys, top, self.side_um, bottom)
        return np.asarray(np.maximum(across[None, :], down[:, None]), dtype=np.float32)

    def _discs(self, discs: tuple[Disc, ...], xs: F64, ys: F64, ragged: float) -> F32:
        best = np.full((len(ys), len(xs)), FAR_UM, dtype=np.float32)
        wave = self._wave(15485863, 0.04, 0.2, xs, ys)
        for disc in discs:
            distance = disc.radius_um * (1 + ragged * wave) - np.hypot((xs - disc.x)[None, :], (ys - disc.y)[:, None])
            best = np.maximum(best, distance.astype(np.float32))
        return best


def _beyond(at: F64, low: float, side: float, high: float) -> F64:
    """How far positions lie in a band of width `low` at 0 or of width `high` at `side`; no band of width 0."""
    before = low - at if low > 0 else np.full(len(at), FAR_UM)
    after = at - (side - high) if high > 0 else np.full(len(at), FAR_UM)
    return np.asarray(np.maximum(before, after), dtype=np.float64)


def stroke_distance(stroke: Stroke, xs: F64, ys: F64) -> F32:
    """Signed distance in µm to the edge of a stroke, positive inside: (len(ys), len(xs))."""
    nearest = np.full((len(ys), len(xs)), 1e8, dtype=np.float32)
    x, y = xs[None, :].astype(np.float32), ys[:, None].astype(np.float32)
    for (ax, ay), (bx, by) in zip(stroke.points[:-1], stroke.points[1:], strict=True):
        length2 = max((bx - ax) ** 2 + (by - ay) ** 2, 1e-6)
        along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2, 0, 1)
        nearest = np.minimum(nearest, (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2)
    return np.asarray(stroke.width_um / 2 - np.sqrt(nearest), dtype=np.float32)


def _lesions(case: PhantomCase, side_um: float, radius: float) -> tuple[tuple[float, float, float], ...]:
    rng = case_rng(case, 5)
    num = 0 if case.diagnosis == NORMAL else int(rng.integers(1, 4))
    lesions: list[tuple[float, float, float]] = []
    for _ in range(200):
        if len(lesions) == num:
            break
        x, y, r = *rng.uniform(0.28, 0.72, 2) * side_um, rng.uniform(0.7, 1.2) * radius
        if all(np.hypot(x - a, y - b) > 1.2 * (r + c) for a, b, c in lesions):
            lesions.append((float(x), float(y), float(r)))
    return tuple(lesions)


class _Drawing:
    """Draws each kind of artefact from random numbers of its own."""

    def __init__(self, case: PhantomCase, side_um: float) -> None:
        self._case, self._side = case, side_um

    def _rng(self, name: str) -> np.random.Generator:
        return case_rng(self._case, 11, ARTEFACTS.index(name))

    def _on_rim(self, rng: np.random.Generator, share: float) -> tuple[float, float, float]:
        """A point on an ellipse about the tissue's border (`share` 1), and its angle."""
        angle = rng.uniform(0, 2 * np.pi)
        x = (0.5 + 0.44 * share * np.cos(angle)) * self._side
        return float(x), float((0.5 + 0.37 * share * np.sin(angle)) * self._side), float(angle)

    def pen(self) -> dict[str, object]:
        rng = self._rng("pen")
        strokes = []
        for ink in rng.choice(sorted(INKS), int(rng.integers(1, 4)), replace=False):
            x, y, angle = self._on_rim(rng, rng.uniform(1.0, 1.25))
            turn = angle + np.pi / 2 + rng.normal(0, 0.25) + np.linspace(-0.5, 0.5, 9) * rng.uniform(0.3, 1.4)
            step = rng.uniform(0.015, 0.05) * self._side
            path = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], axis=-1) * step, axis=0)
            points = path - path[4] + (x, y)
            strokes.append(Stroke(points, float(rng.uniform(0.025, 0.05) * self._side), str(ink)))
        return {"strokes": tuple(strokes)}

    def fat(self) -> dict[str, object]:
        rng = self._rng("fat")
        spots = []
        for _ in range(int(rng.integers(1, 4))):
            x, y, _ = self._on_rim(rng, rng.uniform(0.55, 0.95))
            spots.append(Disc(x, y, float(rng.uniform(0.05, 0.11) * self._side)))
        return {"fat_spots": tuple(spots)}

    def faint(self) -> dict[str, object]:
        return {"faint": float(self._rng("faint").uniform(0.3, 0.5))}

    def border(self) -> dict[str, object]:
        rng = self._rng("border")
        widths = np.where(rng.random(4) < 0.5, rng.uniform(0.01, 0.05, 4), 0.0)
        if not widths.any():
            widths[int(rng.integers(4))] = 0.03
        return {"border_um": tuple(float(w) * self._side for w in widths)}

    def tears(self) -> dict[str, object]:
        rng = self._rng("tears")
        return {"tears": tuple(self._inside(rng, 0.8, (0.02, 0.045)) for _ in range(int(rng.integers(1, 4))))}

    def bubble(self) -> dict[str, object]:
        rng = self._rng("bubble")
        return {"bubbles": tuple(self._inside(rng, 1.3, (0.03, 0.08)) for _ in range(int(rng.integers(1, 3))))}

    def dust(self) -> dict[str, object]:
        rng = self._rng("dust")
        places = rng.uniform(0.02, 0.98, (60, 2)) * self._side
        sizes = rng.uniform(4, 30, 60)
        return {"dust": tuple(Disc(float(x), float(y), float(r)) for (x, y), r in zip(places, sizes, strict=True))}

    def _inside(self, rng: np.random.Generator, share: float, radius: tuple[float, float]) -> Disc:
        angle, far = rng.uniform(0, 2 * np.pi), share * np.sqrt(rng.random())
        x, y = 0.5 + 0.44 * far * np.cos(angle), 0.5 + 0.37 * far * np.sin(angle)
        return Disc(float(x) * self._side, float(y) * self._side, float(rng.uniform(*radius) * self._side))
