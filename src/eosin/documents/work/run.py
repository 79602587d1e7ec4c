"""From documents to the artifact: what the verb and a recipe call."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosin.core.errors import EosinError
from eosin.core.formats.stream.scan import mark_of
from eosin.core.settings.documents import ChoosingSettings, DocumentsData, ReadingSettings, as_kept
from eosin.core.store import artifacts as store
from eosin.core.store.lock import lock_beside, locked
from eosin.documents.work.all import Read, Report, read_all
from eosin.documents.work.artifact import write_artifact
from eosin.documents.work.find import find_units

if TYPE_CHECKING:
    from eosin.clients.chat import ChatClient


def make_documents(
    paths: Sequence[Path], out: Path, settings: DocumentsData, report: Report | None = None
) -> tuple[store.Artifact, Read | None]:
    """Read documents and write the samples artifact `out`. Killed anywhere, the same call goes on.

    Returns:
        The artifact, and what became of the documents; None where the artifact was whole already.

    Raises:
        EosinError: no document, none that could be read, something else stands at `out`, the documents were changed
            since they were read, or the second reader's server does not answer.
    """
    asked = _asked(paths, settings)
    with locked(lock_beside(out)):
        if store.exists(out):
            made = store.open_artifact(out, "samples")
            held = dict(made.manifest["record"].get("documents") or {})
            files = held.pop("files", None)
            if held == asked:
                _same_files(paths, files, out)
                return made, None
        if out.exists():
            raise EosinError("There is something at this place already, and Eosin never overwrites.", where=out,
                             next_step="choose another --out, or move the old folder away")  # fmt: skip
        work = out.with_name(f".{out.name}.work")
        check_second(settings)
        files = files_of(paths)
        reading = ReadingSettings(**settings.model_dump(include=set(ReadingSettings.model_fields)))
        read = read_all(
            paths, work, reading, workers=settings.workers, timeout_s=settings.timeout_s, report=report
        )  # fmt: skip
        ask_second(read, settings, report)
        choosing = ChoosingSettings(**settings.model_dump(include=set(ChoosingSettings.model_fields)))
        made = write_artifact(read, out, choosing, asked | {"files": files})
        shutil.rmtree(work, ignore_errors=True)
    return made, read


def ask_second(read: Read, settings: DocumentsData, report: Report | None = None) -> None:
    """Let the second reader read every figure, where the user names one; what it has read is not asked again.

    Raises:
        EosinError: its server does not answer; what it has read is kept, and the same command goes on.
    """
    client = _second_reader(settings)
    if client is None:
        return
    from eosin.documents.second.reader import read_again

    for n, folder in enumerate(read.folders, 1):
        asked = read_again(folder, client, refine=settings.second_refines)
        if asked and report is not None:
            report(n, len(read.folders), folder.name, f"{asked} figures read again")


def check_second(settings: DocumentsData) -> None:
    """Refuse a second reader whose server does not answer, before any document is read.

    Raises:
        EosinError: with the reason.
    """
    client = _second_reader(settings)
    if client is not None:
        from eosin.documents.second.reader import refuse_silent

        refuse_silent(client)


def _second_reader(settings: DocumentsData) -> ChatClient | None:
    if settings.second_url is None:
        return None
    from eosin.clients.chat import ChatClient
    from eosin.clients.settings import ServerSettings

    return ChatClient(ServerSettings(settings.second_url, settings.second_model))


def files_of(paths: Sequence[Path]) -> dict[str, Any]:
    """How many documents there are, and a digest of their names, sizes and ends."""
    units, _ = find_units(paths)
    marks = "\n".join(f"{u.key} {mark_of(u.path)}" for u in units)
    return {"count": len(units), "digest": hashlib.sha256(marks.encode("utf-8", "surrogateescape")).hexdigest()}


def _same_files(paths: Sequence[Path], held: dict[str, Any] | None, out: Path) -> None:
    """Refuse to call documents read that were changed, or came, since. Those that are gone were read, and are."""
    try:
        now = files_of(paths)
    except (EosinError, OSError):
        return
    if held is not None and now != held:
        raise EosinError(
            "These documents are not the ones that were read: some came, went or were changed since.", where=out,
            expected=f"{held['count']} documents as they were", found=f"{now['count']} documents",
            next_step="choose another --out, or move the old folder away",
        )  # fmt: skip


def _asked(paths: Sequence[Path], settings: DocumentsData) -> dict[str, Any]:
    kept = set(DocumentsData.model_fields) - {"path", "also", "workers", "timeout_s"}
    return {"paths": [str(p) for p in paths], "settings": as_kept(settings, kept)}
