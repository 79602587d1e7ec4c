"""Judge, sentence encoder, CLIP and knowledge graph of a run: made from its recipe, and tried before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from eosin.chain.recipe.layout import Layout
from eosin.core.errors import EosinError, ImageError
from eosin.core.images import RegionReader, encode_png, load_image, read_bytes
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, ImageFile, Sample, SlideBag
from eosin.core.ranks import num_ranks
from eosin.core.settings.exam import ExamSettings
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.rl import plain_rewards
from eosin.core.settings.scoring import JudgeServer, ScoringSettings
from eosin.core.settings.stages import RejectionStage, RlStage, SftStage
from eosin.core.store import artifacts as store
from eosin.scoring.resources.build import tools_of
from eosin.scoring.resources.preflight import try_encoder, try_tools
from eosin.scoring.sets.by_source import Rewards, stage_rewards
from eosin.scoring.sets.compose import RewardSet
from eosin.scoring.sets.named import load_rewards
from eosin.scoring.terms.base import Resources

if TYPE_CHECKING:
    from eosin.chain.recipe.state import RunState

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def tools_of_stage(settings: RlStage | RejectionStage, at: Layout) -> Resources:
    """What the rewards of a stage are given; each process of several has its share of the judge's limits."""
    return tools_of(settings.scoring, verdicts=at.verdicts, shares=num_ranks())


def exam_rewards(settings: ExamSettings, grammar: Grammar, verdicts: Path | None) -> RewardSet | None:
    """The reward set that an exam also scores its replies by; None where it lists no terms.

    Raises:
        EosinError: a term says of itself what no record can hold.
    """
    if settings.terms is None:
        return None
    tools = tools_of(settings.scoring, verdicts=verdicts, max_tokens=settings.max_new_tokens)
    rewards = load_rewards(plain_rewards(settings.terms), grammar, **tools.as_injected())
    store.as_json(rewards.described(), "terms of an exam")
    return rewards


def asked_judge(settings: ScoringSettings, rewards: Rewards | None) -> JudgeServer | None:
    """The judge that these rewards ask; None where they ask none."""
    return settings.judge if rewards is not None and rewards.uses_server else None


def same_judges(recipe: Recipe, stages: dict[str, Rewards], exams: dict[str, RewardSet]) -> list[str]:
    """Exams whose judge also gives the rewards of a stage, as problems of the recipe."""
    problems = []
    for exam, rewards in exams.items():
        settings = recipe.exams[exam]
        judge = asked_judge(settings.scoring, rewards)
        for name, own in stages.items():
            stage = recipe.stages[name]
            assert isinstance(stage, RlStage | RejectionStage)
            taught = asked_judge(stage.scoring, own)
            if judge is not None and judge.is_same(taught) and not settings.same_judge:
                problems.append(
                    f"exams.{exam}: its judge {judge.model!r} also gives the rewards of stages.{name}, and would grade "
                    f"what it has taught; give the exam another model (exams.{exam}.scoring.judge), or allow it with "
                    f"exams.{exam}.same_judge: true"
                )
    return problems


def check_graphs(run: RunState) -> None:
    """See that the graphs are those that this run began with, and write down which they are.

    Raises:
        EosinError: a graph has changed since an earlier part of the run.
    """
    blocks = [s.scoring for s in run.recipe.stages.values() if isinstance(s, RlStage | RejectionStage)]
    blocks += [e.scoring for e in run.recipe.exams.values()]
    folders = sorted({b.knowledge for b in blocks if b.knowledge is not None})
    if not folders:
        return
    now = {folder: store.open_artifact(Path(folder)).digest for folder in folders}
    before = store.read_object(run.at.graphs) if run.at.graphs.exists() else {}
    for folder, digest in now.items():
        if before.get(folder, digest) != digest:
            raise EosinError(
                "The knowledge graph is not the one that this run began with.",
                expected=f"digest {before[folder][:12]}",
                found=f"digest {digest[:12]}",
                where=folder,
                next_step="put the former graph back, or begin a run with this one in another --out",
            )
    store.write_json(run.at.graphs, before | now)


def try_all(run: RunState) -> None:
    """Try the tools of every stage and exam that are still to come, before hours of work are spent.

    Raises:
        EosinError: what cannot be used, and how to mend it.
    """
    check_graphs(run)
    tried: set[str] = set()
    for name, settings in run.recipe.stages.items():
        if isinstance(settings, RlStage | RejectionStage) and not run.at.stage_record(name).exists():
            _try_rewards(run, name, settings, tools_of_stage(settings, run.at), tried)
        elif isinstance(settings, SftStage) and not run.at.stage_record(name).exists():
            _try_bags_encoder(name, settings, tried)
    for name, exam in run.recipe.exams.items():
        wanted = ["base"] if run.recipe.base_exam else []
        wanted += [n for n, s in run.recipe.stages.items() if s.exam]
        rewards_of_exam = exam_rewards(exam, run.recipe.reply_grammar, run.at.verdicts)
        if rewards_of_exam is not None and not all(store.exists(run.at.exam(stage, name)) for stage in wanted):
            _try(run, rewards_of_exam, exam.scoring, f"exams.{name}", run.splits[exam.split], tried)


def _try_bags_encoder(name: str, settings: SftStage, tried: set[str]) -> None:
    encoder = settings.pseudo_bags.encoder if settings.pseudo_bags is not None else None
    if encoder is None or encoder in tried:
        return
    tried.add(encoder)
    where = f"stages.{name}.pseudo_bags"
    console.print(f"  {where}: {try_encoder(tools_of(ScoringSettings(encoder=encoder)), where)}")


def try_stage(run: RunState, name: str, tools: Resources) -> None:
    """Try the tools of a stage that is about to begin: what answered when the run began may be gone by now."""
    settings = run.recipe.stages[name]
    if isinstance(settings, RlStage | RejectionStage):
        _try_rewards(run, name, settings, tools, set())


def _try_rewards(
    run: RunState, name: str, settings: RlStage | RejectionStage, tools: Resources, tried: set[str]
) -> None:
    sources = {s.origin.source for s in run.splits["train"] if s.answer is not None}
    rewards = stage_rewards(settings, run.recipe.reply_grammar, sources, **tools.as_injected())
    _try(run, rewards, settings.scoring, f"stages.{name}", run.splits["train"], tried)


def _try(
    run: RunState, rewards: Rewards, settings: ScoringSettings, where: str, samples: Sequence[Sample], tried: set[str]
) -> None:
    key = f"{settings.model_dump_json()} {rewards.label}"
    if key in tried:
        return
    tried.add(key)
    for line in try_tools(rewards, settings, where, first_image(samples, run.read_region)):
        console.print(f"  {where}: {line}")


def first_image(samples: Sequence[Sample], read_region: RegionReader | None) -> bytes | None:
    """The first image of the data, encoded as a judge is shown it; None where there is none to show."""
    for sample in samples[:20]:
        ref = sample.images[0] if sample.images else None
        if ref is None or isinstance(ref, SlideBag):
            continue
        try:
            if isinstance(ref, ImageBytes | ImageFile):
                return read_bytes(ref)
            return encode_png(load_image(ref, read_region))
        except ImageError:
            continue
    return None
