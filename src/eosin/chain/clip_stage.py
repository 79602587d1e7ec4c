"""A clip stage inside a run: its model, its training, its exam. It has no language model and shares none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from eosin.chain.parts import of_sources, training_part
from eosin.core.errors import EosinError
from eosin.core.settings.clip import ClipModel, ClipStage, TinyClip
from eosin.core.store import artifacts as store
from eosin.evaluate.clip.exam import examine_clip
from eosin.report.sections.clip import clip_lines
from eosin.slides.encoders.load import load_encoder
from eosin.slides.encoders.records import record_of
from eosin.train.stages.base import StageResult

if TYPE_CHECKING:
    from torch import Tensor

    from eosin.chain.recipe.state import RunState
    from eosin.train.clip.job import ClipContext

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def train_clip(run: RunState, name: str) -> StageResult:
    """Train clip stage `name` of a run."""
    from eosin.train.stages import clip

    settings = run.recipe.stages[name]
    assert isinstance(settings, ClipStage)
    return clip.run(settings, context_of(run, name, settings))


def context_of(run: RunState, name: str, settings: ClipStage) -> ClipContext:
    """What a clip stage of a run is given."""
    from eosin.models.clip.load import KIND, load_clip, new_clip
    from eosin.train.clip.job import ClipContext

    start = run.recipe.start_of(name)
    if start == "base":
        clip = new_clip(settings.model, run.recipe.seed, tower_of(settings.model))
        is_new = isinstance(settings.model, TinyClip)
        parents: tuple[store.Artifact, ...] = ()
    else:
        clip, is_new = load_clip(run.at.checkpoint(start)), False
        parents = (store.open_artifact(run.at.checkpoint(start), KIND),)
    return ClipContext(
        name=name, folder=run.at.stage(name), clip=clip, is_new=is_new,
        train=training_part(run.recipe, name, run.splits["train"]),
        valid=of_sources(run.recipe, name, run.splits["valid"]), seed=run.recipe.seed,
        parents=(*parents, run.samples_artifact()), read_region=run.read_region,
    )  # fmt: skip


def tower_of(model: ClipModel) -> Mapping[str, Tensor] | None:
    """Weights of the image tower where the model names a patch encoder for them; None: a file, or none.

    Raises:
        EosinError: neither a file nor an encoder; an encoder of another architecture.
    """
    if not isinstance(model, TinyClip) or model.weights is None or Path(model.weights).exists():
        return None
    record = record_of(model.weights)
    if record.library != "timm" or record.architecture != model.vision.timm_model:
        raise EosinError(
            "The weights are those of another image tower.", expected=f"vision.timm_model: {record.architecture}",
            found=str(model.vision.timm_model), where="model.weights",
        )  # fmt: skip
    loaded: Any = load_encoder(record.name, device="cpu")
    weights: Mapping[str, Tensor] = loaded.network.state_dict()
    return weights


def examine_stage(run: RunState, name: str) -> None:
    """Zero-shot, few-shot and retrieval of a clip stage, unless that is done."""
    out = run.at.clip_exam(name)
    if store.exists(out):
        return
    from eosin.models.clip.load import KIND, load_clip

    settings = run.recipe.stages[name]
    assert isinstance(settings, ClipStage)
    summary = examine_clip(
        load_clip(run.at.checkpoint(name)), training_part(run.recipe, name, run.splits["train"]),
        of_sources(run.recipe, name, run.splits[settings.clip_exam.split]), settings.clip_exam, out,
        read_region=run.read_region, record={"recipe": run.recipe.name, "stage": name, "seed": run.recipe.seed},
        parents=(store.open_artifact(run.at.checkpoint(name), KIND),),
    )  # fmt: skip
    for line in clip_lines(summary):
        console.print(f"{name}: {line}")
