"""ARCH: pictures of pathology books and articles with their captions, for retrieval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import read_json

_SETS = {"books": "books_set", "pubmed": "pubmed_set"}
_KINDS = (".png", ".jpg", ".jpeg")
_PAPER = "Patho-R1 (arXiv 2505.11404), see docs/patho-clip.md"

CARD = ExamCard(
    name="arch",
    title="ARCH: pictures of pathology books and articles with captions",
    kind="open",
    domain="histology and immunohistochemistry of books and articles",
    homepage="https://warwick.ac.uk/fac/cross_fac/tia/data/arch",
    version="2021",
    licence="CC-BY-NC-SA-4.0",
    citation="Gamper and Rajpoot, Multiple Instance Captioning, CVPR 2021",
    get=("Fetch books_set.zip and pubmed_set.zip of the homepage and unpack them in ROOT.",),
    layout="ROOT/books_set/captions.json and ROOT/pubmed_set/captions.json: {number: {uuid, caption, and in books "
    "figure_id and letter}}; pictures at images/UUID.png or .jpg beside them",
    layout_source="public readers of it",
    split_rule="One evaluation set here. Panels of one figure share its figure_id and are one cluster.",
    split_unit="figure",
    faults=(
        "Captions of one figure name several panels: a caption may be right for more pictures than its own, and counts "
        "for its own alone.",
        "Files whose pictures are missing are set aside and counted.",
    ),
    overlaps=("PathMMU's Atlas is made of ARCH; its books and articles are in the training sets of several models.",),
    figures=(
        Figure(model="Patho-CLIP-L", value=62.28, on="mean recall", metric="recall %", source=_PAPER),
        Figure(model="CONCH", value=50.71, on="mean recall", metric="recall %", source=_PAPER),
    ),
)  # fmt: skip


def read_arch(asked: Asked) -> Iterator[Draft | Dropped]:
    """Pictures with captions of the sets that are there; with a subset named, of that one."""
    wanted = list(_SETS) if asked.subset == ALL else [asked.subset]
    found = 0
    for subset in wanted:
        place = Place(asked.folder(), folders=(f"{_SETS[subset]}/images", f"{_SETS[subset]}"), archives=())
        path = place.file(f"{_SETS[subset]}/captions.json")
        if path is None:
            continue
        found += 1
        rows = read_json(path)
        for number, row in (rows if isinstance(rows, dict) else {}).items():
            yield _draft(place, subset, str(number), row)
    if not found:
        raise EosinError("This folder holds no captions of ARCH.", expected="books_set/captions.json",
                         where=asked.root, next_step="eosin exams show arch")  # fmt: skip


def _draft(place: Place, subset: str, number: str, row: Any) -> Draft | Dropped:
    own = f"arch/{subset}/{number}"
    if not isinstance(row, Mapping) or not str(row.get("uuid") or "").strip():
        return Dropped(own, "row without a picture's name", str(row)[:120], STEP)
    caption = " ".join(str(row.get("caption") or "").split())
    if not caption:
        return Dropped(own, "no caption", str(row["uuid"])[:120], STEP)
    figure = str(row.get("figure_id") or row["uuid"])
    return Draft(
        id=own, question="Describe what this picture shows.", answer=caption,
        pictures=(partial(_picture, place, str(row["uuid"])),),
        origin={"source": f"arch-{subset}", "licence": "CC-BY-NC-SA-4.0", "case": figure},
        extra={"subset": subset, "letter": row.get("letter")}, more={"caption": caption},
    )  # fmt: skip


def _picture(place: Place, uuid: str) -> Any:
    """The file of a picture, whose suffix the table does not say."""
    for suffix in _KINDS[:-1]:
        if any(place.file(f"{folder}/{uuid}{suffix}") for folder in place.folders):
            return place.picture(f"{uuid}{suffix}")
    return place.picture(f"{uuid}{_KINDS[-1]}")


EXAM = Exam(CARD, read_arch, prompt="report", scorer="report", subsets=tuple(_SETS))
