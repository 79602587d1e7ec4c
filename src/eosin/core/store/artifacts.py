"""Where stages meet: directories that are whole or do not exist.

An artifact is a directory with `manifest.json`. It is written under a temporary name and renamed when whole.
A directory without its manifest does not exist for the next stage.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from eosin.core.errors import EosinError, disk_errors
from eosin.core.store import cards
from eosin.core.store.lock import is_held
from eosin.core.store.names import inside, unfinished, unfinished_of
from eosin.core.store.record import make_record

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Artifact:
    """A whole directory on disk and its manifest."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Digest over the digests of all parts."""
        return str(self.manifest["digest"])


@dataclass
class Writer:
    """What `writing` hands out: write files under `dir`; add counts and facts to the manifest."""

    dir: Path
    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_text_atomic(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name, flushed, then renamed."""
    temporary = unfinished(path)
    with disk_errors(path):
        try:
            with temporary.open("wb") as handle:
                lock_for_life(handle.fileno())
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with keys in their given order."""
    write_text_atomic(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def as_json(value: Any, where: str) -> Any:
    """A value as JSON will give it back: so that a record that cannot be written is found before the work, not after.

    Raises:
        EosinError: it holds something that JSON cannot.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as exc:
        raise EosinError("This cannot be written into a record.", expected="numbers, texts, lists and mappings",
                         found=str(exc)[:160], where=where) from None  # fmt: skip


def read_json(path: Path) -> Any:
    """Read JSON; a broken or missing file gives an EosinError that names it."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise EosinError("There is no such file.", where=path) from None
    except (ValueError, RecursionError) as exc:
        raise EosinError("This file is not valid JSON.", found=str(exc)[:200], where=path) from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; anything else in the file gives an EosinError that names it."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise EosinError("This file holds no record.", expected="a JSON object", found=type(value).__name__, where=path)
    return value


def append_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a JSON lines file. A last line cut off by a kill is removed first."""
    if not rows:
        return
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    with disk_errors(path), path.open("ab+") as handle:
        _cut_partial_line(handle)
        handle.write(text.encode("utf-8"))


def keep_rows(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite a JSON lines file with the rows that a resumed stage will not write again."""
    if path.exists():
        rows = [r for r in read_jsonl(path) if keep(r)]
        write_text_atomic(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def _cut_partial_line(handle: IO[bytes]) -> None:
    """Leave the handle at the end of the last whole line, and the file ending there."""
    end = handle.seek(0, os.SEEK_END)
    keep = end
    while keep > 0:
        start = max(0, keep - 65536)
        handle.seek(start)
        newline = handle.read(keep - start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep < end:
        handle.truncate(keep)
    handle.seek(0, os.SEEK_END)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON lines file that this program wrote. A last line cut off by a kill is left out."""
    if not path.exists():
        return []
    # Not str.splitlines: it also breaks at U+2028 and U+0085, which stand unescaped inside JSON strings.
    lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
            if not isinstance(row, dict):
                raise ValueError("no object")
            rows.append(row)
        except (ValueError, RecursionError):
            if i == len(lines) - 1:
                break
            found = line[:80].decode("utf-8", "replace")
            raise EosinError("This line is not valid JSON.", found=found, where=f"{path}:{i + 1}") from None
    return rows


@contextmanager
def writing(
    path: Path,
    kind: str,
    *,
    parents: Sequence[Artifact] = (),
    record: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Iterator[Writer]:
    """Write an artifact. It appears at `path` only when the block ends without an exception.

    Checkpoints and samples get a card (README.md) in the Hub's form.

    Args:
        path: where it shall stand. A whole artifact there is never overwritten unless `replace`.
        kind: samples, checkpoint, eval, ...
        parents: artifacts that it was made from.
        record: fields for the record beside the usual ones.
    """
    if path.exists() and not replace:
        raise EosinError(
            "There is something at this place already, and Eosin never overwrites.",
            where=path,
            next_step="choose another --out, or move the old folder away",
        )
    remove_leftovers(path.parent, path.name)
    temporary = unfinished(path)
    with disk_errors(path):
        temporary.mkdir(parents=True)
        try:
            with _held(temporary):
                writer = Writer(temporary)
                yield writer
                if kind in cards.KINDS:
                    text = cards.card_text(temporary, kind, writer.counts, writer.facts, [p.path for p in parents])
                    write_text_atomic(temporary / cards.CARD, text)
                manifest = _manifest(writer, kind, parents, record or {})
                write_json(temporary / MANIFEST, manifest)
                put_in_place(temporary, path, replace=replace)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock a folder that is being written, so that nobody takes it for what a dead process left."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock_for_life(handle)
        yield
    finally:
        os.close(handle)


def lock_for_life(handle: int) -> None:
    """Hold a lock until the file is closed: it tells what is being written from what a dead process left."""
    with contextlib.suppress(OSError):  # some network disks lock nothing; then leftovers there may look alive, and stay
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def discard(folder: Path) -> None:
    """Remove a folder that is needed no more: renamed first, so that no half of it is ever taken for whole."""
    if not folder.exists():
        return
    aside = unfinished(folder)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Whether a name is one of those under which Eosin writes what is not whole yet."""
    return unfinished_of(path) is not None


def remove_leftovers(folder: Path, name: str | None = None, *, files: bool = False) -> int:
    """Remove what dead processes left half-written in a folder; what a living one is writing stays.

    Only names that Eosin itself makes are looked at: `.NAME.<8 digits>.tmp`.

    Args:
        name: only leftovers of this name, in the folder itself; None: of every name, in all folders below too. That
            is for who holds the lock of the whole folder.
        files: with `name`: files too, which nobody locks while they are written; for who holds the lock of the name.

    Returns:
        How many files and folders were removed.
    """
    if not folder.is_dir():
        return 0
    removed = 0
    places = folder.iterdir() if name is not None else folder.rglob(".*.tmp")
    for path in list(places):
        found = unfinished_of(path)
        if found is None or (name is not None and found != name) or path.is_symlink() or is_held(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif name is None or files:
            path.unlink(missing_ok=True)
        removed += not path.exists()
    return removed


def _aside(path: Path) -> Path:
    """Where the old artifact waits while the new one takes its place."""
    return path.with_name(f".{path.name}.old")


def put_in_place(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Rename a whole artifact to its place. Killed at any point, the old or the new one can be opened.

    Raises:
        EosinError: something has come to stand there meanwhile, and it is not to be replaced.
    """
    aside = _aside(path)
    if path.exists():
        if not replace:
            raise EosinError(
                "Something has come to stand at this place while it was written, and Eosin never overwrites.",
                where=path, next_step="choose another --out, or move it away and give the command again",
            )  # fmt: skip
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    temporary.rename(path)
    shutil.rmtree(aside, ignore_errors=True)


def _manifest(writer: Writer, kind: str, parents: Sequence[Artifact], record: Mapping[str, Any]) -> dict[str, Any]:
    files = sorted(p for p in writer.dir.rglob("*") if p.is_file())
    parts = {str(p.relative_to(writer.dir)): {"sha256": sha256_file(p), "bytes": p.stat().st_size} for p in files}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "digest": digest,
        "parts": parts,
        "counts": writer.counts,
        "parents": [{"path": p.path.name, "kind": p.manifest["kind"], "digest": p.digest} for p in parents],
        "record": make_record(**record),
        **writer.facts,
    }


def exists(path: Path) -> bool:
    """Whether a whole artifact stands at `path`. An old one that a killed replacement left aside is put back."""
    aside = _aside(path)
    if not path.exists() and (aside / MANIFEST).is_file():
        aside.rename(path)
    return (path / MANIFEST).is_file()


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    sha256: str
    bytes: int = 0


class _Parent(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    path: str
    kind: str
    digest: str


class _Manifest(BaseModel):
    """What every manifest holds, whatever stands beside it."""

    model_config = ConfigDict(strict=True, extra="allow")
    schema_version: int = 0
    kind: str
    digest: str
    parts: dict[str, _Part]
    counts: dict[str, int] = {}
    parents: list[_Parent] = []
    record: dict[str, Any] = {}


def _checked_manifest(file: Path) -> dict[str, Any]:
    """The manifest, in its form. This is where a damaged or foreign one is found."""
    manifest = read_object(file)
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        raise EosinError(
            "The manifest of this artifact is damaged.", found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=file, next_step="make the artifact again, or copy it again from where it was made",
        ) from None  # fmt: skip
    return manifest


def open_artifact(path: Path, kind: str | None = None, *, verify: bool = False) -> Artifact:
    """Open an artifact; refuse one that is not whole, of another kind, or of a later schema.

    Args:
        verify: also compare every part with its recorded digest.
    """
    if not exists(path):
        raise EosinError(
            "There is no whole artifact at this place.",
            expected=f"a folder with {MANIFEST}",
            found="a folder without it (a run that was cut off?)" if path.is_dir() else "nothing",
            where=path,
        )
    manifest = _checked_manifest(path / MANIFEST)
    version = manifest.get("schema_version", 0)
    if version > SCHEMA_VERSION:
        raise EosinError(
            "This artifact was written by a later Eosin.",
            expected=f"schema version up to {SCHEMA_VERSION}",
            found=str(version),
            where=path,
            next_step="pip install --upgrade eosin",
        )
    if kind is not None and manifest.get("kind") != kind:
        raise EosinError(
            "This artifact is of another kind.", expected=kind, found=str(manifest.get("kind")), where=path
        )
    artifact = Artifact(path, manifest)
    if verify:
        _verify(artifact)
    return artifact


def _is_as_written(file: Path, digest: str) -> bool:
    stat = file.stat()
    key, stamp = f"{file}\0{digest}", (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if _VERIFIED.get(key) == stamp:
        return True
    if sha256_file(file) != digest:
        return False
    _VERIFIED[key] = stamp
    return True


_VERIFIED: dict[str, tuple[int, int, int]] = {}
"""Files whose digest was compared in this process: size, time and inode they had then."""


def _verify(artifact: Artifact) -> None:
    """Compare every part with its digest. A file that was compared and not touched since is not read again."""
    for name, part in artifact.manifest["parts"].items():
        file = inside(artifact.path, name)
        if file is None or not file.is_file() or not _is_as_written(file, part["sha256"]):
            raise EosinError(
                "A part of this artifact is missing or was changed after it was written.",
                where=artifact.path / name,
                next_step="make the artifact again, or copy it again from where it was made",
            )
