"""MedXpertQA MM: expert questions with pictures (arXiv 2501.18362); its pathology items."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import need_split, rows_of

_CHOICES = re.compile(r"\s*Answer Choices:\s*\(A\).*$", re.DOTALL)
_PATHOLOGY = re.compile(
    r"\b(?:histolog|histopatholog|patholog(?:y|ic(?:al)?) (?:specimen|slide|section|image|exam)|biops(?:y|ies)|"
    r"microscop|photomicrograph|h&e|hematoxylin|haematoxylin|immunohistochem|cytolog|fine.needle|smear)",
    re.IGNORECASE,
)  # fmt: skip
SUBSETS = ("pathology", "everything")

CARD = ExamCard(
    name="medxpertqa",
    title="MedXpertQA MM: expert-level medical questions with pictures; items whose text speaks of histology",
    kind="closed",
    domain="all of medicine; subset pathology by the words of the question",
    homepage="https://huggingface.co/datasets/TsinghuaC3I/MedXpertQA",
    version="May 2025",
    licence="MIT",
    citation="Zuo et al., MedXpertQA, arXiv 2501.18362",
    get=("Fetch MM/test.jsonl, MM/dev.jsonl and images.zip of the homepage into one folder; images.zip may stay "
    "packed.",),
    layout="ROOT/MM/{dev,test}.jsonl with id, question (its options repeated behind 'Answer Choices:'), options "
    "{A..E}, "
    "label, images [names], medical_task, body_system, question_type; pictures in ROOT/images/ or ROOT/images.zip",
    layout_source="card of TsinghuaC3I/MedXpertQA",
    counts={"everything": {"test": 2000, "dev": 5}},
    counts_source="4,460 questions in all, 2,450 of them Text test and 5 Text dev (copies on the hub); MM has as "
    "many dev",
    split_rule="dev is for few-shot prompts; test is the exam.",
    split_unit="image",
    overlaps=("Questions come from public examination material, rewritten; no list of what models saw is known.",),
    faults=(
        "The set has no field that says pathology. Which items 'MedXpertQA pathology' of Patho-R1 are was not "
        "published; "
        "here they are the questions whose text speaks of histology, biopsy, smear or microscopy, so figures of papers "
        "are not comparable item by item.",
        "Options stand in the question and in a field; here they are shown once.",
    ),
    figures=(),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of MM/SPLIT.jsonl."""
    place = Place(asked.folder(), folders=("images", "", "MM"))
    yield from place.refused()
    for path in need_split(place.root, (asked.split,), ("MM", "", "data", "MM/data")):
        for number, (at, row) in enumerate(rows_of(path), 1):
            if isinstance(row, Dropped):
                yield row
                continue
            question = str(row.get("question") or "")
            if asked.subset != "everything" and not _PATHOLOGY.search(_CHOICES.sub("", question)):
                continue
            yield _draft(row, f"medxpertqa/{row.get('id') or f'{asked.split}/{number}'}", at, question, asked, place)


def _draft(row: Mapping[str, Any], own: str, at: str, question: str, asked: Asked, place: Place) -> Draft | Dropped:
    options = row.get("options")
    if not isinstance(options, Mapping):
        return Dropped(own, "no options", at, STEP)
    letters = sorted(k for k, v in options.items() if v not in (None, ""))
    if letters != [chr(65 + i) for i in range(len(letters))]:
        return Dropped(own, "choices not lettered A, B, C", ", ".join(letters), STEP)
    names = row.get("images") or []
    return Draft(
        id=own, question=_CHOICES.sub("", question), options=tuple(str(options[k]) for k in letters),
        answer=str(row.get("label") or "") or None,
        pictures=tuple(partial(place.picture, str(n)) for n in names),
        origin={"source": "medxpertqa", "licence": "MIT"},
        extra={
            "subset": "pathology" if asked.subset in (ALL, "pathology") else "everything", "exam_split": asked.split,
            **{k: row.get(k) for k in ("medical_task", "body_system", "question_type")},
        },
    )  # fmt: skip


EXAM = Exam(CARD, read, prompt="letter", subsets=SUBSETS, splits=("test", "dev"))
