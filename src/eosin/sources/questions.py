"""Files of multiple-choice questions with explanations, as PathMMU writes them.

A file is a list of rows, JSON lines, or lists below names: {"PubMed": {"val": [...], "test": [...]}, ...}. A row holds
`question`, `options` (a list of texts, "A) adenoma" or "adenoma"; a mapping from letters; or one text with a line an
option), `answer` (a letter, an option, or both), the picture under `img`, `image` or `image_path`, and `explanation`,
which becomes the reasoning, a sentence a step. The layout was learnt from public readers of PathMMU; nothing of it is
in Eosin.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats.options import cut_options, letter_of
from eosin.core.formats.rows import BadRowError, Outcome, make_sample, read_row, unique
from eosin.core.nouns.outcome import Filtered, filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Choice, ImageFile, Sample, make_choices, user_prompt
from eosin.core.settings.data import QuestionsData
from eosin.sources.card import Card, Collection
from eosin.sources.files import is_missing, keep_inside

STEP = "source"
IMAGE_KEYS = ("img", "image", "image_path")
_MARK = re.compile(r"^\s*[(\[]?([A-Za-z])[)\].:]\s*(?=\S)")
_SENTENCES = Grammar.of("think/answer")
_KNOWN = {"question", "options", "choices", "answer", "explanation", "id", "No", *IMAGE_KEYS}


def read_questions_file(settings: QuestionsData) -> Collection:
    """Samples of a file of questions.

    Raises:
        EosinError: no such file; no JSON; a named set that is not there; no usable row.
    """
    path = Path(settings.path).expanduser()
    images = Path(settings.images).expanduser() if settings.images is not None else path.parent
    placed = list(_chosen(list(_places(_read(path), ())), settings, path))
    outcomes = (
        read_row(partial(_sample, row, names, number, images, settings), row, f"{path.name}:{number}", STEP)
        for number, (names, row) in enumerate(placed, 1)
    )
    samples = keep_inside(filtered(unique(outcomes)), images, settings.image_folders)
    if not samples.kept:
        raise EosinError(
            "No question of this file could be used.", where=path,
            found=", ".join(f"{n} x {reason}" for reason, n in samples.reasons().items()) or "no rows",
        )  # fmt: skip
    card = Card(
        name=settings.name, title=settings.title, licence=settings.licence, citation=settings.citation,
        homepage=settings.homepage, split_unit=settings.group_kind if settings.group_column else "image",
        modality="histology",
    )  # fmt: skip
    return Collection(card=card.counted(samples.kept), samples=samples, warnings=_notes(samples))


def _read(path: Path) -> Any:
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise EosinError("This file of questions cannot be read.", found=str(exc)[:160], where=path) from None
    try:
        if path.suffix.lower() == ".jsonl":
            return [_line(line) for line in text.split("\n") if line.strip()]
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise EosinError("This file is not valid JSON.", found=str(exc)[:160], where=path) from None


def _line(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as exc:
        return str(exc)[:120]


def _places(value: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Rows with the names that they stand below."""
    if isinstance(value, list):
        for row in value:
            yield names, row
    elif isinstance(value, Mapping) and "question" not in value and len(names) < 4:
        for name, below in value.items():
            yield from _places(below, (*names, str(name)))
    else:
        yield names, value


def _chosen(
    placed: Sequence[tuple[tuple[str, ...], Any]], settings: QuestionsData, path: Path
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The rows below the names that the recipe asks for; all of them where it names none."""
    known = {n for names, _ in placed for n in names}
    missing = [n for n in settings.sets if n not in known]
    if missing:
        raise EosinError(
            "This file has no such set of questions.", expected=", ".join(sorted(known)) or "a list without names",
            found=", ".join(missing), where=path, next_step="set data.sets",
        )  # fmt: skip
    wanted = set(settings.sets)
    yield from (p for p in placed if not wanted or wanted & set(p[0]))


def _sample(row: Any, names: tuple[str, ...], number: int, images: Path, settings: QuestionsData) -> Outcome:
    if not isinstance(row, Mapping):
        raise BadRowError("row is not an object", repr(row)[:120])
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        raise BadRowError("no question")
    if not isinstance(answer, str) or not answer.strip():
        raise BadRowError("no answer")
    choices = options_of(row.get("options", row.get("choices")))
    letter = letter_of(answer, [c.text for c in choices])
    if letter is None:
        raise BadRowError("answer not among the choices", answer[:120])
    picture = next((str(row[k]) for k in IMAGE_KEYS if isinstance(row.get(k), str) and not is_missing(row[k])), None)
    told = row.get("explanation")
    own = next((str(row[k]) for k in ("id", "No") if isinstance(row.get(k), str | int)), str(number))
    return make_sample(
        {
            "id": "/".join((settings.name, *names, own)),
            "images": (ImageFile(path=str(images / picture)),) if picture else (),
            "messages": user_prompt(question.strip(), 1 if picture else 0),
            "choices": choices,
            "answer": letter,
            "reasoning": _SENTENCES.split_steps(told.strip()) if isinstance(told, str) else (),
            "origin": _origin(row, names, picture, settings),
            "split": names[-1] if settings.own_splits and names else None,
            "extra": {k: v for k, v in row.items() if k not in _KNOWN and isinstance(v, str | int | float | bool)},
        },
        own,
    )


def options_of(value: Any) -> tuple[Choice, ...]:
    """Options of a row, lettered from A in their order.

    Raises:
        BadRowError: fewer than two, or letters out of order.
    """
    if isinstance(value, str):
        texts: list[str] = cut_options(value)[1]
    elif isinstance(value, Mapping):
        texts = [f"{k}) {v}" for k, v in value.items()]
    else:
        texts = [str(v) for v in value] if isinstance(value, list) else []
    marks = [_MARK.match(t) for t in texts]
    if texts and all(marks):
        letters = [m.group(1).upper() for m in marks if m]
        if letters == [chr(ord("A") + i) for i in range(len(letters))]:
            texts = [t[m.end() :].strip() for t, m in zip(texts, marks, strict=True) if m]
        elif len(set(letters)) == len(letters) and isinstance(value, Mapping):
            raise BadRowError("choices not lettered A, B, C", ", ".join(letters))
    if len(texts) < 2:
        raise BadRowError("no options", str(value)[:120])
    return make_choices(texts)


def _origin(row: Mapping[str, Any], names: tuple[str, ...], picture: str | None, settings: QuestionsData) -> Any:
    """All questions about one picture are one case, unless a column names the article, patient or slide."""
    unit: dict[str, str] = {"case": f"image {picture}"} if picture else {}
    if settings.group_column is not None:
        value = row.get(settings.group_column)
        if not isinstance(value, str | int) or is_missing(str(value)):
            raise BadRowError("no group", settings.group_column)
        unit = {settings.group_kind: str(value)}
    return {"source": settings.name, "licence": settings.licence, "modality": "histology", **unit}


def _notes(samples: Filtered[Sample]) -> tuple[str, ...]:
    bare = sum(not s.reasoning for s in samples.kept)
    return (f"{bare} questions have no explanation; their think block is empty in SFT.",) if bare else ()
