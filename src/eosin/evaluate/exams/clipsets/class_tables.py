"""Sets with a table of tiles: SICAPv2 (prostate, a spreadsheet) and SkinCancer (a csv)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.core.formats.cells import first_sheet
from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.clipsets.class_folders import five_set_mean
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import rows_of

_GRADES = {
    "NC": "non-cancerous prostate tissue", "G3": "Gleason pattern 3", "G4": "Gleason pattern 4",
    "G5": "Gleason pattern 5",
}  # fmt: skip
_SICAP_FILES = {"test": "Test.xlsx", "train": "Train.xlsx"}
_SKIN = {
    "nontumor_skin_necrosis_necrosis": "necrosis", "nontumor_skin_muscle_skeletal": "skeletal muscle",
    "nontumor_skin_sweatglands_sweatglands": "eccrine sweat glands", "nontumor_skin_vessel_vessel": "vessels",
    "nontumor_skin_elastosis_elastosis": "elastosis", "nontumor_skin_chondraltissue_chondraltissue": "chondral tissue",
    "nontumor_skin_hairfollicle_hairfollicle": "hair follicle", "nontumor_skin_epidermis_epidermis": "epidermis",
    "nontumor_skin_nerves_nerves": "nerves", "nontumor_skin_subcutis_subcutis": "subcutis",
    "nontumor_skin_dermis_dermis": "dermis", "nontumor_skin_sebaceousglands_sebaceousglands": "sebaceous glands",
    "tumor_skin_epithelial_sqcc": "squamous cell carcinoma", "tumor_skin_melanoma_melanoma": "melanoma",
    "tumor_skin_epithelial_bcc": "basal cell carcinoma", "tumor_skin_naevus_naevus": "naevus",
}  # fmt: skip
_SKIN_SETS = {"test": "test", "validation": "validation", "train": "train"}

SICAP_CARD = ExamCard(
    name="sicapv2",
    title="SICAPv2: Gleason patterns of prostate biopsies",
    kind="closed",
    domain="H&E tiles, 512 px at 10x",
    homepage="https://data.mendeley.com/datasets/9xxm58dvs3",
    version="2",
    citation="Silva-Rodriguez et al., Computer Methods and Programs in Biomedicine 195, 105637 (2020)",
    get=("Fetch SICAPv2.zip of the homepage and unpack it; ROOT is the folder SICAPv2, or one above it.",),
    layout="ROOT/partition/Test/Test.xlsx and Train.xlsx with columns image_name, NC, G3, G4, G5 (1 for the tile's "
    "own); pictures in ROOT/images",
    layout_source="public readers of it",
    counts={"": {"test": 2122, "train": 9959}},
    counts_source="CONCH (Lu et al., Nature Medicine 2024), which takes the official split",
    split_rule="Official partition Test: its slides are not in Train.",
    split_unit="slide",
    faults=(
        "The column G4C (cribriform pattern 4) is not asked: its tiles are G4.",
        "Public readers word the classes as textures (atrophic dense glands for G3, and so on); words move zero-shot "
        "figures by many points. Give yours with --prompts.",
        "The slide is the first part of a tile's name; which slides are of one patient stands in another table and is "
        "not read: intervals are by slide.",
    ),
    figures=(five_set_mean(),),
)  # fmt: skip

SKIN_CARD = ExamCard(
    name="skincancer",
    title="SkinCancer: sixteen tissues and tumours of skin",
    kind="closed",
    domain="H&E tiles, 395 px",
    homepage="https://doi.org/10.11588/data/7QCR8S",
    version="2",
    citation="Kriegsmann et al., Frontiers in Oncology 12, 1022967 (2022)",
    get=("Fetch data.zip of the homepage and unpack it; ROOT is the folder data, or one above it.",),
    layout="ROOT/tiles-v2.csv (or ROOT/data/tiles-v2.csv) with columns file, class and set (Train, Validation, Test); "
    "pictures where `file` says, below the folder of the table or the one above it",
    layout_source="public readers of it",
    split_rule="The column `set`.",
    split_unit="unknown",
    faults=(
        "Which tiles are of one patient is not read here: intervals treat tiles as independent, and are too narrow.",
        "Twelve of the classes are normal tissues: accuracy says little about tumours. The subset `tumour` is the four "
        "tumours alone.",
    ),
)  # fmt: skip


def spreadsheet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and row of the first sheet of an xlsx file.

    Raises:
        EosinError: it cannot be read.
    """
    need("openpyxl", "exams")
    try:
        table = first_sheet(path)
    except Exception as exc:  # damaged archives fail in many ways
        raise EosinError("This spreadsheet cannot be read.", found=type(exc).__name__, where=path) from None
    header = [str(c).strip() for c in table[0]] if table else []
    for number, cells in enumerate(table[1:], 2):
        yield f"{path.name}:{number}", dict(zip(header, cells, strict=False))


def read_sicap(asked: Asked) -> Iterator[Draft | Dropped]:
    """Tiles of the official partition, each with the one grade that its row marks."""
    place = Place(asked.folder(), folders=("images", "SICAPv2/images"), archives=())
    name = _SICAP_FILES[asked.split]
    table = place.need("official partition", f"partition/Test/{name}", f"SICAPv2/partition/Test/{name}")
    for at, row in spreadsheet(table):
        picture = str(row.get("image_name") or "").strip()
        marked = [grade for grade in _GRADES if _is_one(row.get(grade))]
        if not picture:
            yield Dropped(at, "row without a picture's name", str(row)[:120], STEP)
        elif len(marked) != 1:
            yield Dropped(f"sicapv2/{picture}", "not one grade", ", ".join(marked) or "none", STEP)
        else:
            yield Draft(
                id=f"sicapv2/{picture.rsplit('.', 1)[0]}", question="Which pattern does this tile of a prostate show?",
                options=tuple(_GRADES.values()), answer=_GRADES[marked[0]], pictures=(partial(place.picture, picture),),
                origin={"source": "sicapv2", "organ": "prostate", "stain": "H&E", "slide": picture.split("_")[0]},
                more={"label": _GRADES[marked[0]]},
            )  # fmt: skip


def _is_one(cell: Any) -> bool:
    try:
        return float(cell) == 1
    except (TypeError, ValueError):
        return False


def read_skin(asked: Asked) -> Iterator[Draft | Dropped]:
    """Tiles of a split by the csv; with the subset tumour those of the four tumours."""
    place = Place(asked.folder(), folders=("", "data"), archives=())
    classes = {k: v for k, v in _SKIN.items() if asked.subset != "tumour" or k.startswith("tumor_")}
    for at, row in rows_of(place.need("table of tiles", "tiles-v2.csv", "data/tiles-v2.csv")):
        if isinstance(row, Dropped):
            yield row
        elif str(row.get("set") or "").strip().casefold() == _SKIN_SETS[asked.split]:
            draft = _skin(place, at, row, classes)
            if draft is not None:
                yield draft


def _skin(place: Place, at: str, row: Mapping[str, Any], classes: Mapping[str, str]) -> Draft | Dropped | None:
    file, name = (str(row.get(k) or "").strip().replace("\\", "/") for k in ("file", "class"))
    if not file:
        return Dropped(at, "row without a picture's name", str(row)[:120], STEP)
    if name not in _SKIN:
        return Dropped(f"skincancer/{file}", "unknown class", name[:120], STEP)
    if name not in classes:
        return None
    if not any(place.file(f"{folder}/{file}" if folder else file) for folder in place.folders):
        file = file.removeprefix("data/")  # ROOT is the folder data itself
    words = classes[name]
    return Draft(
        id=f"skincancer/{file.rsplit('.', 1)[0]}", question="What does this tile of skin show?",
        options=tuple(classes.values()), answer=words, pictures=(partial(place.picture, file),),
        origin={"source": "skincancer", "organ": "skin", "stain": "H&E", "licence": "unknown"},
        extra={"subset": "tumour" if name.startswith("tumor_") else "tissue"}, more={"label": words},
    )  # fmt: skip


SICAP_EXAM = Exam(SICAP_CARD, read_sicap, prompt="letter", splits=tuple(_SICAP_FILES))
SKIN_EXAM = Exam(SKIN_CARD, read_skin, prompt="letter", subsets=("tumour",), splits=tuple(_SKIN_SETS))
