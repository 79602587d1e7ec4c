"""Checkpoints: from_pretrained folders with a record, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from eosin.core.store import artifacts as store
from eosin.core.store.artifacts import Artifact

KIND = "checkpoint"


def save(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    path: Path,
    *,
    parents: tuple[Artifact, ...] = (),
    facts: Mapping[str, Any] | None = None,
    replace: bool = False,
    weights: Mapping[str, Any] | None = None,
) -> Artifact:
    """Write weights (safetensors), config, processor and chat template as one artifact.

    A LoRA model is written as its adapter, whose base is stored relative to the folder, so that a whole run
    can be moved.

    Args:
        facts: stage, step, grammar and whatever else belongs to the manifest.
        replace: overwrite a checkpoint that stands there (only a stage's own "best" is rewritten so).
        weights: what is written in the place of the model's own, of which this process may hold only a part.
    """
    _forget_last_call(processor)
    with store.writing(path, KIND, parents=parents, replace=replace) as writer:
        own = {} if weights is None else {"state_dict": dict(weights)}
        model.save_pretrained(writer.dir, safe_serialization=True, **own)
        processor.save_pretrained(writer.dir)
        _relative_base(writer.dir, path)
        writer.facts.update(facts or {})
        writer.counts["parameters"] = sum(p.numel() for p in model.parameters())
    return store.open_artifact(path, KIND)


def _forget_last_call(processor: ProcessorMixin) -> None:
    """A fast tokenizer keeps how it last padded and cut, and would save that: what is saved must not hang on it."""
    backend = getattr(getattr(processor, "tokenizer", None), "backend_tokenizer", None)
    if backend is not None:
        backend.no_padding()
        backend.no_truncation()


def _relative_base(folder: Path, final: Path) -> None:
    file = folder / "adapter_config.json"
    if not file.is_file():
        return
    config = json.loads(file.read_text("utf-8"))
    base = config.get("base_model_name_or_path")
    if base and Path(base).is_dir():
        config["base_model_name_or_path"] = os.path.relpath(Path(base).resolve(), final.resolve())
        store.write_json(file, config)


def facts_of(path: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint, or an empty mapping for a plain from_pretrained folder or a hub name."""
    folder = Path(path)
    return dict(store.open_artifact(folder, KIND).manifest) if store.exists(folder) else {}
