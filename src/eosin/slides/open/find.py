"""Slides in files and folders: each once, under a name of its own; links that lead back do no harm."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.slides.untrusted import clean

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".tif", ".tiff", ".btf", ".zvi",
            ".czi", ".dcm")  # fmt: skip
_UID_TAG = bytes((0x20, 0x00, 0x0E, 0x00))  # (0020,000E) SeriesInstanceUID, little endian
_HEADER_BYTES = 65_536


@dataclass(frozen=True)
class Found:
    """A slide to handle. `key` is its place below the results: the path below the given folder, without suffix."""

    key: str
    path: Path


def find_slides(paths: Sequence[Path]) -> tuple[list[Found], list[Dropped]]:
    """Slides below the given files and folders, in a fixed order, and what was set aside while looking.

    A file that is named is taken whatever its suffix; in folders files with a suffix of SUFFIXES are. The files of one
    DICOM series are one slide.

    Raises:
        EosinError: nothing was found, or a path does not exist.
    """
    taken: list[tuple[str, Path]] = []
    dropped: list[Dropped] = []
    for path in paths:
        if path.is_dir() and not path.is_symlink() or path.is_dir():
            taken += [(str(p.relative_to(path)), p) for p in _walk(path, dropped)]
        elif not os.path.lexists(path):
            raise EosinError("There is no such file or folder.", where=path)
        else:
            taken.append((path.name, path))
    taken = [one for one in taken if not _special(one[1], dropped)]
    unique = list({os.path.abspath(p): (n, p) for n, p in reversed(taken)}.values())[::-1]
    if not unique and not dropped:
        raise EosinError("There are no slides here.", expected=f"files ending in {', '.join(SUFFIXES)}",
                         where=", ".join(str(p) for p in paths)[:300])  # fmt: skip
    return _with_keys(sorted(_one_a_series(unique))), dropped


def _special(path: Path, dropped: list[Dropped]) -> bool:
    """Whether this is a pipe, socket or device, which could keep a reader for ever; it is set aside."""
    if path.is_file() or path.is_dir() or not path.exists():
        return False
    dropped.append(Dropped(clean(str(path)), "not a regular file", "a pipe, socket or device", "find"))
    return True


def _walk(root: Path, dropped: list[Dropped]) -> Iterator[Path]:
    """Files with a slide's suffix. A folder is entered once, under whatever name it is met first."""
    seen: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(root, followlinks=True, onerror=lambda e: dropped.append(_unread(e))):
        here = Path(folder)
        seen.add(_identity(here))
        keep = []
        for name in sorted(names):
            place = here / name
            if _identity(place) in seen:
                dropped.append(Dropped(clean(str(place)), "folder met before", "a link that leads back", "find"))
                continue
            if place.suffix.lower() in SUFFIXES and place.suffix.lower() != ".dcm":
                dropped.append(Dropped(clean(str(place)), "slide path is a folder", "", "find"))
            keep.append(name)
        names[:] = keep
        yield from (here / name for name in sorted(files) if Path(name).suffix.lower() in SUFFIXES)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        about = folder.stat()
    except OSError:
        return (-1, hash(str(folder)))
    return about.st_dev, about.st_ino


def _unread(error: OSError) -> Dropped:
    return Dropped(clean(str(error.filename)), "folder not readable", error.strerror or "", "find")


def _one_a_series(taken: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Of the DICOM files of one series in one folder, the first."""
    seen: set[tuple[Path, bytes]] = set()
    kept = []
    for name, path in sorted(taken):
        series = series_of(path) if path.suffix.lower() == ".dcm" else None
        if series is not None:
            if (path.parent, series) in seen:
                continue
            seen.add((path.parent, series))
        kept.append((name, path))
    return kept


def series_of(path: Path) -> bytes | None:
    """SeriesInstanceUID of a DICOM file in explicit little endian, which slides are in; None where there is none."""
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEADER_BYTES)
    except OSError:
        return None
    at = head.find(_UID_TAG + b"UI")
    if at < 0 or head[128:132] != b"DICM":
        return None
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    return head[at + 8 : at + 8 + length].rstrip(b"\0 ")


def _with_keys(taken: list[tuple[str, Path]]) -> list[Found]:
    taken = [(clean(name), path) for name, path in taken]
    bare = Counter(_bare(name) for name, _ in taken)
    found, used = [], Counter[str]()
    for name, path in taken:
        key = _bare(name) if bare[_bare(name)] == 1 else name
        used[key] += 1
        found.append(Found(key if used[key] == 1 else f"{key}-{used[key]}", path))
    return found


def _bare(name: str) -> str:
    lower = name.lower()
    for suffix in (".ome.tif", ".ome.tiff", ".ome.btf", *SUFFIXES):
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return str(Path(name).with_suffix(""))
