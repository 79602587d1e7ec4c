"""Every command line of the pages: its verb, arguments and options exist, and it is run where it can be."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from tests.cli.docs_commands import NOT_RUN, PAGES, ROOT, inline_of, lines_of, reason_not_to_run, words_of
from typer.testing import CliRunner

from eosin.cli.main import app

COMMAND: Any = typer.main.get_command(app)
LINES = [(page, line) for page in PAGES for line in lines_of(page)]
RUNNABLE = [page for page in PAGES if any(reason_not_to_run(line) is None for line in lines_of(page))]


def _verb(words: list[str]) -> tuple[Any, list[str]]:
    """The innermost command that words name, and the words that are left."""
    command = COMMAND
    while getattr(command, "commands", None) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_there_are_lines() -> None:
    assert len(LINES) > 40


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{p.stem}-{i}" for i, (p, _) in enumerate(LINES)])
def test_a_line_of_a_block_can_be_given(page: Path, line: str) -> None:
    command, words = _verb(words_of(line))
    if words and words[0] in ("--install-completion", "--show-completion"):
        return
    assert not getattr(command, "commands", None) or not words, f"no such verb: {line}"
    command.make_context("eosin", list(words))  # raises where an argument is missing or an option does not exist


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands_in_running_text_name_verbs_and_options_that_exist(page: Path) -> None:
    for told in inline_of(page):
        command, words = _verb(re.split(r"\s+", told.replace("\\|", "|"))[1:])
        if getattr(command, "commands", None):
            assert not words or words[0].isupper() or words[0].startswith(("--", "...")), told
            continue
        known = {o for p in command.params for o in [*p.opts, *p.secondary_opts]} | {"--help"}
        for word in words:
            if re.match(r"--?[a-z]", word):
                assert word.split("=")[0].rstrip(",.;:") in known, told


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{p.stem}-{i}" for i, (p, _) in enumerate(LINES)])
def test_a_line_that_is_not_run_says_which_test_does(page: Path, line: str) -> None:
    why = reason_not_to_run(line)
    if why is not None:
        assert (ROOT / why[1]).is_file(), why[1]


def test_every_exception_is_of_use() -> None:
    words = [" ".join(words_of(line)) for _, line in LINES]
    assert not [start for start in NOT_RUN if not any(w.startswith(start) for w in words) and start not in ("serve",)]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the lines name: a phantom slide, samples of phantom tiles, replies, tiles, recipes of the pages."""
    here = tmp_path_factory.mktemp("material")
    run = CliRunner()
    (here / "slides").mkdir()
    for args in (
        ["phantom", "slide", str(here / "slides" / "s1.tiff"), "--size", "1024"],
        ["phantom", "tiles", str(here / "runs" / "demo" / "samples"), "--cases", "6", "--tiles", "1", "--size", "64"],
    ):
        assert run.invoke(app, args).exit_code == 0
    row = {"id": "1", "reply": "<think>H&E. Glands.</think><answer>A</answer>", "choices": ["x", "y"], "answer": "A",
           "stain": "H&E"}  # fmt: skip
    (here / "replies.jsonl").write_text(json.dumps(row) + "\n")
    (here / "my_reward.py").write_text(_block("add-a-reward.md", "# my_reward.py"))
    for page, name in (("bring-your-own.md", "my-tiles"), ("tutorial.md", "first"), ("tutorial.md", "mine"),
                       ("curation.md", "curated")):  # fmt: skip
        (here / f"{name}.yaml").write_text(_block(page, f"# {name}.yaml"))
    (here / "report.txt").write_text("No necrosis. Adenocarcinoma of the colon.\n")
    for name in ("tile.png", "adenoma/S17_001.png", "normal/S18_002.png"):
        (here / "my-tiles" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (200, 150, 180)).save(here / "my-tiles" / name)
    return here


def _block(page: str, first_line: str) -> str:
    """The fenced block of a page that begins with this line."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = re.search(rf"```\w+\n({re.escape(first_line)}\n.*?)```", text, re.S)
    assert found, f"{page} has no block that begins with {first_line}"
    return found[1]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda p: p.stem)
def test_lines_that_can_run_do(page: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, in a folder with the material; a verb may say with exit code 1 that it found something."""
    place = tmp_path / "here"
    shutil.copytree(material, place)
    monkeypatch.chdir(place)
    for line in lines_of(page):
        if reason_not_to_run(line) is None:
            done = CliRunner().invoke(app, words_of(line))
            expected = (0, 1) if words_of(line)[0] in ("prove",) or "audit" in line else (0,)
            assert done.exit_code in expected, f"{line}\n{done.output}\n{done.exception}"
            assert done.exception is None or isinstance(done.exception, SystemExit), f"{line}: {done.exception!r}"
