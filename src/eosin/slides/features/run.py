"""Slides in, features out: one h5 file a slide, in TRIDENT's layout, resumable a slide at a time.

What a slide's file holds depends on the slide, the encoder and the settings alone; not on how many processes read,
nor on whether slides were spread over a cluster.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from eosin import __version__
from eosin.core.errors import EosinError, disk_errors
from eosin.core.nouns.outcome import Dropped
from eosin.core.store import artifacts as store
from eosin.core.store.record import differences
from eosin.slides.batch.folder import table_text
from eosin.slides.batch.progress import Progress
from eosin.slides.encoders.encoder import EncoderRecord, MakeEncoder, check_mpp, record_of
from eosin.slides.encoders.load import load_encoder
from eosin.slides.features import h5
from eosin.slides.features.extract import encode_slides, size_of
from eosin.slides.features.h5_read import read_h5, read_header
from eosin.slides.features.pipeline import STEP, Job
from eosin.slides.features.plan import Done, FeatureSettings, Plan, Summary
from eosin.slides.open.find import Found, find_slides
from eosin.slides.untrusted import clean

__all__ = ["Done", "FeatureSettings", "Plan", "Summary", "run"]


def run(
    paths: Sequence[Path],
    out: Path,
    settings: FeatureSettings,
    console: Console | None = None,
    *,
    record: EncoderRecord | None = None,
    make_encoder: MakeEncoder | None = None,
) -> Summary:
    """Features of every slide that has none yet.

    Args:
        paths: slides and folders of slides.
        out: TRIDENT's job folder; `20x_256px_0px_overlap/` is made in it.
        console: where progress is shown; None: nowhere.
        record, make_encoder: an encoder from outside (a tower of Eosin's own training) instead of a named one;
            `make_encoder` is called where the encoder works, so with `engine: ray` it must travel.

    Raises:
        EosinError: no slides; unknown encoder; a scale it was not trained for; the folder holds features of other
            settings; the disk is full; the encoder fails on every slide. A bad slide raises nothing.
    """
    begun = time.perf_counter()
    plan = _plan(out, settings, record)
    make = make_encoder or _maker(settings, plan.mpp)
    found, aside = find_slides([Path(p) for p in paths])
    jobs = named_jobs(found)
    store.remove_leftovers(plan.folder)
    _claim(plan)
    done, todo, dropped = _resume(plan, jobs)
    seen: list[Done | Dropped] = [*done, *aside, *dropped]
    with Progress(console, total=len(todo), resumed=len(done)) as progress:
        for outcome in _engine(settings)(todo, plan, make, progress):
            seen.append(outcome)
            _log(plan, outcome)
            progress.finished(outcome)
    kept = tuple(o for o in seen if isinstance(o, Done))
    lost = tuple(o for o in seen if isinstance(o, Dropped))
    tables = _write_tables(plan, jobs, kept, lost)
    return Summary(kept, lost, plan.folder, time.perf_counter() - begun, tables)


def _plan(out: Path, settings: FeatureSettings, record: EncoderRecord | None) -> Plan:
    record = record or record_of(settings.encoder)
    mpp = check_mpp(record, settings.mpp)
    overlap_px = round(record.tile_px * settings.overlap)
    return Plan(settings, record, mpp, h5.coords_folder(Path(out), mpp, record.tile_px, overlap_px))


def _maker(settings: FeatureSettings, mpp: float) -> MakeEncoder:
    return functools.partial(
        load_encoder, settings.encoder, mpp=mpp, weights=settings.weights, device=settings.device,
        revision=settings.revision,
    )  # fmt: skip


def _engine(settings: FeatureSettings) -> Callable[..., Iterator[Done | Dropped]]:
    if settings.engine == "ray":
        from eosin.slides.features.ray_cluster import encode_on_ray

        return encode_on_ray
    return encode_slides


# ---- names and what stands on disk ----------------------------------------------------------------------------------


def named_jobs(found: Sequence[Found]) -> list[Job]:
    """A job a slide. Its files are called like the slide; where two are called the same, by folder and name."""
    bare = Counter(Path(f.key).name for f in found)
    used = Counter(f.key.replace("/", "__") for f in found)
    jobs = []
    for one in found:
        short, full = Path(one.key).name, one.key.replace("/", "__")
        digest = hashlib.sha256(one.key.encode()).hexdigest()[:8]
        jobs.append(Job(short if bare[short] == 1 else full if used[full] == 1 else f"{full}-{digest}", one.path))
    return jobs


def _claim(plan: Plan) -> None:
    """Note what the files depend on, or see that those that stand there depend on the same."""
    file = plan.side_file("settings", ".json")
    new = json.loads(json.dumps(plan.in_files()))
    if file.exists():
        old = store.read_json(file)
        there = old.get("depends_on") if isinstance(old, dict) else None
        if there != new:
            raise EosinError(
                "This folder holds features of other settings.",
                expected="the same settings",
                found="; ".join(differences(there, new)[:6]),
                where=plan.folder,
                next_step="choose another --out (nothing is overwritten)",
            )
        return
    with disk_errors(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
    store.write_json(file, {"schema_version": store.SCHEMA_VERSION, "made_by": __version__, "depends_on": new})


def _resume(plan: Plan, jobs: Sequence[Job]) -> tuple[list[Done], list[Job], list[Dropped]]:
    """Divide jobs into those with a whole file, those to do, and those whose name is taken by another slide."""
    done: list[Done] = []
    todo: list[Job] = []
    dropped: list[Dropped] = []
    for job in jobs:
        file = plan.features(job.name)
        if not file.exists():
            todo.append(job)
            continue
        try:
            held = read_header(file)
            _mend_patches(plan, job, file)
        except EosinError as exc:
            detail = f"{file}: {exc.found or exc.message}"
            dropped.append(Dropped(job.name, "the feature file there is damaged", detail, STEP))
            continue
        taken = held.attributes.get("source_bytes", -1)
        if held.dim != plan.record.dim:
            detail = f"{file}: dimension {held.dim}, not {plan.record.dim}"
            dropped.append(Dropped(job.name, "the feature file there is of another encoder", detail, STEP))
        elif taken not in (-1, size_of(job.path)):
            dropped.append(Dropped(job.name, "the feature file there is of another slide", str(file), STEP))
        else:
            done.append(Done(job.name, job.path, file, held.num_tiles, held.failed, resumed=True))
    return done, todo, dropped


def _mend_patches(plan: Plan, job: Job, file: Path) -> None:
    """Write the corners of a slide again where a run was killed before it wrote them: those of the file, row by row."""
    patches = h5.patches_file(plan.folder, job.name)
    if patches.exists():
        return
    bag = read_h5(file)
    if bag.coords is None:
        raise EosinError("These features have no coordinates.", where=file)
    corners = np.concatenate([bag.coords, np.array([c for c, _ in bag.failed], np.int64).reshape(-1, 2)])
    h5.write_patches(patches, corners[np.lexsort(corners.T)], bag.geometry, job.name)


def _log(plan: Plan, outcome: Done | Dropped) -> None:
    """One line a slide, as it ends, so that a killed run leaves its history."""
    if isinstance(outcome, Done):
        row: dict[str, Any] = {
            "slide": outcome.name, "state": "done", "tiles": outcome.num_tiles, "failed": len(outcome.failed),
            "seconds": round(outcome.seconds, 2), "source": clean(str(outcome.path)),
        }  # fmt: skip
    else:
        row = {"slide": outcome.id, "state": "dropped", "reason": outcome.reason, "detail": clean(outcome.detail)}
    store.append_jsonl(plan.side_file("log", ".jsonl"), [row])


def _write_tables(
    plan: Plan, jobs: Sequence[Job], done: Sequence[Done], dropped: Sequence[Dropped]
) -> tuple[Path, ...]:
    """Tables of this run's slides and of their failed tiles."""
    by_name: dict[str, Done | Dropped] = {d.name: d for d in done} | {d.id: d for d in dropped}
    places = {j.name: str(j.path) for j in jobs}
    rows: list[list[object]] = []
    lost: list[list[object]] = []
    for name, outcome in sorted(by_name.items()):
        place = places.get(name, name)
        if isinstance(outcome, Done):
            state = "resumed" if outcome.resumed else "done"
            rows.append([name, place, state, outcome.num_tiles, len(outcome.failed), "", ""])
            lost += [[name, x, y, reason] for (x, y), reason in outcome.failed]
        else:
            rows.append([name, place, "dropped", "", "", outcome.reason, outcome.detail])
    columns = ["slide", "source", "state", "tiles", "failed_tiles", "reason", "detail"]
    slides, tiles = plan.side_file("slides", ".csv"), plan.side_file("failed_tiles", ".csv")
    store.write_text_atomic(slides, table_text(columns, rows))
    store.write_text_atomic(tiles, table_text(["slide", "x_level0", "y_level0", "reason"], lost))
    return slides, tiles
