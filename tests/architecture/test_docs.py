"""What the pages name is there: files they link to, modules and tests they point at."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tests_and_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:tests|benchmarks|recipes|src)/[\w/.-]+\.\w+)", page.read_text("utf-8")):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=lambda p: p.name)
def test_modules_that_are_named_exist(page: Path) -> None:
    for dotted in set(re.findall(r"\beosin(?:\.[a-z_0-9]+)+", page.read_text("utf-8"))):
        parts = dotted.split(".")
        found = False
        for length in range(len(parts), 0, -1):  # the last parts may be a function or a class
            try:
                found = importlib.util.find_spec(".".join(parts[:length])) is not None
            except ModuleNotFoundError:
                continue
            if found:
                break
        assert found and length >= len(parts) - 2, dotted
        import eosin

        assert length > 1 or parts[1] in dir(eosin) or parts[1] in ("rewards",), dotted
