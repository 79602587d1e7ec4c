"""The notebooks of examples/notebooks run from the first cell to the last, and are kept without outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import forked

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
BY_A_KERNEL = "own_tiles"
"""Which one a kernel runs; the others are run by IPython in processes that have imported everything."""
# Name -> files that it leaves behind.
LEAVES = {
    "own_reward": ("start/stages/sft/checkpoint/model.safetensors",),
    "own_tiles": ("run/report/index.html", "run/stages/sft/checkpoint/model.safetensors"),
    "read_a_slide": ("reading/evidence.geojson", "reading/evidence.png", "reading/index.html"),
}


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def test_all_of_them_are_tried() -> None:
    assert {p.stem for p in NOTEBOOKS} == set(LEAVES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_kept_without_outputs_and_with_links_that_lead_somewhere(path: Path) -> None:
    book = _read(path)
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            assert max(map(len, cell.source.splitlines())) <= 120
    text = "\n".join(c.source for c in book.cells if c.cell_type == "markdown")
    assert "Research use only, not for diagnosis." in text
    links = re.findall(r"\]\(([^)#\s]+)", re.sub(r"\s+", " ", text))
    assert links and all((FOLDER / link).exists() for link in links)


def _by_a_kernel(book: Any, place: Path) -> str:
    """Without a limit of time: a busy machine may be slow to start the kernel."""
    resources = {"metadata": {"path": str(place)}}
    NotebookClient(book, kernel_name="python3", timeout=None, startup_timeout=3600, resources=resources).execute()
    assert all(c.execution_count for c in book.cells if c.cell_type == "code")
    return "".join(o.get("text", "") for c in book.cells if c.cell_type == "code" for o in c.outputs)


def _by_ipython(book: Any, place: Path) -> str:
    nbformat.write(book, place / "book.ipynb")
    done = forked.run(["-m", "tests.support.cells", place / "book.ipynb"], cwd=place)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs_from_the_first_cell_to_the_last(path: Path, tmp_path: Path) -> None:
    """As it is, in a folder of its own."""
    run(path.stem, _read(path), tmp_path)


def run(name: str, book: Any, place: Path) -> None:
    """Every cell, the files that it leaves, and what it says."""
    told = (_by_a_kernel if name == BY_A_KERNEL else _by_ipython)(book, place)
    for left in LEAVES[name]:
        assert (place / left).stat().st_size > 0, left
    if name == "own_tiles":
        figure = re.search(r"balanced accuracy (\d\.\d\d)", told)
        assert figure and 0 <= float(figure[1]) <= 1 and "12 tiles of 4 slides" in told
    if name == "own_reward":
        assert "breaches: 0" in told and "wrong but consistent: 1.0 alone, 0.3 with accuracy" in told, told
        assert told.count("{'step': ") == 4
    if name == "read_a_slide":
        assert re.search(r"\d+ patches, \d+% of them in the lesion", told)
