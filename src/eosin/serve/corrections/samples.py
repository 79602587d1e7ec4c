"""Signed corrections as samples: gold replies to learn from, and, where the model was put right, the reply it gave."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter

from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.prompt import REJECTED, gold_reply, option_lines
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageRef, Origin, Sample, SlideBag, make_choices, user_prompt
from eosin.serve.corrections.body import Correction
from eosin.serve.corrections.store import CorrectionStore, Version

SOURCE = "corrections"
STEP = "corrections"
_REF: TypeAdapter[ImageRef] = TypeAdapter(ImageRef)


def samples_of(store: CorrectionStore, readers: Sequence[str] | None = None) -> Filtered[Sample]:
    """A sample of each reading that was signed: question and corrected reply.

    Where several readers signed a reading, the version signed last is taken, if they give the same answer. A sample
    whose statements or answer differ from the model's has its reply in `extra["rejected"]`.

    Returns:
        Samples, and what gives none: readers who disagree, what was signed before another reader's same answer, no
        answer, an answer that is none of the options, a region of a reader of whole slides (no sample can name one),
        everything struck.
    """
    by_reading: dict[str, list[Version]] = defaultdict(list)
    for version in store.signed(readers):
        by_reading[version.reading].append(version)
    return filtered(_outcomes(store, by_reading))


def _outcomes(store: CorrectionStore, by_reading: dict[str, list[Version]]) -> Iterable[Kept[Sample] | Dropped]:
    for id, versions in sorted(by_reading.items()):
        reading, image = store.reading(id), store.image(id)
        assert reading is not None
        if len({v.correction.answer.strip().casefold() for v in versions}) > 1:
            yield Dropped(id, "readers disagree", ", ".join(sorted(v.correction.reader for v in versions)), STEP)
        elif not image:
            yield Dropped(id, "a region of a reader of whole slides", "", STEP)
        else:
            *earlier, last = sorted(versions, key=lambda v: v.created)
            for version in earlier:
                reader = version.correction.reader
                yield Dropped(f"{id} ({reader})", "another reader signed the same answer later", reader, STEP)
            yield _sample(reading, image, last)


def _sample(reading: dict[str, Any], image: str, version: Version) -> Kept[Sample] | Dropped:
    said, id = version.correction, str(reading["id"])
    options = [str(o) for o in reading["options"]]
    answer = said.answer.strip()
    if not answer:
        return Dropped(id, "no answer", said.reader, STEP)
    choices = make_choices(options)
    letter = next((c.letter for c in choices if c.text.casefold() == answer.casefold()), None)
    if choices and letter is None:
        return Dropped(id, "the answer is none of the options", answer[:80], STEP)
    findings, reasoning = _texts(said, "findings"), _texts(said, "reasoning")
    if not findings and not reasoning and said.statements:
        return Dropped(id, "every statement was struck", said.reader, STEP)
    if not _has_findings(reading):
        findings, reasoning = [], findings + reasoning
    told = json.loads(image)
    refs = tuple(_REF.validate_python(one) for one in (told if isinstance(told, list) else [told]))
    extra: dict[str, Any] = {"reading": id, "reader": said.reader, "version": version.version}
    if reading.get("model"):
        extra["model"] = str(reading["model"])
    if said.rating is not None:
        extra["rating"] = said.rating
    sample = Sample(
        id=f"{SOURCE}-{id}", images=refs, messages=user_prompt(str(reading["question"]), len(refs)), choices=choices,
        answer=letter or answer, findings=" ".join(findings) or None, reasoning=tuple(reasoning),
        origin=Origin(source=SOURCE, case=reading.get("case"), slide=slide_of(refs[0])), split="train", extra=extra,
    )  # fmt: skip
    if is_changed(reading, said):
        sample = sample.model_copy(update={"extra": {**extra, REJECTED: str(reading["reply"])}})
    return Kept(sample)


def slide_of(ref: ImageRef) -> str:
    """What tells slides apart: the stem of the slide's file."""
    path = (ref.slide or ref.path) if isinstance(ref, SlideBag) else str(getattr(ref, "path", ""))
    return path.replace("\\", "/").rpartition("/")[2].partition(".")[0]


def _has_findings(reading: dict[str, Any]) -> bool:
    """Whether replies to this question have a block of findings; where not, a finding that an expert added is the first
    of the reasoning, and is written where the model can write it."""
    return grammar_of(reading, "info/think/answer").findings_tag is not None


def grammar_of(reading: dict[str, Any], otherwise: str) -> Grammar:
    """The form in which a reading was asked for; `otherwise` names it where the reading does not say."""
    facts = dict(reading.get("grammar") or {"tags": otherwise})
    return Grammar.of(facts.pop("tags"), **facts)


def _texts(said: Correction, block: str) -> list[str]:
    return [s.text.strip() for s in said.statements if s.block == block and s.state != "struck"]


def is_changed(reading: dict[str, Any], said: Correction) -> bool:
    """Whether the expert changed a word of the reply. Moved evidence alone changes none."""
    answer = said.answer.strip().casefold() != str(reading["answer"]).strip().casefold()
    return answer or any(s.state != "kept" for s in said.statements)


def preference_rows(samples: Sequence[Sample], grammar_of: Callable[[Sample], Grammar]) -> list[dict[str, Any]]:
    """Pairs in TRL's conversational form, without pictures: {"id", "model", "prompt", "chosen", "rejected"}; `model` is
    the one whose reply was rejected. The prompt is the question with its options.

    Args:
        grammar_of: the form of the chosen reply. If it is not that of the rejected one, a pair teaches the form.
    """
    rows = []
    for sample in samples:
        if REJECTED in sample.extra:
            grammar = grammar_of(sample)
            told = (sample.question, option_lines(sample, grammar.options))
            rows.append({
                "id": sample.id, "model": sample.extra.get("model"),
                "prompt": [{"role": "user", "content": "\n".join(t for t in told if t)}],
                "chosen": [{"role": "assistant", "content": gold_reply(sample, grammar, "text")}],
                "rejected": [{"role": "assistant", "content": str(sample.extra[REJECTED])}],
            })  # fmt: skip
    return rows
