"""A vision tower of Eosin's own training as a patch encoder: `--encoder CHECKPOINT`.

The slides room may not know models, so the tower comes to it from here.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store
from eosin.slides.encoders.encoder import EncoderRecord, check_features, check_tiles
from eosin.slides.features import run as features
from eosin.slides.features.plan import FeatureSettings, Summary


def make_features(
    paths: list[Path], out: Path, settings: FeatureSettings, console: Console | None = None, *, tile_px: int = 224
) -> Summary:
    """`eosin.slides.features.run.run`, where `settings.encoder` may also be the folder of a checkpoint.

    Args:
        tile_px: side of the tiles that the tower was trained on; only for a checkpoint.

    Raises:
        EosinError: as in `features.run`; or the folder holds no model with a tower of a known kind.
    """
    folder = Path(settings.encoder)
    if not folder.is_dir():
        return features.run(paths, out, settings, console)
    record = tower_record(folder, tile_px)
    mpp = settings.mpp or record.default_mpp
    make = functools.partial(TowerEncoder, folder, record, mpp, settings.device)
    return features.run(paths, out, settings, console, record=record, make_encoder=make)


def tower_record(checkpoint: Path, tile_px: int = 224) -> EncoderRecord:
    """The record of a checkpoint's tower. Its name holds the checkpoint's digest: features of two never mix."""
    config, images = _configs(checkpoint)
    digest = store.open_artifact(checkpoint).digest if store.exists(checkpoint) else _digest_of(checkpoint)
    vision = config.get("vision_config", {})
    if "out_hidden_size" not in vision:
        raise EosinError(
            "This checkpoint has no tower that can encode tiles.", expected="a model of the Qwen2-VL family",
            found=str(config.get("model_type")), where=checkpoint,
        )  # fmt: skip
    area = (images.get("size") or {}).get("longest_edge") or tile_px**2
    return EncoderRecord(
        name=f"tower-{digest[:8]}",
        trident_name=f"eosin_tower_{digest[:8]}",
        licence="that of the checkpoint",
        gated=False,
        library="eosin",
        architecture=str(config.get("model_type")),
        mpp=(),
        tile_px=tile_px,
        input_px=min(tile_px, int(area**0.5)),
        mean=tuple(images.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(images.get("image_std", (0.5, 0.5, 0.5))),
        dim=int(vision["out_hidden_size"]),
        half="bfloat16",
        note="Mean of the tokens that the language model reads.",
        source=re.sub(r"[^\w./-]", "_", checkpoint.name),
    )


def _configs(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    config = store.read_object(checkpoint / "config.json")
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (checkpoint / name).is_file():
            found = store.read_object(checkpoint / name)
            return config, found.get("image_processor", found)
    raise EosinError("This checkpoint has no image processor.", expected="preprocessor_config.json", where=checkpoint)


def _digest_of(checkpoint: Path) -> str:
    """A digest of a plain from_pretrained folder."""
    parts = [store.sha256_file(p) for p in sorted(checkpoint.glob("*.safetensors"))]
    if not parts:
        raise EosinError("This folder holds no weights.", expected="*.safetensors", where=checkpoint)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


class TowerEncoder:
    """The vision tower and projector of a checkpoint; see `eosin.slides.encoders.encoder.Encoder`."""

    def __init__(self, checkpoint: Path, record: EncoderRecord, mpp: float, device: str | None = None) -> None:
        import torch

        from eosin.models.load import load, quiet, vision_tower
        from eosin.models.pictures import max_pixels_of

        quiet()
        loaded = load(checkpoint, to=torch.device(device) if device else None)
        tower: Any = vision_tower(loaded.model)
        self.record, self.mpp = record, mpp
        self.device = str(loaded.model.device)
        self._tower = tower.eval().requires_grad_(False)
        self._images: Any = loaded.processor.image_processor  # type: ignore[attr-defined]
        self._max_pixels = max_pixels_of(loaded.processor)

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """Mean of the merged tokens (N, dim) float32; tiles are shrunk as in training and exams."""
        import torch

        from eosin.models.pictures import shrink

        check_tiles(self.record, tiles)
        if not len(tiles):
            return np.empty((0, self.record.dim), np.float32)
        pictures = [shrink(Image.fromarray(t), self._max_pixels) for t in tiles]
        batch = self._images(images=pictures, return_tensors="pt")
        with torch.inference_mode():
            pixels = batch["pixel_values"].to(self._tower.device, self._tower.dtype)
            merged = self._tower(pixels, grid_thw=batch["image_grid_thw"].to(self._tower.device)).pooler_output
        tokens = torch.as_tensor(merged).reshape(len(tiles), -1, self.record.dim).float()
        features_ND = tokens.mean(1).cpu().numpy()
        check_features(self.record, features_ND)
        return np.ascontiguousarray(features_ND)
