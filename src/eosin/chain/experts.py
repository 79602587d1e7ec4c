"""Batches of samples go to experts as a table, pictures and GeoJSON, and come back with verdicts and corrections."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.draw import subset
from eosin.core.errors import EosinError, ImageError
from eosin.core.formats.options import letter_of
from eosin.core.images import encode_png, load_image
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Sample, SlideBag, SlideRegion
from eosin.core.nouns.units import BoxPixels
from eosin.core.store import artifacts as store
from eosin.slides.annotations.geojson import Shape, write_geojson
from eosin.slides.annotations.geojson_read import read_geojson

KIND = "expert batch"
COLUMNS = (
    "number", "question", "options", "answer", "findings", "reasoning", "picture", "verdict",
    "correct_answer", "comment",
)  # fmt: skip
VERDICTS = {"keep": "keep", "ok": "keep", "yes": "keep", "drop": "drop", "no": "drop", "unsure": "unsure", "": ""}
STEP = "experts"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_batch(samples: Sequence[Sample], out: Path, num: int, seed: int = 0) -> int:
    """Write `out`: batch.csv to be filled in, pictures/, shapes/ (GeoJSON of boxes, in pixels), samples.parquet.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front.

    Returns:
        How many samples are in the batch.

    Raises:
        EosinError: something stands there, or there is no sample.
    """
    chosen = subset(samples, num, seed)
    if not chosen:
        raise EosinError("There is no sample to send.", found="0 samples")
    if out.exists():
        raise EosinError("There is something at this place already.", where=out, next_step="choose another --out")
    from eosin.core.formats import write_parquet

    with store.writing(out, KIND, record={"seed": seed}) as writer:
        (writer.dir / "pictures").mkdir()
        (writer.dir / "shapes").mkdir()
        write_parquet(chosen, writer.dir / "samples.parquet")
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(COLUMNS)
        for number, sample in enumerate(chosen, 1):
            picture = _picture(sample, writer.dir, number)
            options = "\n".join(f"{c.letter}. {c.text}" for c in sample.choices)
            chain = "\n".join(sample.reasoning)
            told = (sample.question, options, sample.answer or "", sample.findings or "", chain, picture)
            table.writerow([number, *map(_safe, told), "", "", ""])
        (writer.dir / "batch.csv").write_text(text.getvalue(), encoding="utf-8-sig", newline="")
        writer.counts["samples"] = len(chosen)
    return len(chosen)


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _picture(sample: Sample, folder: Path, number: int) -> str:
    """The first picture as a file, and its boxes as GeoJSON; the name of the file, or why there is none."""
    if not sample.images:
        return ""
    ref = sample.images[0]
    if isinstance(ref, SlideBag | SlideRegion):
        return f"slide {sample.origin.slide or ref.path}"
    try:
        data = encode_png(load_image(ref))
    except ImageError as exc:
        return exc.message
    (folder / "pictures" / f"{number:04d}.png").write_bytes(data)
    shapes = [
        Shape([[np.array([[b.x0, b.y0], [b.x1, b.y0], [b.x1, b.y1], [b.x0, b.y1], [b.x0, b.y0]])]], e.name)
        for e in sample.entities if e.image == 0 for b in e.boxes
    ]  # fmt: skip
    write_geojson(folder / "shapes" / f"{number:04d}.geojson", shapes)
    return f"pictures/{number:04d}.png"


@dataclass(frozen=True)
class Returned:
    """What experts said.

    Attributes:
        samples: kept ones, with corrected answers and boxes; the others with the reason.
        readers: for each reader how many verdicts of each kind.
        agreement: for each pair of readers: both read, agreed, Cohen's kappa (None where it is not defined).
        changed_answers, changed_boxes: samples whose answer or boxes were corrected.
        problems: cells that could not be read, by reader and line.
    """

    samples: Filtered[Sample]
    readers: Mapping[str, Mapping[str, int]]
    agreement: Mapping[str, Mapping[str, Any]]
    changed_answers: int
    changed_boxes: int
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "kept": len(self.samples.kept), "dropped": self.samples.reasons(), "readers": dict(self.readers),
            "agreement": dict(self.agreement), "changed_answers": self.changed_answers,
            "changed_boxes": self.changed_boxes, "problems": list(self.problems),
        }  # fmt: skip


def read_back(batch: Path, tables: Sequence[Path]) -> Returned:
    """Read the tables of one or more readers; a table's name is its reader's. Shapes are read from the batch's folder.

    A sample is kept where more readers say keep than drop; ties and samples that nobody judged are set aside.
    An answer is corrected where all who keep it and name one name the same.

    Raises:
        EosinError: no batch, no table, or a table without its columns.
    """
    from eosin.core.formats import read_samples

    store.open_artifact(batch, KIND)
    samples = read_samples(batch / "samples.parquet").kept
    problems: list[str] = []
    read = {t.stem: _rows(t, len(samples), problems) for t in tables}
    if not read:
        raise EosinError("No table of verdicts was given.", expected="batch.csv, filled in", where=batch)
    counts = {"answers": 0, "boxes": 0}
    outcomes = [_judged(s, n, read, batch, counts, problems) for n, s in enumerate(samples, 1)]
    verdicts = {name: {n: v for n, (v, _, _) in rows.items() if v} for name, rows in read.items()}
    return Returned(
        filtered(outcomes), {name: dict(Counter(v.values())) for name, v in verdicts.items()}, _agreement(verdicts),
        counts["answers"], counts["boxes"], tuple(problems),
    )  # fmt: skip


def _rows(table: Path, num: int, problems: list[str]) -> dict[int, tuple[str, str, str]]:
    """Verdict, answer and comment by number of the sample."""
    from eosin.sources.table import read_cells

    header, lines = read_cells(table)
    folded = [h.casefold() for h in header]
    if not {"number", "verdict"} <= set(folded):
        raise EosinError("This table is no batch.", expected=", ".join(COLUMNS), found=", ".join(header), where=table)
    found: dict[int, tuple[str, str, str]] = {}
    for line, cells in lines:
        row = dict(zip(folded, (c.strip() for c in cells), strict=False))
        number = int(row["number"]) if row["number"].isascii() and row["number"].isdigit() else 0
        verdict = VERDICTS.get(row.get("verdict", "").casefold())
        if not 1 <= number <= num or verdict is None or number in found:
            problems.append(f"{table.name}:{line}: number {row['number']!r}, verdict {row.get('verdict')!r}"[:160])
            continue
        found[number] = (verdict, row.get("correct_answer", ""), row.get("comment", ""))
    return found


def _judged(
    sample: Sample, number: int, read: Mapping[str, Mapping[int, tuple[str, str, str]]], batch: Path,
    counts: dict[str, int], problems: list[str],
) -> Kept[Sample] | Dropped:  # fmt: skip
    told = {name: rows[number] for name, rows in read.items() if number in rows and rows[number][0]}
    votes = Counter(verdict for verdict, _, _ in told.values())
    comment = "; ".join(c for _, _, c in told.values() if c)
    if not told:
        return Dropped(sample.id, "nobody judged it", "", STEP)
    if votes["keep"] <= votes["drop"]:
        reason = (
            "experts are divided" if votes["keep"] else "experts drop it" if votes["drop"] else "experts are unsure"
        )
        return Dropped(sample.id, reason, comment[:200], STEP)
    changes: dict[str, Any] = {}
    corrected = [a for verdict, a, _ in told.values() if verdict == "keep" and a]
    named = {_answer(sample, a) for a in corrected}
    if None in named:
        problems.append(f"{sample.id}: a corrected answer is none of its options")
        named.discard(None)
    if len(named) == 1:
        answer = named.pop()
        if answer != sample.answer:
            changes["answer"] = answer
            counts["answers"] += 1
    elif named:
        return Dropped(sample.id, "experts correct it differently", ", ".join(map(str, named))[:200], STEP)
    boxes = _boxes(sample, batch / "shapes" / f"{number:04d}.geojson", problems)
    if boxes is not None:
        changes["entities"] = boxes
        counts["boxes"] += 1
    about = {name: {"verdict": v, "comment": c} for name, (v, _, c) in told.items()}
    return Kept(sample.model_copy(update={**changes, "extra": {**sample.extra, "experts": about}}))


def _answer(sample: Sample, told: str) -> str | None:
    return letter_of(told, [c.text for c in sample.choices]) if sample.choices else told


def _boxes(sample: Sample, path: Path, problems: list[str]) -> Any:
    """Entities with the boxes that came back, where they differ; None where they are as they were."""
    if not path.is_file():
        return None
    read = read_geojson(path)
    problems += [f"{path.name}: {d.reason}" for d in read.dropped]
    by_name: dict[str, list[BoxPixels]] = defaultdict(list)
    for shape in read.kept:
        points = np.concatenate([ring for part in shape.parts for ring in part])
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        if x1 - x0 >= 1 and y1 - y0 >= 1:
            by_name[shape.kind].append(BoxPixels(x0=round(x0), y0=round(y0), x1=round(x1), y1=round(y1)))
    names = Counter(e.name for e in sample.entities)
    made = tuple(
        e.model_copy(update={"boxes": tuple(by_name.get(e.name, ()))}) if e.image == 0 and names[e.name] == 1 else e
        for e in sample.entities
    )
    return made if made != sample.entities else None


def _agreement(verdicts: Mapping[str, Mapping[int, str]]) -> dict[str, dict[str, Any]]:
    """Share of equal verdicts and Cohen's kappa of every pair of readers, on what both judged."""
    from eosin.evaluate.statistics.agreement import weighted_kappa

    grades = {"drop": 0, "unsure": 1, "keep": 2}
    found = {}
    for a, b in combinations(sorted(verdicts), 2):
        both = sorted(verdicts[a].keys() & verdicts[b].keys())
        if not both:
            continue
        first, second = ([grades[verdicts[name][n]] for n in both] for name in (a, b))
        kappa, interval = weighted_kappa(first, second, weights="none")
        share = sum(x == y for x, y in zip(first, second, strict=True)) / len(both)
        found[f"{a} and {b}"] = {"n": len(both), "agreed": share, "kappa": kappa, "kappa_ci95": interval.pair}
    return found
