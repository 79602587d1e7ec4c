"""The list of exams: names, digests, cards, verify, and the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from exam_layouts import encoded, pathmmu, pathmmu_row, put
from typer.testing import CliRunner, Result

from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.evaluate.exams.exam import ALL, Asked
from eosin.evaluate.exams.registry import EXAMS, exam_named, split_name
from eosin.evaluate.exams.verify import verify

SHARED = Path(os.environ.get("EOSIN_SHARED_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))
FROZEN = Path(__file__).with_name("frozen.json")


def test_every_exam_is_frozen() -> None:
    """A change of what an exam asks raises its edition; then run this file as a script to write the new digests."""
    assert {name: exam.digest for name, exam in EXAMS.items()} == json.loads(FROZEN.read_text("utf-8"))


@pytest.mark.parametrize("name", list(EXAMS))
def test_every_card_says_what_a_reader_needs(name: str) -> None:
    exam = EXAMS[name]
    card = exam.card
    assert exam.name == name and card.get and card.split_rule and card.licence and card.faults
    assert not exam.needs_root or card.layout
    assert (card.counts == {}) or card.counts_source
    for figure in card.figures:
        assert figure.source and (0 <= figure.value <= 100)
    known = {*exam.subsets, "all", ""}
    assert set(card.counts) <= known
    assert {s for by_split in card.counts.values() for s in by_split} <= set(exam.splits)


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(EosinError) as error:
        exam_named("path-mmu")
    assert error.value.next_step == "did you mean pathmmu?"
    with pytest.raises(EosinError) as error:
        exam_named("zzz")
    assert error.value.next_step == "eosin exams list"
    with pytest.raises(EosinError, match="no such part") as error:
        split_name("pathmmu/PubMd")
    assert error.value.next_step == "did you mean pathmmu/PubMed?"


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        ("pathmmu", (ALL, "test-tiny")), ("pathmmu/pubmed", ("PubMed", "test-tiny")), ("pathmmu/val", (ALL, "val")),
        ("PathMMU/atlas/test_all", ("Atlas", "test-all")), ("omnimedvqa/oct-c8", ("oct-c8", "test")),
        ("pathvqa_yesno/validation", (ALL, "validation")),
    ],
)  # fmt: skip
def test_parts_of_a_name(told: str, parts: tuple[str, str]) -> None:
    exam, subset, split = split_name(told)
    assert (subset, split) == parts and exam.name == told.split("/")[0].lower().replace("_", "-")


def test_a_folder_is_needed_and_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="none is named"):
        exam_named("pathmmu").samples(Asked())
    with pytest.raises(EosinError, match="no such folder"):
        exam_named("pathmmu").samples(Asked(tmp_path / "gone"))


def test_verify_counts_faults_and_shared_pictures(tmp_path: Path) -> None:
    pathmmu(tmp_path)
    put(tmp_path / "images" / "b.png", encoded((1, 2, 3), "PNG")[:60])
    found = verify(exam_named("pathmmu"), tmp_path, decode=True)
    assert found.counts["PubMed", "test-tiny"] == 2 and found.told["Atlas", "test-tiny"] == 208
    text = "\n".join(found.problems)
    assert "Atlas, test-tiny: 1 usable questions; the card tells 208." in text
    assert "1 pictures stand in both test-tiny and val." in text
    assert "pathmmu/PubMed/test_tiny/2 (test-tiny): image truncated or damaged." in text
    assert found.unread == ["train"] and not found.holds


def test_verify_knows_another_version_by_its_digest(tmp_path: Path) -> None:
    put(tmp_path / "SlideBench-VQA-BCNB.csv", "ID,Slide,Task,Question,A,B,C,D,Answer\n1,17,t,q,a,b,,,A\n")
    put(tmp_path / "thumbnails" / "17.png", encoded((9, 9, 9), "PNG"))
    assert any("another version" in p for p in verify(exam_named("slidebench"), tmp_path).problems)


def eosin(*args: str) -> Result:
    return CliRunner().invoke(app, args, env={"COLUMNS": "160"})


def test_the_verbs(tmp_path: Path) -> None:
    listed = json.loads(eosin("exams", "list", "--json").stdout)
    assert {r["name"] for r in listed} == set(EXAMS)
    assert "pathmmu" in eosin("exams", "list").stdout
    shown = eosin("exams", "show", "pathmmu").stdout
    assert "49.80" in shown and "how to get it" in shown and EXAMS["pathmmu"].digest[:16] in shown
    assert "did you mean pathmmu?" in str(eosin("exams", "show", "pathmu").exception)
    put(tmp_path / "test.jsonl", json.dumps(pathmmu_row(1, "a.jpg")))
    put(tmp_path / "images" / "a.jpg", encoded((200, 0, 0)))
    checked = eosin("exams", "verify", "pathvlm-r1", "--root", str(tmp_path))
    assert checked.exit_code == 1 and "the card tells 999" in checked.stdout


def test_phantom_tiles_are_the_same_wherever_they_are_made() -> None:
    first = exam_named("phantom-tiles").samples(Asked(limit=12)).kept
    again = exam_named("phantom-tiles").samples(Asked(limit=12)).kept
    assert first == again and len(first) == 12
    assert all(s.split is None and len(s.choices) == 6 for s in first)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the data beside the project is not here")
def test_the_sets_beside_the_project() -> None:
    read = exam_named("medmcqa-pathology").samples(Asked(SHARED / "questions"))
    assert len(read.kept) + len(read.dropped) == 337 and not any(s.images for s in read.kept)
    tiles = exam_named("colorectal").samples(Asked(SHARED / "colorectal_tiles"))
    assert len(tiles.kept) == 899 and {s.origin.slide for s in tiles.kept} == {"05", "10"}


if __name__ == "__main__":
    FROZEN.write_text(json.dumps({n: e.digest for n, e in EXAMS.items()}, indent=1) + "\n", "utf-8")
