"""PathReasoner: findings, reasoning and diagnosis of whole slides (arXiv 2601.21617), by group."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample
from eosin.core.settings.data import SlidesData
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.reading.place import Place
from eosin.sources.slide_bags import Bags
from eosin.sources.slide_instructions import read_conversations

GROUPS = {
    "microscopy": r"\b(?:microscop|histolog|architectur|nuclear|mitos|necrosis|stroma|inflammat)",
    "clinical": r"\b(?:prognos|treatment|therap|risk|biomarker|follow)",
    "subtype": r"\bsubtype",
    "grade": r"\bgrad(?:e|ing)\b",
    "tumour-type": r"\b(?:tumou?r type|histologic type|cancer type)",
    "diagnosis": r"\bdiagnos",
}

CARD = ExamCard(
    name="pathreasoner",
    title="PathReasoner: structured reasoning about TCGA slides, by group of question",
    kind="both",
    domain="whole H&E slides of TCGA",
    homepage="https://huggingface.co/datasets/jshhhh/PathReasoner",
    version="January 2026; the example file of the code repository",
    licence="CC-BY-4.0 (as on the hub)",
    citation="PathReasoner-R1, arXiv 2601.21617",
    get=(
        "Fetch the JSON files of the homepage into ROOT (test.json, or one file a group: diagnosis.json, "
        "microscopy.json).",
        "Encode the slides (CONCH, 512 numbers a patch): eosin slides features SLIDES --out ROOT/features.",
    ),
    layout="ROOT/*.json: [{id, image: 'PATH/SLIDE.h5', conversations: [{from: human, value with <image>}, {from: "
    "gpt, value "
    "<info>..</info><think>..</think><answer>..</answer>}]}]; features below ROOT by the name of the slide",
    layout_source="datasets/diagnosis_example.json of jsh0792/PathReasoner",
    counts={},
    counts_source="over 15,000 samples (README), 20,000 (paper), under 1,000 on the hub when this was written",
    split_rule="Not published: `id` says train in the example. Group by patient before you call anything a test.",
    split_unit="patient",
    overlaps=("All slides are of TCGA: see slidebench.",),
    faults=(
        "The data writes <info>, the released reward reads <observe>: both are read here.",
        "Gold answers state nodes, margins and stage, which no single slide shows.",
        "The groups microscopy, diagnosis, clinical; tumour type, grade, subtype are named in the paper, not in the "
        "rows: a "
        "group is a file's name, else the words of the question.",
        "No table of the paper could be read when this was written, so no figure stands here.",
    ),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Sample | Dropped]:
    """Rows of the JSON files of the folder."""
    place = Place(asked.folder(), archives=())
    files = [p for p in sorted(place.root.glob("*.json")) + sorted(place.root.glob("*.jsonl")) if _is_questions(p)]
    if not files:
        raise EosinError(
            "This folder holds no file of PathReasoner.", expected="*.json with conversations", where=place.root
        )
    settings = SlidesData(root=str(place.root), manifest=files[0].name, name="pathreasoner")
    bags = Bags(settings, place.root, files[0])
    for path in files:
        found = read_conversations(path, bags, f"pathreasoner/{path.stem}")
        yield from found.dropped
        for sample in found.kept:
            group = group_of(path.stem, sample.question)
            if asked.subset in (ALL, group):
                extra = {**sample.extra, "subset": group}
                origin = sample.origin.model_copy(update={"source": "pathreasoner", "licence": "CC-BY-4.0"})
                yield sample.model_copy(update={"extra": extra, "origin": origin, "split": None})


def _is_questions(path: Path) -> bool:
    return not path.name.startswith((".", "dataset_info", "manifest", "summary"))


def group_of(file: str, question: str) -> str:
    """The group of a question: told by its file's name, else by its words; "other" where neither says."""
    for text in (file.replace("_", " "), question):
        for name, pattern in GROUPS.items():
            if re.search(pattern, text, re.IGNORECASE) or name in text.casefold():
                return name
    return "other"


EXAM = Exam(CARD, read, prompt="pathreasoner-r1", scorer="report", subsets=(*GROUPS, "other"))
