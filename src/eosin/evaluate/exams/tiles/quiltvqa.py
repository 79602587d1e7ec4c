"""Quilt-VQA: questions that lecturers asked in videos (arXiv 2312.04746); yes/no and open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place, cell_picture
from eosin.evaluate.exams.reading.tables import rows_of, split_files
from eosin.evaluate.exams.tiles.pathvqa import YES_NO

_NAMES = ("quilt_vqa.json", "quiltvqa_test_w_ans.json", "quiltvqa_test_w_ans.jsonl", "quilt_vqa.jsonl")
_FIRST = re.compile(r"\s*(yes|no)\b", re.IGNORECASE)

_COMMON: dict[str, Any] = {
    "domain": "frames of histology videos",
    "homepage": "https://huggingface.co/datasets/wisdomik/Quilt_VQA",
    "version": "release of December 2023",
    "licence": "CC-BY-NC-ND-3.0 (as its sister sets on the hub)",
    "citation": "Seyfioglu et al., Quilt-LLaVA, arXiv 2312.04746",
    "get": (
        "Ask for access on the homepage, then fetch the parquet files, or quilt_vqa.zip and the question file.",
        "Name the folder: --root DIR. quilt_vqa.zip may stay packed.",
    ),
    "layout": "ROOT/[data/]train-*.parquet with image {bytes, path}, question, answer, answer_type (OPEN, CLOSED), "
    "context; or "
    "ROOT/quilt_vqa.json with image names, yes_no_answer, and ROOT/quilt_vqa.zip",
    "layout_source": "public readers of the set; llava/eval/quilt_eval.py and docs/Evaluation.md of "
    "aldraus/quilt-llava",
    "counts_source": "1,283 questions on 985 pictures, both kinds together: lists of pathology sets that name it",
    "split_rule": "One evaluation set; on the hub it is called train. It is never for training.",
    "split_unit": "image",
    "overlaps": (
        "Its videos are those of Quilt-1M and Quilt-Instruct; models trained on those may have seen the frames.",
    ),
}
YES_NO_CARD = ExamCard(
    name="quiltvqa-yesno", title="Quilt-VQA, yes/no questions", kind="closed",
    faults=(
        "A closed answer is a sentence that begins with yes or no; where it does not, the row is set aside here, "
        "while the "
        "official script takes a field yes_no_answer that not every copy has.",
        "The official script scores in two ways: the gold word anywhere in the reply, or no if any of no/not is in "
        "it, else "
        "yes (reading preset quilt-llava).",
        "The official script cuts the reply to the length of another model's reply.",
    ),
    **_COMMON,
)  # fmt: skip
OPEN_CARD = ExamCard(
    name="quiltvqa-open", title="Quilt-VQA, open questions", kind="open",
    faults=("Gold answers are spoken sentences; exact match is nearly always 0. Patho-R1 grades it by a judge.",),
    **_COMMON,
)  # fmt: skip


def _rows(place: Place) -> Iterator[tuple[str, dict[str, Any] | Dropped]]:
    path = place.file(*_NAMES)
    paths = [path] if path is not None else split_files(place.root, ("train", "test"))
    if not paths:
        raise EosinError(
            "This folder holds no question file of Quilt-VQA.", expected="train-*.parquet, or " + ", ".join(_NAMES),
            where=place.root,
        )  # fmt: skip
    for one in paths:
        yield from rows_of(one)


def read(asked: Asked, *, closed: bool) -> Iterator[Draft | Dropped]:
    """Rows of one kind."""
    place = Place(asked.folder(), folders=("", "images", "quilt_vqa"), archives=("quilt_vqa.zip",))
    yield from place.refused()
    for number, (at, row) in enumerate(_rows(place), 1):
        own = f"quiltvqa/{number}"
        if isinstance(row, Dropped):
            yield row
            continue
        kind = str(row.get("answer_type") or "").strip().upper()
        if kind not in ("OPEN", "CLOSED"):
            yield Dropped(own, "neither open nor closed", f"{at}: answer_type {kind!r}", STEP)
            continue
        if (kind == "CLOSED") != closed:
            continue
        answer = _answer(row, closed)
        if answer is None:
            yield Dropped(own, "closed answer without yes or no" if closed else "no answer", at, STEP)
            continue
        yield Draft(
            id=own, question=str(row.get("question") or ""), options=YES_NO if closed else (), answer=answer,
            pictures=(partial(cell_picture, row.get("image"), place),),
            origin={"source": "quiltvqa", "licence": "CC-BY-NC-ND-3.0", "modality": "histology"},
            extra={"subset": kind.lower(), "context": row.get("context")},
        )  # fmt: skip


def _answer(row: Mapping[str, Any], closed: bool) -> str | None:
    answer = str(row.get("answer") or "").strip()
    if not closed:
        return answer or None
    told = _FIRST.match(str(row.get("yes_no_answer") or "")) or _FIRST.match(answer)
    return told.group(1).capitalize() if told else None


YES_NO_EXAM = Exam(YES_NO_CARD, partial(read, closed=True), prompt="yes-no")
OPEN_EXAM = Exam(OPEN_CARD, partial(read, closed=False), prompt="short", scorer="text")
