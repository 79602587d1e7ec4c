"""Run a curation: read the source into shards, do the steps one after the other, and put the result in its place.

The work stands in `.OUT.work` beside OUT until the result is whole. Killed at any point, the same call goes on: shards
that are whole are not made again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, disk_errors
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.settings.curation.step import StepSettings
from eosin.core.store import artifacts as store
from eosin.core.store.lock import lock_beside, locked
from eosin.core.store.record import differences
from eosin.curate.engine.reading import STEP, read_into
from eosin.curate.engine.result import write_result
from eosin.curate.engine.shards import DONE, Place, Shards, total
from eosin.curate.engine.tasks import Task, measures, run_local
from eosin.curate.steps.base import Context
from eosin.curate.steps.registry import make_step

Source = Callable[[], Iterable[Kept[Sample] | Dropped]]
_NOT_CONTENT: Any = {"description": True, "data": {"curate"}}
_MEANS = ("workers", "engine", "ray_address")
_MEANS_OF_SERVER = (
    "url", "api_key_env", "timeout_s", "retries", "backoff_s", "max_wait_s", "max_in_flight", "max_calls", "max_cost",
    "prices", "proxy", "cache", "ask_first",
)  # fmt: skip


@dataclass(frozen=True)
class About:
    """What is known of the source beside its samples: cards of its data sets, and what the user should know."""

    cards: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


def run_curation(
    recipe: CurationRecipe, out: Path, source: Source, context: Context, about: Callable[[], About] = About
) -> store.Artifact:
    """Curate, and write the samples artifact `out`.

    Args:
        source: gives the outcomes of reading, from the start each time it is called.
        about: called once the source was read.

    Raises:
        EosinError: something else stands at `out`; other settings were begun there; no sample is left; a step fails.
    """
    told = told_of(recipe)
    with locked(lock_beside(out)):
        if store.exists(out):
            made = store.open_artifact(out, "samples")
            if content_of(_renewed(made.manifest["record"].get("curation") or {})) == content_of(told):
                context.report(f"This curation is whole already; nothing was done: {out}")
                return made
        if out.exists():
            raise EosinError("There is something at this place already, and Eosin never overwrites.", where=out,
                             next_step="choose another --out, or move the old folder away")  # fmt: skip
        work = work_of(out)
        with disk_errors(work):
            work.mkdir(parents=True, exist_ok=True)
        store.remove_leftovers(work)
        _same_settings(work, told)
        places = [Place(work / f"{i:02d}-{name}", name) for i, name in enumerate(names_of(recipe))]
        done = sum(p.is_done for p in places)
        if done == 0:
            _read(recipe, places[0], source, about, context)
        for i, settings in enumerate(recipe.steps, start=1):
            if not places[i].is_done:
                _run_step(recipe, settings, places[i - 1], places[i], context)
            places[i - 1].forget("kept")
            places[i].forget("measured")
        made = write_result(recipe, told, places, out)
        shutil.rmtree(work, ignore_errors=True)
    return made


def work_of(out: Path) -> Path:
    """Where the work on a result stands until it is whole."""
    return out.with_name(f".{out.name}.work")


def told_of(recipe: CurationRecipe) -> dict[str, Any]:
    """The recipe as the result's record keeps it."""
    told: dict[str, Any] = json.loads(recipe.model_dump_json(exclude=_NOT_CONTENT))
    return told


def _renewed(told: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe with the defaults of settings that are newer than it."""
    try:
        return told_of(CurationRecipe.model_validate(told))
    except ValueError:
        return told


def content_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """What of a recipe, or of a block `data.curate`, decides what comes out: all but how and where it is done.

    A curation may go on with other processes, another budget, or its server at another address.
    """
    made = {k: deepcopy(v) for k, v in told.items() if k not in _MEANS}
    for holder in (made, *(made.get("steps") or ())):
        for role in ("teacher", "checker"):
            if isinstance(server := holder.get(role), Mapping):
                holder[role] = {k: v for k, v in server.items() if k not in _MEANS_OF_SERVER}
    return made


def names_of(recipe: CurationRecipe) -> list[str]:
    return [STEP, *(s.step for s in recipe.steps)]


def _same_settings(work: Path, told: dict[str, Any]) -> None:
    file = work / "recipe.json"
    if not file.is_file():
        store.write_json(file, told)
        return
    differing = differences(content_of(_renewed(store.read_object(file))), content_of(told))
    if differing:
        raise EosinError(
            "Another curation was begun here.", found="; ".join(differing)[:400], where=work,
            next_step="give the settings of the first run, choose another --out, or remove this folder",
        )  # fmt: skip


def _read(recipe: CurationRecipe, place: Place, source: Source, about: Callable[[], About], context: Context) -> None:
    place.prepare()
    began = time.monotonic()
    num = read_into(source(), place, recipe, lambda n: None)
    known = about()
    _finish(place, num, began, {"cards": list(known.cards), "warnings": list(known.warnings)}, context)


def _run_step(recipe: CurationRecipe, settings: StepSettings, before: Place, place: Place, context: Context) -> None:
    """One step over all shards. The next one finds `done.json`."""
    began = time.monotonic()
    place.prepare()
    inputs = Shards(before, tuple(before.done()["sizes"]), place)
    step = make_step(settings, context, place.state)
    if not (place.folder / "begun.json").is_file():
        step.begin(inputs)
        store.write_json(place.folder / "begun.json", {})
    if measures(settings):
        _all(Task("measure", settings, context.seed, inputs, place), range(len(inputs)), step, recipe)
    if not (place.folder / "decided.json").is_file():
        step.decide(inputs)
        store.write_json(place.folder / "decided.json", {"seconds": round(time.monotonic() - began, 2)})
    num = step.num_outputs(inputs)
    _all(Task("make", settings, context.seed, inputs, place), range(num), step, recipe)
    _finish(place, num, began, step.facts(), context, expected=inputs.num_samples)


def _all(task: Task, shards: Sequence[int], step: Any, recipe: CurationRecipe) -> None:
    todo = [s for s in shards if not task.done(s)]
    if recipe.engine == "ray" and not step.in_main:
        from eosin.curate.engine.ray_tasks import run_on_ray

        done = run_on_ray(task, todo, recipe.ray_address)
    else:
        done = run_local(task, todo, step, recipe.workers)
    for _ in done:
        pass


def _finish(
    place: Place, num: int, began: float, facts: dict[str, Any], context: Context, expected: int | None = None
) -> None:
    counts, sizes = total(place, num)
    if not counts.adds_up or (expected is not None and counts.num_in != expected):
        raise EosinError(
            f"The step {place.step} does not account for all samples; this is a fault in Eosin.",
            expected=f"{expected} samples", found=f"{counts.num_kept} kept, {counts.dropped.total()} dropped",
        )  # fmt: skip
    told = {"sizes": sizes, "counts": counts.as_json(), "facts": facts, "seconds": round(time.monotonic() - began, 2)}
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.dropped.most_common(6))
    context.report(
        f"{place.step}: {counts.num_in:,} in, {counts.num_out:,} out, {counts.dropped.total():,} set aside"
        + (f" ({reasons})" if reasons else "") + f"; {told['seconds']:g} s"
    )  # fmt: skip
    if not counts.num_out:
        raise EosinError(
            f"The step {place.step} left no sample.", found=str(dict(counts.dropped.most_common(6))),
            next_step=_hint(counts.dropped), expected="samples that pass", where=place.folder,
        )  # fmt: skip
    store.write_json(place.folder / DONE, told)


def _hint(dropped: dict[str, int]) -> str:
    if "no licence" in dropped:
        return "say the licence in the recipe's data, or set unknown_licence: keep; then remove this folder's parent"
    return "loosen the step's settings, remove this folder's parent, and give the command again"
