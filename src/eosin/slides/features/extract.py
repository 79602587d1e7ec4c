"""One slide after the other: read in children, encoded and written here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from eosin import __version__
from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.slides.batch.progress import Progress
from eosin.slides.encoders.encoder import MPP_TOLERANCE, Encoder, MakeEncoder, check_mpp
from eosin.slides.features import h5
from eosin.slides.features.pipeline import (
    STEP,
    Batch,
    Event,
    Job,
    SlideEnd,
    SlideStart,
    TileLoader,
    batched,
    encode_batch,
)
from eosin.slides.features.plan import Done, Plan
from eosin.slides.untrusted import clean

DEAD_ENCODER = 3  # so many slides in a row without one encoded tile: the encoder is at fault, not the slides


def read_slide(job: Job, plan: Plan) -> Iterator[SlideStart | Batch]:
    """Open a slide, find its tissue, cut it, and give its tiles in batches.

    Raises:
        EosinError: the slide cannot be used; the message is the reason.
    """
    from eosin.slides.open.slide import open_slide
    from eosin.slides.tiles.grid import TileGrid, sample_uniform, tile_grid
    from eosin.slides.tiles.reading import read_tiles
    from eosin.slides.tiles.tiles import FLAGS
    from eosin.slides.tissue.segmentation import tissue_mask

    chosen = plan.settings
    with open_slide(
        job.path, mpp=chosen.slide_mpp, icc=chosen.icc, reader=chosen.reader, grey=chosen.grey, depth16=chosen.depth16
    ) as slide:
        if slide.mpp > plan.mpp * (1 + MPP_TOLERANCE):
            raise EosinError("slide coarser than the encoder needs", found=f"{slide.mpp:g} um a pixel")
        grid = TileGrid(
            tile_px=plan.record.tile_px, mpp=plan.mpp, overlap=chosen.overlap, min_tissue=chosen.min_tissue,
            edge=chosen.edge,
        )  # fmt: skip
        tiles = tile_grid(slide, tissue_mask(slide, chosen.tissue), grid)
        check_mpp(plan.record, tiles.mpp)
        unwanted = sum(FLAGS[name] for name in set(chosen.skip_flags))
        tiles = tiles.take(np.flatnonzero((tiles.flags & unwanted) == 0))
        if chosen.max_tiles is not None:
            tiles = sample_uniform(tiles, chosen.max_tiles, chosen.seed)
        if not len(tiles):
            raise EosinError("no tissue found", found=f"no tile with {chosen.min_tissue:.0%} tissue")
        facts = {
            "coords": tiles.coords_level0, "tissue_fraction": tiles.tissue, "flags": tiles.flags,
            "geometry": h5.TileGeometry(plan.record.tile_px, tiles.side_level0, tiles.mpp, slide.mpp,
                              round(plan.record.tile_px * chosen.overlap)),
            "size_px": slide.size_px,
        }  # fmt: skip
        yield SlideStart(len(tiles), facts)
        yield from batched(read_tiles(slide, tiles, workers=chosen.workers), chosen.batch_size)


# ---- encoding and writing ------------------------------------------------------------------------------------------


class _Open:
    """The file of one slide while it is written."""

    def __init__(self, job: Job, begin: SlideStart, plan: Plan) -> None:
        self.job, self.plan, self.begin = job, plan, begin
        self.failed: list[tuple[tuple[int, int], str]] = []
        self.started = time.perf_counter()
        self._stack = contextlib.ExitStack()
        file = self._stack.enter_context(h5.whole_file(plan.features(job.name)))
        self._writer = h5.BagWriter(file, plan.record.dim, plan.settings.store)
        self.num_done = 0

    def add(self, batch: Batch, encoder: Encoder) -> None:
        """Encode and write one batch."""
        index, features, lost = encode_batch(encoder, batch)
        facts = self.begin.facts
        self._writer.add(
            features, facts["coords"][index], tissue_fraction=facts["tissue_fraction"][index],
            flags=facts["flags"][index],
        )  # fmt: skip
        for i, reason in sorted([*batch.failed, *lost]):
            x, y = facts["coords"][i]
            self.failed.append(((int(x), int(y)), reason))
        self.num_done += len(index)

    def finish(self) -> Done | Dropped:
        """Write what is left; the file appears. A slide without one encoded tile is dropped."""
        if not self.num_done:
            self.abandon()
            why = self.failed[0][1] if self.failed else ""
            return Dropped(self.job.name, "no tile could be used", f"{len(self.failed)} failed; first: {why}", STEP)
        plan, facts, name = self.plan, self.begin.facts, self.job.name
        geometry: h5.TileGeometry = facts["geometry"]
        width, height = facts["size_px"]
        about = h5.trident_attributes(geometry, name, plan.folder.name) | {
            "mpp": geometry.mpp, "level0_mpp": geometry.level0_mpp, "level0_width": width, "level0_height": height,
        }  # fmt: skip
        record = plan.record
        own = {
            "name": name, "savetodir": f"features_{record.trident_name}", "encoder": record.name,
            "encoder_record": record.model_dump_json(), "made_by": f"eosin {__version__}",
            "source": clean(self.job.path.name), "source_bytes": size_of(self.job.path),
        }  # fmt: skip
        self._writer.close(about, own, self.failed)
        # The features come last: they are the mark that the slide is done.
        h5.write_patches(h5.patches_file(plan.folder, name), facts["coords"], geometry, name)
        with self._stack:
            pass
        seconds = time.perf_counter() - self.started
        return Done(name, self.job.path, plan.features(name), self.num_done, tuple(self.failed), seconds)

    def abandon(self) -> None:
        """Leave nothing behind. What the disk had to say was said before."""
        with contextlib.suppress(_Abandoned, EosinError), self._stack:
            raise _Abandoned


class _Abandoned(Exception):  # noqa: N818
    """A file that shall not appear."""


def size_of(path: Path) -> int:
    """Bytes of a file; of all files of a folder."""
    try:
        return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        return -1


def encode_slides(
    jobs: Sequence[Job], plan: Plan, make_encoder: MakeEncoder, progress: Progress | None = None
) -> Iterator[Done | Dropped]:
    """Read, encode and write slides in this process and its reading children; yields each as it ends."""
    if not jobs:
        return
    encoder = make_encoder()
    opened: dict[str, _Open] = {}
    dead = 0
    with TileLoader(jobs, read_slide, plan, plan.settings.limits) as loader:
        try:
            for job, event in loader:
                outcome = _handle(job, event, plan, encoder, opened, progress)
                if outcome is None:
                    continue
                unusable = isinstance(outcome, Dropped) and "not encoded" in outcome.detail
                dead = dead + 1 if unusable else 0
                if dead == DEAD_ENCODER and isinstance(outcome, Dropped):
                    raise EosinError(
                        f"The encoder {plan.record.name} fails on every slide.", found=outcome.detail, where=job.path
                    )
                yield outcome
        finally:
            for one in opened.values():
                one.abandon()


def _handle(
    job: Job, event: Event, plan: Plan, encoder: Encoder, opened: dict[str, _Open], progress: Progress | None
) -> Done | Dropped | None:
    """Do what an event asks for; returns the outcome that ends a slide."""
    if isinstance(event, SlideStart):
        opened[job.name] = _Open(job, event, plan)
        if progress is not None:
            progress.begun(job.name, event.num_tiles)
    elif isinstance(event, Batch):
        opened[job.name].add(event, encoder)
        if progress is not None:
            progress.advanced(job.name, len(event.index) + len(event.failed))
    elif isinstance(event, SlideEnd):
        return opened.pop(job.name).finish()
    else:
        if job.name in opened:
            opened.pop(job.name).abandon()
        return event
    return None
