"""Tar packages of articles: only plain files are unpacked, under names that stay in their folder, to a bounded size."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path, PurePosixPath

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.names import file_name
from eosin.documents.item import STEP

MAX_FILES = 5000
MAX_UNPACKED = 4 * 2**30
MAX_MEMBER = 2**30
_WANTED = (".nxml", ".xml", ".pdf", ".json", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")


def unpacked(path: Path, folder: Path, name: str) -> list[Dropped]:
    """Unpack articles and pictures of a package into a folder; returns what was set aside.

    Each folder of the package becomes one folder here. Links, devices, names that lead out of the package and files of
    other kinds are set aside; a package that is cut off gives what was whole before the cut.

    Raises:
        EosinError: not a tar package at all.
    """
    dropped: list[Dropped] = []
    total = count = 0
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                count += 1
                total += max(0, member.size)
                if count > MAX_FILES or total > MAX_UNPACKED:
                    dropped.append(Dropped(name, "package too large", f"more than {MAX_FILES} files or 4 GiB", STEP))
                    break
                why = _refused(member)
                if why:
                    dropped.append(Dropped(f"{name}/{member.name[:200]}", why, "", STEP))
                elif member.isfile() and member.name.lower().endswith(_WANTED):
                    _write(tar, member, folder)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as exc:
        if not count:
            raise EosinError("not a tar package", found=str(exc)[:120], where=path) from None
        dropped.append(Dropped(name, "package cut off or damaged", f"after {count} files: {str(exc)[:100]}", STEP))
    return dropped


def _refused(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "link in a package"
    if not (member.isfile() or member.isdir()):
        return "no plain file in a package"
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or "\0" in member.name:
        return "name leads out of the package"
    return "file too large" if member.size > MAX_MEMBER else ""


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    parts = [file_name(p) for p in PurePosixPath(member.name).parts if p not in (".", "")]
    place = folder.joinpath(*parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is None:
        return
    with place.open("wb") as out:
        while piece := source.read(2**20):
            out.write(piece)
