"""The wheel holds what the product needs, and works away from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built by the backend that pip would use."""
    pytest.importorskip("hatchling", reason="building needs hatchling: pip install hatchling")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def _kept(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"


def test_every_file_of_the_package_is_in_the_wheel(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    expected = {str(p.relative_to(SRC)) for p in (SRC / "eosin").rglob("*") if _kept(p)}
    assert expected - names == set()
    recipes = {p.name for p in (ROOT / "recipes").rglob("*.yaml")}
    assert recipes == {Path(n).name for n in names if n.startswith("eosin/_recipes/")}
    assert {"eosin/py.typed", "eosin/documents/view/templates/view.css"} <= names
    assert any(n.endswith("licenses/LICENSE") for n in names) and "License-Expression: Apache-2.0" in metadata
    assert not [n for n in names if n.startswith(("tests/", "docs/", "benchmarks/"))]


def test_the_sdist_can_build_the_wheel_again(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "recipes/demo.yaml", "src/eosin/py.typed"} <= names


def test_it_runs_away_from_the_repository(built: Path, tmp_path: Path) -> None:
    """From the unpacked wheel alone, in another folder: the shipped recipes are found, and one is resolved."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = (
        "import eosin, sys; print(eosin.__file__)\n"
        "from typer.testing import CliRunner\nfrom eosin.cli.main import app\n"
        "for args in (['run', '--list'], ['demo', '--help'], ['run', 'demo', '--dry-run'], ['phantom', 'tiles', 't', "
        "'--cases', '6', '--tiles', '1', '--size', '64']):\n"
        "    done = CliRunner().invoke(app, args); print(done.output); assert done.exit_code == 0, done.exception\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert "pathvlm-r1" in done.stdout and "train_cases: 600" in done.stdout
    assert (tmp_path / "t" / "README.md").is_file()
