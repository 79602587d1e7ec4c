"""DALPHIN: copilots beside pathologists on 300 cases (arXiv 2605.03544).

Its answers are sealed: only a file of replies is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import rows_of

_PAPER = "abstract of arXiv 2605.03544"

CARD = ExamCard(
    name="dalphin",
    title="DALPHIN: 300 cases of 14 subspecialties, gold answers sealed",
    kind="sealed",
    domain="histology pictures of routine cases",
    homepage="https://dalphin.grand-challenge.org",
    version="2026",
    citation="DALPHIN, arXiv 2605.03544",
    get=(
        "Fetch pictures and questions from the homepage.",
        "Write ROOT/questions.csv (or .jsonl): id, case, question, images (names divided by ';'), and, for closed "
        "ones, "
        "options (divided by '|').",
        "`eosin evaluate MODEL dalphin --root ROOT` writes answers.jsonl and answers.json: id and answer of every "
        "question, "
        "in order. Bring them into the form that the platform takes, and hand them in there.",
    ),
    layout="ROOT/questions.csv or .jsonl as above; pictures in ROOT/images",
    layout_source="Eosin's own: the files of the release were not at hand when this was written",
    counts={},
    counts_source="300 cases, 1,236 pictures, 130 diagnoses, 6 countries (" + _PAPER + "); the number of questions "
    "is not told",
    split_rule="One evaluation set; the gold answers stay on the platform.",
    split_unit="case",
    overlaps=("Released in May 2026: models trained before cannot have seen it.",),
    faults=("No accuracy can be computed here, and none is.",),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of questions.csv or questions.jsonl. A column `answer` is not read: the gold is not ours to know."""
    place = Place(asked.folder(), folders=("images", ""))
    path = place.need("list of DALPHIN's questions", "questions.csv", "questions.jsonl", "questions.json")
    for number, (at, row) in enumerate(rows_of(path), 1):
        if isinstance(row, Dropped):
            yield row
        elif not str(row.get("question") or "").strip():
            yield Dropped(f"dalphin/{row.get('id') or number}", "no question", at, STEP)
        else:
            yield _draft(row, number, place)


def _draft(row: Mapping[str, Any], number: int, place: Place) -> Draft:
    def parts(key: str, divider: str) -> tuple[str, ...]:
        value = row.get(key)
        texts = value if isinstance(value, list) else str(value or "").split(divider)
        return tuple(str(t).strip() for t in texts if str(t).strip())

    case = str(row.get("case") or row.get("id") or number)
    return Draft(
        id=f"dalphin/{row.get('id') or number}", question=str(row["question"]), options=parts("options", "|"),
        pictures=tuple(partial(place.picture, n) for n in parts("images", ";")),
        origin={"source": "dalphin", "case": case, "modality": "histology"},
        extra={"exam_id": str(row.get("id") or number)},
    )  # fmt: skip


EXAM = Exam(CARD, read, prompt="short", scorer="answers")
