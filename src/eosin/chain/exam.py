"""A checkpoint on its own: an exam on samples from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from eosin.chain.recipe.pictures import ordinary_or
from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store

if TYPE_CHECKING:
    from eosin.clients.settings import ServerSettings
    from eosin.evaluate.evidence.tests import Attributor
    from eosin.models.load import Loaded
    from eosin.scoring.sets.compose import RewardSet

console = Console(stderr=True, highlight=False, soft_wrap=True)


def grammar_of(checkpoint: str, wanted: str | None) -> tuple[Grammar, bool]:
    """The reply grammar that a checkpoint was trained with, and whether its prompts state it."""
    from eosin.models.checkpoint import facts_of

    facts = facts_of(checkpoint)
    known = facts.get("grammar", {"tags": "think/answer", "numbered_steps": False})
    grammar = Grammar.of(wanted or known["tags"], **{k: v for k, v in known.items() if k != "tags"})
    return grammar, bool(facts.get("instruction", True))


def evidence_of(loaded: Loaded, settings: ExamSettings) -> Attributor | None:
    """What says where a loaded model looked, for `run_exam`; None where the exam does not ask."""
    if settings.evidence is None:
        return None
    from eosin.evaluate.evidence.scores import ModelEvidence

    return ModelEvidence(loaded, batch_size=settings.evidence.batch_size)


def _that_fit(read: Filtered[Sample], processor: Any) -> Filtered[Sample]:
    """Without the samples whose pictures the model's own processor refuses."""
    from eosin.curate.validate import without_refused
    from eosin.models.pictures import refusals_of

    fit = without_refused(read.kept, ordinary_or(refusals_of(getattr(processor, "image_processor", None))))
    return Filtered(fit.kept, (*read.dropped, *fit.dropped))


def _tried_rewards(settings: ExamSettings, grammar: Grammar, out: Path, samples: Sequence[Sample]) -> RewardSet | None:
    """What the replies are also scored by, its judge asked once before the model is loaded."""
    from eosin.chain.recipe.tools import exam_rewards, first_image
    from eosin.scoring.resources.preflight import try_tools

    rewards = exam_rewards(settings, grammar, out / "verdicts")
    if rewards is not None and not store.exists(out / "exam"):
        try_tools(rewards, settings.scoring, "exam", first_image(samples, None))
    return rewards


def examine(
    checkpoint: str, samples_path: Path, settings: ExamSettings, out: Path, grammar_name: str | None
) -> dict[str, Any]:
    """Examine a checkpoint on samples from disk. What could not be read is counted and kept beside the exam."""
    from eosin.chain.recipe.data import print_warnings
    from eosin.core.formats.options import option_notes
    from eosin.curate import write_dropped
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.evaluate.exam.entry import evaluate_samples
    from eosin.models.load import load, quiet
    from eosin.slides.features.regions import SlideRegions

    quiet()
    read = read_exam(samples_path)
    grammar, instruction = grammar_of(checkpoint, grammar_name)
    rewards = _tried_rewards(settings, grammar, out, read.kept)
    parents = (store.open_artifact(Path(checkpoint)),) if store.exists(Path(checkpoint)) else ()
    loaded = load(checkpoint)
    read = _that_fit(read, loaded.processor)
    print_warnings(option_notes(read.kept))
    result = evaluate_samples(
        TransformersEngine(loaded),
        read.kept,
        grammar,
        out,
        settings=settings,
        record={"checkpoint": checkpoint, "samples": str(samples_path), "seed": settings.seed},
        parents=parents,
        instruction=instruction,
        read_region=SlideRegions(),
        evidence=evidence_of(loaded, settings),
        tell=console.print,
        rewards=rewards,
    )
    if read.dropped:
        write_dropped(out / "dropped.jsonl", read.dropped)
    return result


def read_exam(samples_path: Path) -> Filtered[Sample]:
    """Samples from disk, and what could not be read.

    Raises:
        EosinError: there is no sample that can be read.
    """
    from eosin.core.formats import read_samples

    read = read_samples(samples_path)
    if not read.kept:
        raise EosinError("No sample could be read.", found=str(read.reasons()), where=samples_path)
    return read


def examine_server(
    server: ServerSettings, samples_path: Path, settings: ExamSettings, out: Path, grammar_name: str | None,
    cache: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Examine a model behind an OpenAI-compatible server. It needs no torch.

    Args:
        cache: folder for the server's answers; by default `out`/answers.

    Returns:
        As `evaluate_samples`, and under "server" what the server was asked and what it cost.

    Raises:
        EosinError: the server is gone, or the budget spent. What was answered is kept; the same command goes on.
    """
    from eosin.chain.recipe.data import print_warnings
    from eosin.core.formats.options import option_notes
    from eosin.curate import write_dropped
    from eosin.engines.server_engine import ServerEngine
    from eosin.evaluate.exam.entry import evaluate_samples
    from eosin.slides.features.regions import SlideRegions

    read = read_exam(samples_path)
    grammar = Grammar.of(grammar_name or "think/answer")
    rewards = _tried_rewards(settings, grammar, out, read.kept)
    engine = ServerEngine(server, cache or out / "answers")
    print_warnings(option_notes(read.kept))
    result = evaluate_samples(
        engine, read.kept, grammar, out, settings=settings,
        record={"checkpoint": engine.name, "samples": str(samples_path), "seed": settings.seed},
        read_region=SlideRegions(), tell=console.print, rewards=rewards,
    )  # fmt: skip
    if read.dropped:
        write_dropped(out / "dropped.jsonl", read.dropped)
    return {**result, "server": engine.described()}
