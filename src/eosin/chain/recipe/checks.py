"""What of a recipe can be wrong beside its fields, found before hours of training and not after."""

from __future__ import annotations

from pathlib import Path

from eosin.core.errors import EosinError, RecipeError
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.stages import RlStage
from eosin.scoring.sets.by_source import length_twice, stage_rewards


def check_recipe(recipe: Recipe, where: Path) -> list[str]:
    """Load every reward and every table of pass rates that the recipe names. Needs no torch.

    Returns:
        Notes for the user: nothing is wrong, but it may not be what was meant.

    Raises:
        RecipeError: with all problems: an unknown reward or option, a table that cannot be read.
    """
    problems: list[str] = []
    notes: list[str] = []
    for name, stage in recipe.stages.items():
        if not isinstance(stage, RlStage):
            continue
        try:
            rewards = stage_rewards(stage, recipe.reply_grammar, ())
            notes += [
                f"{name}: {label} punishes length twice; see algorithm.overlong_buffer"
                for label in length_twice(rewards)
            ]
        except EosinError as exc:
            problems.append(_line(f"stages.{name}.rewards", exc))
        if stage.difficulty is not None:
            from eosin.train.rl.difficulty import read_rates

            try:
                read_rates(stage.difficulty.file)
            except EosinError as exc:
                problems.append(_line(f"stages.{name}.difficulty.file", exc))
    if problems:
        raise RecipeError(problems, where)
    return notes


def _line(field: str, exc: EosinError) -> str:
    parts = (("found", exc.found), ("expected", exc.expected), ("where", exc.where), ("", exc.next_step))
    more = "; ".join(f"{label} {text}".strip() for label, text in parts if text)
    return f"{field}: {exc.message}" + (f" ({more})" if more else "")
