"""An exam: the light and dark squares, of a seed that no training sees."""

from __future__ import annotations

from collections.abc import Iterator

from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.exam import Asked, Exam
from eosin_example.source import read as read_source

SEED, NUM = 20_261_128, 40

CARD = ExamCard(
    name="shade", title="Light or dark squares", kind="closed", domain="squares, 64 px", version=f"seed {SEED}",
    licence="CC0-1.0", counts={"": {"test": NUM}}, counts_source="by construction", split_unit="case",
    split_rule="The pictures of this seed are in no training set.",
    faults=("It says nothing about tissue.",),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Sample | Dropped]:
    """The questions; what cannot be used is given as Dropped, so that it is counted."""
    made = read_source({"num": NUM}, SEED)
    yield from made.dropped
    yield from made.kept


EXAM = Exam(CARD, read, prompt="short", needs_root=False)
