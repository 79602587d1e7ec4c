"""Weights of encoders: read without unpickling anything, and put into a network where every tensor has its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.slides.encoders.records import EncoderRecord


def read_weights(file: Path) -> dict[str, Any]:
    """A state dict of tensors from safetensors or a torch file, without unpickling anything.

    Raises:
        EosinError: the file holds other objects than tensors, is cut off, or is no weights file.
    """
    try:
        if file.suffix == ".safetensors":
            return dict(need("safetensors.torch").load_file(str(file)))
        loaded = need("torch").load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except EosinError:
        raise
    except Exception as exc:  # torch, zipfile and safetensors each have their own errors for damaged files
        raise EosinError(
            "These weights cannot be read safely.",
            expected="safetensors, or a torch file with tensors alone",
            found=f"{type(exc).__name__}: {str(exc)[:160]}",
            where=file,
            next_step="convert the file to safetensors on a machine where you trust it",
        ) from exc
    for key in ("state_dict", "model", "teacher"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(hasattr(v, "shape") for v in loaded.values()):
        raise EosinError("This file holds no weights by name.", found=type(loaded).__name__, where=file)
    return {str(k).removeprefix("module."): v for k, v in loaded.items()}


def _is_zip(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(2) == b"PK"


def fill_network(network: Any, weights: dict[str, Any], record: EncoderRecord, where: str | Path) -> Any:
    """Load weights; every tensor must have its place and every place its tensor."""
    own = network.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape]
    if missing or extra or shapes:
        told = {"missing": missing, "without place": extra, "of another shape": sorted(shapes)}
        raise EosinError(
            f"These are not the weights of {record.name} ({record.architecture}).",
            found="; ".join(f"{len(v)} {k}, such as {v[0]}" for k, v in told.items() if v),
            where=where,
        )
    network.load_state_dict(weights)
    return network
