"""Questions about slides as other groups write them: SlideChat and PathReasoner JSON, SlideBench csv.

A JSON row has `conversations` (from human or gpt, value) with `<image>` where the slide is shown, and names the slide
by `image` (a path or a list of one: "./BLCA/TCGA-...-DX1.csv"), or by `slide`, `slide_id` or `id`. PathReasoner's
replies hold a findings block (<info>, or <observe> as its reward reads it), <think> and <answer>. A SlideBench row has
Slide, Question, A to D, Answer. Layouts were learnt from public readers of these files; nothing of them is in Eosin.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosin.core.errors import EosinError
from eosin.core.formats.options import OPTIONS_KEY, letter_of, with_options
from eosin.core.formats.rows import Outcome, make_sample, read_row, unique
from eosin.core.nouns.outcome import Dropped, Filtered, Unparsed, filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Message, Sample, TextPart, make_choices, user_prompt
from eosin.sources.table import row_of

if TYPE_CHECKING:
    from eosin.sources.slide_bags import Bags, Found

STEP = "source"
PLACE = "<image>"
_TAG_SETS = ("info/think/answer", "observe/think/answer", "think/answer")
_TAGS = re.compile(r"</?(?:info|observe|think|answer)>")
_NUMBERED = re.compile(r"^\s*1\.\s+\S.*^\s*2\.\s+\S", re.DOTALL | re.MULTILINE)
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
_NAMES_OF_SLIDE = ("image", "images", "slide", "slide_id", "wsi", "wsi_id", "id")
_KNOWN = ("conversations", "messages", "image", "images", "id", "split", "patient", "case", "slide")


def read_conversations(path: Path, bags: Bags, name: str) -> Filtered[Sample]:
    """Samples of a JSON or JSON lines file. What cannot be used is Dropped with its reason."""
    places = ((f"{path.name}:{i}", row) for i, row in enumerate(_rows(path), 1))
    return filtered(unique(read_row(partial(_conversation, row, at, bags, name), row, at, STEP) for at, row in places))


def read_questions(
    header: Sequence[str], rows: Sequence[tuple[int, list[str]]], path: Path, bags: Bags, name: str
) -> Filtered[Sample]:
    """Samples of a table with Slide, Question, A to Z and Answer, as SlideBench has it."""
    columns = [h.strip() for h in header]
    return filtered(unique(_question_row(columns, cells, f"{path.name}:{n}", bags, name) for n, cells in rows))


# ---- JSON ----------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[Any]:
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as exc:
        raise EosinError("This file cannot be read.", found=str(exc)[:160], where=path) from None
    if path.suffix.lower() == ".jsonl":
        for line in data.split(b"\n"):  # not str.splitlines: U+2028 and U+0085 may stand inside a JSON string
            if line.strip():
                try:
                    yield json.loads(line.decode("utf-8"))
                except (ValueError, RecursionError) as exc:
                    yield str(exc)[:120]
        return
    try:
        rows = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise EosinError("This file is not valid JSON.", found=str(exc)[:160], where=path) from None
    if not isinstance(rows, list):
        found = f"a JSON {type(rows).__name__}"
        raise EosinError("A file of conversations is a list of rows.", found=found, where=path)
    yield from rows


def _conversation(row: Any, place: str, bags: Bags, name: str) -> Outcome:
    if not isinstance(row, Mapping):
        return Dropped(place, "row is not an object", repr(row)[:120], STEP)
    own = f"{name}/{row['id']}" if row.get("id") not in (None, "") else f"{name}/{place}"
    turns = row.get("conversations") or row.get("messages")
    read = _turns(turns)
    if isinstance(read, str):
        return Dropped(own, read, place, STEP)
    *earlier, (role, reply) = read
    if role != "assistant" or not reply.strip():
        return Dropped(own, "no reply", place, STEP)
    if not earlier or earlier[-1][0] != "user":
        return Dropped(own, "no question", place, STEP)
    slides = _slides(row)
    if len(slides) != 1:
        return Dropped(own, "no slide named" if not slides else "more than one slide", ", ".join(slides)[:200], STEP)
    found = bags.find(slides[0])
    if isinstance(found, tuple):
        return Dropped(own, found[0], found[1], STEP)
    told = _reply(reply)
    if isinstance(told, str):
        return Dropped(own, told, reply[:120], STEP)
    fields = _dialogue(earlier) | told
    return make_sample(_about(own, found, row, name, _with_options(fields)), place)


def _turns(turns: Any) -> list[tuple[str, str]] | str:
    """Role and text of each turn, or why they cannot be read."""
    if not isinstance(turns, list) or not turns:
        return "no dialogue"
    read = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            return "turn is not an object"
        role = _ROLES.get(str(turn.get("from", turn.get("role"))).lower())
        text = turn.get("value", turn.get("content"))
        if role is None:
            return "unknown role"
        if not isinstance(text, str):
            return "turn without text"
        read.append((role, text))
    return read


def _slides(row: Mapping[str, Any]) -> list[str]:
    """Names of the slides of a row: the first key that names any."""
    for key in _NAMES_OF_SLIDE:
        value = row.get(key)
        values = value if isinstance(value, list) else [value]
        names = [str(v) for v in values if isinstance(v, str | int) and str(v).strip()]
        if names:
            return names
    return []


def _dialogue(turns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Messages that show the slide once, in front of the first question."""
    messages: list[Message] = []
    shown = False
    for role, text in turns:
        plain = text.replace(PLACE, "").strip()
        first = role == "user" and not shown
        shown = shown or first
        parts = user_prompt(plain)[0].parts if first else (TextPart(text=plain),)
        messages.append(Message.model_validate({"role": role, "parts": parts}))
    return {"messages": tuple(messages)}


def _reply(reply: str) -> dict[str, Any] | str:
    """Findings, steps and answer of a reply; a reply without tags is the answer. A text says what is wrong."""
    if not _TAGS.search(reply):
        return {"answer": reply.strip()}
    reason = ""
    for tags in _TAG_SETS:
        parsed = Grammar.of(tags).parse(reply)
        if isinstance(parsed, Unparsed):
            reason = reason or parsed.reason
            continue
        blocks = parsed.value
        numbered = Grammar.of(tags, numbered_steps=bool(_NUMBERED.search(blocks.think)))
        if not blocks.answer:
            return "empty answer block"
        return {
            "answer": blocks.answer, "reasoning": numbered.split_steps(blocks.think),
            "findings": blocks.findings or None,
        }  # fmt: skip
    return "tags of the reply are broken"


def _with_options(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields as a closed question, where the question states options and the answer is one of them."""
    made = with_options(fields["messages"], fields["answer"])
    how = made.pop("how")
    return {**fields, **made, "extra": {OPTIONS_KEY: how} if how else {}}


# ---- SlideBench ----------------------------------------------------------------------------------------------------


def _question_row(columns: Sequence[str], cells: Sequence[str], place: str, bags: Bags, name: str) -> Outcome:
    row = row_of(columns, cells, place)
    if isinstance(row, Dropped):
        return row
    lower = {c.lower(): v for c, v in row.items()}
    own = f"{name}/{lower.get('id') or place}"
    told = next((lower[k] for k in ("slide", "slide_id", "image", "wsi") if lower.get(k)), "")
    found = bags.find(told)
    if isinstance(found, tuple):
        return Dropped(own, found[0], found[1], STEP)
    if not lower["question"] or not lower["answer"]:
        return Dropped(own, "no question" if not lower["question"] else "no answer", place, STEP)
    options = [row[c] for c in columns if re.fullmatch(r"[A-Z]", c) and row[c]]
    fields: dict[str, Any] = {"messages": user_prompt(lower["question"]), "answer": lower["answer"]}
    if not options:
        fields = _with_options(fields)
    else:
        letter = letter_of(lower["answer"], options)
        if letter is None:
            return Dropped(own, "answer is none of the options", lower["answer"][:80], STEP)
        fields |= {"choices": make_choices(options), "answer": letter}
    extra = {k: v for k, v in row.items() if not re.fullmatch(r"[A-Z]", k) and k.lower() not in ("question", "answer")}
    return make_sample(_about(own, found, {"split": lower.get("split"), **extra}, name, fields), place)


def _about(own: str, found: Found, row: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a sample with its id, image, origin, split and the further columns of its row."""
    units = {**found.units, **{k: str(row[k]) for k in ("patient", "case") if row.get(k) not in (None, "")}}
    return {
        **fields,
        "id": own,
        "images": (found.bag,),
        "origin": {"source": name, **units},
        "split": row.get("split"),
        "extra": {k: v for k, v in row.items() if k not in _KNOWN} | dict(fields.get("extra", {})),
    }
