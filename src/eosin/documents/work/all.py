"""Many documents: each read in a child process into its own folder, then all of them written as one samples artifact.

The folders stand in `.OUT.work` beside OUT until the artifact is whole. Killed at any point, the same command goes on:
documents that were read are not read again.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, disk_errors
from eosin.core.guarded import Job, run_guarded
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.settings.documents import ReadingSettings, as_kept
from eosin.core.store.artifacts import read_object, remove_leftovers, write_json
from eosin.documents.item import STEP
from eosin.documents.packages.tar import unpacked
from eosin.documents.scans.named import check_engine
from eosin.documents.work.find import Unit, find_units
from eosin.documents.work.one import RECORD, read_one

Report = Callable[[int, int, str, "str"], None]


@dataclass
class Read:
    """What became of the documents. num_found = len(folders) + those whose id is in `dropped` as a whole.

    Attributes:
        folders: one a document that was read, in the order of the documents.
        dropped: documents and files that were set aside whole. before: how many an earlier run had read.
    """

    num_found: int = 0
    folders: list[Path] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    before: int = 0

    def records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Folder and record of each document."""
        for folder in self.folders:
            yield folder, read_object(folder / RECORD)


def read_all(
    paths: Sequence[Path], work: Path, settings: ReadingSettings, *, workers: int = 1, timeout_s: float = 900.0,
    report: Report | None = None,
) -> Read:  # fmt: skip
    """Read all documents into folders of `work`.

    Args:
        report: called after each document: how many are done, how many there are, its key, what became of it.

    Raises:
        EosinError: no documents, `work` holds results of other settings, or the backend or OCR engine is not here.
    """
    units, dropped = find_units(paths)
    if settings.backend == "docling":
        from eosin.documents.layout.docling import check_docling

        check_docling(settings.docling_layout)
    check_engine(settings.ocr)
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    remove_leftovers(work)
    _same_settings(work, settings)
    done = Read(dropped=list(dropped))
    with _packages(work) as scratch:
        units = list(_opened_packages(units, scratch, done))
        done.num_found = len(units)
        places = {u.key: work / "documents" / u.key for u in units}
        todo = [u for u in units if not _is_read(places[u.key], u)]
        done.before = len(units) - len(todo)
        _run(todo, places, settings, done, workers, timeout_s, report)
    done.folders = [places[u.key] for u in units if (places[u.key] / RECORD).is_file()]
    return done


def _run(
    todo: Sequence[Unit], places: Mapping[str, Path], settings: ReadingSettings, done: Read, workers: int,
    timeout_s: float, report: Report | None,
) -> None:  # fmt: skip
    told = settings.model_dump()
    jobs = [Job(u.key, (str(u.path), u.kind, u.key, str(places[u.key]), told)) for u in todo]
    by_key = {u.key: u for u in todo}
    for n, (job, outcome) in enumerate(run_guarded(read_one, jobs, timeout_s=timeout_s, workers=workers, step=STEP)):
        if isinstance(outcome, Kept):
            write_json(places[job.id] / "source.json", {"file": _fingerprint(by_key[job.id].path)})
            said = f"{outcome.value['figures']} figures"
        else:
            done.dropped.append(outcome)
            said = f"set aside: {outcome.reason}"
        if report is not None:
            report(done.before + n + 1, done.before + len(todo), job.id, said)


@contextmanager
def _packages(work: Path) -> Iterator[Path]:
    """A folder for what packages hold; what a killed run left there is removed first."""
    for old in work.glob("packages-*"):
        shutil.rmtree(old, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix="packages-", dir=work))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _opened_packages(units: Sequence[Unit], scratch: Path, done: Read) -> Iterator[Unit]:
    """The same units, with packages in place of which stand the articles that they hold."""
    for unit in units:
        if unit.kind != "package":
            yield unit
            continue
        folder = scratch / unit.key
        folder.mkdir()
        try:
            done.dropped += unpacked(unit.path, folder, unit.key)
            inner, dropped = find_units([folder])
        except EosinError as exc:
            reason = "package without an article" if exc.message.startswith("There is no document") else exc.message
            done.dropped.append(Dropped(unit.key, reason, exc.found or "", STEP))
            continue
        done.dropped += [Dropped(f"{unit.key}/{d.id}", d.reason, d.detail, d.step) for d in dropped]
        for found in inner:
            if found.kind == "package":
                done.dropped.append(Dropped(f"{unit.key}/{found.key}", "package in a package", "", STEP))
            else:
                yield Unit(_below(unit.key, found.key), found.path, found.kind)


def _below(key: str, inner: str) -> str:
    from eosin.core.store.names import file_name

    return file_name(f"{key}_{inner}")


def _is_read(place: Path, unit: Unit) -> bool:
    """Whether a document was read by an earlier run, and was not changed since."""
    if not (place / RECORD).is_file() or not (place / "source.json").is_file():
        return False
    try:
        return bool(read_object(place / "source.json").get("file") == _fingerprint(unit.path))
    except EosinError:
        return False


def _fingerprint(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _same_settings(work: Path, settings: ReadingSettings) -> None:
    told = as_kept(settings, ReadingSettings.model_fields)
    file = work / "settings.json"
    if not file.is_file():
        write_json(file, told)
        return
    held = read_object(file)
    if held != told:
        differing = [k for k in {**told, **held} if held.get(k) != told.get(k)]
        raise EosinError(
            "These documents were being read with other settings.",
            found=", ".join(f"{k}={held.get(k)}" for k in differing), where=work,
            next_step="give the settings of the first run, choose another --out, or remove this folder",
        )  # fmt: skip
