"""Augmentation of H&E tiles, one batch at a time: geometry, stain, light, focus, noise.

A model trained on a few slides learns their stain. The stain jitter works where light adds up, in optical
density: OD = -log((I + 1) / 256) per channel. With S the stain matrix of Ruifrok and Johnston (Anal Quant Cytol
Histol 2001, 23:291-299; rows: haematoxylin, eosin, residual), the concentrations of a pixel are c = OD S^-1.
Each tile gets its own scales a and shifts b, c' = a c + b (the jitter of Tellez et al., IEEE TMI 2018,
37:2126-2136), and its own channel scales g and overall shift: OD' = (OD S^-1 diag(a) S + b S) diag(g) + light.
All of it is one 3 x 3 matrix and one offset per tile, so a batch costs one logarithm table, one product and one
exponential.

Everything is drawn from one `torch.Generator`: the same generator state gives the same pixels.
Research use only, not for diagnosis.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from eosin.core.errors import EosinError

_HAEMATOXYLIN = (0.650, 0.704, 0.286)
_EOSIN = (0.072, 0.990, 0.105)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Spread = Annotated[float, Field(ge=0.0, le=1.0)]


class AugmentSettings(BaseModel):
    """How far a tile may move. Every spread is one standard deviation, or zero for none.

    flips: the eight flips and quarter turns.
    crop, crop_from: share of tiles that are cut to a square of `crop_from`..1 of the side and resized back.
    rotate: share of tiles that are also turned by any angle (edges are mirrored).
    stain, stain_shift: log scale of, and OD added to, each stain's concentration.
    channel: log scale of each colour channel's optical density (another scanner).
    light: OD added to all channels (another lamp or exposure).
    blur, noise: share of tiles with a 3 x 3 blur; standard deviation of pixel noise, in grey levels of 255.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flips: bool = True
    crop: Share = 0.5
    crop_from: Annotated[float, Field(gt=0.2, le=1.0)] = 0.75
    rotate: Share = 0.0
    stain: Spread = 0.2
    stain_shift: Spread = 0.03
    channel: Spread = 0.05
    light: Spread = 0.03
    blur: Share = 0.0
    noise: Annotated[float, Field(ge=0.0, le=50.0)] = 0.0

    @classmethod
    def none(cls) -> AugmentSettings:
        """Change nothing: the batch comes back as it was."""
        return cls(flips=False, crop=0, rotate=0, stain=0, stain_shift=0, channel=0, light=0)

    @property
    def colour(self) -> bool:
        return max(self.stain, self.stain_shift, self.channel, self.light) > 0


def stain_matrix() -> Tensor:
    """The 3 x 3 matrix of unit stain vectors; rows haematoxylin, eosin, and their normal as residual."""
    rows = torch.tensor([_HAEMATOXYLIN, _EOSIN], dtype=torch.float32)
    rows = rows / rows.norm(dim=1, keepdim=True)
    residual = torch.linalg.cross(rows[0], rows[1])
    return torch.stack([rows[0], rows[1], residual / residual.norm()])


def augment_batch(images: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """A changed copy of a batch.

    Args:
        images: uint8, (N, H, W, 3), on any device.
        settings: how far to go.
        generator: on the CPU, so that a run gives the same numbers on every device; it is advanced.

    Returns: uint8 of the same shape on the same device.
    Raises: EosinError if the batch is not uint8 (N, H, W, 3), or flips are asked of tiles that are not square.
    """
    _check(images, settings)
    if settings.crop > 0 or settings.rotate > 0:
        images = _warp(images, settings, generator)
    elif settings.flips:
        images = _flip(images, generator)
    if not settings.colour and settings.blur == 0 and settings.noise == 0:
        return images
    pixels = _stain(images, settings, generator) if settings.colour else images.float()
    if settings.blur > 0:
        pixels = _blur(pixels, settings.blur, generator)
    if settings.noise > 0:
        draw = torch.randn(pixels.shape, generator=generator).to(pixels.device)
        pixels = pixels + settings.noise * draw
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def rng_of(seed: int, epoch: int, sample_id: str) -> np.random.Generator:
    """Where the augmentation of a sample draws from: the same in every process, batch and worker."""
    digest = hashlib.blake2b(sample_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng([seed, epoch, int.from_bytes(digest, "big")])


def augment_array(images: np.ndarray, settings: AugmentSettings, generator: torch.Generator) -> np.ndarray:
    """`augment_batch` for a numpy array of the same type and shape."""
    return augment_batch(torch.from_numpy(np.array(images, order="C")), settings, generator).numpy()


def augment_pil(
    image: Image.Image, rng: np.random.Generator | int, settings: AugmentSettings | None = None
) -> Image.Image:
    """One changed Pillow image, by the same code as the batches.

    Args:
        image: any mode; it is converted to RGB. If it is not square, flips become the four that keep its shape.
        rng: a numpy generator, which is advanced by one draw, or a seed.
        settings: defaults to `AugmentSettings()`.
    """
    chosen = settings if settings is not None else AugmentSettings()
    seed = rng if isinstance(rng, int) else int(rng.integers(0, 2**62))
    generator = torch.Generator().manual_seed(seed)
    pixels = np.asarray(image.convert("RGB"))[None]
    if pixels.shape[1] != pixels.shape[2] and (chosen.flips or chosen.crop > 0 or chosen.rotate > 0):
        pixels = _mirror(pixels, chosen, generator)
        chosen = chosen.model_copy(update={"flips": False, "crop": 0.0, "rotate": 0.0})
    return Image.fromarray(augment_array(pixels, chosen, generator)[0])


def _check(images: Tensor, settings: AugmentSettings) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise EosinError(
            "These images cannot be augmented.",
            expected="a uint8 batch of shape (N, H, W, 3)",
            found=f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}",
        )
    turns = settings.flips or settings.crop > 0 or settings.rotate > 0
    if turns and images.shape[1] != images.shape[2]:
        raise EosinError(
            "Flips, crops and rotations need square tiles.",
            expected="height equal to width",
            found=f"{images.shape[1]} x {images.shape[2]} px",
            next_step="cut the tiles square, or set flips, crop and rotate to zero",
        )


def _mirror(pixels: np.ndarray, settings: AugmentSettings, generator: torch.Generator) -> np.ndarray:
    """Left-right and up-down flips of one image (1, H, W, 3); they keep the shape of an oblong."""
    up, left = torch.randint(0, 2, (2,), generator=generator).tolist()
    if not settings.flips:
        return pixels
    return pixels[:, :: -1 if up else 1, :: -1 if left else 1]


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """One of the eight symmetries of the square for each tile."""
    which = torch.randint(0, 8, (len(images),), generator=generator)
    result = torch.empty_like(images)
    for symmetry in range(8):
        rows = torch.nonzero(which == symmetry).flatten().to(images.device)
        if len(rows) == 0:
            continue
        turned = torch.rot90(images[rows], symmetry % 4, dims=(1, 2))
        result[rows] = turned.flip(2) if symmetry >= 4 else turned
    return result


def _warp(images: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Flips first, exactly; then the chosen tiles are cut or turned by one affine map, sampled bilinearly."""
    count = len(images)
    if settings.flips:
        images = _flip(images, generator)
    draw = torch.rand(6, count, generator=generator)
    is_cut, is_turned = draw[0] < settings.crop, draw[1] < settings.rotate
    side = 1 - (1 - settings.crop_from) * draw[2]
    side = torch.where(is_cut, side, torch.ones_like(side))
    angle = torch.where(is_turned, 2 * torch.pi * draw[3], torch.zeros_like(side))
    shift_x, shift_y = (2 * draw[4] - 1) * (1 - side), (2 * draw[5] - 1) * (1 - side)
    cos, sin = side * angle.cos(), side * angle.sin()
    theta = torch.stack([torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1)
    rows = torch.nonzero(is_cut | is_turned).flatten()
    if len(rows) == 0:
        return images
    picked = images[rows.to(images.device)].permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(theta[rows].to(picked.device), list(picked.shape), align_corners=False)
    moved = functional.grid_sample(picked, grid, "bilinear", "reflection", align_corners=False)
    result = images.clone()
    result[rows.to(images.device)] = moved.permute(0, 2, 3, 1).round_().clamp_(0, 255).to(torch.uint8)
    return result


def _stain(images: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Stain, channel and light jitter in optical density; uint8 (N, H, W, 3) in, float grey levels out."""
    count, device = len(images), images.device
    stains = stain_matrix()
    draw = torch.randn(4, count, 3, generator=generator)
    scale, shift = (settings.stain * draw[0]).exp(), settings.stain_shift * draw[1]
    gain, light = (settings.channel * draw[2]).exp(), settings.light * draw[3, :, :1]
    mix = (torch.linalg.inv(stains) @ (scale[:, :, None] * stains)) * gain[:, None, :]
    offset = (shift @ stains) * gain + light
    table = -torch.log((torch.arange(256, dtype=torch.float32) + 1) / 256)
    density = table.to(device)[images.reshape(count, -1, 3).int()]
    changed = torch.baddbmm(offset[:, None, :].to(device), density, mix.to(device))
    return changed.neg_().exp_().mul_(256).sub_(1).reshape(images.shape)


def _blur(pixels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A separable [w, 1 - 2w, w] blur on a share of the tiles, w from 0 to 1/3 (a box)."""
    draw = torch.rand(2, len(pixels), generator=generator)
    weight = torch.where(draw[0] < share, draw[1] / 3, torch.zeros(len(pixels)))
    rows = torch.nonzero(weight > 0).flatten().to(pixels.device)
    if len(rows) == 0:
        return pixels
    w = weight.to(pixels.device)[rows][:, None, None, None]
    part = pixels[rows]
    for axis in (1, 2):
        first, last = part.narrow(axis, 0, 1), part.narrow(axis, part.shape[axis] - 1, 1)
        wide = torch.cat([first, part, last], axis)
        size = part.shape[axis]
        part = (1 - 2 * w) * part + w * (wide.narrow(axis, 0, size) + wide.narrow(axis, 2, size))
    result = pixels.clone()
    result[rows] = part
    return result
