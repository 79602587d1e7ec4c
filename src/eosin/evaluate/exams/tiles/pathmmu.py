"""PathMMU: five subsets of multiple-choice questions on pathology pictures (arXiv 2401.16355)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats.rows import BadRowError
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.reply import Grammar
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import read_json
from eosin.sources.questions import options_of

SUBSETS = ("PubMed", "SocialPath", "EduContent", "Atlas", "PathCLS")
_IN_FILE = {"val": ("val",), "test-tiny": ("test_tiny",), "test": ("test",), "test-all": ("test", "test_tiny"),
            "train": ("train",)}  # fmt: skip
_SENTENCES = Grammar.of("think/answer")
_PATHO_R1 = "independent run on PathMMU, told in Eosin's notes on Patho-R1 (docs/papers.md)"
_README = "README of PathMMU-Benchmark/PathMMU"

CARD = ExamCard(
    name="pathmmu",
    title="PathMMU: expert-level multiple choice on pathology pictures, five subsets",
    kind="closed",
    domain="histology, cytology and gross pictures",
    homepage="https://huggingface.co/datasets/jamessyx/PathMMU",
    version="release of July 2024",
    licence="CC-BY-ND-4.0 (Atlas pictures: ARCH, CC-BY-NC-SA-4.0)",
    citation="Sun et al., PathMMU, arXiv 2401.16355",
    get=(
        "Ask for access on the homepage (a form; accounts are looked at by hand), then fetch data.json and images.zip.",
        "images.zip holds the pictures of PubMed and EduContent, and PatchCamelyon of PathCLS.",
        "SocialPath: fetch the pictures by the tw_id and img_position of socialpath_mapping.json, with your own "
        "account.",
        "Atlas: fetch the book set of ARCH from the University of Warwick. PathCLS: fetch the nine sets that its "
        "instructions name, and place them by `source_img`.",
        "Put all pictures in ROOT/images; leaving images.zip as it is works too.",
    ),
    layout="ROOT/data.json: {subset: {val|test_tiny|test|train: [{No, img, question, options: ['A) ...'], answer: "
    "'A) ...', explanation, source_img?}]}}; pictures in ROOT/images/IMG or in ROOT/images.zip, JPEG and PNG",
    layout_source="eval/utils/data_utils.py and data/instructions.md of PathMMU-Benchmark/PathMMU",
    counts={
        "all": {"val": 710, "test-all": 9677},
        "EduContent": {"test-tiny": 255, "test-all": 1938},
        "Atlas": {"val": 80, "test-tiny": 208, "test": 799, "test-all": 1007},
        "PathCLS": {"test-tiny": 177},
    },
    counts_source="totals: " + _README + "; Atlas: card of the set in kaiko-ai/eva; the others: tables of later papers",
    split_rule="By question set: val, test-tiny and test were checked by pathologists. The authors' test figures are "
    "over test and test-tiny together; that is test-all here.",
    split_unit="image",
    overlaps=(
        "PubMed pictures come from the articles that PathCap and PMC-15M come from; EduContent from videos that "
        "Quilt-1M "
        "is cut from; Atlas from ARCH; SocialPath from OpenPath.",
        "Models trained on PathMMU's own train split (PathVLM-R1) share its sources and its question style.",
        "A split of PubMed and EduContent by question put 437 pictures into both train and test (see pathvlm-r1).",
    ),
    faults=(
        "The official reader cuts an option at its second ')': 'A) CD20(+) cells' is shown without its end.",
        "The official parser draws a random option where it finds none, so that an unreadable reply scores like chance "
        "(reading preset pathmmu).",
        "SocialPath shrinks as posts are deleted: 1,796 of 1,855 test questions and 229 of 235 of test-tiny are what "
        "later papers still found.",
        "Rows whose picture is missing are skipped by the official script without a count.",
    ),
    figures=(
        Figure(model="GPT-4V", value=49.8, on="test, all subsets", source=_README),
        Figure(model="pathologists", value=71.8, on="test, all subsets", source=_README),
        Figure(model="Patho-R1-7B", value=64.8, on="all subsets", source=_PATHO_R1),
        Figure(model="Patho-R1-7B", value=68.7, on="PubMed", source=_PATHO_R1),
        Figure(model="Patho-R1-7B", value=63.9, on="SocialPath", source=_PATHO_R1),
        Figure(model="Patho-R1-7B", value=65.7, on="EduContent", source=_PATHO_R1),
        Figure(model="Patho-R1-7B", value=73.5, on="Atlas", source=_PATHO_R1),
        Figure(model="Patho-R1-7B", value=41.8, on="PathCLS", source=_PATHO_R1),
    ),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of data.json."""
    place = Place(asked.folder())
    path = place.need("PathMMU question file", "data.json", "data/data.json")
    data = read_json(path)
    wanted = SUBSETS if asked.subset == ALL else (asked.subset,)
    if not isinstance(data, Mapping) or not set(wanted) & set(data):
        found = ", ".join(map(str, data))[:200] if isinstance(data, Mapping) else f"a JSON {type(data).__name__}"
        raise EosinError("This file holds none of these subsets.", expected=", ".join(wanted), found=found, where=path)
    yield from place.refused()
    for subset in wanted:
        for split in _IN_FILE[asked.split]:
            rows = (data.get(subset) or {}).get(split) or []
            for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
                yield row_draft(row, f"pathmmu/{subset}/{split}", number, subset, asked.split, place)


def row_draft(row: Any, front: str, number: int, subset: str, split: str, place: Place) -> Draft | Dropped:
    """One row of PathMMU's own form."""
    own = f"{front}/{row.get('No', number) if isinstance(row, Mapping) else number}"
    if not isinstance(row, Mapping):
        return Dropped(own, "row is not an object", repr(row)[:120], STEP)
    img, answer = row.get("img"), row.get("answer")
    if not isinstance(img, str) or not img.strip():
        return Dropped(own, "no picture named", own, STEP)
    if not isinstance(answer, str) or not answer.strip():
        return Dropped(own, "no answer", own, STEP)
    try:
        options = tuple(c.text for c in options_of(row.get("options")))
    except BadRowError as exc:
        return Dropped(own, exc.reason, exc.detail, STEP)
    told = row.get("explanation")
    return Draft(
        id=own, question=str(row.get("question") or ""), options=options, answer=answer,
        pictures=(partial(place.picture, img),),
        origin={"source": "pathmmu", "licence": CARD.licence, "case": f"image {img}", "modality": "histology"},
        extra={"subset": subset, "exam_split": split, "source_img": row.get("source_img")},
        more={"reasoning": _SENTENCES.split_steps(told.strip())} if isinstance(told, str) and told.strip() else {},
    )  # fmt: skip


EXAM = Exam(CARD, read, prompt="letter", subsets=SUBSETS, splits=("test-tiny", "val", "test", "test-all", "train"))
