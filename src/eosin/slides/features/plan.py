"""What features are made of: the settings, the plan of a run, and what becomes of a slide."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from eosin.core.nouns.outcome import Dropped
from eosin.slides.encoders.encoder import EncoderRecord
from eosin.slides.features import h5
from eosin.slides.features.pipeline import Limits
from eosin.slides.open.colours import Depth
from eosin.slides.tissue.segmentation import TissueSettings


class FeatureSettings(BaseModel):
    """How features are made.

    Attributes:
        encoder: name of an encoder. weights: a local file or folder instead of the hub. revision: on the hub.
        mpp: microns per pixel of the tiles; None: what the encoder was trained for. Another value is refused.
        overlap: share of the side that neighbours have in common. min_tissue: smallest share of tissue.
        edge: inside, or pad. skip_flags: tiles with one of these flags are left out (pen, bubble, border, outside).
        max_tiles: at most so many tiles a slide, drawn at random with `seed`.
        tissue: how tissue is found.
        slide_mpp: scale of level 0, where the files do not state it. icc, reader, grey, depth16: as in open_slide.
        store: float32, or float16 for half the disk.
        device: cpu, cuda, ...; None: the GPU if there is one. batch_size: tiles at a time.
        readers, workers, prefetch: reading processes, threads in each, batches that wait.
        timeout_s, stall_s: time of a slide to be read, and without any tile.
        engine: local, or ray. cluster_*: address of a running Ray (None: start one here), and what a worker takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "colour-texture"
    weights: str | None = None
    revision: str | None = None
    mpp: float | None = Field(default=None, gt=0, lt=1000)
    overlap: float = Field(default=0.0, ge=0, lt=1)
    min_tissue: float = Field(default=0.25, ge=0, le=1)
    edge: Literal["inside", "pad"] = "inside"
    skip_flags: tuple[Literal["pen", "bubble", "border", "outside"], ...] = ()
    max_tiles: int | None = Field(default=None, ge=1)
    seed: int = 0
    tissue: TissueSettings = TissueSettings()
    slide_mpp: float | None = Field(default=None, gt=0, lt=1000)
    icc: bool = False
    reader: Literal["openslide", "tifffile", "wsidicom", "image"] | None = None
    grey: bool = False
    depth16: Depth | None = None
    store: Literal["float32", "float16"] = "float32"
    device: str | None = None
    batch_size: int = Field(default=64, ge=1)
    readers: int = Field(default=2, ge=0, le=64)
    workers: int | None = Field(default=None, ge=1)
    prefetch: int = Field(default=4, ge=1)
    timeout_s: float = Field(default=3600.0, gt=0)
    stall_s: float = Field(default=300.0, gt=0)
    engine: Literal["local", "ray"] = "local"
    cluster_address: str | None = None
    cluster_workers: int | None = Field(default=None, ge=1)
    cluster_cpus: float = Field(default=1.0, ge=0)
    cluster_gpus: float = Field(default=0.0, ge=0)

    @property
    def limits(self) -> Limits:
        """The bounds of the pipeline."""
        return Limits(self.readers, self.prefetch, self.timeout_s, self.stall_s)


# Settings that cannot change what is in a file.
_NOT_IN_FILES = {
    "device", "batch_size", "readers", "workers", "prefetch", "timeout_s", "stall_s",
    "engine", "cluster_address", "cluster_workers", "cluster_cpus", "cluster_gpus",
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """All that a slide's file depends on, and where the files stand. It can be sent to another process."""

    settings: FeatureSettings
    record: EncoderRecord
    mpp: float
    folder: Path

    def features(self, name: str) -> Path:
        """Where the features of a slide stand."""
        return h5.features_file(self.folder, self.record.trident_name, name)

    def side_file(self, kind: str, suffix: str) -> Path:
        """A table or setting beside the features: FOLDER/eosin_KIND_ENCODER.SUFFIX."""
        return self.folder / f"eosin_{kind}_{self.record.trident_name}{suffix}"

    def in_files(self) -> dict[str, Any]:
        """What a file depends on, as JSON values."""
        # Settings that are newer than files on disk stand there only where they were asked for.
        newer = {k for k in ("grey", "depth16") if not getattr(self.settings, k)}
        chosen = self.settings.model_dump(mode="json", exclude=_NOT_IN_FILES | newer)
        return {"encoder_record": self.record.model_dump(mode="json"), "tile_mpp": self.mpp, "settings": chosen}


@dataclass(frozen=True)
class Done:
    """A slide with features.

    Attributes:
        failed: corner and reason of every tile that has none.
        resumed: the file was there already.
    """

    name: str
    path: Path
    file: Path
    num_tiles: int
    failed: tuple[tuple[tuple[int, int], str], ...] = ()
    seconds: float = 0.0
    resumed: bool = False


@dataclass(frozen=True)
class Summary:
    """What `run` did. `num_in` is the sum of done, resumed and dropped."""

    done: tuple[Done, ...]
    dropped: tuple[Dropped, ...]
    folder: Path
    seconds: float
    tables: tuple[Path, ...] = field(default=())

    @property
    def num_in(self) -> int:
        return len(self.done) + len(self.dropped)

    @property
    def num_tiles(self) -> int:
        """Tiles encoded in this run."""
        return sum(d.num_tiles for d in self.done if not d.resumed)
