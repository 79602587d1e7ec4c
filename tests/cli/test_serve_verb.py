"""`eosin serve`: what its options open, and what it refuses before anything is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.serve.scripted import write_slides
from tests.serve.served import WordEngine, serving
from typer.main import get_command

from eosin.cli.exams import serve as verb
from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.serve.relay import Relay


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Applications and settings, where the verb would begin to listen."""
    found: list[tuple[Any, Any]] = []
    monkeypatch.setattr(verb, "_listen", lambda app, settings, data: found.append((app, settings)))
    return found


def serve(*words: str) -> None:
    get_command(app).commands["serve"].main(list(words), prog_name="eosin serve", standalone_mode=False)  # type: ignore[attr-defined]


def test_two_servers_and_a_table_of_cases(opened: list[tuple[Any, Any]], tmp_path: Path) -> None:
    slides = write_slides(tmp_path / "slides", "a.tif", "b.tif")
    (tmp_path / "cases.csv").write_text("slide,case\na,7\nb,7\n")
    with serving(WordEngine(lambda r: "x"), model_name="far") as (far, _):
        serve(
            "--engine", f"{far}/v1", "--beside", f"{far}/v1", "--slides", str(slides), "--work", str(tmp_path / "w"),
            "--cases", str(tmp_path / "cases.csv"), "--grammar", "info/think/answer", "--timeout", "9",
        )  # fmt: skip
    [(made, settings)] = opened
    assert list(made.state.seats) == ["far", "far-2"] and settings.model_name == "far"
    assert all(isinstance(s.answerer, Relay) for s in made.state.seats.values())
    assert [s.reader.grammar.tags for s in made.state.seats.values()] == [("info", "think", "answer")] * 2
    assert {s.case for s in made.state.shelf.slides.values()} == {"7"}
    assert (tmp_path / "w" / "corrections.sqlite").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Nothing to serve"),
        (["http://127.0.0.1:9/v1"], "named by --engine"),
        (["--engine", "http://127.0.0.1:9/v1"], "Which model"),
        (["--engine", "http://127.0.0.1:9/v1", "--model", "m"], "does not answer"),
        (["--engine", "http://me:secret@127.0.0.1/v1", "--model", "m"], "user or password"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(opened: list[tuple[Any, Any]], words: list[str], told: str) -> None:
    with pytest.raises(EosinError) as error:
        serve(*words)
    assert told in error.value.message and "secret" not in str(error.value)
    assert opened == []
