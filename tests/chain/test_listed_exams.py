"""`eosin evaluate MODEL EXAM...`: listed exams and files, sweeps, moved options, sealed exams; on a small server."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.support.chat_server import ChatServer, by_reply, serving
from typer.testing import CliRunner, Result

from eosin.chain.listed import part_of
from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Origin, Sample, make_choices, user_prompt


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(by_reply(lambda request: "A")) as running:
        yield running


def evaluate(server: ChatServer, out: Path, *args: str) -> Result:
    command = ["evaluate", server.url, *args, "--out", str(out), "--probes", "", "--baselines", "none",
               "--in-flight", "4"]  # fmt: skip
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


def picture(size: tuple[int, int] = (64, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 20, 20)).save(out, "JPEG")
    return out.getvalue()


def pathmmu(root: Path) -> Path:
    rows = [{"No": i, "img": f"{i}.jpg", "question": f"Which, {i}?", "options": ["A) x", "B) y"], "answer": "A) x"}
            for i in range(6)]  # fmt: skip
    (root / "images").mkdir(parents=True)
    for i in range(5):
        (root / "images" / f"{i}.jpg").write_bytes(picture())
    (root / "data.json").write_text(json.dumps({"Atlas": {"test_tiny": rows}}))
    return root


def samples_file(path: Path) -> Path:
    sample = Sample(id="own", messages=user_prompt("Which?", 0), choices=make_choices(["x", "y"]), answer="A",
                    origin=Origin(source="own"))  # fmt: skip
    path.write_text(sample.model_dump_json() + "\n")
    return path


def test_a_listed_exam_is_asked_its_own_way_and_what_is_missing_is_told(server: ChatServer, tmp_path: Path) -> None:
    root = pathmmu(tmp_path / "pathmmu")
    done = evaluate(server, tmp_path / "out", "pathmmu/atlas", "--root", str(root), "--shifts", "-1")
    assert done.exit_code == 0, done.exception
    place = tmp_path / "out" / "pathmmu-atlas-test-tiny"
    summary = json.loads((place / "exam" / "summary.json").read_text())
    assert (summary["n"], summary["accuracy"], summary["prompt"]) == (5, 1.0, "letter")
    dropped = [json.loads(x) for x in (place / "dropped.jsonl").read_text().splitlines()]
    assert [(d["id"], d["reason"]) for d in dropped] == [("pathmmu/Atlas/test_tiny/5", "image file missing")]
    record = json.loads((place / "exam" / "manifest.json").read_text())
    assert "pathmmu" in json.dumps(record) and "exam_digest" in json.dumps(record)
    shifts = json.loads((place / "shifts.json").read_text())
    assert (shifts["consistency"], shifts["accuracy"]) == (0.0, 0.5)  # it always says A
    assert "consistency 0.000" in done.stdout
    asked = server.bodies[0]["messages"][-1]["content"]
    assert "Reply with the letter of the right option only." in json.dumps(asked)


def test_moved_options_draw_no_replies_for_option_probabilities(server: ChatServer, tmp_path: Path) -> None:
    """Nothing of shifts.json needs them, and each would be paid for."""
    root = pathmmu(tmp_path / "pathmmu")
    done = evaluate(server, tmp_path / "out", "pathmmu/atlas", "--root", str(root), "--shifts", "-1",
                    "--option-probabilities", "--samples", "2")  # fmt: skip
    assert done.exit_code == 0, done.exception
    drawn = sum(body["temperature"] > 0 for body in server.bodies)
    assert drawn == 2 * 5 and len(server.bodies) - drawn == 2 * 5  # as they are, and moved on by one place


def test_several_exams_and_a_sweep_over_the_input_end_in_one_table(server: ChatServer, tmp_path: Path) -> None:
    root = pathmmu(tmp_path / "pathmmu")
    done = evaluate(
        server, tmp_path / "out", "pathmmu", "--root", str(root), "--limit", "2", "--max-pixels", "400,1024"
    )
    assert done.exit_code == 0, done.exception
    table = done.stdout.splitlines()[-3:]
    assert "tolerant" in table[0] and "max_pixels=400" in table[1] and "max_pixels=1024" in table[2]
    for pixels in (400, 1024):
        place = tmp_path / "out" / "pathmmu-test-tiny" / f"max_pixels={pixels}" / "exam"
        assert json.loads((place / "summary.json").read_text())["input"]["max_pixels"] == pixels


def test_the_old_form_still_writes_where_it_did(server: ChatServer, tmp_path: Path) -> None:
    done = evaluate(server, tmp_path / "out", str(samples_file(tmp_path / "mine.jsonl")), "--prompt", "letter")
    assert done.exit_code == 0, done.exception
    summary = json.loads((tmp_path / "out" / "exam" / "summary.json").read_text())
    assert (summary["n"], summary["accuracy"], summary["prompt"]) == (1, 1.0, "letter")


def test_a_sealed_exam_says_so(server: ChatServer, tmp_path: Path) -> None:
    root = tmp_path / "dalphin"
    (root / "images").mkdir(parents=True)
    (root / "images" / "a.jpg").write_bytes(picture())
    with (root / "questions.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["id", "case", "question", "images"], ["q1", "c1", "What is it?", "a.jpg"]])
    done = evaluate(server, tmp_path / "out", "dalphin", "--root", str(root))
    assert done.exit_code == 0, done.exception
    assert "1 of 1 questions answered" in done.stdout and "accuracy" not in done.stdout
    assert json.loads((tmp_path / "out" / "dalphin" / "answers.json").read_text()) == {"q1": "A"}


def test_names_that_are_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EosinError) as error:
        part_of("pathmu", None, None, 0)
    assert error.value.next_step == "did you mean pathmmu?"
    with pytest.raises(EosinError, match="no samples here"):
        part_of("no/such/file.jsonl", None, None, 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pathmmu").mkdir()
    assert part_of("pathmmu", None, None, 0).exam is None  # what lies here goes first, as ever
    found = part_of("pathmmu", tmp_path, None, 0)
    assert found.exam is not None and found.name == "pathmmu-test-tiny"


def test_a_sweep_takes_numbers_only(server: ChatServer, tmp_path: Path) -> None:
    done = evaluate(server, tmp_path / "out", "phantom-tiles", "--max-pixels", "big")
    assert isinstance(done.exception, EosinError) and "takes numbers" in str(done.exception)
