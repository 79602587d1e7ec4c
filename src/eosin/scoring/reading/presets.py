"""Readings of benchmarks whose official parser differs from Eosin's, by name.

Their rules are described here and written anew from that description; a figure under such a reading stands beside the
strict one, never in its place. `differences` shows what each reading makes of one and the same replies.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.scoring.reading.answers import parse_answer

Choices = Mapping[str, str]
Read = Callable[[str, Choices], "Parsed[str] | Unparsed"]


@dataclass(frozen=True)
class ReadingPreset:
    """A named reading.

    Attributes:
        note: the rule, and how it differs from Eosin's strict one.
        read: the letter of an option for a reply and its options.
    """

    name: str
    note: str
    read: Read


_ENDS = ",.!?;:'"


def _pathmmu(text: str, choices: Choices) -> Parsed[str] | Unparsed:
    for sign in _ENDS:
        text = text.strip(sign)
    text = f" {text} "
    for form in ("({})", " {} "):
        found = [(text.rfind(form.format(c)), c) for c in choices if form.format(c) in text]
        if found:
            return Parsed(max(found)[1])
    if len(text.split()) > 5:
        folded = text.casefold()
        named = [(folded.rfind(t.casefold()), c) for c, t in choices.items() if t.casefold() in folded]
        if named:
            return Parsed(max(named)[1])
    letters = sorted(choices)
    return Parsed(letters[hashlib.sha256(text.encode("utf-8", "replace")).digest()[0] % len(letters)])


def _omnimedvqa(text: str, choices: Choices) -> Parsed[str] | Unparsed:
    if not choices:
        return Unparsed("no options")
    likeness = {c: difflib.SequenceMatcher(None, text.casefold(), t.casefold()).ratio() for c, t in choices.items()}
    return Parsed(max(likeness, key=lambda c: likeness[c]))


def _quilt_llava(text: str, choices: Choices) -> Parsed[str] | Unparsed:
    words = text.casefold().replace(",", "").split()
    said = "no" if {"no", "not"} & set(words) else "yes"
    letter = next((c for c, t in choices.items() if t.strip().casefold() == said), None)
    return Parsed(letter) if letter else Unparsed("options are not yes and no")


_REFUSES = ("sorry, i can't help", "i can't process this", "i'm sorry, but")


def _vlmevalkit(text: str, choices: Choices) -> Parsed[str] | Unparsed:
    if any(r in text.casefold() for r in _REFUSES):
        return Unparsed("refusal")
    tokens = re.sub(r"[.()\[\],:;!*#{}]", " ", text).split()
    letters = [c for c in choices if c in tokens]
    if len(letters) == 1 and not (letters == ["A"] and len(tokens) > 3):
        return Parsed(letters[0])
    folded = text.casefold()
    if len(text) <= 2 * sum(len(t) for t in choices.values()):
        named = [c for c, t in choices.items() if t.casefold() in folded]
        if len(named) == 1:
            return Parsed(named[0])
    return Unparsed("not one option")


PRESETS: dict[str, ReadingPreset] = {
    p.name: p
    for p in (
        ReadingPreset("strict", "Eosin's strict reading; it decides the score",
                      lambda text, choices: parse_answer(text, choices)),
        ReadingPreset("tolerant", "Eosin's tolerant reading; reported beside the strict one",
                      lambda text, choices: parse_answer(text, choices, strict=False)),
        ReadingPreset("pathmmu", "PathMMU's script: the last (X), else the last capital X between spaces, else, in "
        "more "
                      "than five words, the last option text; several are no fault, and where nothing is found an "
                      "option "
                      "is drawn (here by the reply's digest), so that every reply has an answer", _pathmmu),
        ReadingPreset("omnimedvqa", "OmniMedVQA's question-answering score: the option whose text is most like the "
        "reply "
                      "in letters, so that every reply has an answer and a letter alone means little", _omnimedvqa),
        ReadingPreset("quilt-llava", "Quilt-LLaVA's second yes/no score: no where the reply holds no or not, else yes",
                      _quilt_llava),
        ReadingPreset("vlmevalkit", "VLMEvalKit's exact matching, before a judge is asked: one capital letter among "
        "the "
                      "words (a lone A in more than three words does not count), else one option text in a short reply",
                      _vlmevalkit),
    )
}  # fmt: skip
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL)


def answer_part(reply: str) -> str:
    """What a benchmark's own script is given: the answer block where there is one, else what is behind the thinking."""
    found = _ANSWER.findall(reply)
    return (found[-1] if found else reply.rpartition("</think>")[2]).strip()


def differences(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each reading makes of the rows of an exam (predictions.jsonl), of the closed questions only.

    Returns:
        By name: n, accuracy, unparsed_rate, and `others`: rows that it judges otherwise than the strict reading does.
    """
    closed = [r for r in rows if r.get("choices")]
    judged: dict[str, list[tuple[bool, bool]]] = {name: [] for name in PRESETS}
    for row in closed:
        for name, preset in PRESETS.items():
            if name in ("strict", "tolerant"):  # as the exam itself read the reply, its form included
                said = row["parsed"] if name == "strict" else row["tolerant"]
                judged[name].append((said == row["answer"], said is None))
                continue
            read = preset.read(answer_part(row["reply"]), row["choices"])
            judged[name].append((read == Parsed(row["answer"]), isinstance(read, Unparsed)))
    strict = [right for right, _ in judged["strict"]]
    return {
        name: {
            "n": len(found),
            "accuracy": sum(right for right, _ in found) / len(found) if found else None,
            "unparsed_rate": sum(bad for _, bad in found) / len(found) if found else None,
            "others": sum(right != s for (right, _), s in zip(found, strict, strict=True)),
        }
        for name, found in judged.items()
    }
