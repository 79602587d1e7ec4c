"""SlideBench of SlideChat (arXiv 2410.11761): questions on TCGA and BCNB slides, and captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import rows_of
from eosin.evaluate.exams.slides.pictures import SlidePictures
from eosin.sources.files import is_missing

_FILES = {
    "tcga": ("SlideBench-VQA-TCGA.csv", "SlideBench-VQA(TCGA).csv", "SlideBench-VQA (TCGA).csv"),
    "bcnb": ("SlideBench-VQA-BCNB.csv", "SlideBench-VQA(BCNB).csv", "SlideBench-VQA (BCNB).csv"),
    "tcga-plus": ("SlideBench-VQA-TCGA-plus.csv", "SlideBench-VQA(TCGA)-plus.csv"),
}
_CARD_OF_SET = "card of General-Medical-AI/SlideChat"
_ABSTRACT = "abstract of arXiv 2410.11761"

CARD = ExamCard(
    name="slidebench",
    title="SlideBench-VQA: multiple choice on TCGA and BCNB slides",
    kind="closed",
    domain="whole H&E slides",
    homepage="https://huggingface.co/datasets/General-Medical-AI/SlideChat",
    version="March 2025",
    licence="unknown; slides: TCGA open access, BCNB its own terms",
    citation="Chen et al., SlideChat, arXiv 2410.11761",
    get=(
        "Fetch SlideBench-VQA-TCGA.csv, SlideBench-VQA-BCNB.csv and, where wanted, SlideBench-VQA-TCGA-plus.csv of the "
        "homepage.",
        "Fetch the CONCH features that it offers (BCNB_patch_feat.tar.gz: one csv a patient), or encode the slides: "
        "eosin slides features SLIDES --out ROOT/features.",
    ),
    layout="ROOT/SlideBench-VQA-{TCGA,BCNB,TCGA-plus}.csv with ID, Slide, Task, Question, A, B, C, D, Answer; "
    "features (h5, "
    "csv) anywhere below ROOT by the name of the slide; else ROOT/thumbnails/SLIDE.png, or the slide file",
    layout_source=_CARD_OF_SET + " and public readers of it",
    counts={"tcga": {"test": 7827}, "bcnb": {"test": 7247}},
    counts_source=_CARD_OF_SET,
    digests={"SlideBench-VQA-BCNB.csv": "10b83c6177bd13bee9471fb0bd54b7d500e7eccdb7e52b462424ed50cb259e0b"},
    split_rule="734 TCGA slides are held out of SlideChat's training by slide; BCNB is another hospital.",
    split_unit="slide",
    overlaps=(
        "Other slides of the same TCGA patients and hospitals are in SlideInstruction, and in the training sets of "
        "most "
        "slide encoders (CONCH among them).",
        "MultiPathQA takes 197 of its questions from TCGA-plus.",
    ),
    faults=(
        "Questions were written by a language model from reports; many can be answered without the slide. Look at the "
        "question-only probe.",
        "BCNB questions have two to four options; empty cells are no options.",
    ),
    figures=(
        Figure(model="SlideChat", value=81.17, on="tcga", source=_ABSTRACT),
        Figure(model="SlideChat", value=54.15, on="bcnb", source=_ABSTRACT),
    ),
)  # fmt: skip

CAPTION_CARD = ExamCard(
    name="slidebench-caption",
    title="SlideBench-Caption: a description of a whole slide",
    kind="open",
    domain="whole H&E slides",
    homepage=CARD.homepage,
    version=CARD.version,
    licence=CARD.licence,
    citation=CARD.citation,
    get=(
        "Fetch the caption file of the homepage and name it ROOT/SlideBench-Caption.json or .csv; features as for "
        "slidebench.",
    ),
    layout="ROOT/SlideBench-Caption.csv with Slide, Caption; or .json: rows {id, image, conversations}; features "
    "below ROOT",
    layout_source=_CARD_OF_SET + "; the name and columns of the caption file are Eosin's",
    counts={},
    counts_source="734 slides (" + _CARD_OF_SET + ")",
    split_rule="By slide.",
    split_unit="slide",
    overlaps=CARD.overlaps,
    faults=("Captions were written by a language model from reports; they tell things that no slide shows.",),
)


def read(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of the csv files."""
    place = Place(asked.folder(), archives=())
    pictures = SlidePictures.of(place.root)
    wanted = [asked.subset] if asked.subset != ALL else [s for s in _FILES if place.file(*_FILES[s])] or ["tcga"]
    for subset in wanted:
        path = place.need("question file of SlideBench", *_FILES[subset])
        for number, (at, row) in enumerate(rows_of(path), 1):
            if isinstance(row, Dropped):
                yield row
            else:
                yield _draft(row, f"slidebench/{subset}/{row.get('ID') or number}", at, subset, pictures)


def _draft(row: Mapping[str, Any], own: str, at: str, subset: str, pictures: SlidePictures) -> Draft | Dropped:
    slide = str(row.get("Slide") or "").strip()
    if not slide:
        return Dropped(own, "no slide named", at, STEP)
    if not str(row.get("Answer") or "").strip():
        return Dropped(own, "no answer", at, STEP)
    find, units = pictures.picture(slide)
    options = [str(row.get(c) or "").strip() for c in "ABCDEFGH"]
    if subset == "bcnb":
        units = {**units, "patient": slide}
    return Draft(
        id=own, question=str(row.get("Question") or ""),
        options=tuple(o for o in options if o and not is_missing(o)), answer=str(row["Answer"]).strip(),
        pictures=(find,),
        origin={"source": "slidebench", "modality": "whole slide", "stain": "H&E", **units},
        extra={"subset": subset, "task": row.get("Task") or row.get("Broad Category"), "slide": slide},
    )  # fmt: skip


def read_captions(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of the caption file."""
    place = Place(asked.folder(), archives=())
    pictures = SlidePictures.of(place.root)
    path = place.need("caption file of SlideBench", "SlideBench-Caption.csv", "SlideBench-Caption.json",
                      "SlideBench-Caption.jsonl")  # fmt: skip
    for number, (at, row) in enumerate(rows_of(path), 1):
        if isinstance(row, Dropped):
            yield row
            continue
        own = f"slidebench-caption/{number}"
        slide, caption = _caption(row)
        if not slide or not caption:
            yield Dropped(own, "no slide named" if not slide else "no caption", at, STEP)
            continue
        find, units = pictures.picture(slide)
        yield Draft(
            id=own, question="Describe this slide.", answer=caption, pictures=(find,),
            origin={"source": "slidebench-caption", "modality": "whole slide", "stain": "H&E", **units},
            extra={"slide": slide}, more={"caption": caption},
        )  # fmt: skip


def _caption(row: Mapping[str, Any]) -> tuple[str, str]:
    turns = row.get("conversations")
    if isinstance(turns, list):
        told = [t.get("value") for t in turns if isinstance(t, Mapping) and t.get("from") == "gpt"]
        image = row.get("image")
        slide = image[0] if isinstance(image, list) and image else image
        return str(slide or ""), str(told[-1] if told else "").strip()
    lower = {str(k).lower(): v for k, v in row.items()}
    return str(lower.get("slide") or "").strip(), str(lower.get("caption") or "").strip()


EXAM = Exam(CARD, read, prompt="letter", subsets=tuple(_FILES))
CAPTION_EXAM = Exam(CAPTION_CARD, partial(read_captions), prompt="report", scorer="report")
