"""Pass rates by sampling: counted by hand, gone on after a kill, and used to choose the prompts that train."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.support.toys import toy_samples

from eosin.chain.rl_data import RateSettings, measure
from eosin.core.errors import EosinError
from eosin.core.formats import read_dropped
from eosin.core.nouns.outcome import Filtered
from eosin.core.nouns.prompt import gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageFile, Sample
from eosin.core.settings.rl import Difficulty
from eosin.core.settings.stages import RlStage
from eosin.core.store.artifacts import open_artifact
from eosin.engines.base import Decoding, Generation, Request
from eosin.engines.group_sampler import EngineGroups
from eosin.scoring import load_rewards
from eosin.train.rl.difficulty import (
    Measurement,
    histogram,
    in_band,
    keep_band,
    prompts_in_band,
    question_digest,
    read_rates,
    summarise_rates,
    write_rates,
)
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext

GRAMMAR = Grammar.of("think/answer")
SAMPLES = toy_samples(6, "train")
GOLD = {s.id: gold_reply(s, GRAMMAR) for s in SAMPLES}
NUM = 4


class Scripted:
    """Sample number k is answered rightly k mod 5 times of 4; the first wrong reply has no form and is cut off."""

    name = "scripted"

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.seeds: list[int] = []
        self.stop_after = stop_after

    def sample(self, requests: Sequence[Request], num: int, decoding: Decoding) -> list[list[Generation]]:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += [r.id for r in requests]
        self.seeds.append(decoding.seed)
        return [self._group(r, num) for r in requests]

    def _group(self, request: Request, num: int) -> list[Generation]:
        right = int(request.id.split("-")[1]) % 5
        wrong = [Generation(request.id, "no form", 10, True)]
        wrong += [Generation(request.id, "<think>a</think><answer>none</answer>", 2, False)] * num
        return ([Generation(request.id, GOLD[request.id], 4, False)] * right + wrong)[:num]


def measurement(rows: Path, sampler: Any = None, **more: Any) -> Measurement:
    return Measurement(
        sampler or Scripted(), GRAMMAR, NUM, Decoding(max_new_tokens=10, temperature=1.0, batch_size=8),
        load_rewards([{"name": "accuracy", "weight": 0.9}, {"name": "format", "weight": 0.1}], GRAMMAR), rows, **more,
    )  # fmt: skip


def rates_of(samples: Sequence[Sample], folder: Path, rates: dict[int, float | None]) -> Path:
    """A table of pass rates by the samples' numbers."""
    rows = [{"id": samples[i].id, "digest": question_digest(samples[i]), "pass_rate": r} for i, r in rates.items()]
    write_rates(rows, folder)
    return folder / "rates.parquet"


def test_rows_by_hand(tmp_path: Path) -> None:
    measured = measurement(tmp_path / "rows.jsonl").run(SAMPLES)
    assert [r["num_right"] for r in measured.kept] == [0, 1, 2, 3, 4, 0]
    row = measured.kept[2]
    assert (row["pass_rate"], row["num_replies"], row["num_scored"], row["num_rewarded"]) == (0.5, 4, 4, 4)
    assert (row["num_unparsed"], row["num_truncated"], row["mean_tokens"]) == (1, 1, (4 + 4 + 10 + 2) / 4)
    # totals 1, 1, 0, 0.1: mean 0.525, squares of differences 2 x 0.225625 + 0.275625 + 0.180625 = 0.9075, / 3
    assert row["reward_mean"] == pytest.approx(0.525) and row["reward_std"] == pytest.approx(0.3025**0.5)
    assert measured.kept[4]["reward_std"] == 0.0
    summary = summarise_rates(measured, NUM)
    assert summary["n"] == 6 and summary["mean_pass_rate"] == pytest.approx((0 + 1 + 2 + 3 + 4 + 0) / 24)
    assert [b["n"] for b in summary["histogram"]] == [2, 1, 1, 1, 1]
    assert summary["never_right"] == pytest.approx(2 / 6) and summary["always_right"] == pytest.approx(1 / 6)
    assert summary["in_band"] == {"keep": [0.1, 0.9], "n": 3}
    assert summary["groups_without_variance"] == pytest.approx(1 / 6)  # only the one that is always right: 1, 1, 1, 1
    assert summary["unparsed_rate"] == summary["truncated_rate"] == pytest.approx(5 / 24)


def test_a_kill_costs_at_most_one_batch(tmp_path: Path) -> None:
    whole = measurement(tmp_path / "whole.jsonl").run(SAMPLES)
    rows = tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measurement(rows, Scripted(stop_after=4)).run(SAMPLES)  # two batches of two questions
    lines = rows.read_bytes()
    rows.write_bytes(lines[: len(lines) - 30])  # the last row was cut off in the middle
    sampler = Scripted()
    again = measurement(rows, sampler).run(SAMPLES)
    assert sampler.asked == [s.id for s in SAMPLES[2:]]  # the batch that lost a row is drawn again whole
    assert again == whole
    assert measurement(rows, Scripted(stop_after=0)).run(SAMPLES) == whole  # nothing is left to draw


def test_seeds_belong_to_batches_and_not_to_the_order_of_work(tmp_path: Path) -> None:
    first, second = Scripted(), Scripted()
    measurement(tmp_path / "a.jsonl", first).run(SAMPLES)
    measurement(tmp_path / "b.jsonl", second).run(SAMPLES[2:])
    assert first.seeds[1:] == second.seeds and len(set(first.seeds)) == 3


def test_what_cannot_be_measured_is_set_aside(tmp_path: Path) -> None:
    lost = SAMPLES[0].model_copy(update={"images": (ImageFile(path=str(tmp_path / "none.png")),)})
    open_question = SAMPLES[1].model_copy(update={"answer": None})
    measured = measurement(tmp_path / "rows.jsonl").run([lost, open_question, *SAMPLES[2:]])
    assert measured.num_in == 6 and len(measured.kept) == 4
    assert measured.reasons() == {"image file missing": 1, "no gold answer": 1}
    assert measured.dropped[0].detail.endswith("none.png") and measured.dropped[0].step == "difficulty"


def test_engine_groups_put_each_request_so_often() -> None:
    class Counting:
        name = "counting"

        def generate(self, requests: Sequence[Request], decoding: Decoding) -> Any:
            return (Generation(r.id, str(i), 1, False) for i, r in enumerate(requests))

    groups = EngineGroups(Counting()).sample([Request("a", ()), Request("b", ())], 3, Decoding(temperature=1.0))
    assert [[g.text for g in group] for group in groups] == [["0", "1", "2"], ["3", "4", "5"]]
    assert [g.id for g in groups[1]] == ["b#0", "b#1", "b#2"]


@pytest.mark.parametrize(
    ("rate", "kept"), [(0.0, False), (0.1, True), (0.3 - 0.2, True), (0.5, True), (0.9, True), (0.91, False)]
)
def test_band_holds_its_bounds(rate: float, kept: bool) -> None:
    assert in_band(rate, (0.1, 0.9)) is kept


def test_histogram_in_tenths_for_many_replies() -> None:
    rows = [{"pass_rate": r} for r in (0.0, 0.05, 0.1, 0.95, 1.0, None)]
    counts = [b["n"] for b in histogram(rows, 20)]
    assert counts == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1] and sum(counts) == 5


def test_band_keeps_and_drops_with_reasons(tmp_path: Path) -> None:
    path = rates_of(SAMPLES, tmp_path, {0: 0.0, 1: 0.1, 2: 0.5, 3: 1.0, 4: None})
    result = keep_band(SAMPLES, Difficulty(file=str(path), keep=(0.1, 0.9)))
    assert [s.id for s in result.kept] == [SAMPLES[1].id, SAMPLES[2].id] and result.num_in == 6
    kept, record = prompts_in_band(SAMPLES, Difficulty(file=str(path)), tmp_path)
    assert kept == list(result.kept) and record["num_in"] == 6 and record["num_kept"] == 2
    assert sum(record["dropped"].values()) == 4 and read_dropped(tmp_path) == result.dropped
    assert {d.id: d.reason for d in result.dropped} == {
        SAMPLES[0].id: "too hard", SAMPLES[3].id: "too easy",
        SAMPLES[4].id: "no reply could be scored", SAMPLES[5].id: "pass rate not measured",
    }  # fmt: skip


def test_band_knows_another_question_under_the_same_id(tmp_path: Path) -> None:
    path = rates_of(SAMPLES, tmp_path, dict.fromkeys(range(6), 0.5))
    turned = SAMPLES[1].model_copy(  # the same question with its options in another order
        update={"choices": tuple(
            c.model_copy(update={"letter": letter}) for letter, c in zip("ABC", SAMPLES[1].choices[::-1], strict=True)
        ), "answer": "ABC"[2 - "ABC".index(SAMPLES[1].answer or "A")]}
    )  # fmt: skip
    reworded = SAMPLES[2].model_copy(update={"answer": "ABC".replace(SAMPLES[2].answer or "", "")[0]})
    result = keep_band([SAMPLES[0], turned, reworded], Difficulty(file=str(path)))
    assert [s.id for s in result.kept] == [SAMPLES[0].id, turned.id]
    assert result.reasons() == {"pass rate measured on another question": 1}


def test_the_stage_trains_on_the_band(context: Callable[..., StageContext]) -> None:
    ctx = context("rl")
    rates = {i: (0.5 if i < 8 else 1.0) for i in range(len(ctx.train))}
    path = rates_of(ctx.train, ctx.folder, rates)
    settings = RlStage(batch_size=4, num_generations=4, max_samples=5, difficulty={"file": str(path)})
    train, record = rl.prompts_of(settings, ctx)
    assert len(train) == 5 and {s.id for s in train} <= {s.id for s in ctx.train[:8]}
    assert record["num_kept"] == 8 and record["dropped"] == {"too easy": len(ctx.train) - 8}
    assert len(read_dropped(ctx.folder)) == len(ctx.train) - 8
    with pytest.raises(EosinError, match="fewer prompts than groups"):
        rl.prompts_of(RlStage(batch_size=36, num_generations=4, difficulty={"file": str(path)}), ctx)


def test_an_empty_band_is_an_error_with_the_counts(tmp_path: Path) -> None:
    path = rates_of(SAMPLES, tmp_path, dict.fromkeys(range(6), 0.0))
    with pytest.raises(EosinError, match="No prompt is left") as told:
        keep_band(SAMPLES, Difficulty(file=str(path)))
    assert told.value.found == "6 too hard" and "eosin rl-data" in str(told.value)


def test_tables_of_other_programs_and_bad_ones(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps({"id": s.id, "pass_rate": 0.5}) + "\n" for s in SAMPLES))
    assert len(keep_band(SAMPLES, Difficulty(file=str(own))).kept) == 6
    rates = {SAMPLES[0].id: float("nan"), SAMPLES[1].id: 1}  # as pandas writes what is missing
    own.write_text("".join(json.dumps({"id": i, "pass_rate": r}) + "\n" for i, r in rates.items()))
    result = keep_band(SAMPLES, Difficulty(file=str(own), keep=(0.5, 1.0)))
    assert [s.id for s in result.kept] == [SAMPLES[1].id] and result.reasons()["no reply could be scored"] == 1
    for text in ('{"id": "a"}\n', '{"id": "a", "pass_rate": 2}\n', '{"id": 3, "pass_rate": 0.5}\n'):
        own.write_text(text)
        with pytest.raises(EosinError, match="cannot be used") as told:
            read_rates(own)
        assert "row 1" in str(told.value)
    with pytest.raises(EosinError, match="no such table"):
        read_rates(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not a table")
    with pytest.raises(EosinError, match="cannot be read"):
        read_rates(tmp_path / "broken.parquet")
    with pytest.raises(EosinError, match="no whole artifact"):
        read_rates(tmp_path)


def run_measure(folder: Path, sampler: Any, num: int = NUM, **more: Any) -> dict[str, Any]:
    settings = RateSettings(num=num, max_new_tokens=10, batch_size=8, **more)
    return measure(
        "model", folder / "samples.jsonl", folder / "rates",
        lambda grammar: load_rewards("accuracy", grammar), settings, load_sampler=lambda _: sampler,
    )  # fmt: skip


def test_from_samples_on_disk_to_a_table_on_disk(tmp_path: Path) -> None:
    from eosin.core.formats import write_samples

    valid = toy_samples(2, "valid")
    write_samples([*SAMPLES, *valid], tmp_path / "samples.jsonl")
    with (tmp_path / "samples.jsonl").open("a") as handle:
        handle.write('{"id": "bad"}\n')
    with pytest.raises(KeyboardInterrupt):
        run_measure(tmp_path, Scripted(stop_after=2))
    assert not (tmp_path / "rates").exists()
    sampler = Scripted()
    summary = run_measure(tmp_path, sampler)
    assert sampler.asked == [s.id for s in SAMPLES[2:]]  # the train split only, from where it was cut off
    assert summary["n"] == 6 and summary["num_dropped"] == 1
    low, high = summary["mean_pass_rate_ci95"]
    assert low < summary["mean_pass_rate"] < high
    artifact = open_artifact(tmp_path / "rates", "difficulty", verify=True)
    assert artifact.manifest["counts"] == {"questions": 6, "dropped": 1}
    rows = pq.read_table(tmp_path / "rates" / "rates.parquet").to_pylist()
    assert rows == [json.loads(line) for line in (tmp_path / "rates" / "rates.jsonl").open()]
    assert [d["id"] for d in map(json.loads, (tmp_path / "rates" / "dropped.jsonl").open())] == ["bad"]
    assert not list(tmp_path.glob(".rates*"))  # no work is left behind
    (tmp_path / ".rates.work").mkdir()  # as if killed between the table and the end
    assert run_measure(tmp_path, Scripted(stop_after=0)) == summary  # done already: nothing is drawn
    assert not list(tmp_path.glob(".rates*"))
    with pytest.raises(EosinError, match="something at this place") as told:
        run_measure(tmp_path, Scripted(), seed=1)
    assert "other settings" in str(told.value)
    kept = keep_band(SAMPLES, Difficulty(file=str(tmp_path / "rates"), keep=(0.25, 0.75)))
    assert [s.id for s in kept.kept] == [s.id for s in SAMPLES[1:4]]


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="temperature|sampled replies"):
        RateSettings(temperature=0.0)
    with pytest.raises(EosinError, match="num must be at least 2"):
        RateSettings(num=1)
    with pytest.raises(EosinError, match="no such file"):
        run_measure(tmp_path, Scripted())


def test_nothing_measured_gives_no_numbers() -> None:
    summary = summarise_rates(Filtered((), ()), NUM)
    assert summary["mean_pass_rate"] is None and summary["unparsed_rate"] is None and summary["n"] == 0
