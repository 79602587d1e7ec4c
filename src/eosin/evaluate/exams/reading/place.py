"""Where the pictures of a published set stand: in folders, or still in the archive that they came in.

A name that comes with data stays inside its folder (core/store/names.py). Members of an archive are read one by one;
nothing is unpacked, and a member whose name leads out of the archive is refused and counted.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, ImageError
from eosin.core.formats.rows import BadRowError, file_errors
from eosin.core.images import MAX_FILE_BYTES
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef
from eosin.core.store.names import inside

MAX_RATIO = 1000
"""A member may unpack to this many times its packed size."""
MAX_HELD_BYTES = 2 * 2**30
"""Pictures read from archives are held in memory, up to this."""
_NOT_SAFE = "name leads out of the archive"


@dataclass
class Archive:
    """A zip file, read member by member.

    Attributes:
        members: safe names with forward slashes, and what the archive says of them.
        refused: names that lead out of the archive, that are links, or that unpack to far more than they hold.
    """

    path: Path
    members: dict[str, zipfile.ZipInfo] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Archive:
        """Read the list of members.

        Raises:
            EosinError: it is no zip file, or a damaged one.
        """
        made = cls(path)
        with file_errors(path, "archive"), zipfile.ZipFile(path) as handle:
            for info in handle.infolist():
                reason = _why_refused(info)
                if reason:
                    made.refused[info.filename[:200]] = reason
                elif not info.is_dir():
                    made.members[info.filename.replace("\\", "/").removeprefix("./")] = info
        return made

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            BadRowError: damaged, encrypted, or larger than it says.
        """
        info = self.members[name]
        try:
            with zipfile.ZipFile(self.path) as handle, handle.open(info) as member:
                data = member.read(info.file_size + 1)
        except MemoryError:
            raise
        except Exception as exc:  # zipfile throws several kinds of error for damaged and encrypted members
            raise BadRowError("archive member damaged", f"{name}: {type(exc).__name__}: {exc}"[:200]) from None
        if len(data) > info.file_size:
            raise BadRowError("archive member damaged", f"{name} holds more than it says")
        return data

    def find(self, name: str) -> str | None:
        """The member of this name, with or without the folders that the archive puts in front."""
        if name in self.members:
            return name
        ends = [m for m in self.members if m.endswith("/" + name)]
        return ends[0] if len(ends) == 1 else None


def _why_refused(info: zipfile.ZipInfo) -> str | None:
    name = info.filename.replace("\\", "/")
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\0" in name or (len(name) > 1 and name[1] == ":"):
        return _NOT_SAFE
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        return "a link in the archive"
    if info.file_size > MAX_FILE_BYTES or info.file_size > MAX_RATIO * max(1, info.compress_size) + 4096:
        return "member unpacks to too much"
    return None


@dataclass
class Place:
    """A published set on this disk.

    Attributes:
        root: its folder.
        folders: folders below root in which pictures are looked for, in order.
        archives: file names of archives below root that hold pictures.
    """

    root: Path
    folders: Sequence[str] = ("", "images")
    archives: Sequence[str] = ("images.zip",)
    _open: dict[str, Archive] = field(default_factory=dict, repr=False)
    _held: dict[str, ImageBytes] = field(default_factory=dict, repr=False)
    _num_held: int = 0

    def file(self, *names: str) -> Path | None:
        """The first of these files that stands in the folder."""
        for name in names:
            path = inside(self.root, name)
            if path is not None and path.is_file():
                return path
        return None

    def need(self, what: str, *names: str) -> Path:
        """As `file`.

        Raises:
            EosinError: none of them is there.
        """
        path = self.file(*names)
        if path is None:
            found = sorted(p.name for p in self.root.iterdir() if not p.name.startswith("."))[:8]
            raise EosinError(
                f"This folder holds no {what}.", expected=" or ".join(names),
                found=", ".join(found) or "an empty folder", where=self.root,
            )  # fmt: skip
        return path

    def archive(self, name: str) -> Archive | None:
        """An archive below root, its members listed once."""
        if name not in self._open:
            path = self.file(name)
            if path is None:
                return None
            self._open[name] = Archive.open(path)
        return self._open[name]

    def refused(self) -> Iterator[Dropped]:
        """Members of the archives that are never read."""
        for name in self.archives:
            archive = self.archive(name)
            for member, reason in (archive.refused if archive else {}).items():
                yield Dropped(f"{name}/{member}", reason, member, "exam")

    def picture(self, name: str) -> ImageRef:
        """The picture that a row names.

        Raises:
            BadRowError: it leads out of the folder, is missing, or is damaged in its archive.
        """
        name = name.strip().replace("\\", "/").removeprefix("./")
        if not name:
            raise BadRowError("no picture named")
        for folder in self.folders:
            path = inside(self.root, f"{folder}/{name}" if folder else name)
            if path is None:
                raise BadRowError("image outside the exam's folder", name[:200])
            if path.is_file():
                return ImageFile(path=str(path))
        for archive_name in self.archives:
            archive = self.archive(archive_name)
            member = archive.find(name) if archive else None
            if archive is not None and member is not None:
                return self._from(archive, member)
        raise BadRowError("image file missing", name[:200])

    def _from(self, archive: Archive, member: str) -> ImageBytes:
        key = f"{archive.path}:{member}"
        if key not in self._held:
            self._num_held += archive.members[member].file_size
            if self._num_held > MAX_HELD_BYTES:
                raise EosinError(
                    "The pictures in this archive are too many to be held in memory.",
                    expected=f"at most {MAX_HELD_BYTES:,} bytes", where=archive.path,
                    next_step=f"unpack it: unzip {archive.path.name} -d {self.root.name}; or use --limit",
                )  # fmt: skip
            self._held[key] = ImageBytes(data=archive.read(member))
        return self._held[key]

    def held(self, data: bytes, key: str) -> ImageBytes:
        """Bytes of a picture, kept once however many rows show it."""
        return self._held.setdefault(key, ImageBytes(data=data))


def cell_picture(cell: Any, place: Place) -> ImageRef:
    """The picture of a cell of a table: bytes, {"bytes", "path"} as Hugging Face writes it, or a name.

    Raises:
        BadRowError: nothing that could be a picture.
    """
    if isinstance(cell, dict):
        data, path = cell.get("bytes"), cell.get("path")
        if isinstance(data, bytes) and data:
            return place.held(data, _digest(data))
        cell = path
    if isinstance(cell, bytes) and cell:
        return place.held(cell, _digest(cell))
    if isinstance(cell, str) and cell.strip():
        return place.picture(cell)
    raise BadRowError("image without bytes or path", repr(cell)[:80])


def _digest(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def check_pictures(refs: Sequence[ImageRef]) -> str | None:
    """Why the first of these pictures that cannot be opened cannot; None where all can. Bags and slides are not looked
    at."""
    from eosin.core.images import decode, read_bytes

    for ref in refs:
        if isinstance(ref, ImageBytes | ImageFile):
            try:
                decode(read_bytes(ref))
            except ImageError as exc:
                return exc.message
    return None


def zip_text(archive: Archive, member: str) -> str:
    """A member as UTF-8 text."""
    return io.TextIOWrapper(io.BytesIO(archive.read(member)), "utf-8-sig").read()
