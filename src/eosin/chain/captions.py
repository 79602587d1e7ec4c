"""Pictures with captions for a run: of documents, which are read first, or as others hand them out."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Filtered
from eosin.core.settings.documents import CaptionsData, ChoosingSettings, DocumentsData, ReadingSettings
from eosin.sources import Card, Collection
from eosin.sources.captions.questions import with_questions
from eosin.sources.captions.read import read_captions


def read_pairs(settings: DocumentsData | CaptionsData, seed: int, work: Path | None) -> Collection:
    """Samples of pictures with captions, as closed questions too where the recipe asks for them.

    Args:
        work: where documents are read to; a run that was cut off goes on there. None: a folder that is removed again.
    """
    made = read_captions(settings) if isinstance(settings, CaptionsData) else _documents(settings, work)
    if settings.questions == "none":
        return made
    samples = with_questions(made.samples, settings.seed or seed)
    if not samples.kept:
        raise EosinError("No question could be made of these captions.", found=str(samples.reasons()), where="data",
                         next_step="set data.questions to none, or bring more pictures")  # fmt: skip
    return made.model_copy(update={"samples": samples, "card": made.card.counted(samples.kept)})


def _documents(settings: DocumentsData, work: Path | None) -> Collection:
    from eosin.documents.work.all import read_all
    from eosin.documents.work.artifact import Counted
    from eosin.documents.work.run import ask_second, check_second

    place = work or Path(tempfile.mkdtemp(prefix="eosin-documents-"))
    try:
        reading = ReadingSettings(**settings.model_dump(include=set(ReadingSettings.model_fields)))
        check_second(settings)
        paths = [Path(p).expanduser() for p in (settings.path, *settings.also)]
        read = read_all(paths, place, reading, workers=settings.workers, timeout_s=settings.timeout_s)
        ask_second(read, settings)
        choosing = ChoosingSettings(**settings.model_dump(include=set(ChoosingSettings.model_fields)))
        counted = Counted(read, choosing)
        kept = tuple(counted)
    finally:
        if work is None:
            shutil.rmtree(place, ignore_errors=True)
    if not kept:
        raise EosinError("No figure of these documents could be used.", where=settings.path,
                         found=str(counted.summary()["drop_reasons"]), next_step="see docs/documents.md")  # fmt: skip
    card = Card.model_validate(counted.card()).counted(kept)
    return Collection(card=card, samples=Filtered(kept, tuple(counted.dropped)))
