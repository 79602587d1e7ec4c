"""Shared by all tests: offline, quiet, few threads."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
gc.disable()  # until all tests are collected: what is imported for them stays


# Rooms and files that take minutes go first, so that no worker is left alone with one of them at the end.
LONG_ROOMS = ("test_notebooks.py", "reliability", "chain", "train", "fuzz", "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long rooms first; else the order stays. Those that are long by nature run with EOSIN_LONG alone."""

    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(ROOT / "tests").parts[0] if item.path.is_relative_to(ROOT / "tests") else ""
        return LONG_ROOMS.index(room) if room in LONG_ROOMS else len(LONG_ROOMS)

    items.sort(key=place)
    for item in items if not os.environ.get("EOSIN_LONG") else ():
        if item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.skip(reason="long by nature: make test-long"))


def pytest_collection_finish() -> None:
    gc.enable()


_modules_seen = 0


@pytest.fixture(scope="module", autouse=True)
def imports_are_not_searched_for_garbage() -> Iterator[None]:
    """What was imported stays, and need not be looked through again at every collection.

    Each stage of training collects garbage when it ends, and looks through all objects for it: those of torch,
    transformers and all tests are some hundred thousand, and took a seventh of the time of a run on a small model.
    """
    global _modules_seen
    if len(sys.modules) > _modules_seen + 100:
        gc.collect()
        gc.freeze()
        _modules_seen = len(sys.modules)
    yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the project; the test is skipped where it is absent."""
    folder = Path(os.environ.get("EOSIN_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: set EOSIN_SHARED_DATA (looked at {folder.name})")
    return folder
