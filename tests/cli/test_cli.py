"""Every verb says what it does, with an example; the light parts start without torch."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import forked
from tests.support.forked import eosin

from eosin.core.settings.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
VERBS = (
    ["demo"], ["run"], ["rl-data"], ["evaluate"], ["ask"], ["doctor"], ["score"], ["prove"], ["report"],
    ["cite"], ["reference"],
    ["phantom", "tiles"], ["phantom", "slide"], ["phantom", "report"],
    *(["slides", v] for v in ("info", "thumbnail", "tissue", "tiles", "features", "encoders", "convert", "audit")),
    *(["knowledge", v] for v in ("build", "stats", "show", "paths", "contrast", "link", "check", "quality")),
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_has_an_example(verb: list[str]) -> None:
    from typer.main import get_command

    from eosin.cli.main import app

    command = get_command(app)
    for word in verb:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert command.help and "eosin" in command.help.partition("Example:")[2]
    assert len(command.help.split("Example:")[1].strip()) > 10


def test_help_runs_and_loads_no_torch() -> None:
    code = "import sys; from eosin.cli import main; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    done = subprocess.run([sys.executable, "-m", "eosin.cli.main", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "not for diagnosis" in done.stdout


def test_doctor_names_what_is_missing() -> None:
    code = (
        "import sys, importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n in ('trl', 'openslide') else real(n, *a)\n"
        "from eosin.cli.main import app\napp(['doctor'], standalone_mode=False)"
    )
    wide = {**os.environ, "COLUMNS": "200"}
    done = forked.run(["-c", code], env=wide)
    assert done.returncode == 0, done.stderr
    assert "missing: trl" in done.stdout and "pip install 'eosin[train]'" in done.stdout
    assert "missing: openslide-python" in done.stdout and "cores" in done.stdout


def test_an_unknown_recipe_names_the_way_out() -> None:
    done = eosin("run", "no-such.yaml")
    assert done.returncode == 2 and "no such recipe" in done.stderr and "eosin run --list" in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    resolved = load_recipe(path)
    assert resolved.recipe.name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_list_shows_the_recipes() -> None:
    done = eosin("run", "--list")
    assert "demo" in done.stdout and "colorectal" in done.stdout


def test_phantom_report_and_tiles(tmp_path: Path) -> None:
    done = eosin("phantom", "report", "--case", "1")
    assert done.stdout.startswith("PHANTOM")
    done = eosin("phantom", "tiles", str(tmp_path / "t"), "--cases", "6", "--tiles", "1", "--size", "64")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t" / "sheet.png").exists() and (tmp_path / "t" / "manifest.json").exists()
    done = eosin("phantom", "tiles", str(tmp_path / "t"), "--cases", "6")
    assert done.returncode == 2 and "never overwrites" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_cannot_show_a_letter_ends_no_command(tmp_path: Path, encoding: str) -> None:
    text = tmp_path / "report.txt"
    text.write_text("TGF\u03b2 shows \u2192 carcinoma\n", "utf-8")
    command = [sys.executable, "-m", "eosin.cli.main", "knowledge", "link", str(text)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert b"carcinoma" in done.stdout and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EROFS, "The disk is read-only"),
        (errno.EACCES, "Access is not permitted"),
    ],
)
def test_what_a_disk_refuses_is_told_without_a_traceback(
    number: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eosin.cli import main

    def refused() -> None:
        raise OSError(number, os.strerror(number), "out/[a]")

    monkeypatch.setattr(main, "app", refused)
    monkeypatch.setattr(main.stopping, "listen", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main.run()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and told in said and "out/[a]" in said


def test_what_is_no_fault_of_a_disk_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from eosin.cli import main

    def broken() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(main, "app", broken)
    monkeypatch.setattr(main.stopping, "listen", lambda: None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        main.run()
