"""An encoder by name. torch, timm, transformers or open_clip are imported when one of their encoders is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eosin.core.plugins import plugin
from eosin.slides.encoders.encoder import Encoder, check_mpp
from eosin.slides.encoders.records import record_of


def load_encoder(
    name: str,
    *,
    mpp: float | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    revision: str | None = None,
) -> Encoder:
    """An encoder by name, with weights from the hub or from a local file or folder.

    Args:
        name: Eosin's or TRIDENT's name of it.
        mpp: microns per pixel of the tiles; None means what the encoder was trained for.
        weights: a local file or folder with the weights, instead of the hub.
        device: "cpu", "cuda", ...; by default the GPU if there is one.
        revision: commit, tag or branch on the hub, instead of the record's.

    Raises:
        EosinError: unknown name; scale it was not trained for; weights missing or of another model; normalisation or
            dimension that differ from the record; packages missing.
    """
    record = record_of(name)
    scale = check_mpp(record, mpp)
    if record.library == "eosin":
        from eosin.slides.encoders.colour_texture import ColourTexture

        return ColourTexture(record, scale)
    if record.library == "plugin":
        kind: Any = plugin("eosin.encoders", record.name)
        made: Encoder = kind(record, scale)
        return made
    from eosin.slides.encoders.pretrained import load_torch_encoder

    return load_torch_encoder(record, scale, Path(weights) if weights is not None else None, device, revision)
