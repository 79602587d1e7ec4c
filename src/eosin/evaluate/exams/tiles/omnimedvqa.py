"""OmniMedVQA: multiple choice over many modalities (arXiv 2402.09181), open-access part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.reading.drafts import Draft
from eosin.evaluate.exams.reading.place import Place, zip_text
from eosin.evaluate.exams.reading.tables import read_json, rows_of_json

ARCHIVE = "OmniMedVQA.zip"
_QA = "QA_information/Open-access"
_DATASETS = {
    "chest-ct": r"^chest ct",
    "isic2020": r"^isic ?2020",
    "diabetic-retinopathy": r"^diabetic retinopathy",
    "oct-c8": r"^retinal oct-?c8",
}
_MODALITIES = {
    "ct": r"\bct\b|computed tomography",
    "dermoscopy": r"dermoscop",
    "fundus": r"fundus",
    "oct": r"\boct\b|optical coherence",
    "mri": r"\bmri?\b|magnetic|mag-netic",
    "x-ray": r"x-?ray",
    "ultrasound": r"ultrasound",
    "microscopy": r"microscop",
}
SUBSETS = (*_DATASETS, *_MODALITIES)
_RERUN = "the authors' later rerun of PathVLM-R1, told in Eosin's notes (docs/papers.md)"

CARD = ExamCard(
    name="omnimedvqa",
    title="OmniMedVQA, open-access part: out-of-domain modalities and microscopy",
    kind="closed",
    domain="CT, dermoscopy, fundus photography, OCT, MRI, X-ray, ultrasound, microscopy",
    homepage="https://huggingface.co/datasets/foreverbeliever/OmniMedVQA",
    version="April 2024",
    licence="the licences of the 73 sets that it is made of; look at each before use",
    citation="Hu et al., OmniMedVQA, arXiv 2402.09181",
    get=(
        "Fetch OmniMedVQA.zip of the homepage. It may stay packed for a small --limit; unpack it for a whole run.",
        "Restricted-access files name pictures that must be fetched from their own sources; they are not read here.",
    ),
    layout="[OmniMedVQA/]QA_information/Open-access/*.json: lists of {dataset, question_id, question_type, question, "
    "gt_answer, image_path, option_A .. option_D, modality_type}; pictures at [OmniMedVQA/]IMAGE_PATH (Images/...), "
    "PNG and "
    "JPEG; or all of it in OmniMedVQA.zip",
    layout_source="card of foreverbeliever/OmniMedVQA and public readers of it",
    counts={},
    counts_source="the whole set has 127,995 questions on 118,010 pictures (card); how many are open access is not "
    "told there",
    split_rule="One evaluation set. PathVLM-R1 takes four of its parts as out-of-domain exams: chest-ct, isic2020, "
    "oct-c8, "
    "diabetic-retinopathy.",
    split_unit="image",
    overlaps=(
        "Its parts are public classification sets with train splits of their own; a model trained on those has seen "
        "the "
        "classes and perhaps the pictures. PathCLS of PathMMU and `microscopy` share sets such as BreakHis and MHIST.",
    ),
    faults=(
        "Many questions only ask for the modality or the organ (question_type), which lifts every average.",
        "gt_answer is an option's text; where it is none of them the row is set aside.",
        "The official score takes the option that is most similar in letters to the reply (reading preset "
        "omnimedvqa), so "
        "that no reply is ever unreadable.",
    ),
    figures=(
        Figure(model="Qwen2.5-VL-7B-Instruct", value=59.0, on="PathVLM-R1's four parts", source=_RERUN),
        Figure(model="the same after full SFT on PathMMU", value=51.0, on="PathVLM-R1's four parts", source=_RERUN),
        Figure(model="LoRA SFT + RL", value=69.5, on="PathVLM-R1's four parts", source=_RERUN),
    ),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of the open-access files."""
    place = Place(asked.folder(), folders=("", "OmniMedVQA"), archives=(ARCHIVE,))
    yield from place.refused()
    for name, value in _files(place):
        for number, (_, row) in enumerate(rows_of_json(value, name), 1):
            if isinstance(row, Dropped):
                yield row
                continue
            if _wanted(row, name, asked.subset):
                yield _draft(row, f"omnimedvqa/{Path(name).stem}/{row.get('question_id') or number}", asked, place)


def _files(place: Place) -> Iterator[tuple[str, Any]]:
    """Names and contents of the question files: of the folder, else of the archive."""
    for folder in ("", "OmniMedVQA/"):
        found = sorted((place.root / f"{folder}{_QA}").glob("*.json"))
        if found:
            yield from ((p.name, read_json(p)) for p in found)
            return
    archive = place.archive(ARCHIVE)
    names = sorted(m for m in (archive.members if archive else ()) if f"{_QA}/" in m and m.lower().endswith(".json"))
    if archive is None or not names:
        raise EosinError(
            "This folder holds no question files of OmniMedVQA.", expected=f"{_QA}/*.json, or {ARCHIVE} with them",
            where=place.root,
        )  # fmt: skip
    for name in names:
        try:
            yield Path(name).name, json.loads(zip_text(archive, name))
        except (ValueError, RecursionError) as exc:
            raise EosinError("This file of the archive is not valid JSON.", found=str(exc)[:120], where=name) from None


def _wanted(row: Mapping[str, Any], name: str, subset: str) -> bool:
    if subset == ALL:
        return True
    if subset in _DATASETS:
        told = str(row.get("dataset") or Path(name).stem).strip()
        return re.search(_DATASETS[subset], told, re.IGNORECASE) is not None
    return re.search(_MODALITIES[subset], str(row.get("modality_type") or ""), re.IGNORECASE) is not None


def modality_of(told: str) -> str | None:
    """The short name of a modality as the set writes it: "OCT (Optical Coherence Tomography" is oct."""
    found = [n for n, pattern in _MODALITIES.items() if re.search(pattern, told, re.IGNORECASE)]
    return "oct" if "oct" in found else found[0] if found else None


def _draft(row: Mapping[str, Any], own: str, asked: Asked, place: Place) -> Draft:
    path = str(row.get("image_path") or "")
    options = [row.get(f"option_{c}") for c in "ABCDEFGH"]
    modality = str(row.get("modality_type") or "")
    return Draft(
        id=own, question=str(row.get("question") or ""),
        options=tuple(str(o).strip() for o in options if o not in (None, "")),
        answer=str(row.get("gt_answer") or "").strip() or None, pictures=(partial(place.picture, path),),
        origin={"source": "omnimedvqa", "case": f"image {path}", "modality": modality_of(modality) or modality or None},
        extra={"subset": str(row.get("dataset") or ""), "task": row.get("question_type"),
               "modality": modality_of(modality)},
    )  # fmt: skip


EXAM = Exam(CARD, read, prompt="letter", subsets=SUBSETS)
