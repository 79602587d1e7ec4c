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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_test_functions_that_are_named_exist(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8")):
        assert re.search(rf"^(?:async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.M), f"{file}::{name}"


def test_every_page_stands_in_the_navigation_of_the_site() -> None:
    nav = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text("utf-8")))
    assert {p.name for p in (ROOT / "docs").glob("*.md")} - nav == set()


def test_every_claim_of_the_papers_page_names_its_test() -> None:
    """Rows of the tables that say what Eosin does end in a test."""
    text = (ROOT / "docs" / "papers.md").read_text("utf-8")
    rows = [r for r in text.splitlines() if r.startswith("| ") and not r.startswith(("| the paper", "| what a"))]
    assert len(rows) >= 40
    for row in rows:
        assert re.search(r"`tests/[\w/]+\.py::\w+` \|$", row), row


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

        groups = ("rewards", "sources", "encoders", "exams")  # of entry points
        assert length > 1 or parts[1] in dir(eosin) or parts[1] in groups, dotted
