"""Data sets as samples: one file a source, each with a card."""

from __future__ import annotations

from eosin.core.settings.data import FolderData, TableData
from eosin.sources.card import Card, Collection
from eosin.sources.folder import read_folder
from eosin.sources.table import read_table

__all__ = ["Card", "Collection", "read_folder", "read_labelled", "read_table"]


def read_labelled(settings: FolderData | TableData) -> Collection:
    """Samples of a labelled folder or table."""
    return read_folder(settings) if isinstance(settings, FolderData) else read_table(settings)
