"""What of a recipe can be wrong beside its fields, found before hours of training and not after."""

from __future__ import annotations

from pathlib import Path

from eosin.core.errors import EosinError, RecipeError
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.rl import code_in, without_code
from eosin.core.settings.stages import RejectionStage, RlStage
from eosin.scoring.sets.by_source import length_twice, stage_rewards


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
    for name, stage in recipe.stages.items():
        if not isinstance(stage, RlStage | RejectionStage):
            continue
        code = code_in(stage.rewards)
        if code:
            loaded = "loads and runs" if load_code else "a run loads (not this look at it)"
            notes.append(f"{name}: {loaded} the recipe's own code: {', '.join(code)}")
        known = stage if load_code else stage.model_copy(update={"rewards": without_code(stage.rewards)})
        try:
            twice = length_twice(stage_rewards(known, recipe.reply_grammar, ())) if known.rewards else []
            notes += [f"{name}: {label} punishes length twice; see algorithm.overlong_buffer" for label in twice]
        except EosinError as exc:
            problems.append(_line(f"stages.{name}.rewards", exc))
        if isinstance(stage, RlStage) and stage.difficulty is not None:
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
