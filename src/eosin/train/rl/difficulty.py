"""How hard each question is for a model: the share of sampled replies that are right, and prompts kept by it.

GRPO learns from differences within a group: with a pass rate p, a group of G replies holds both right and wrong ones
with probability 1 - p^G - (1 - p)^G. A prompt that is always or never answered rightly teaches nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from eosin.core.errors import EosinError
from eosin.core.formats.artifact import dropped_line
from eosin.core.images import Picture, RegionReader, load_picture
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, Unparsed, filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.rl import Difficulty
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, Generation
from eosin.engines.requests import requests_of
from eosin.scoring import load_rewards
from eosin.scoring.adapters.trl import ImageOpener
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.sets.by_source import Rewards
from eosin.scoring.sets.compose import RewardSet

if TYPE_CHECKING:
    from eosin.engines.group_sampler import SamplesGroups

KIND = "difficulty"
RATES = "rates"
STEP = "difficulty"

COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("digest", pa.string()),
        ("num_replies", pa.int32()),
        ("num_scored", pa.int32()),
        ("num_right", pa.int32()),
        ("pass_rate", pa.float64()),
        ("num_rewarded", pa.int32()),
        ("reward_mean", pa.float64()),
        ("reward_std", pa.float64()),
        ("num_unparsed", pa.int32()),
        ("num_truncated", pa.int32()),
        ("mean_tokens", pa.float64()),
    ]
)
"""A row of the table. `pass_rate` is num_right / num_scored, null where nothing could be scored; `reward_std` is the
standard deviation (n - 1) of the totals that could be given."""


@dataclass(frozen=True)
class Measurement:
    """The constant parts of a measurement.

    Attributes:
        num: replies a question.
        decoding: temperature, length cap, completions drawn together, seed.
        rewards: what `reward_mean` and `reward_std` are of. The pass rate is always the strict accuracy.
        rows_file: rows are appended here batch by batch, and a measurement that was cut off goes on from them.
    """

    sampler: SamplesGroups
    grammar: Grammar
    num: int
    decoding: Decoding
    rewards: Rewards
    rows_file: Path
    instruction: bool = True
    read_region: RegionReader | None = None
    progress: Callable[[int, int], None] | None = None

    @cached_property
    def _accuracy(self) -> RewardSet:
        return load_rewards("accuracy", self.grammar)

    def run(self, samples: Sequence[Sample]) -> Filtered[dict[str, Any]]:
        """Rows of COLUMNS, and the samples that cannot be measured with the reason."""
        asked = [s for s in samples if s.answer is not None]
        rows = {r["id"]: r for r in store.read_jsonl(self.rows_file)}
        size = max(1, self.decoding.batch_size // self.num)
        for start in range(0, len(asked), size):
            batch = asked[start : start + size]
            if not all(s.id in rows for s in batch):  # a batch cut off in the middle is drawn again whole
                fresh = self._batch(batch)
                store.append_jsonl(self.rows_file, fresh)
                rows.update((r["id"], r) for r in fresh)
            if self.progress is not None:
                self.progress(min(start + size, len(asked)), len(asked))
        return filtered(self._outcome(s, rows) for s in samples)

    @staticmethod
    def _outcome(sample: Sample, rows: Mapping[str, dict[str, Any]]) -> Kept[dict[str, Any]] | Dropped:
        if sample.answer is None:
            return Dropped(sample.id, "no gold answer", step=STEP)
        row = rows[sample.id]
        if "set_aside" in row:
            return Dropped(sample.id, row["set_aside"], row["detail"], STEP)
        return Kept(row)

    def _batch(self, batch: Sequence[Sample]) -> list[dict[str, Any]]:
        requests, faults = requests_of(batch, self._pictures, self.grammar, instruction=self.instruction)
        rows: dict[str, dict[str, Any]] = {
            id: {"id": id, "set_aside": exc.message, "detail": exc.found or exc.where or ""}
            for id, exc in faults.items()
        }
        decoding = replace(self.decoding, seed=seed_of(self.decoding.seed, batch[0].id))
        groups = self.sampler.sample(requests, self.num, decoding) if requests else []
        by_id = {s.id: s for s in batch}
        for request, replies in zip(requests, groups, strict=True):
            rows[request.id] = self._row(by_id[request.id], replies)
        return [rows[s.id] for s in batch]

    def _pictures(self, sample: Sample) -> list[Picture]:
        return [load_picture(ref, self.read_region) for ref in sample.images]

    def _row(self, sample: Sample, replies: Sequence[Generation]) -> dict[str, Any]:
        opener = ImageOpener(self.read_region)
        items = [item_from_sample(sample, r.text, r.num_tokens, r.truncated, opener) for r in replies]
        right = [o.terms["accuracy"] for o in self._accuracy.score_batch(items)]
        scored = [v for v in right if v is not None]
        totals = [t for t in (o.total for o in self.rewards.score_batch(items, self.grammar)) if t is not None]
        num_right = sum(v >= 1.0 for v in scored)
        return {
            "id": sample.id,
            "source": sample.origin.source,
            "digest": question_digest(sample),
            "num_replies": len(replies),
            "num_scored": len(scored),
            "num_right": num_right,
            "pass_rate": num_right / len(scored) if scored else None,
            "num_rewarded": len(totals),
            "reward_mean": statistics.fmean(totals) if totals else None,
            "reward_std": statistics.stdev(totals) if len(totals) > 1 else None,
            "num_unparsed": sum(isinstance(self.grammar.parse(r.text), Unparsed) for r in replies),
            "num_truncated": sum(r.truncated for r in replies),
            "mean_tokens": statistics.fmean(r.num_tokens for r in replies if r.num_tokens is not None),
        }


def seed_of(seed: int, id: str) -> int:
    """Each batch has its own seed, which does not depend on what was drawn before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{id}".encode()).digest()[:4], "big") >> 1


def question_digest(sample: Sample) -> str:
    """Digest of what is asked and what is right, whatever the order of the options and wherever the images lie."""
    asked = [m.text for m in sample.messages], sorted(c.text for c in sample.choices), sample.answer_text
    return hashlib.sha256(json.dumps([*asked, sample.origin.digest]).encode()).hexdigest()[:16]


def histogram(rows: Iterable[Mapping[str, Any]], num: int) -> list[dict[str, Any]]:
    """Counts of questions by pass rate: [{"low", "high", "n"}], bounds included.

    One bin for each possible number of right replies up to 16 replies, else never right, tenths, always right.
    """
    rates = [r["pass_rate"] for r in rows if r["pass_rate"] is not None]
    if num <= 16:
        bins = [(k / num, k / num) for k in range(num + 1)]
        places = [round(rate * num) for rate in rates]
    else:
        bins = [(0.0, 0.0), *((k / 10, (k + 1) / 10) for k in range(10)), (1.0, 1.0)]
        places = [0 if r == 0 else 11 if r == 1 else 1 + min(9, int(r * 10)) for r in rates]
    return [{"low": low, "high": high, "n": places.count(i)} for i, (low, high) in enumerate(bins)]


def summarise_rates(measured: Filtered[dict[str, Any]], num: int) -> dict[str, Any]:
    """Figures of a whole table; means over questions. Every one of them is None where nothing was measured."""
    rows = list(measured.kept)
    rates = [r["pass_rate"] for r in rows if r["pass_rate"] is not None]
    drawn = sum(r["num_replies"] for r in rows)
    low, high = Difficulty(file="").keep
    stds = [r["reward_std"] for r in rows if r["reward_std"] is not None]

    def share(count: int, of: int) -> float | None:
        return count / of if of else None

    return {
        "n": len(rates),
        "num_replies": num,
        "mean_pass_rate": statistics.fmean(rates) if rates else None,
        "never_right": share(sum(r == 0 for r in rates), len(rates)),
        "always_right": share(sum(r == 1 for r in rates), len(rates)),
        "in_band": {"keep": [low, high], "n": sum(in_band(r, (low, high)) for r in rates)},
        "groups_without_variance": share(sum(s <= 0.01 for s in stds), len(stds)),
        "reward_mean": _mean(r["reward_mean"] for r in rows),
        "unparsed_rate": share(sum(r["num_unparsed"] for r in rows), drawn),
        "truncated_rate": share(sum(r["num_truncated"] for r in rows), drawn),
        "mean_tokens": _mean(r["mean_tokens"] for r in rows),
        "histogram": histogram(rows, num),
        "num_unscored": len(rows) - len(rates),
        "num_dropped": len(measured.dropped),
        "dropped": measured.reasons(),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None


def write_rates(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """The table as rates.parquet and rates.jsonl."""
    pq.write_table(pa.Table.from_pylist([dict(r) for r in rows], schema=COLUMNS), folder / f"{RATES}.parquet")
    store.write_text_atomic(folder / f"{RATES}.jsonl", "".join(json.dumps(dict(r)) + "\n" for r in rows))


def read_rates(path: str | Path) -> dict[str, dict[str, Any]]:
    """Rows of a table by id: the folder that `eosin rl-data` wrote, or any .parquet or .jsonl with id and pass_rate.

    Raises:
        EosinError: there is no such table, it lacks a column, or a rate is not in 0..1.
    """
    file = _table(path)
    if file != Path(path):
        store.open_artifact(Path(path), KIND)
    if not file.is_file():
        raise EosinError(
            "There is no such table of pass rates.", where=file, next_step="eosin rl-data MODEL SAMPLES --out DIR"
        )
    rows = _read_parquet(file) if file.suffix == ".parquet" else store.read_jsonl(file)
    for number, row in enumerate(rows):
        if isinstance(row.get("pass_rate"), float) and math.isnan(row["pass_rate"]):
            row["pass_rate"] = None  # as pandas writes what is missing
        rate = row.get("pass_rate")
        if not isinstance(row.get("id"), str) or "pass_rate" not in row or not (rate is None or _is_rate(rate)):
            raise EosinError(
                "A row of the table of pass rates cannot be used.",
                expected="id (text) and pass_rate (0 to 1, or null)",
                found=str({k: row.get(k) for k in ("id", "pass_rate")}),
                where=f"{file}, row {number + 1}",
            )
    return {r["id"]: r for r in rows}


def _read_parquet(file: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    except (pa.ArrowException, OSError) as exc:
        raise EosinError("The table of pass rates cannot be read.", found=str(exc)[:200], where=file) from None
    return rows


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def in_band(rate: float, keep: tuple[float, float]) -> bool:
    """Whether a pass rate lies in the band, bounds included (but for rounding: 0.1 holds 1 of 10)."""
    return keep[0] - 1e-9 <= rate <= keep[1] + 1e-9


def keep_band(samples: Sequence[Sample], difficulty: Difficulty) -> Filtered[Sample]:
    """The samples whose measured pass rate lies in the band; all others with the reason.

    Raises:
        EosinError: the table cannot be used, or no sample is left.
    """
    rows = read_rates(difficulty.file)
    result: Filtered[Sample] = filtered(_banded(s, rows.get(s.id), difficulty.keep) for s in samples)
    if not result.kept:
        raise EosinError(
            "No prompt is left in the band of difficulty.",
            expected=f"samples with a pass rate from {difficulty.keep[0]:g} to {difficulty.keep[1]:g}",
            found=", ".join(f"{n} {reason}" for reason, n in result.reasons().items()) or "no samples",
            where=difficulty.file,
            next_step="widen difficulty.keep, or measure again: eosin rl-data CHECKPOINT SAMPLES --out DIR",
        )
    return result


def prompts_in_band(samples: Sequence[Sample], difficulty: Difficulty, folder: Path) -> tuple[list[Sample], Any]:
    """The prompts of a stage that lie in the band; the others go to `folder`/dropped.jsonl with the reason.

    Returns:
        The kept samples, and what the stage's record says of it: band, counts, reasons.
    """
    result = keep_band(samples, difficulty)
    store.write_text_atomic(folder / "dropped.jsonl", "".join(dropped_line(d) for d in result.dropped))
    counts = {"num_in": result.num_in, "num_kept": len(result.kept), "dropped": result.reasons()}
    table = {"file": difficulty.file, "sha256": store.sha256_file(_table(difficulty.file))}
    return list(result.kept), {**table, "keep": list(difficulty.keep), **counts}


def _table(path: str | Path) -> Path:
    """The table itself, of a folder that `eosin rl-data` wrote."""
    path = Path(path)
    return path / f"{RATES}.parquet" if path.is_dir() else path


def _banded(sample: Sample, row: Mapping[str, Any] | None, keep: tuple[float, float]) -> Kept[Sample] | Dropped:
    if row is None:
        return Dropped(sample.id, "pass rate not measured", step=STEP)
    if row.get("digest") not in (None, question_digest(sample)):
        return Dropped(sample.id, "pass rate measured on another question", step=STEP)
    rate = row["pass_rate"]
    if rate is None:
        return Dropped(sample.id, "no reply could be scored", step=STEP)
    if in_band(rate, keep):
        return Kept(sample)
    return Dropped(sample.id, "too hard" if rate < keep[0] else "too easy", f"pass rate {rate:.4g}", STEP)
