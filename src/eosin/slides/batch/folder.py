"""Handle folders of slides: a result a slide, written whole; what is done is not done again; counts add up.

OUT/KEY/VERB.json is the mark that a slide is done, written last. OUT/VERB.csv is the table of all that are done,
OUT/VERB.set_aside.csv of those that are not, with the reason.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, disk_errors
from eosin.core.guarded import Job, run_guarded
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.store.artifacts import read_json, remove_leftovers, write_json, write_text_atomic
from eosin.slides.open.find import Found, find_slides
from eosin.slides.untrusted import clean

Row = dict[str, Any]
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class FolderRun:
    """What became of a folder. `num_found` is the sum of `rows` and `dropped`.

    Attributes:
        rows: one a slide that is done, in the order of the slides. num_before: how many of them an earlier run did.
        dropped: slides and folders that were set aside.
    """

    num_found: int
    rows: tuple[Row, ...]
    dropped: tuple[Dropped, ...]
    num_before: int


def run_folder(
    verb: str,
    work: Callable[..., Row],
    paths: Sequence[Path],
    out: Path | None,
    settings: Mapping[str, Any],
    *,
    timeout_s: float = 600.0,
    workers: int = 1,
    report: Report | None = None,
) -> FolderRun:
    """Call `work(path, key, folder or None, settings)` on every slide, each in a child process.

    Args:
        out: results; None: nothing is written.
        report: called after each slide with how many are done, how many there are, and the slide's key.

    Raises:
        EosinError: no slides, or `out` holds results of other settings.
    """
    found, dropped = find_slides(paths)
    if out is not None:
        remove_leftovers(out)
        _same_settings(out, verb, settings)
    done = {f.key: row for f in found if out is not None and (row := _finished(out, verb, f)) is not None}
    before = len(done)
    todo = [f for f in found if f.key not in done]
    jobs = [Job(f.key, (str(f.path), f.key, str(out / f.key) if out else None, dict(settings))) for f in todo]
    places = {f.key: f.path for f in found}
    for job, outcome in run_guarded(work, jobs, timeout_s=timeout_s, workers=workers, step=verb):
        if isinstance(outcome, Kept):
            done[job.id] = outcome.value
            if out is not None:
                _mark(out, verb, Found(job.id, places[job.id]), outcome.value)
        else:
            dropped.append(outcome)
        if report is not None:
            report(len(done) + len(dropped), len(found), job.id)
    rows = [done[f.key] for f in found if f.key in done]
    result = FolderRun(len(rows) + len(dropped), tuple(rows), tuple(dropped), before)
    if out is not None:
        _write_tables(out, verb, result)
    return result


def _finished(out: Path, verb: str, slide: Found) -> Row | None:
    """The row of a slide that is done and was not changed since."""
    mark = out / slide.key / f"{verb}.json"
    if not mark.is_file():
        return None
    try:
        held = read_json(mark)
    except EosinError:  # a mark that cannot be read marks nothing: the slide is done again
        return None
    whole = isinstance(held, dict) and isinstance(held.get("row"), dict)
    return held["row"] if whole and held.get("file") == _fingerprint(slide.path) else None


def _mark(out: Path, verb: str, slide: Found, row: Row) -> None:
    place = out / slide.key
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    write_json(place / f"{verb}.json", {"slide": clean(str(slide.path)), "file": _fingerprint(slide.path), "row": row})


def _fingerprint(path: Path) -> list[int]:
    try:
        about = path.stat()
    except OSError:
        return []
    return [about.st_size, about.st_mtime_ns]


def _same_settings(out: Path, verb: str, settings: Mapping[str, Any]) -> None:
    """Refuse to mix results of different settings in one folder."""
    text = json.dumps(settings, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    place = out / f"{verb}.settings.json"
    if place.is_file():
        held = read_json(place)
        if not isinstance(held, dict) or held.get("digest") != digest:
            there = held.get("settings") if isinstance(held, dict) else None
            there = there if isinstance(there, dict) else {}
            differing = [k for k in settings if there.get(k) != json.loads(text)[k]]
            raise EosinError("This folder holds results of other settings.",
                             found=", ".join(f"{k}={there.get(k)}" for k in differing)[:200], where=place,
                             next_step="choose another --out, or give the settings of the first run")  # fmt: skip
        return
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_json(place, {"digest": digest, "settings": json.loads(text)})


def _write_tables(out: Path, verb: str, run: FolderRun) -> None:
    columns = list(dict.fromkeys(k for row in run.rows for k in row))
    write_text_atomic(out / f"{verb}.csv", table_text(columns, [[r.get(c, "") for c in columns] for r in run.rows]))
    aside = [[d.id, d.reason, d.detail, d.step] for d in sorted(run.dropped, key=lambda d: d.id)]
    write_text_atomic(out / f"{verb}.set_aside.csv", table_text(["slide", "reason", "detail", "step"], aside))


def table_text(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """CSV with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return clean(text.getvalue())
