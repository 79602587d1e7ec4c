"""The image-disjoint rerun of PathVLM-R1: PathMMU questions of which no picture stands in train and test."""

from __future__ import annotations

from collections.abc import Iterator

from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import need_split, rows_of
from eosin.evaluate.exams.tiles.pathmmu import row_draft

_NOTES = "the authors' later image-disjoint rerun, 999 test questions, told in Eosin's notes (docs/papers.md)"

CARD = ExamCard(
    name="pathvlm-r1",
    title="PathVLM-R1: PubMed and EduContent of PathMMU, split by picture",
    kind="closed",
    domain="histology pictures",
    homepage="https://arxiv.org/abs/2504.09258",
    licence="that of PathMMU: CC-BY-ND-4.0",
    citation="PathVLM-R1, arXiv 2504.09258",
    get=(
        "Get PathMMU (eosin exams show pathmmu).",
        "Fetch the split that the authors of PathVLM-R1 published later, or make one of your own: "
        "`eosin run recipes/pathvlm-r1.yaml` splits by picture and keeps the split in its samples folder.",
        "Write it as ROOT/test.jsonl (and train.jsonl) with the rows of PathMMU; pictures in ROOT/images.",
    ),
    layout="ROOT/{train,val,test}.json or .jsonl: rows of PathMMU {No, img, question, options, answer, explanation}; "
    "pictures in ROOT/images/IMG or ROOT/images.zip",
    layout_source="rows: data/instructions.md of PathMMU-Benchmark/PathMMU; file names: Eosin's choice",
    counts={"": {"test": 999}},
    counts_source=_NOTES,
    split_rule="No picture stands in two splits. The paper's own split was by question: 3,000 SFT, 1,000 RL, 1,385 "
    "test "
    "of 5,385; 437 pictures stood in both train and test.",
    split_unit="image",
    overlaps=("It is a part of PathMMU: never examine a model on it that saw PathMMU's other questions on its "
    "pictures.",),
    faults=("`verify` names pictures that stand in more than one of the files in ROOT.",),
    figures=(
        Figure(model="Qwen2.5-VL-7B-Instruct", value=48.65, on="test", n=999, source=_NOTES),
        Figure(model="full SFT", value=58.26, on="test", n=999, source=_NOTES),
        Figure(model="SFT + GRPO", value=60.96, on="test", n=999, source=_NOTES),
        Figure(model="LoRA SFT + rule RL, G 4", value=61.16, on="test", n=999, source=_NOTES),
        Figure(model="LoRA SFT + rule RL, G 8", value=63.46, on="test", n=999, source=_NOTES),
        Figure(model="rule RL from base, no SFT", value=63.76, on="test", n=999, source=_NOTES),
    ),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of the split's file."""
    place = Place(asked.folder())
    yield from place.refused()
    for path in need_split(place.root, (asked.split,)):
        for number, (_, row) in enumerate(rows_of(path), 1):
            if isinstance(row, Dropped):
                yield row
            else:
                yield row_draft(row, f"pathvlm-r1/{asked.split}", number, "", asked.split, place)


EXAM = Exam(CARD, read, prompt="pathvlm-r1", splits=("test", "val", "train"))
