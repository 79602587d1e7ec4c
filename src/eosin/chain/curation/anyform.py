"""Samples of any form that a path may hold: what `core/formats` reads, and webdataset tars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eosin.core.formats import iter_samples
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.documents import CaptionsData
from eosin.core.store import artifacts as store
from eosin.core.store.names import file_name


def iter_any(path: Path, image_folders: tuple[str, ...] = ()) -> Iterator[Kept[Sample] | Dropped]:
    """Kept samples and Dropped rows in order.

    Raises:
        EosinError: nothing is there, or it cannot be read as a whole.
    """
    if path.suffix == ".tar" or (path.is_dir() and not store.exists(path) and any(path.glob("*.tar"))):
        from eosin.sources.captions.read import iter_captions

        settings = CaptionsData(path=str(path), name=file_name(path.stem), image_folders=list(image_folders))
        yield from iter_captions(path, settings)
        return
    yield from iter_samples(path, image_folders=image_folders)
