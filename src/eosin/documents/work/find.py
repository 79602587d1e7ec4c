"""Which files of what a user names are documents, and how each is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eosin.core.errors import EosinError, ImageError
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.artifacts import exists as is_artifact
from eosin.core.store.names import file_name
from eosin.documents.item import STEP

Kind = Literal["pdf", "jats", "epub", "html", "package"]
_PDF = (".pdf",)
_XML = (".nxml", ".xml")
_HTML = (".html", ".htm", ".xhtml")
_PACKAGES = (".tar.gz", ".tgz", ".tar")
_PMC = re.compile(r"PMC\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Unit:
    """A document to read. key: names its results, unique in a run."""

    key: str
    path: Path
    kind: Kind


def find_units(paths: Sequence[Path]) -> tuple[list[Unit], list[Dropped]]:
    """Documents among files and folders, in a fixed order, and what was set aside.

    In folders, files that are no documents are passed over; hidden ones, links out of the folder, and what Eosin has
    written itself, too. A PDF that lies beside the XML of the same article is set aside: the XML says more. It is read
    where that XML is no article.

    Raises:
        EosinError: nothing of that name, or no document at all.
    """
    units: list[Unit] = []
    dropped: list[Dropped] = []
    for path in paths:
        if not path.exists():
            raise EosinError("There is no such file or folder.", where=path)
        if not path.is_dir():
            kind = kind_of(path)
            if kind is None:
                dropped.append(
                    Dropped(path.name, "not a document", "expected .pdf, .nxml, .xml, .epub, .html, .tar.gz", STEP)
                )
            else:
                units.append(Unit(path.name, path, kind))
            continue
        found = [(p, kind) for p in _walk(path) if (kind := kind_of(p)) is not None]
        articles = {(p.parent, _stem(p)): p for p, kind in found if kind == "jats"}
        for file, kind in found:
            key = file.relative_to(path).as_posix()
            twin = articles.get((file.parent, _stem(file))) if kind == "pdf" else None
            if twin is not None and _is_article(twin):
                dropped.append(Dropped(key, "the article's XML is read instead", "", STEP))
            else:
                units.append(Unit(key, file, kind))
    if not units:
        raise EosinError("There is no document here.", expected="PDF, JATS XML (.nxml, .xml), .epub, .html, .tar.gz",
                         found=f"{len(dropped)} other files", where=", ".join(str(p) for p in paths)[:200])  # fmt: skip
    return _named(units), dropped


def kind_of(path: Path) -> Kind | None:
    """How a file is read, by its name."""
    name = path.name.lower()
    if name.endswith(_PDF):
        return "pdf"
    if name.endswith(_XML):
        return "jats"
    if name.endswith(".epub"):
        return "epub"
    if name.endswith(_HTML):
        return "html"
    return "package" if name.endswith(_PACKAGES) else None


def _stem(path: Path) -> str:
    found = _PMC.search(path.stem)
    return found.group() if found else path.stem


def _is_article(xml: Path) -> bool:
    """Whether an XML file is an article in JATS, as its first letters say."""
    from eosin.documents.jats.reading import check_kind

    try:
        check_kind(xml)
    except (EosinError, ImageError):
        return False
    return True


def _walk(root: Path) -> Iterator[Path]:
    home = root.resolve()
    for folder, folders, files in os.walk(root):
        if is_artifact(Path(folder)):
            folders[:] = []
            continue
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not Path(folder, f).is_symlink())
        for name in sorted(f for f in files if not f.startswith(".")):
            path = Path(folder, name)
            if not path.is_symlink() or path.resolve().is_relative_to(home):
                yield path


def _named(units: Sequence[Unit]) -> list[Unit]:
    """Keys that are names of folders, each once."""
    seen: dict[str, int] = {}
    named = []
    for unit in units:
        key = file_name(re.sub(r"/+", "_", unit.key))
        seen[key] = seen.get(key, 0) + 1
        named.append(Unit(key if seen[key] == 1 else file_name(f"{key}-{seen[key]}"), unit.path, unit.kind))
    return named
