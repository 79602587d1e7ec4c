"""`eosin score` and `eosin prove` through their command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.support.judge_stub import running_stub
from typer.testing import CliRunner

from eosin.cli.exams.prove import prove
from eosin.cli.exams.score import score
from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.formats import write_samples
from eosin.core.nouns.sample import Entity, Origin, Sample, make_choices, user_prompt

APP = typer.Typer()
APP.command("score")(score)
APP.command("prove")(prove)

ROWS: list[Any] = [
    {"id": "good", "reply": "<think>Glands.</think><answer>B</answer>", "choices": {"A": "x", "B": "y"}, "answer": "B"},
    {"id": "bad", "reply": "B", "choices": {"A": "x", "B": "y"}, "answer": "B"},
    {"id": "no gold", "reply": "<think>Glands.</think><answer>B</answer>", "choices": {"A": "x", "B": "y"}},
    {"id": "broken", "reply": 3},
]


def run(*args: str) -> Any:
    return CliRunner().invoke(APP, list(args))


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    file = tmp_path / "replies.jsonl"
    file.write_text("\n".join([*(json.dumps(r) for r in ROWS), "not json", ""]), "utf-8")
    return file


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_score_writes_a_line_for_every_line(replies: Path) -> None:
    out = replies.with_name("scores.jsonl")
    result = run("score", str(replies), "--reward", "accuracy=0.9", "--reward", "format=0.1", "--out", str(out))
    assert result.exit_code == 0, result.output
    rows = rows_of(out.read_text("utf-8"))
    assert [r["id"] for r in rows] == ["good", "bad", "no gold", "broken", "line 5"]
    assert [r["total"] for r in rows] == [pytest.approx(1.0), 0.0, None, None, None]
    assert rows[2]["unscored"] == {"accuracy": "no gold answer"}
    assert rows[3]["unscored"]["format"] == "reply must be text"
    assert set(rows[0]) == {"id", "total", "terms", "unscored", "events"}
    assert "unscored accuracy: 1 x no gold answer" in result.stderr


def test_score_to_standard_output(replies: Path) -> None:
    result = run("score", str(replies), "--reward", "pathvlm-r1")
    assert len(rows_of(result.stdout)) == 5
    assert "pathvlm-r1+{process=rules}" in result.stderr


def test_a_lone_surrogate_can_be_written(tmp_path: Path) -> None:
    file, out = tmp_path / "odd.jsonl", tmp_path / "out.jsonl"
    file.write_text(
        '{"id": "\\ud800", "reply": "<think>glands \\ud800</think><answer>x</answer>", "answer": "x"}', "utf-8"
    )
    assert run("score", str(file), "--reward", "checklist", "--out", str(out)).exit_code == 0
    assert rows_of(out.read_text("utf-8"))[0]["id"] == "\ud800"


def test_score_with_a_judge(replies: Path, tmp_path: Path) -> None:
    with running_stub() as stub:
        result = run("score", str(replies), "--reward", "checklist", "--judge", stub.url, "--judge-model", "stub",
                     "--judge-cache", str(tmp_path / "cache"))  # fmt: skip
        assert len(stub.requests) == 1  # two replies are equal in all that the judge sees
    rows = rows_of(result.stdout)
    assert rows[0]["events"]["checklist"]["by"] == "stub"
    assert "cache_hits 1" in result.stderr


def test_score_with_a_limit_of_cost(replies: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text('{"stub": {"input": 0, "output": 1000}}')
    line = json.loads(replies.read_text("utf-8").splitlines()[0])
    other = {**line, "id": "other", "reply": line["reply"].replace("Glands", "Large glands")}
    replies.write_text(json.dumps(line) + "\n" + json.dumps(other) + "\n")
    with running_stub() as stub:
        result = run("score", str(replies), "--reward", "checklist", "--judge", stub.url, "--judge-model", "stub",
                     "--judge-prices", str(prices), "--judge-max-cost", "1.1")  # fmt: skip
        assert len(stub.requests) == 1  # 100 tokens, 0.1; the next could cost 1.024
    assert sorted(str(r["total"] is None) for r in rows_of(result.stdout)) == ["False", "True"]
    assert "cost 0.1," in result.stderr and "budget spent (max_cost)" in result.stderr


def test_score_without_the_package_for_servers(replies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    result = run("score", str(replies), "--reward", "checklist", "--judge", "http://host/v1", "--judge-model", "m")
    assert "eosin[clients]" in str(result.exception)
    assert run("score", str(replies), "--reward", "checklist").exit_code == 0


@pytest.mark.parametrize(
    "more",
    [["--reward", "format", "--judge", "http://x/v1", "--judge-model", "m", "--judge-max-cost", "1"],
     ["--reward", "nonsense"], ["--reward", "accuracy=much"], ["--reward", "format", "--judge", "http://x/v1"],
     ["--reward", "format", "--grammar", "Think"]],
)  # fmt: skip
def test_score_refuses(replies: Path, more: list[str]) -> None:
    result = run("score", str(replies), *more)
    assert isinstance(result.exception, EosinError)


def test_score_without_a_file(tmp_path: Path) -> None:
    assert isinstance(run("score", str(tmp_path / "none"), "--reward", "format").exception, EosinError)


def some_samples() -> list[Sample]:
    return [
        Sample(
            id=str(i), messages=user_prompt("Which diagnosis fits?", 0),
            choices=make_choices(("lipoma", "lymphoma", "thymoma")),
            answer="ABC"[i % 3], entities=(Entity(name=("lipoma", "lymphoma", "thymoma")[i % 3], kind="class"),),
            origin=Origin(source="test"),
        )
        for i in range(6)
    ]  # fmt: skip


def test_prove_from_disk(tmp_path: Path) -> None:
    file = tmp_path / "samples.parquet"
    write_samples(some_samples(), file)
    proof = tmp_path / "proof.json"
    result = run("prove", str(file), "--reward", "eosin", "--json", str(proof))
    assert result.exit_code == 0, result.output
    assert "it holds" in result.output
    assert json.loads(proof.read_text())["num_breaches"] == 0


def test_prove_exits_with_one_on_a_breach(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    write_samples(some_samples(), file)
    reward = tmp_path / "bad.py"
    reward.write_text("def search(item, grammar): return float(f'{item.answer}.' in item.reply)\n", "utf-8")
    result = run("prove", str(file), "--reward", f"{reward}:search")
    assert result.exit_code == 1
    assert "BREACH" in result.output


def test_prove_strict_counts_the_faults_of_published_rewards(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    write_samples(some_samples(), file)
    assert run("prove", str(file), "--reward", "pathreasoner-r1").exit_code == 0
    assert run("prove", str(file), "--reward", "pathreasoner-r1", "--strict").exit_code == 1


def test_subset_is_seeded() -> None:
    samples = some_samples()
    assert [s.id for s in subset(samples, 3, 1)] == [s.id for s in subset(samples, 3, 1)]
    assert subset(samples, 99, 1) == samples


@pytest.mark.parametrize("verb", ["score", "prove"])
def test_help_has_an_example(verb: str) -> None:
    assert "Example: eosin" in run(verb, "--help").output.replace("\n", " ")
