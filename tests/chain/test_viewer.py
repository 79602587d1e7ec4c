"""OpenSeadragon is taken only as it was looked at, and nothing else of npm's archive is."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from eosin.chain.room import viewer
from eosin.core.errors import EosinError
from eosin.serve import pages

SCRIPT = f"package/build/openseadragon/{pages.VIEWER}"


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            told = tarfile.TarInfo(name)
            told.size = len(data)
            archive.addfile(told, io.BytesIO(data))
    return path


def test_the_known_script_and_its_licence_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "SHA256", hashlib.sha256(b"script").hexdigest())
    monkeypatch.setenv("EOSIN_VIEWER", str(tmp_path / "out"))
    files = {SCRIPT: b"script", "package/LICENSE.txt": b"BSD", "package/../../evil.js": b"x", "/abs.js": b"y"}
    assert pages.viewer_file() is None
    viewer.unpack(pack(tmp_path / "a.tgz", files), pages.viewer_folder())
    assert pages.viewer_file() == tmp_path / "out" / pages.VIEWER
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["LICENSE.txt", "a.tgz", pages.VIEWER]


@pytest.mark.parametrize("files", [{SCRIPT: b"another"}, {"package/readme.md": b"none"}])
def test_another_script_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(EosinError, match="not the OpenSeadragon"):
        viewer.unpack(pack(tmp_path / "a.tgz", files), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_npm_it_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer.shutil, "which", lambda name: None)
    with pytest.raises(EosinError, match="npm is not installed") as told:
        viewer.fetch_viewer()
    assert "npm pack openseadragon@" in str(told.value)
