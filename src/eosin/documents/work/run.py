"""From documents to the artifact: what the verb and a recipe call."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.settings.documents import ChoosingSettings, DocumentsData, ReadingSettings, as_kept
from eosin.core.store import artifacts as store
from eosin.core.store.lock import lock_beside, locked
from eosin.documents.work.all import Read, Report, read_all
from eosin.documents.work.artifact import write_artifact


def make_documents(
    paths: Sequence[Path], out: Path, settings: DocumentsData, report: Report | None = None
) -> tuple[store.Artifact, Read | None]:
    """Read documents and write the samples artifact `out`. Killed anywhere, the same call goes on.

    Returns:
        The artifact, and what became of the documents; None where the artifact was whole already.

    Raises:
        EosinError: no document, none that could be read, or something else stands at `out`.
    """
    asked = _asked(paths, settings)
    with locked(lock_beside(out)):
        if store.exists(out):
            made = store.open_artifact(out, "samples")
            if made.manifest["record"].get("documents") == asked:
                return made, None
        if out.exists():
            raise EosinError("There is something at this place already, and Eosin never overwrites.", where=out,
                             next_step="choose another --out, or move the old folder away")  # fmt: skip
        work = out.with_name(f".{out.name}.work")
        reading = ReadingSettings(**settings.model_dump(include=set(ReadingSettings.model_fields)))
        read = read_all(
            paths, work, reading, workers=settings.workers, timeout_s=settings.timeout_s, report=report
        )  # fmt: skip
        ask_second(read, settings)
        choosing = ChoosingSettings(**settings.model_dump(include=set(ChoosingSettings.model_fields)))
        made = write_artifact(read, out, choosing, asked)
        shutil.rmtree(work, ignore_errors=True)
    return made, read


def ask_second(read: Read, settings: DocumentsData) -> None:
    """Let the second reader read every figure, where the user names one; what it has read is not asked again."""
    if settings.second_url is None:
        return
    from eosin.clients.chat import ChatClient
    from eosin.clients.settings import ServerSettings
    from eosin.documents.second.reader import read_again

    client = ChatClient(ServerSettings(settings.second_url, settings.second_model))
    for folder in read.folders:
        read_again(folder, client, refine=settings.second_refines)


def _asked(paths: Sequence[Path], settings: DocumentsData) -> dict[str, Any]:
    kept = set(DocumentsData.model_fields) - {"path", "also", "workers", "timeout_s"}
    return {"paths": [str(p) for p in paths], "settings": as_kept(settings, kept)}
