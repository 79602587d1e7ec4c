"""PCam: tiles of lymph nodes with and without metastasis, in HDF5 files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.formats.rows import BadRowError
from eosin.core.images import encode_png
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import ImageBytes
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import rows_of
from eosin.slides.features.h5_read import numbers_of, opened

_CLASSES = ("lymph node without metastasis", "lymph node metastasis")
_BLOCK = 256
_NAME = "camelyonpatch_level_2_split_{split}_{part}"

CARD = ExamCard(
    name="pcam",
    title="PCam: metastasis in tiles of lymph nodes",
    kind="closed",
    domain="H&E tiles, 96 px at some 1 um/px",
    homepage="https://doi.org/10.5281/zenodo.2546921",
    version="2019",
    licence="CC0-1.0",
    citation="Veeling et al., arXiv 1806.03962; slides of CAMELYON16",
    get=(
        "Fetch camelyonpatch_level_2_split_test_x.h5.gz, _y.h5.gz and _meta.csv of the homepage into ROOT.",
        "gunzip the h5 files.",
    ),
    layout="ROOT/camelyonpatch_level_2_split_{test, valid, train}_x.h5 with x uint8 (N, 96, 96, 3), _y.h5 with y "
    "(N, 1, 1, 1), and _meta.csv with the column wsi, a row a tile",
    layout_source="public readers of it",
    counts={"": {"test": 32_768, "valid": 32_768, "train": 262_144}},
    counts_source="README of basveeling/pcam",
    split_rule="Splits of CAMELYON16: no slide stands in two of them.",
    split_unit="slide",
    faults=(
        "A tile is positive where its middle 32 x 32 px hold tumour; what lies around them does not count.",
        "Without _meta.csv the slides are unknown, and intervals treat tiles as independent.",
        "The _x files of validation and test were replaced in 2019: figures before may differ.",
    ),
    overlaps=("CAMELYON16's slides are in the training sets of several patch encoders.",),
)  # fmt: skip


class _Tiles:
    """Tiles of a file, read in blocks: the rows that are asked follow each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = -1
        self._block: NDArray[np.uint8] | None = None

    def picture(self, row: int) -> ImageBytes:
        """Tile `row` as PNG."""
        start = row - row % _BLOCK
        if self._block is None or start != self._start:
            try:
                with opened(self.path) as file:
                    self._block = np.asarray(numbers_of(file, "x", self.path)[start : start + _BLOCK])
            except EosinError as exc:
                raise BadRowError("tile cannot be read", f"{row}: {exc.found}"[:200]) from None
            self._start = start
        return ImageBytes(data=encode_png(Image.fromarray(self._block[row - start])))


def read_pcam(asked: Asked) -> Iterator[Draft | Dropped]:
    """Tiles of a split in the order of the file."""
    place = Place(asked.folder(), folders=("",), archives=())
    pictures, labels, meta = (
        f"{_NAME.format(split=asked.split, part=part)}" for part in ("x.h5", "y.h5", "meta.csv")
    )  # fmt: skip
    tiles, told = place.need("tiles of this split", pictures), place.need("labels of this split", labels)
    with opened(tiles) as file:
        shape, kind = numbers_of(file, "x", tiles).shape, numbers_of(file, "x", tiles).dtype
    with opened(told) as file:
        gold = np.asarray(numbers_of(file, "y", told)[()]).reshape(-1)
    if len(shape) != 4 or shape[3] != 3 or kind != np.uint8 or len(gold) != shape[0]:
        raise EosinError(
            "Tiles and labels of PCam do not match.", expected="x uint8 (N, 96, 96, 3) and y (N, 1, 1, 1)",
            found=f"x {kind} {shape}, {len(gold)} labels", where=tiles,
        )  # fmt: skip
    slides, source = _slides(place.file(meta), shape[0]), _Tiles(tiles)
    for row, value in enumerate(gold.tolist()):
        own = f"pcam/{asked.split}/{row}"
        if value not in (0, 1):
            yield Dropped(own, "label is neither 0 nor 1", str(value)[:40], STEP)
            continue
        origin = {"source": "pcam", "organ": "lymph node", "stain": "H&E", "licence": "CC0-1.0"}
        yield Draft(
            id=own, question="Does the middle of this tile of a lymph node hold tumour?", options=_CLASSES,
            answer=_CLASSES[int(value)], pictures=(partial(source.picture, row),),
            origin=origin | ({"slide": slides[row]} if slides else {}), more={"label": _CLASSES[int(value)]},
        )  # fmt: skip


def _slides(path: Path | None, num: int) -> list[str]:
    """Slide of each tile, or none where the table is missing.

    Raises:
        EosinError: the table has another number of rows than there are tiles.
    """
    if path is None:
        return []
    found = ["" if isinstance(row, Dropped) else str(row.get("wsi") or "") for _, row in rows_of(path)]
    if len(found) != num:
        raise EosinError("The table of slides does not fit the tiles.", expected=f"{num} rows", found=str(len(found)),
                         where=path)  # fmt: skip
    return found


EXAM = Exam(CARD, read_pcam, prompt="letter", splits=("test", "valid", "train"))
