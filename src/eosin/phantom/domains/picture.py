"""Cases and pictures of another domain. Everything follows from (domain, seed, case number, picture number)."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from eosin.phantom.domains.fields import F64
from eosin.phantom.domains.kinds import DOMAINS

SIDE_PX = 160
JPEG_QUALITY = 95


@dataclass(frozen=True)
class DomainCase:
    """A made-up case of one domain with one label. Labels take turns, so that any run of cases is balanced."""

    domain: str
    seed: int
    number: int

    @property
    def label(self) -> str:
        labels = list(DOMAINS[self.domain].labels)
        return labels[self.number % len(labels)]

    @property
    def id(self) -> str:
        return f"phantom-{self.domain}-{self.seed}-{self.number:05d}"

    def rng(self, *more: int) -> np.random.Generator:
        """The random numbers of one thing of this case."""
        front = zlib.crc32(self.domain.encode())
        return np.random.default_rng(np.random.SeedSequence([front, self.seed, self.number, *more]))


def render(case: DomainCase, index: int = 0, side_px: int = SIDE_PX) -> bytes:
    """Picture `index` of a case as JPEG: RGB, `side_px` a side. Brightness and contrast vary from case to case.

    A picture is given, channel by channel, the values of a second picture whose label was drawn by lot: only where
    they lie is its own. What its histogram says of the label is therefore nothing, but for what JPEG adds.
    """
    domain, scanner = DOMAINS[case.domain], case.rng(2)
    values = domain.paint(case.label, side_px, case.rng(1, index))
    lot = case.rng(3, index)
    other = str(lot.choice(list(domain.labels)))
    values = with_values_of(values, domain.paint(other, side_px, lot), lot)
    values = np.clip(values, 0, 1) ** scanner.uniform(0.85, 1.15)
    values = np.clip(values * scanner.uniform(0.92, 1.06) + scanner.uniform(-0.02, 0.03), 0, 1)
    out = io.BytesIO()
    Image.fromarray(np.rint(values * 255).astype(np.uint8), "RGB").save(
        out, "JPEG", quality=JPEG_QUALITY, subsampling=0
    )
    return out.getvalue()


def with_values_of(picture: F64, other: F64, rng: np.random.Generator) -> F64:
    """The picture with its n-th highest value of each channel replaced by the n-th highest of another picture's.

    Grey pictures stay grey. Pixels of equal value are put in a random order.

    Args:
        picture, other: (side, side, 3).
    """
    grey = bool((picture[..., 0] == picture[..., 1]).all() and (other[..., 0] == other[..., 1]).all())
    made = np.empty_like(picture)
    for channel in range(1 if grey else 3):
        flat = picture[..., channel].ravel()
        order = np.lexsort((rng.random(flat.size), flat))
        made[..., channel].reshape(-1)[order] = np.sort(other[..., channel].ravel())
    if grey:
        made[..., 1] = made[..., 2] = made[..., 0]
    return made
