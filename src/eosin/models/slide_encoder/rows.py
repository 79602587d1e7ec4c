"""A `PatchBag` as rows of `pixel_values`, and back: features, then each patch's place in digits.

A row is [features, zeros up to the model's width | 16 columns of place]. x, y, tile side and mpp stand as four digits
of base 128 each: such digits are exact in half precision, so that a trainer which casts its inputs to bf16 moves no
patch. All rows of a model have one width, pixels of images included, because trainers put rows of several samples one
after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError, ImageError
from eosin.core.nouns.bags import F32, F64, I64, PatchBag

DIGITS = 4
BASE = 128
STEPS_PER_UM = 16  # of x and y: 1/16 µm, up to 8 m
STEPS_PER_UNIT = 2**14  # of tile side and mpp: up to 16 mm
PLACE_COLUMNS = 4 * DIGITS

Pooling = Literal["none", "kmeans", "topk", "queries"]


@dataclass(frozen=True)
class SlideSpec:
    """All that config and processor must agree on about slides; a part of both.

    Attributes:
        dimension: of the features.
        encoder: name of the encoder that features must be of; None takes any.
        tile_um, mpp: expected side and scale of patches; None takes any.
        max_patches: more are refused, or pooled by k-means to this number where `over_max` says so.
        pooling: "none" gives one token a patch; "kmeans" (in the processor), "topk" (learned gate) and "queries"
            (learned) give at most or exactly `num_tokens`.
        order: "canonical" follows a Hilbert curve through the patches, whatever order they come in; "as given" is the
            papers'.
        has_places: 2-D sin-cos of the places in the tower. The decoder's positions follow the places in any case
            where every patch is a token and the order is canonical.
        has_magnification: a token that says mpp and tile side comes first.
        image_columns: numbers in a patch of an image; 0 for a model without an eye for images.
        width, layers, heads, ffn, pairs, dropout: of the tower; pairs are (segment, dilation).
        embed_dropout: of the embedded patches.
        drop_path: share of slides for which the last block is passed over in training; less in the blocks before it.
        sub_norm: a LayerNorm before the last matrix of each attention and feed-forward (arXiv 2210.06423).
        standardise: features are standardised by the training slides' mean and deviation.
    """

    dimension: int
    encoder: str | None = None
    tile_um: float | None = None
    mpp: float | None = None
    max_patches: int = 20_000
    over_max: Literal["refuse", "kmeans"] = "refuse"
    pooling: Pooling = "none"
    num_tokens: int = 256
    seed: int = 0
    order: Literal["canonical", "as given"] = "canonical"
    has_places: bool = True
    has_magnification: bool = True
    image_columns: int = 0
    width: int = 64
    layers: int = 2
    heads: int = 4
    ffn: int = 128
    pairs: tuple[tuple[int, int], ...] = ((64, 1), (128, 2), (256, 4))
    dropout: float = 0.0
    embed_dropout: float = 0.0
    drop_path: float = 0.0
    sub_norm: bool = False
    standardise: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", tuple((int(w), int(r)) for w, r in self.pairs))
        if self.width % (4 * self.heads):
            raise EosinError("The tower's width must be a multiple of 4 x heads.", found=f"{self.width}, {self.heads}")
        if not any(step == 1 for _, step in self.pairs) or any(w % r for w, r in self.pairs):
            raise EosinError(
                "One dilation must be 1, and each segment a multiple of its dilation.", found=str(self.pairs)
            )

    @property
    def row_width(self) -> int:
        """Columns of `pixel_values`."""
        return max(self.dimension, self.image_columns) + PLACE_COLUMNS

    @property
    def follows_places(self) -> bool:
        """Whether the decoder's positions are those of the patches."""
        return self.pooling in ("none", "kmeans") and self.order == "canonical"

    def tokens_of(self, num_patches: int) -> int:
        """Tokens that a slide of so many rows takes in a prompt."""
        pooled = {
            "none": num_patches, "kmeans": num_patches, "topk": min(self.num_tokens, num_patches),
            "queries": self.num_tokens,
        }[self.pooling]  # fmt: skip
        return pooled + self.has_magnification

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "pairs": [list(p) for p in self.pairs]}

    @classmethod
    def of(cls, values: Mapping[str, Any] | SlideSpec) -> SlideSpec:
        """From JSON values; unknown names of later versions are refused."""
        if isinstance(values, SlideSpec):
            return values
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise EosinError("This model was made by a later version of Eosin.", found=", ".join(sorted(unknown)))
        return cls(**values)


@dataclass(frozen=True)
class PatchPositions:
    """Where the patches of one slide lie: centres_um (N, 2) x and y in µm, tile side in µm, µm a pixel."""

    centres_um: F64
    tile_um: float
    mpp: float

    def __len__(self) -> int:
        return len(self.centres_um)

    @property
    def grid(self) -> I64:
        """(N, 2) column and row in tile steps, from the smallest."""
        steps = np.floor(self.centres_um / self.tile_um).astype(np.int64)
        found: I64 = steps - steps.min(0)
        return found


def check_bag(bag: PatchBag, spec: SlideSpec) -> None:
    """Refuse a bag that the model cannot read.

    Raises:
        ImageError: it names the slide and the fix.
    """
    if bag.dimension != spec.dimension:
        raise ImageError(
            "features of another size than the model's", expected=f"{spec.dimension} numbers a patch",
            found=str(bag.dimension), where=bag.name,
            next_step=f"make the features again with {spec.encoder or 'the encoder of the model'}",
        )  # fmt: skip
    if spec.encoder is not None and bag.encoder is not None and bag.encoder != spec.encoder:
        raise ImageError(
            "features of another encoder than the model's", expected=spec.encoder, found=bag.encoder, where=bag.name,
            next_step=f"make the features again with --encoder {spec.encoder}",
        )  # fmt: skip
    if not (np.isfinite([bag.tile_um, bag.mpp]).all() and bag.tile_um > 0 and bag.mpp > 0):
        raise ImageError(
            "bag without the scale of its patches", found=f"tile {bag.tile_um} µm, {bag.mpp} µm a pixel",
            where=bag.name, next_step="give tile_um and mpp beside the feature file",
        )  # fmt: skip
    for name, wanted, found in (("tile side", spec.tile_um, bag.tile_um), ("mpp", spec.mpp, bag.mpp)):
        if wanted is not None and abs(found / wanted - 1) > 0.1:
            raise ImageError(
                f"patches of another {name} than the model's", expected=f"{wanted:g} within 10 %", found=f"{found:g}",
                where=bag.name, next_step="cut the tiles at the model's scale, and make the features again",
            )  # fmt: skip
    if len(bag) > spec.max_patches and spec.over_max == "refuse":
        raise ImageError(
            "more patches than the model takes", expected=f"at most {spec.max_patches}", found=str(len(bag)),
            where=bag.name,
            next_step="cut fewer or larger tiles, raise max_patches, or pool them: model.tower.over_max: kmeans",
        )  # fmt: skip
    if not np.isfinite(bag.features).all() or np.abs(bag.centres_um).max() * STEPS_PER_UM >= BASE**DIGITS / 2:
        raise ImageError(
            "bag with features or places that are no usable numbers", where=bag.name,
            next_step="make the features again",
        )  # fmt: skip


def rows_of(bag: PatchBag, spec: SlideSpec) -> F32:
    """(N, spec.row_width) of a bag that `check_bag` let through."""
    num = len(bag)
    rows = np.zeros((num, spec.row_width), np.float32)
    rows[:, : bag.dimension] = bag.features
    start = spec.row_width - PLACE_COLUMNS
    rows[:, start : start + 2 * DIGITS] = _digits(np.round(bag.centres_um * STEPS_PER_UM)).reshape(num, -1)
    scale = np.round(np.array([bag.tile_um, bag.mpp]) * STEPS_PER_UNIT)
    rows[:, start + 2 * DIGITS :] = _digits(scale).reshape(1, -1)
    return rows


def positions_of(rows: NDArray[Any]) -> PatchPositions:
    """The places that stand in the last columns of rows (N, width) of one slide; any float type."""
    digits = np.asarray(rows[:, -PLACE_COLUMNS:], np.float64).reshape(len(rows), 4, DIGITS)
    values = digits @ (float(BASE) ** np.arange(DIGITS))
    tile_um, mpp = values[0, 2:] / STEPS_PER_UNIT
    # Rows of zeros (a probe that blanks everything) have no scale; one tile is then one µm.
    return PatchPositions(values[:, :2] / STEPS_PER_UM, float(tile_um) or 1.0, float(mpp) or 1.0)


def _digits(numbers: NDArray[Any]) -> NDArray[Any]:
    """(..., DIGITS), the least one first; the last one carries the sign."""
    rest = numbers.astype(np.int64)
    found = np.empty((*rest.shape, DIGITS), np.int64)
    for i in range(DIGITS - 1):
        found[..., i] = rest % BASE
        rest = rest // BASE
    found[..., -1] = rest
    return found


def canonical_order(places: PatchPositions, ties: NDArray[Any] | None = None) -> I64:
    """Rows in the order of a Hilbert curve through the grid of tiles: neighbours on the curve are neighbours.

    Args:
        ties: (N,) decides between patches of one place, so that the order never depends on the rows' own.
    """
    centres = places.centres_um
    last = np.zeros(len(places)) if ties is None else np.asarray(ties, np.float64)
    order: I64 = np.lexsort((last, centres[:, 0], centres[:, 1], hilbert(places.grid)))
    return order


def hilbert(grid: I64) -> I64:
    """Distance along a Hilbert curve of (N, 2) non-negative cells: (N,)."""
    x, y = grid[:, 0].copy(), grid[:, 1].copy()
    bits = max(1, int(grid.max(initial=0)).bit_length())
    found = np.zeros(len(grid), np.int64)
    for bit in reversed(range(bits)):
        side = 1 << bit
        right, lower = (x & side) > 0, (y & side) > 0
        found += side * side * ((3 * right) ^ lower)
        # Turn the quadrant, so that the curve enters and leaves it at the right corners.
        flip = right & ~lower
        x, y = np.where(flip, (side << 1) - 1 - x, x), np.where(flip, (side << 1) - 1 - y, y)
        x, y = np.where(~lower, y, x), np.where(~lower, x, y)
        x, y = x & (side - 1), y & (side - 1)
    return found


def decoder_positions(places: PatchPositions, spec: SlideSpec) -> I64:
    """M-RoPE positions (3, tokens) of a slide's tokens, from 0: time stays, height and width follow the places.

    Pooled tokens without a place count upwards. The magnification token stands before all of them.
    """
    total = spec.tokens_of(len(places))
    if not spec.follows_places:
        return np.tile(np.arange(total), (3, 1))
    grid = places.grid[canonical_order(places)]
    own = np.stack([np.zeros(len(grid), np.int64), grid[:, 1], grid[:, 0]])
    if not spec.has_magnification:
        return own
    return np.concatenate([np.zeros((3, 1), np.int64), own + 1], 1)
