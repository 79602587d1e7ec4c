"""A curation from recipe to artifact: counts add up, a stopped one goes on, bad input is set aside by name."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_samples
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Origin, Sample, user_prompt
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.settings.curation.writing import TeacherServer
from eosin.core.store import artifacts as store
from eosin.curate.engine import run as engine
from eosin.curate.engine.shards import Place
from eosin.curate.steps.base import Context

WORDS = [
    "gland", "crypt", "nucleus", "stroma", "mucosa", "lumen", "mitosis", "necrosis", "lymphocyte", "plasma", "smooth",
    "muscle", "fibre", "vessel",
]  # fmt: skip


def caption(number: int) -> str:
    """Ten words in an order of their own, and the number."""
    return f"The {' '.join(random.Random(number).sample(WORDS, 10))} of case {number}"


def make(number: int, **changes: Any) -> Sample:
    origin = {"source": "atlas", "licence": "CC0-1.0", "article": f"PMC{1000 + number // 2}"}
    fields: dict[str, Any] = {"id": f"s{number}", "caption": caption(number)}
    for key, value in changes.items():
        if key in Origin.model_fields:
            origin[key] = value
        else:
            fields[key] = value
    return Sample(messages=user_prompt("Describe.", 0), origin=Origin(**origin), **fields)


def recipe(*steps: Any, **more: Any) -> CurationRecipe:
    told = {"data": {"source": "samples", "path": "x"}, "shard_samples": 20, "steps": list(steps), **more}
    return CurationRecipe.model_validate(told)


def run(wanted: CurationRecipe, out: Path, outcomes: list[Any], exams: dict[str, list[Sample]] | None = None) -> Any:
    given = [o if isinstance(o, Dropped) else Kept(o) for o in outcomes]

    def read(against: Any) -> Iterator[Sample]:
        return iter((exams or {})[against.label])

    return engine.run_curation(wanted, out, lambda: iter(given), Context(read_exam=read, report=lambda line: None))


def ledger_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "ledger.json").read_text("utf-8"))
    return found


def test_every_step_adds_up_and_what_was_set_aside_stands_beside_by_reason(tmp_path: Path) -> None:
    samples = [make(i) for i in range(60)]
    samples += [make(60, caption="Too short"), make(61, caption=caption(3)), make(62, caption=caption(4) + " again")]
    exam = [make(900, caption=None).model_copy(update={"answer": caption(7)})]
    steps = ["filter", {"dedupe": {"near_image": False}}, {"split": {"valid": 0.2, "test": 0.2}},
             {"decontaminate": {"against": "exam", "near_images": False, "words": 6, "own_splits": False}}]  # fmt: skip
    # The text of the question stands in no caption; that of its answer does, as a whole run of six words.
    made = run(recipe(*steps), tmp_path / "out", samples, {"exam": exam})
    told = ledger_of(tmp_path / "out")
    before = 63
    for step in told["steps"]:
        assert step["num_in"] == before == step["num_kept"] + sum(step["dropped"].values()), step["step"]
        before = step["num_out"]
    by_step = {s["step"]: s["dropped"] for s in told["steps"]}
    assert by_step["filter"] == {"caption too short": 1}
    assert by_step["dedupe"] == {"exact duplicate": 1, "nearly the same text": 1}
    assert set(by_step["decontaminate"]) == {"same text"}
    kept = read_samples(tmp_path / "out")
    assert not kept.dropped and len(kept.kept) == before == made.manifest["counts"]["samples"]
    on_disk = [json.loads(x) for f in (tmp_path / "out/dropped").iterdir() for x in f.read_text("utf-8").splitlines()]
    assert Counter(f"{d['step']}: {d['reason']}" for d in on_disk) == told["total"]["reasons"]
    assert len(on_disk) + len(kept.kept) == 63 == told["total"]["in"]
    groups: dict[str, set[str | None]] = {}
    for sample in kept.kept:
        groups.setdefault(str(sample.origin.group), set()).add(sample.split)
    assert all(len(s) == 1 for s in groups.values())
    assert {s.split for s in kept.kept} == {"train", "valid", "test"}


@pytest.mark.parametrize("stop_at", [2, 5, 8])
def test_a_stopped_curation_goes_on_and_makes_no_shard_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    samples = [make(i) for i in range(60)]
    wanted = recipe("filter", {"dedupe": {"near_image": False}}, {"split": {"test": 0.3}})
    whole = run(wanted, tmp_path / "whole", samples)
    written: list[tuple[str, int]] = []
    real = Place.write

    def counted(self: Place, shard: int, *args: Any) -> Any:
        if len(written) == stop_at and (self.step, shard) not in written:
            written.append(("stopped", 0))
            raise KeyboardInterrupt
        written.append((self.step, shard))
        return real(self, shard, *args)

    monkeypatch.setattr(Place, "write", counted)
    with pytest.raises(KeyboardInterrupt):
        run(wanted, tmp_path / "out", samples)
    assert not (tmp_path / "out").exists()
    with pytest.raises(EosinError, match="Another curation was begun here"):
        run(recipe("filter", seed=4), tmp_path / "out", samples)
    made = run(wanted, tmp_path / "out", samples)
    shards = [w for w in written if w[0] != "stopped"]
    assert len(shards) == len(set(shards)) == 12
    assert made.digest == whole.digest
    assert not engine.work_of(tmp_path / "out").exists()
    again = run(wanted, tmp_path / "out", [])  # whole already: the source is not even asked
    assert again.digest == made.digest and len(written) == 13


def test_processes_give_the_same_bytes(tmp_path: Path) -> None:
    samples = [make(i) for i in range(50)] + [make(70, caption=caption(3))]
    steps = ["filter", {"dedupe": {"near_image": False}}, {"mixture": {"by": "source"}}]
    alone = run(recipe(*steps), tmp_path / "alone", samples)
    crew = run(recipe(*steps, workers=2), tmp_path / "crew", samples)
    assert alone.digest == crew.digest


def test_bad_input_is_named_counted_and_set_aside(tmp_path: Path) -> None:
    samples = [
        make(1), make(1), make(1, caption="Another caption of five words"), make(2, licence="unknown"),
        make(3, caption=caption(3) * 20_000), Dropped("x.csv:7", "row damaged", "a quote is not closed", "read"),
        make(4),
    ]  # fmt: skip
    run(recipe("filter"), tmp_path / "out", samples)
    read = ledger_of(tmp_path / "out")["steps"][0]
    assert read["dropped"] == {
        "exact duplicate": 1, "duplicate id": 1, "no licence": 1, "text too long": 1, "row damaged": 1,
    }  # fmt: skip
    assert (read["num_in"], read["num_out"]) == (7, 2)
    card = (tmp_path / "out/card.md").read_text("utf-8")
    assert re.search(r"\| read: no licence \| 1 \|", card) and "| CC0-1.0 | 2 |" in card
    with pytest.raises(EosinError, match="left no sample") as caught:
        run(recipe("filter"), tmp_path / "none", [make(2, licence="unknown")])
    assert "unknown_licence: keep" in str(caught.value)
    run(recipe("filter", unknown_licence="keep"), tmp_path / "kept", [make(2, licence="unknown")])


def test_a_split_by_question_is_refused_and_unknown_steps_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a split by question is refused"):
        recipe({"split": {"by": "question"}})
    with pytest.raises(ValueError, match="'filter', 'dedupe'"):
        recipe("fliter")


def test_a_group_that_stands_in_two_splits_stops_or_loses_its_lesser_part(tmp_path: Path) -> None:
    samples = [make(0, split="train"), make(1, split="test"), *(make(i) for i in range(2, 10))]
    with pytest.raises(EosinError, match="more than one split"):
        run(recipe({"split": {"test": 0.2}}), tmp_path / "out", samples)
    run(recipe({"split": {"test": 0.2, "on_conflict": "drop"}}), tmp_path / "mended", samples)
    kept = {s.id: s.split for s in read_samples(tmp_path / "mended").kept}
    assert "s0" not in kept and kept["s1"] == "test" and len(kept) == 9


def test_a_mixture_holds_its_proportions_everywhere_and_comes_in_the_same_order(tmp_path: Path) -> None:
    samples = [make(i, source="big", split="train") for i in range(900)]
    samples += [make(i, source="small", split="train") for i in range(900, 1000)] + [make(1000, split="test")]
    wanted = recipe({"mixture": {"weights": {"big": 3, "small": 1}, "max_repeats": 2}}, shard_samples=100)
    one, two = run(wanted, tmp_path / "one", samples), run(wanted, tmp_path / "two", samples)
    assert one.digest == two.digest
    kept = read_samples(tmp_path / "one").kept
    mixed = [s for s in kept if s.split == "train"]
    assert len(mixed) == 800  # 200 of the small part, which is each of its 100 twice, and 3 x 200 of the big one
    assert Counter(s.origin.source for s in mixed) == {"big": 600, "small": 200}
    for start in range(0, 800, 80):
        assert abs(sum(s.origin.source == "small" for s in mixed[start : start + 80]) - 20) <= 2
    assert sum(s.id.endswith("~2") for s in mixed) == 100
    assert ledger_of(tmp_path / "one")["steps"][1]["dropped"] == {"more than its share": 300}
    with pytest.raises(EosinError, match="do not suffice"):
        run(recipe({"mixture": {"size": 5000}}), tmp_path / "three", samples)


def test_the_result_is_a_samples_artifact(tmp_path: Path) -> None:
    write_samples([make(i) for i in range(5)], tmp_path / "in.parquet")
    run(recipe("filter"), tmp_path / "out", [make(i) for i in range(5)])
    assert store.open_artifact(tmp_path / "out", "samples", verify=True).manifest["splits"] == {"none": 5}


def test_a_result_of_an_older_version_is_known_again(tmp_path: Path) -> None:
    """Its record lacks a setting that is newer, and holds another number of processes and another budget."""
    wanted = recipe({"dedupe": {"near_image": False}})
    run(wanted, tmp_path / "out", [make(i) for i in range(4)])
    manifest = store.read_object(tmp_path / "out" / "manifest.json")
    told = manifest["record"]["curation"]
    del told["steps"][0]["shingle_words"]
    told |= {"workers": 7, "teacher": {"url": "http://there/v1", "model": "m", "max_cost": 3}}
    store.write_json(tmp_path / "out" / "manifest.json", manifest)
    teacher = {"url": "http://here/v1", "model": "m", "max_cost": 9}
    again = run(wanted.model_copy(update={"teacher": TeacherServer.model_validate(teacher)}), tmp_path / "out", [])
    assert again.digest == manifest["digest"]
    other = recipe({"dedupe": {"near_image": False, "near_text": 0.9}})
    with pytest.raises(EosinError, match="something at this place"):
        run(other, tmp_path / "out", [])
