"""What of a recipe can be wrong beside its fields, found before hours of training and not after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eosin.chain.recipe.streaming import problems as streaming_problems
from eosin.chain.recipe.tools import same_judges
from eosin.core.errors import EosinError, RecipeError
from eosin.core.settings.curation.writing import GroundStep, ReasonStep
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.rl import code_in, plain_rewards, without_code
from eosin.core.settings.scoring import ScoringSettings
from eosin.core.settings.stages import RejectionStage, RlStage
from eosin.evaluate.exams.prompts import OWN, preset_named
from eosin.scoring.resources.build import tools_of
from eosin.scoring.sets.by_source import Rewards, departures, length_twice, stage_rewards
from eosin.scoring.sets.compose import RewardSet
from eosin.scoring.sets.named import load_rewards
from eosin.scoring.terms.base import Resources


def check_recipe(recipe: Recipe, where: Path, *, load_code: bool = True) -> list[str]:
    """Load every reward and every table of pass rates that the recipe names. Needs no torch.

    Args:
        load_code: whether rewards that are code of the recipe's own are imported. To look at a recipe must not run it.

    Returns:
        Notes for the user: nothing is wrong, but it may not be what was meant.

    Raises:
        RecipeError: with all problems: an unknown reward or option, a table that cannot be read.
    """
    problems: list[str] = []
    notes: list[str] = []
    stages: dict[str, Rewards] = {}
    for name, stage in recipe.stages.items():
        if not isinstance(stage, RlStage | RejectionStage):
            continue
        notes += _own_code(name, stage.rewards, load_code)
        known = stage if load_code else stage.model_copy(update={"rewards": without_code(stage.rewards)})
        tools = _tools(known.scoring, f"stages.{name}.scoring", problems)
        try:
            if known.rewards:
                stages[name] = rewards = stage_rewards(known, recipe.reply_grammar, (), **tools.as_injected())
                notes += [
                    f"{name}: {label} punishes length twice; see algorithm.overlong_buffer"
                    for label in length_twice(rewards)
                ]
                notes += [f"{name}: rewards are not as published or as they come: {d}" for d in departures(rewards)]
        except EosinError as exc:
            problems.append(_line(f"stages.{name}.rewards", exc))
        if isinstance(stage, RlStage) and stage.difficulty is not None:
            from eosin.train.rl.difficulty import read_rates

            try:
                read_rates(stage.difficulty.file)
            except EosinError as exc:
                problems.append(_line(f"stages.{name}.difficulty.file", exc))
    problems += [*_prompts(recipe), *_steps_without_teacher(recipe), *streaming_problems(recipe)]
    for name, exam in recipe.exams.items():
        notes += _own_code(f"exams.{name}", exam.terms or (), load_code)
    exams = _exam_rewards(recipe, problems, load_code)
    problems += same_judges(recipe, stages, exams)
    if problems:
        raise RecipeError(problems, where)
    return notes


def _own_code(name: str, rewards: Any, load_code: bool) -> list[str]:
    """A note that names the code of its own that a recipe's rewards or an exam's terms bring."""
    code = code_in(rewards)
    loaded = "loads and runs" if load_code else "a run loads (not this look at it)"
    return [f"{name}: {loaded} the recipe's own code: {', '.join(code)}"] if code else []


def _prompts(recipe: Recipe) -> list[str]:
    """Ways of asking that do not exist."""
    found = []
    for name, exam in recipe.exams.items():
        try:
            preset_named(exam.prompt or OWN)
        except EosinError as exc:
            found.append(_line(f"exams.{name}.prompt", exc))
    return found


def _steps_without_teacher(recipe: Recipe) -> list[str]:
    """Steps of `data.curate` that a server must write for, and none is named."""
    steps = recipe.data.curate.steps if recipe.data.curate is not None else []
    return [
        f"data.curate.steps.{i}.teacher: the step {step.step} needs a server (expected data.curate.teacher, or its own)"
        for i, step in enumerate(steps)
        if (isinstance(step, ReasonStep) or (isinstance(step, GroundStep) and "model" in (step.extractor, step.writer)))
        and step.teacher is None
    ]


def _tools(settings: ScoringSettings, field: str, problems: list[str]) -> Resources:
    """The tools of a stage or an exam, nothing asked or loaded; what cannot be had is a problem."""
    try:
        return tools_of(settings)
    except EosinError as exc:
        line = _line(field, exc)
        if not any(line.partition(": ")[2] == known.partition(": ")[2] for known in problems):  # the run's, said once
            problems.append(line)
        return Resources()


def _exam_rewards(recipe: Recipe, problems: list[str], load_code: bool) -> dict[str, RewardSet]:
    found = {}
    for name, exam in recipe.exams.items():
        if exam.terms is None or (not load_code and code_in(exam.terms)):
            continue
        tools = _tools(exam.scoring, f"exams.{name}.scoring", problems)
        try:
            found[name] = load_rewards(plain_rewards(exam.terms), recipe.reply_grammar, **tools.as_injected())
        except EosinError as exc:
            problems.append(_line(f"exams.{name}.terms", exc))
    return found


def _line(field: str, exc: EosinError) -> str:
    parts = (("found", exc.found), ("expected", exc.expected), ("where", exc.where), ("", exc.next_step))
    more = "; ".join(f"{label} {text}".strip() for label, text in parts if text)
    return f"{field}: {exc.message}" + (f" ({more})" if more else "")
