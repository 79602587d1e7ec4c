"""MultiPathQA (arXiv 2511.19652): 934 questions on whole slides, five tasks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from eosin.core.formats.options import MAX_OPTIONS
from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import rows_of
from eosin.evaluate.exams.slides.pictures import SlidePictures

SUBSETS = ("gtex", "tcga", "panda", "tcga_slidebench", "tcga_expert_vqa")
_TABLE = "table of the set's card (tbuckley/MultiPathQA)"
_JSON_FORM = re.compile(r"\s*(?:Select from the following options:?\s*)?\{options\}.*$", re.DOTALL)
_GRADES = tuple(f"ISUP grade {i}" for i in range(1, 6))

CARD = ExamCard(
    name="multipathqa",
    title="MultiPathQA: organs, tumours, grades and experts' questions on whole slides",
    kind="closed",
    domain="whole H&E slides of GTEx, TCGA and PANDA",
    homepage="https://huggingface.co/datasets/tbuckley/MultiPathQA",
    version="November 2025",
    licence="CC-BY-4.0 (questions); slides: TCGA open access, GTEx, PANDA their own terms",
    citation="Buckley et al., GIANT, arXiv 2511.19652",
    get=(
        "Fetch MultiPathQA.csv of the homepage.",
        "Fetch the slides that it names (image_path) from GDC (TCGA), the GTEx portal and Kaggle (PANDA): several "
        "hundred GB.",
        "Encode them (eosin slides features SLIDES --out ROOT/features), or make thumbnails in ROOT/thumbnails.",
    ),
    layout="ROOT/MultiPathQA.csv with benchmark_name, benchmark_id, image_path, answer, options (a Python list as "
    "text), "
    "image_exists, patch_exists, is_valid, metric_type, file_id, prompt (with {options}); features, "
    "ROOT/thumbnails/FILE_ID.png "
    "or slide files below ROOT",
    layout_source="card of tbuckley/MultiPathQA",
    counts={"gtex": {"test": 191}, "tcga": {"test": 221}, "panda": {"test": 197}, "tcga_slidebench": {"test": 197},
            "tcga_expert_vqa": {"test": 128}, "all": {"test": 934}},
    counts_source=_TABLE,
    split_rule="One evaluation set; on the hub it is called train. It is never for training.",
    split_unit="slide",
    overlaps=(
        "Slides of TCGA are in the training sets of most encoders and of SlideChat; tcga_slidebench is a part of "
        "SlideBench, "
        "whose sister questions SlideChat was trained on.",
    ),
    faults=(
        "The number of slides is told as 868 in some places and 862 in the card's text; the table's rows add up to "
        "868.",
        "An answer is a text or a number. A text that is an option is that option; else a number counts from 1, as the "
        "official prompt asks for the number of the option. PANDA grades are 0 to 5, and 0 stands for benign.",
        "The official prompts ask for JSON with a number; here options are lettered, and the JSON form is taken out.",
        "tcga has 30 options and letters end at 26: its options stand in the question, and the answer is their text.",
        "gtex, tcga and panda are scored by balanced accuracy in the paper, the others by accuracy.",
    ),
    figures=tuple(
        Figure(model=model, value=value, on=on, source=_TABLE,
               metric="balanced accuracy %" if on in ("tcga", "gtex", "panda") else "accuracy %")
        for model, values in {
            "GPT-5 + GIANT": (32.3, 53.7, 23.2, 58.9, 57.0),
            "GPT-5 + GIANT x5": (29.3, 60.7, 25.4, 59.4, 62.5),
            "TITAN (zero-shot)": (88.8, 96.3, 27.5, 39.6, 43.8),
            "SlideChat (zero-shot)": (3.3, 5.0, 17.0, 71.6, 37.5),
        }.items()
        for on, value in zip(("tcga", "gtex", "panda", "tcga_slidebench", "tcga_expert_vqa"), values, strict=True)
    ),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of MultiPathQA.csv, or of parquet with the same columns."""
    place = Place(asked.folder(), archives=())
    pictures = SlidePictures.of(place.root)
    path = place.need("question file of MultiPathQA", "MultiPathQA.csv", "data/MultiPathQA.csv", "MultiPathQA.parquet")
    for number, (at, row) in enumerate(rows_of(path), 1):
        if isinstance(row, Dropped):
            yield row
            continue
        task = str(row.get("benchmark_name") or "").strip()
        own = f"multipathqa/{task}/{row.get('benchmark_id') or number}"
        if asked.subset not in (ALL, task):
            continue
        if task not in SUBSETS:
            yield Dropped(own, "unknown task", f"{at}: {task!r}", STEP)
        elif str(row.get("is_valid")).strip().casefold() in ("false", "0"):
            yield Dropped(own, "marked as not valid by its authors", at, STEP)
        else:
            yield _draft(row, own, at, task, pictures)


def _draft(row: Mapping[str, Any], own: str, at: str, task: str, pictures: SlidePictures) -> Draft | Dropped:
    options = options_of(row.get("options"), task)
    answer = answer_of(row.get("answer"), options, task)
    if not options:
        return Dropped(own, "no options", at, STEP)
    if answer is None:
        return Dropped(
            own, "answer not among the choices", f"{row.get('answer')!r} of {' | '.join(options)}"[:160], STEP
        )
    slide = str(row.get("image_path") or row.get("file_id") or "")
    find, units = pictures.picture(slide)
    question = _JSON_FORM.sub("", str(row.get("prompt") or "")).strip()
    lettered = len(options) <= MAX_OPTIONS
    if not lettered:
        question += "\nAnswer with one of these, in the same words: " + "; ".join(options) + "."
    return Draft(
        id=own, question=question, options=options if lettered else (), answer=answer, pictures=(find,),
        origin={"source": "multipathqa", "licence": "CC-BY-4.0", "modality": "whole slide", **units},
        extra={"subset": task, "metric": row.get("metric_type")},
    )  # fmt: skip


def options_of(value: Any, task: str) -> tuple[str, ...]:
    """Options of a cell: a list, or a list written as text. PANDA's numbers become grades in words."""
    if isinstance(value, str) and value.strip():
        try:
            value = ast.literal_eval(value)  # literals only: nothing is run
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return ()
    texts = tuple(str(v).strip() for v in value) if isinstance(value, list | tuple) else ()
    if task == "panda" and (not texts or all(re.fullmatch(r"\d", t) for t in texts)):
        return ("benign (no cancer)", *_GRADES)
    return texts


def answer_of(value: Any, options: tuple[str, ...], task: str) -> str | None:
    """The text of the right option."""
    told = str(value if value is not None else "").strip()
    folded = [o.casefold() for o in options]
    if told.casefold() in folded:
        return options[folded.index(told.casefold())]
    if not re.fullmatch(r"\d{1,2}(?:\.0)?", told):
        return None
    number = int(float(told)) if task == "panda" else int(float(told)) - 1
    return options[number] if 0 <= number < len(options) else None


EXAM = Exam(CARD, read, prompt="letter", subsets=SUBSETS)
