"""Exams whose gold answers are sealed: replies are written, and no figure is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, ImageError, disk_errors
from eosin.core.images import RegionReader, load_picture
from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, Engine, Request
from eosin.evaluate.exam.grading import answer_words, read_answer
from eosin.evaluate.exam.policy import fit, shown_images


def write_answers(
    engine: Engine, samples: Sequence[Sample], grammar: Grammar, settings: ExamSettings, out: Path,
    read_region: RegionReader | None = None, *, instruction: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Ask every question and write answers.jsonl (reply, reading, a line a question) and answers.json ({id: answer}).

    What stands in answers.jsonl already is not asked again. A question without a readable answer or a usable picture
    is in answers.jsonl with its reason, and not in answers.json.

    Raises:
        EosinError: no questions.
    """
    if not samples:
        raise EosinError("An exam without questions has no answers.")
    place = out / "answers.jsonl"
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    done = _done(place)
    left = [s for s in samples if s.id not in done]
    decoding = Decoding(settings.max_new_tokens, batch_size=settings.batch_size, seed=settings.seed)
    for start in range(0, len(left), settings.batch_size):
        rows = _asked(
            engine, left[start : start + settings.batch_size], grammar, settings, decoding, read_region, instruction
        )
        with disk_errors(place), place.open("a", encoding="ascii", newline="\n") as handle:
            handle.write("".join(json.dumps(r) + "\n" for r in rows))
        done.update((r["id"], r) for r in rows)
    rows = [done[s.id] for s in samples]
    answers = {r["exam_id"]: r["answer"] for r in rows if r["answer"] is not None}
    store.write_json(out / "answers.json", answers)
    return {"n": len(rows), "answered": len(answers), "path": str(out / "answers.json")}


def _done(place: Path) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run; a line that a kill cut off is taken away."""
    if not place.exists():
        return {}
    data = place.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with disk_errors(place):
            place.write_bytes(whole)
    return {row["id"]: row for row in map(json.loads, whole.split(b"\n")[:-1])}


def _asked(
    engine: Engine, batch: Sequence[Sample], grammar: Grammar, settings: ExamSettings, decoding: Decoding,
    read_region: RegionReader | None, instruction: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    requests: list[Request] = []
    rows: dict[str, dict[str, Any]] = {}
    for sample in batch:
        row = {"id": sample.id, "exam_id": sample.extra.get("exam_id", sample.id), "answer": None, "reply": None}
        rows[sample.id] = row
        try:
            messages = prompt_messages(sample, grammar, instruction=instruction)
            messages, refs = shown_images(messages, sample.images, settings.input.num_images)
            images = tuple(fit(load_picture(r, read_region), r, sample.origin.mpp, settings.input) for r in refs)
        except ImageError as exc:
            row["reason"] = exc.message
            continue
        requests.append(Request(sample.id, messages, images))
    by_id = {s.id: s for s in batch}
    for generation in engine.generate(requests, decoding) if requests else ():
        row = rows[generation.id]
        if generation.failed is not None:
            row["reason"] = f"no reply: {generation.failed}"
            continue
        read = read_answer(generation.text, by_id[generation.id], grammar)
        row["reply"] = generation.text
        if isinstance(read, Parsed):
            row["answer"] = answer_words(read.value, by_id[generation.id])
        else:
            row["reason"] = read.reason
    return list(rows.values())
