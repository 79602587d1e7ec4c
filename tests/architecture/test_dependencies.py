"""docs/dependencies.md names every dependency; nothing that is installed runs code at every start of Python."""

from __future__ import annotations

import re
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# Files with code that are allowed, by their text: setuptools' shim for distutils.
_ALLOWED = {
    "distutils-precedence.pth": "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') "
    "== 'local'; enabled and __import__('_distutils_hack').add_shim();",
}


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).casefold()


def _named() -> set[str]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {_name(r) for group in groups for r in group} - {"eosin"}


def _rows() -> list[list[str]]:
    text = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    return [r for r in rows if r[0] != "package"]


# Wants older packages than constraints.txt holds, and is installed in an environment of its own (docs/dependencies.md).
OWN_ENVIRONMENT = {"docling"}


def test_the_page_and_pyproject_name_the_same_packages() -> None:
    listed = [_name(r[0]) for r in _rows()]
    assert len(listed) == len(set(listed))
    assert set(listed) == _named()


def test_every_row_is_whole() -> None:
    for row in _rows():
        assert len(row) == 5 and all(row), row
        assert not re.search(r"AGPL|(?<!L)GPL-3|proprietary", row[1]), row


def test_every_dependency_has_an_exact_version() -> None:
    pinned = {_name(line) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "==" in line}
    assert _named() - pinned == OWN_ENVIRONMENT


def _code_in(text: str) -> list[str]:
    """Lines that Python's site module would run."""
    return [line.strip() for line in text.splitlines() if line.startswith(("import ", "import\t"))]


def test_lines_that_run_are_seen() -> None:
    assert _code_in("/some/path\nimport os; os.system('x')\n# import y\n") == ["import os; os.system('x')"]


def test_no_package_brings_code_that_runs_at_every_start() -> None:
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    for file in (f for place in places for f in Path(place).glob("*.pth")):
        for line in _code_in(file.read_text("utf-8", errors="replace")):
            assert line == _ALLOWED.get(file.name), f"{file.name}: {line[:120]}"
