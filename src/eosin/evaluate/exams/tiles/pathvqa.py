"""PathVQA: questions made from textbook captions (arXiv 2003.10286); yes/no and free text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place, cell_picture
from eosin.evaluate.exams.reading.tables import need_split, rows_of

YES_NO = ("Yes", "No")
_SPLITS = {"test": ("test",), "validation": ("validation", "val"), "train": ("train",)}
_RERUN = "the authors' later rerun of PathVLM-R1, told in Eosin's notes (docs/papers.md)"
_CARD_OF_SET = "card of flaviagiammarino/path-vqa"

_COMMON: dict[str, Any] = {
    "domain": "textbook and library pictures: histology, gross, and others",
    "homepage": "https://huggingface.co/datasets/flaviagiammarino/path-vqa",
    "version": "data of February 2023, as on the hub",
    "licence": "MIT (questions); the pictures belong to publishers of two textbooks and to the PEIR library",
    "citation": "He et al., PathVQA, arXiv 2003.10286",
    "get": (
        "Fetch the folder `data` of the homepage: train-*, validation-* and test-*.parquet.",
        "Name its folder: --root DIR.",
    ),
    "layout": "ROOT/data/{train,validation,test}-*.parquet with image {bytes, path} (JPEG), question, answer; also a "
    "folder "
    "written by save_to_disk",
    "layout_source": _CARD_OF_SET,
    "split_rule": "By the authors, by picture; the hub's copy dropped exact duplicates of picture, question and "
    "answer.",
    "split_unit": "image",
    "overlaps": (
        "Its pictures stand in the textbooks that page-reading pipelines (Patho-R1, Quilt and others) are trained on.",
        "LLaVA-Med, PathVLM-R1 and many others report it after training on its train split.",
    ),
}

YES_NO_CARD = ExamCard(
    name="pathvqa-yesno", title="PathVQA, yes/no questions", kind="closed",
    faults=(
        "Questions are made by rules from captions; many can be answered from the words alone.",
        "Counts of the whole set: 19,654 train, 6,259 validation, 6,719 test, of both kinds together ("
        + _CARD_OF_SET + ").",
        "The parser matters: replies such as 'It does not ...' are a no to some readers and unreadable to others.",
    ),
    figures=(
        Figure(model="Qwen2.5-VL-7B-Instruct", value=66.4, on="yes/no, test", source=_RERUN),
        Figure(model="the same after full SFT on PathMMU", value=51.4, on="yes/no, test", source=_RERUN),
    ),
    **_COMMON,
)  # fmt: skip
OPEN_CARD = ExamCard(
    name="pathvqa-open", title="PathVQA, free-text questions", kind="open",
    faults=(
        "Answers are cut out of captions; several wordings of an answer are right, one is the gold.",
        "Exact match scores nearly every sentence 0; use token F1 or a judge beside it.",
    ),
    **_COMMON,
)  # fmt: skip


def read(asked: Asked, *, closed: bool) -> Iterator[Draft | Dropped]:
    """Rows of a split: those answered by yes or no, or the others."""
    place = Place(asked.folder(), folders=("", "images"), archives=())
    number = 0
    for path in need_split(place.root, _SPLITS[asked.split]):
        for at, row in rows_of(path):
            number += 1
            own = f"pathvqa/{asked.split}/{number}"
            if isinstance(row, Dropped):
                yield row
                continue
            answer = row.get("answer")
            if not isinstance(answer, str) or not answer.strip():
                yield Dropped(own, "no answer", at, STEP)
                continue
            if (answer.strip().casefold() in ("yes", "no")) != closed:
                continue
            yield Draft(
                id=own, question=str(row.get("question") or ""), options=YES_NO if closed else (),
                answer=answer.strip(),
                pictures=(partial(cell_picture, row.get("image"), place),),
                origin={"source": "pathvqa", "licence": "MIT"},
                extra={"subset": "yes/no" if closed else "free text", "exam_split": asked.split},
            )  # fmt: skip


YES_NO_EXAM = Exam(YES_NO_CARD, partial(read, closed=True), prompt="yes-no", splits=("test", "validation", "train"))
OPEN_EXAM = Exam(
    OPEN_CARD, partial(read, closed=False), prompt="short", scorer="text", splits=("test", "validation", "train")
)
