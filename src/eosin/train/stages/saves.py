"""Saves of a stage under way: whole or not used, with all that a resumed stage goes on from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store

WHOLE = "whole.json"
STATE = "stage_state.json"
TRAINER_STATE = "trainer_state.json"
FSDP_SAVE = "pytorch_model_fsdp.bin"


class StageState(TrainerCallback):  # type: ignore[misc]
    """Counts of a stage that its trainer does not keep: written into every save, and read back with it.

    A resumed stage counts on as it trains on. Parts are added by the stage file that owns them.
    """

    def __init__(self) -> None:
        self._parts: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {}

    def add(self, name: str, get: Callable[[], Any], put: Callable[[Any], None]) -> None:
        """Keep a part: `get` gives what JSON can hold, `put` takes it back."""
        self._parts[name] = get, put

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        file = save_folder(args, state.global_step) / STATE
        if not state.global_step or not file.is_file():
            return
        kept = store.read_object(file)
        for name, (_get, put) in self._parts.items():
            if name in kept:
                put(kept[name])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        folder = save_folder(args, state.global_step)
        if state.is_world_process_zero and folder.is_dir():
            store.write_json(folder / STATE, {name: part[0]() for name, part in self._parts.items()})


class WholeSaveCallback(TrainerCallback):  # type: ignore[misc]
    """Marks a trainer's save as whole once everything in it is written: the last callback that writes into it.

    The mark lists the files with their sizes. Only a save whose files are all there is resumed.
    """

    def on_save(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        folder = save_folder(args, state.global_step)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process writes its own random state into the save
        if not state.is_world_process_zero or not folder.is_dir():
            return
        files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
        store.write_json(folder / WHOLE, {"step": state.global_step, "files": files})


def save_folder(args: TrainingArguments, step: int) -> Path:
    """Where a trainer keeps its save of a step."""
    return Path(str(args.output_dir)) / f"checkpoint-{step}"


def last_whole_save(work: Path) -> Path | None:
    """The latest save of a trainer that was written to its end and is still all there, or None."""
    saves = [p for p in work.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit() and _is_whole(p)]
    return max(saves, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


def _is_whole(save: Path) -> bool:
    try:
        mark = json.loads((save / WHOLE).read_text("utf-8"))
        files = mark.get("files")
        if files is None:  # written by an Eosin whose mark listed no files
            weights = [*save.glob("*.safetensors"), *save.glob("*.bin")]
            settings = any((save / name).is_file() for name in ("config.json", "adapter_config.json"))
            return bool(weights) and settings and (save / TRAINER_STATE).is_file()
        return all((save / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def refuse_other_kind(save: Path, is_shared_out: bool) -> None:
    """See that a save is of the kind that its stage now trains with: whole models, or FSDP's parts.

    Raises:
        EosinError: the trainer could not read the optimiser of the other kind.
    """
    was_shared_out = (save / FSDP_SAVE).is_file()
    if was_shared_out != is_shared_out:
        kinds = {True: "FSDP", False: "whole models in each process"}
        raise EosinError(
            "This stage was begun in another way of sharing the model out, and its save cannot go on in this one.",
            expected=kinds[was_shared_out], found=kinds[is_shared_out], where=save,
            next_step="give the --launch that it was begun with, or remove the stage's folder work: it begins again",
        )  # fmt: skip


def restore_weights(model: Any, save: Path) -> None:
    """Put the weights of a trainer's save into the model.

    transformers 5 renames the keys of vision-language models when it saves them, and its Trainer reads the file
    back without renaming and without strictness: a resumed run would silently go on from the starting weights.

    Raises:
        EosinError: the save holds neither a model nor an adapter.
    """
    if (save / "adapter_config.json").is_file():
        _restore_adapter(model, save)
    elif (save / "config.json").is_file():
        saved = type(model).from_pretrained(save, dtype=model.dtype)
        model.load_state_dict(saved.state_dict(), strict=True)
    else:
        raise EosinError(
            "This save of a stage cannot be read whole.", expected="config.json or adapter_config.json", where=save,
            next_step="remove this folder; the stage goes on from the save before it, or begins again",
        )  # fmt: skip


def _restore_adapter(model: Any, save: Path) -> None:
    from peft import load_peft_weights, set_peft_model_state_dict

    found = set_peft_model_state_dict(model, load_peft_weights(str(save), device="cpu"))
    if found is not None and found.unexpected_keys:
        raise EosinError("This save holds an adapter for another model.", found=str(found.unexpected_keys[:3]),
                         where=save)  # fmt: skip


def finished_state(save: Path) -> TrainerState | None:
    """The trainer's state in a save of the last step of a stage; None where steps are left."""
    state = TrainerState.load_from_json(str(save / TRAINER_STATE))
    return state if state.max_steps and state.global_step >= state.max_steps else None


def seed_everything(seed: int) -> None:
    """Seed what draws without a generator of its own, so that a stage is the same alone and after others."""
    import random

    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
