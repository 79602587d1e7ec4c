"""The source of a curation as a stream: samples a shard at a time; other sources as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from eosin.core.errors import EosinError
from eosin.core.formats import iter_samples, kind_of
from eosin.core.formats.parquet import open_parquet
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.settings.curation.sifting import Against
from eosin.core.settings.data import DataSettings, SamplesData
from eosin.core.store import artifacts as store
from eosin.curate.engine.run import About
from eosin.curate.steps.base import Context
from eosin.sources import Collection
from eosin.sources.files import kept_inside

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
Outcome = Kept[Sample] | Dropped
ReadCollection = Callable[[DataSettings, int, Path], Collection]


class Source:
    """What a recipe's `data` names. Samples are streamed; a source of another kind is read as a whole, and held.

    Args:
        read: of a source of another kind: its settings, the seed, and a folder where slides that it makes stand.
        slides: that folder; documents are read beside it.
    """

    def __init__(self, recipe: CurationRecipe, read: ReadCollection, slides: Path) -> None:
        self._recipe, self._read, self._slides = recipe, read, slides
        self._cards: tuple[dict[str, Any], ...] = ()
        self._warnings: tuple[str, ...] = ()

    def __call__(self) -> Iterator[Outcome]:
        data = self._recipe.data
        if isinstance(data, SamplesData):
            return self._samples(data)
        return self._collection()

    def about(self) -> About:
        """Cards and warnings, once the source was read."""
        return About(self._cards, self._warnings)

    @property
    def num_samples(self) -> int:
        """How many samples there are, where that can be told without reading them; else 0."""
        data = self._recipe.data
        if not isinstance(data, SamplesData):
            return 0
        return sum(_num_in(Path(p)) for p in (data.path, *data.also))

    def _samples(self, data: SamplesData) -> Iterator[Outcome]:
        found = False
        for place in (data.path, *data.also):
            path = Path(place).expanduser()
            base = path if path.is_dir() else path.parent
            for outcome in iter_samples(path, image_folders=data.image_folders):
                found = found or isinstance(outcome, Kept)
                if isinstance(outcome, Kept):
                    yield kept_inside(outcome.value, base, data.image_folders)
                else:
                    yield outcome
        if not found:
            raise EosinError("No sample could be read.", where=", ".join((data.path, *data.also)))

    def _collection(self) -> Iterator[Outcome]:
        made = self._read(self._recipe.data, self._recipe.seed, self._slides)
        self._cards = (made.card.model_dump(mode="json", exclude={"counts", "num_groups"}),)
        self._warnings = made.warnings
        yield from (Kept(s) for s in made.kept)
        yield from made.dropped


def _num_in(path: Path) -> int:
    kind = kind_of(path)
    if kind == "artifact":
        return sum(_num_in(p) for p in path.glob("*.parquet"))
    if kind not in ("parquet", "trl"):
        return 0
    with open_parquet(path) as file:
        return int(file.metadata.num_rows)


def read_against(against: Against) -> Iterator[Sample]:
    """Questions of a listed exam, or samples of any format, to be protected.

    Raises:
        EosinError: they cannot be read.
    """
    if against.path is not None:
        for outcome in iter_samples(Path(against.path).expanduser()):
            if isinstance(outcome, Kept):
                yield outcome.value
        return
    from eosin.chain.listed import part_of

    part = part_of(against.exam or "", Path(against.root) if against.root else None, None, 0)
    yield from part.read().kept


def context_of(recipe: CurationRecipe, tools: Mapping[str, Any] | None = None) -> Context:
    """What the steps of a recipe are given."""
    return Context(seed=recipe.seed, tools=dict(tools or {}), read_exam=read_against, report=console.print)


def is_samples(path: Path) -> bool:
    """Whether a whole samples artifact stands here."""
    return store.exists(path) and store.open_artifact(path).manifest.get("kind") == "samples"
