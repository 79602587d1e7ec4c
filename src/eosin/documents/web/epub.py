"""An EPUB book: its pages in reading order, its pictures, and what it says of itself. Read from the archive in memory.

The layout is that of EPUB 3 (W3C): META-INF/container.xml names the package file; its spine names the pages in order.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from eosin.core.errors import EosinError
from eosin.documents.jats.xml import own_text, parsed

MAX_FILES = 50_000
MAX_PART_BYTES = 256 * 2**20
MAX_UNPACKED_BYTES = 4 * 2**30
MAX_PAGES = 10_000
_FONTS_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_PAGES = ("application/xhtml+xml", "text/html")


@dataclass(frozen=True)
class Told:
    """What the package file says."""

    title: str
    rights: str
    identifier: str
    pages: tuple[str, ...]


class Epub:
    """An open archive. Names of parts are looked up as they stand and never become paths on disk.

    Raises:
        EosinError: not an EPUB, encrypted, or too large.
    """

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as exc:
            raise EosinError("not an EPUB", found=str(exc)[:120], where=path) from None
        parts = self._zip.infolist()
        unpacked = sum(p.file_size for p in parts)
        if len(parts) > MAX_FILES or unpacked > MAX_UNPACKED_BYTES:
            self._zip.close()
            raise EosinError("archive too large", found=f"{len(parts):,} files, {unpacked:,} bytes", where=path)
        self._parts = {p.filename: p for p in parts}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def told(self) -> Told:
        """The package file, read.

        Raises:
            EosinError: none is named, or its pages are encrypted.
        """
        self._refuse_encrypted()
        container = parsed(self.part("META-INF/container.xml"), self._where)
        name = next((e.get("full-path", "") for e in container.iter("rootfile") if e.get("full-path")), "")
        package = parsed(self.part(name), self._where)
        items = {e.get("id", ""): e for e in package.iter("item")}
        chosen = [items[r] for e in package.iter("itemref") if (r := e.get("idref", "")) in items]
        pages = [at for e in chosen if e.get("media-type") in _PAGES and (at := resolved(name, e.get("href", "")))]
        told = {tag: own_text(next(package.iter(tag), None)) for tag in ("title", "rights", "identifier")}
        return Told(told["title"], told["rights"], told["identifier"], tuple(dict.fromkeys(pages))[:MAX_PAGES])

    def part(self, name: str) -> bytes:
        """The bytes of a part.

        Raises:
            EosinError: missing, encrypted, damaged, or larger than it may be.
        """
        info = self._parts.get(name)
        if info is None:
            raise EosinError("part missing in the EPUB", found=name[:120], where=self._where)
        if info.flag_bits & 1:
            raise EosinError("document encrypted", where=self._where)
        if info.file_size > MAX_PART_BYTES:
            raise EosinError("part of the EPUB too large", found=f"{info.file_size:,} bytes", where=self._where)
        try:
            with self._zip.open(info) as file:  # it may hold more than its header says
                data = file.read(MAX_PART_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as exc:
            raise EosinError("EPUB damaged", found=f"{name[:80]}: {str(exc)[:80]}", where=self._where) from None
        if len(data) > MAX_PART_BYTES:
            raise EosinError("part of the EPUB too large", found=name[:120], where=self._where)
        return data

    def _refuse_encrypted(self) -> None:
        """Fonts may be obscured; anything else that is encrypted is text or pictures that cannot be read."""
        if "META-INF/encryption.xml" not in self._parts:
            return
        root = parsed(self.part("META-INF/encryption.xml"), self._where)
        used = {e.get("Algorithm", "") for e in root.iter("EncryptionMethod")}
        if used - set(_FONTS_ONLY):
            raise EosinError("document encrypted", found=", ".join(sorted(used))[:120], where=self._where)


def resolved(page: str, source: str) -> str | None:
    """The part of the archive that a page's link names; None where it leads elsewhere."""
    link = urlsplit(source)
    if link.scheme or link.netloc or not link.path:
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(link.path)))
    return None if path.startswith(("../", "/")) or path == ".." else path
