"""REG2 2026: a report and the reasoning that leads to it, from one slide (reg2026.grand-challenge.org)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eosin.core.nouns.outcome import Dropped
from eosin.evaluate.exams.card import ExamCard, Figure
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.reading.drafts import STEP, Draft
from eosin.evaluate.exams.reading.place import Place
from eosin.evaluate.exams.reading.tables import read_json, rows_of
from eosin.evaluate.exams.slides.pictures import SlidePictures

FINAL = "What is the final pathology report?"
_KEYS = ("chain_of_thought", "chain-of-thought", "gt_chain_of_thought", "CoT", "cot")
_FILES = {"train": ("train_CoT.json", "train_cot.json"), "test": ("test_CoT.json", "test_cases.json", "test.json")}

CARD = ExamCard(
    name="reg2",
    title="REG2 2026: pathologist reasoning and report of a whole slide",
    kind="both",
    domain="whole H&E slides of several organs",
    homepage="https://reg2026.grand-challenge.org",
    version="June 2026 (revised chains)",
    licence="terms of the challenge",
    citation="REG2, MICCAI 2026",
    get=(
        "Join the challenge with a verified account and fetch the training set: train_CoT.json and the slides.",
        "The test slides stay on the platform: a container is run there, one slide at a time.",
        "Hold out patients of the training set as ROOT/test_CoT.json to examine a model here.",
    ),
    layout="ROOT/train_CoT.json: [{id: 'PIT_01_09887_02.tiff', chain_of_thought: [{question, answer, "
    "next_question}]}] or {id: "
    "[steps]}; the last step is the report; features, thumbnails or slides below ROOT",
    layout_source="algorithm template of the challenge and public readers of train_CoT.json",
    split_rule="Train is open; test 1 and 2 are on the platform. Training cases may share a patient "
    "(PIT_xx_PATIENT_yy).",
    split_unit="patient",
    overlaps=("REG2025 released reports of slides of the same series (PIT_01).",),
    faults=(
        "On 1 June 2026 eight truncated chains were replaced; `verify` names chains whose last step is no report.",
        "A step stands once for each question that follows it, so that a question occurs several times.",
        "The official metric needs the exact wording of the training questions; free reasoning scores low however "
        "right.",
    ),
    figures=(
        Figure(model="five TransMIL heads on UNI2-h, routed by rules", value=0.9037, on="1,019 cases held out by its "
        "authors",
               metric="metric A", n=1019, source="card of daipath/reg2026-submit; self-reported"),
    ),
)  # fmt: skip


def read(asked: Asked) -> Iterator[Draft | Dropped]:
    """Rows of the split's file."""
    place = Place(asked.folder(), archives=())
    pictures = SlidePictures.of(place.root)
    path = place.need(f"file of the split {asked.split}", *_FILES[asked.split])
    value = read_json(path)
    rows: Iterator[tuple[str, Any]]
    if isinstance(value, Mapping) and all(isinstance(v, list) for v in value.values()):
        rows = ((k, {"id": k, "chain_of_thought": v}) for k, v in value.items())
    else:
        rows = rows_of(path)
    for at, row in rows:
        if isinstance(row, Dropped):
            yield row
        else:
            yield _draft(row, at, asked.split, pictures)


def _draft(row: Mapping[str, Any], at: str, split: str, pictures: SlidePictures) -> Draft | Dropped:
    slide = str(row.get("id") or "").strip()
    own = f"reg2/{split}/{slide or at}"
    if not slide:
        return Dropped(own, "no slide named", at, STEP)
    steps: list[Any] = next((row[k] for k in _KEYS if isinstance(row.get(k), list)), [])
    report = report_of(steps)
    if report is None:
        return Dropped(own, "chain without a report", f"{len(steps)} steps", STEP)
    find, units = pictures.picture(slide)
    parts = slide.split(".")[0].split("_")
    patient = {"patient": "_".join(parts[:3])} if len(parts) >= 4 else {}
    return Draft(
        id=own, question="Write the pathology report of this slide, and the reasoning that leads to it.",
        answer=report, pictures=(find,),
        origin={"source": "reg2", "modality": "whole slide", "stain": "H&E", "organ": row.get("organ"), **units,
                **patient},
        extra={"subset": str(row.get("organ") or "") or None}, more={"reasoning": reasoning_of(steps)},
    )  # fmt: skip


def report_of(steps: Sequence[Any]) -> str | None:
    """The answer of the step that asks for the report."""
    told = [s.get("answer") for s in steps if isinstance(s, Mapping) and str(s.get("question")).strip() == FINAL]
    text = str(told[-1] if told else "").replace("\\n", "\n").strip()
    return text or None


def reasoning_of(steps: Sequence[Any]) -> tuple[str, ...]:
    """Every question with its answer, once, without the report."""
    seen: dict[str, None] = {}
    for step in steps:
        if isinstance(step, Mapping) and str(step.get("question")).strip() != FINAL:
            seen.setdefault(f"{step.get('question')} {step.get('answer')}".strip(), None)
    return tuple(seen)


EXAM = Exam(CARD, read, prompt="report", scorer="report", splits=("test", "train"))
