"""A checkpoint on its own: an exam on samples from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Console

from eosin.chain.base.pictures import ordinary_or
from eosin.chain.listed import Part, asked_as, further_figures, preset_of
from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.settings.scoring import JudgeServer
from eosin.core.store import artifacts as store
from eosin.evaluate.exams.prompts import OWN

if TYPE_CHECKING:
    from eosin.clients.settings import ServerSettings
    from eosin.engines.base import Engine
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


def refuse_same_judge(checkpoint: str, settings: ExamSettings) -> None:
    """Refuse a judge that also gave the rewards of a stage of the checkpoint's run: it would grade what it has taught.

    The judges are those of the stage records that stand beside the checkpoint in its run.

    Raises:
        EosinError: it is the same model at the same address, and `settings.same_judge` does not allow it.
    """
    judge = settings.scoring.judge
    if judge is None or settings.terms is None or settings.same_judge:
        return
    for record in sorted(Path(checkpoint).resolve().parent.parent.glob("*/stage.json")):
        try:
            scoring = (store.read_object(record).get("settings") or {}).get("scoring") or {}
            taught = JudgeServer.model_validate(scoring["judge"])
        except (EosinError, KeyError, ValidationError, AttributeError):
            continue  # a stage without a judge, or a record of an older form
        if judge.is_same(taught):
            raise EosinError(
                f"The judge {judge.model!r} also gave the rewards of the stage {record.parent.name}.",
                expected="another model as the judge of an exam: this one would grade what it has taught",
                where=record,
                next_step="give another --judge-model, or allow it with --allow-same-judge (the report will say so)",
            )


def examine(
    checkpoint: str, samples: Part | Path, settings: ExamSettings, out: Path, grammar_name: str | None
) -> dict[str, Any]:
    """Examine a checkpoint on a listed exam or on samples from disk. What could not be read is counted and kept beside
    the exam."""
    from eosin.chain.leaks import measure_leaks, training_of
    from eosin.chain.recipe.data import print_warnings
    from eosin.core.formats.options import option_notes
    from eosin.curate import write_dropped
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.models.load import load, quiet

    quiet()
    refuse_same_judge(checkpoint, settings)
    part = samples if isinstance(samples, Part) else Part(str(samples))
    preset = preset_of(settings, part, has_own_grammar=bool(grammar_name) or has_grammar(checkpoint))
    settings = settings.model_copy(update={"prompt": None if preset.name == OWN else preset.name})
    read = asked_as(part.read(), preset, settings)
    grammar, instruction = preset.form(*grammar_of(checkpoint, grammar_name))
    rewards = _tried_rewards(settings, grammar, out, read.kept)
    parents = (store.open_artifact(Path(checkpoint)),) if store.exists(Path(checkpoint)) else ()
    loaded = load(checkpoint)
    read = _that_fit(read, loaded.processor)
    print_warnings(option_notes(read.kept))
    asking = _Asking(TransformersEngine(loaded), grammar, instruction, parents, rewards, evidence_of(loaded, settings))
    result = asking.of_part(part, read, settings, out, {"checkpoint": checkpoint, "prompt": preset.name})
    if read.dropped:
        write_dropped(out / "dropped.jsonl", read.dropped)
    if "sealed" in result:
        return result
    leaks = measure_leaks(training_of(checkpoint), read.kept, out / "exam", resamples=settings.bootstrap)
    return {**result, "leaks": leaks}


@dataclass(frozen=True)
class _Asking:
    """A model that is ready to be asked."""

    engine: Engine
    grammar: Grammar
    instruction: bool = True
    parents: Sequence[store.Artifact] = ()
    rewards: RewardSet | None = None
    evidence: Attributor | None = None

    def of_part(
        self, part: Part, read: Filtered[Sample], settings: ExamSettings, out: Path, told: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The exam and what is asked beside it; of a sealed exam the file of answers."""
        from eosin.slides.features.regions import SlideRegions

        record = {**told, **part.facts(), "seed": settings.seed, "input": settings.input.described()}
        regions = SlideRegions()
        if part.exam is not None and part.exam.scorer == "answers":
            from eosin.evaluate.exams.sealed import write_answers

            return {"sealed": write_answers(self.engine, read.kept, self.grammar, settings, out, regions,
                                            instruction=self.instruction)}  # fmt: skip

        def ask(samples: Sequence[Sample], chosen: ExamSettings, place: Path) -> dict[str, Any]:
            from eosin.evaluate.exam.entry import evaluate_samples

            whole = place == out
            return evaluate_samples(
                self.engine, samples, self.grammar, place, settings=chosen, record=record, parents=self.parents,
                instruction=self.instruction, read_region=regions, evidence=self.evidence if whole else None,
                tell=console.print, rewards=self.rewards if whole else None,
            )  # fmt: skip

        result = ask(read.kept, settings, out)
        return {**result, **further_figures(read.kept, settings, out, ask)}


def has_grammar(checkpoint: str) -> bool:
    """Whether a model was trained by Eosin, on a grammar of its own."""
    from eosin.models.checkpoint import facts_of

    return "grammar" in facts_of(checkpoint)


def examine_server(
    server: ServerSettings, samples: Part | Path, settings: ExamSettings, out: Path, grammar_name: str | None,
    cache: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Examine a model behind an OpenAI-compatible server. It needs no torch.

    Args:
        cache: folder for the server's answers; by default `out`/answers.

    Returns:
        As `evaluate_samples`, and under "server" what the server was asked and what it cost, over all restarts of this
        exam: `out`/spent.jsonl counts it, and the budget is of all of them.

    Raises:
        EosinError: the server is gone, or the budget spent. What was answered is kept; the same command goes on.
    """
    from eosin.chain.leaks import measure_leaks
    from eosin.chain.recipe.data import print_warnings
    from eosin.core.formats.options import option_notes
    from eosin.curate import write_dropped
    from eosin.engines.server_engine import ServerEngine

    part = samples if isinstance(samples, Part) else Part(str(samples))
    preset = preset_of(settings, part, has_own_grammar=grammar_name is not None)
    settings = settings.model_copy(update={"prompt": None if preset.name == OWN else preset.name})
    read = asked_as(part.read(), preset, settings)
    grammar, instruction = preset.form(Grammar.of(grammar_name or "think/answer"), True)
    rewards = _tried_rewards(settings, grammar, out, read.kept)
    engine = ServerEngine(server, cache or out / "answers", out / "spent.jsonl")
    print_warnings(option_notes(read.kept))
    asking = _Asking(engine, grammar, instruction, rewards=rewards)
    result = asking.of_part(part, read, settings, out, {"checkpoint": engine.name, "prompt": preset.name})
    if read.dropped:
        write_dropped(out / "dropped.jsonl", read.dropped)
    leaks = None if "sealed" in result else measure_leaks(None, read.kept, out / "exam")
    return {**result, "server": engine.described(), "leaks": leaks}


def rescore_file(
    predictions: Path, samples: Part | Path, settings: ExamSettings, out: Path, grammar_name: str | None
) -> dict[str, Any]:
    """Score the replies that another harness logged on the samples of an exam; no model is asked.

    Rows that could not be used are kept beside the exam, in dropped.jsonl.

    Returns:
        As `evaluate_samples`.
    """
    from eosin.core.store.lock import lock_beside, locked
    from eosin.curate import write_dropped
    from eosin.evaluate.exam.entry import baselines_beside, pick_split
    from eosin.evaluate.predictions.rescore import rescore
    from eosin.slides.features.regions import SlideRegions

    part = samples if isinstance(samples, Part) else Part(str(samples))
    read = part.read()
    record = {**part.facts(), "seed": settings.seed}
    with locked(lock_beside(out)):
        beside = baselines_beside(
            read.kept, pick_split(read.kept, settings.split), settings, out, read_region=SlideRegions(),
            tell=console.print,
        )  # fmt: skip
        summary, found = rescore(
            predictions, read.kept, out / "exam", settings=settings, grammar_name=grammar_name, record=record,
            baselines=beside,
        )  # fmt: skip
    dropped = (*read.dropped, *found.dropped)
    if dropped:
        write_dropped(out / "dropped.jsonl", dropped)
        console.print(f"{len(found.dropped)} rows of the file were not used: {found.reasons()}", markup=False)
    figures = None if beside is None else beside.figures
    return {"exam": summary, "baselines": figures, "path": str(out / "exam")}
