"""Options that stand in the text of a question, as most public sets write them, become choices.

"Which is it?\\nA. adenoma\\nB. adenocarcinoma" with the answer "B" is a closed question. Marks are A. A) (A) [A] A: or
small letters, on lines of their own or in line, in order from A to the end. "(yes/no)" and "true or false" are options
too, where the answer is one of them. Where the answer is none of the options that are stated, nothing is guessed: the
question stays as it is, and `option_notes` names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from eosin.core.nouns.sample import Message, Sample, TextPart, make_choices

OPTIONS_KEY = "options_from"
"""Key of `Sample.extra`: "text" where the options were read from the question, "unclear" where they could not be."""
MAX_OPTIONS = 26

_MARKS = (r"\(({L})\)", r"\[({L})\]", r"({L})\)", r"({L})\.", r"({L}):")
_LETTERS = ("A-Z", "a-z")
_LINE = [re.compile(rf"^[ \t]*{m.format(L=f'[{c}]')}[ \t]*(?=\S)", re.MULTILINE) for c in _LETTERS for m in _MARKS]
_INLINE = [re.compile(rf"(?:(?<=[\s,;])|^){m.format(L=f'[{c}]')}[ \t]+(?=\S)", re.M) for c in _LETTERS for m in _MARKS]
_STRONG = [p for p in _INLINE if r"\)" in p.pattern or r"\]" in p.pattern]
_SECOND = re.compile(r"[Bb][)\].:]")
"""What stands in every text that states two options."""
_HEADER = re.compile(r"(?:^|(?<=\s))(?:answer\s+)?(?:options|choices|candidates)\s*(?:are)?\s*:?\s*$", re.IGNORECASE)
_FORM = re.compile(r"^Reply in this form: <.*$", re.MULTILINE)
_OR = r"\s*(?:/|\||,\s*or\b|,|\bor\b)\s*"
_YES_NO = re.compile(rf"\b(yes|true){_OR}(no|false)\b(?:{_OR}(maybe|unknown|unclear)\b)?", re.IGNORECASE)
_YES_NO_WORDS = frozenset({"yes", "true", "no", "false", "maybe", "unknown", "unclear"})
_LETTER = re.compile(
    r"^(?:(?:the\s+)?(?:(?:correct|right|best)\s+)?(?:answer|option|choice)\s*(?:is\b)?\s*:?\s*)?"
    r"\**[(\[]?([A-Za-z])[)\]]?\**(?:[.):,]\**\s*(.*)|\s+(.*))?$",
    re.DOTALL | re.IGNORECASE,
)
_NUMBERED = re.compile(r"^[ \t]*\(?1[).:][ \t]*\S.*^[ \t]*\(?2[).:][ \t]*\S", re.MULTILINE | re.DOTALL)
_LONE_NUMBER = re.compile(r"[(\[]?\d[)\]]?[.:]?")
_LONE_LETTER = re.compile(r"[(\[]?[A-Z][)\]]?[.:]?|[(\[][a-z][)\]]|[a-h][).:]?")


def cut_options(text: str, *, weak: bool = True) -> tuple[str, list[str]]:
    """A question without its options, and the options that stand in its text; none where the text states none.

    Args:
        weak: whether "A. " and "A: " within a line count. "Hepatitis A. The B. cells" has them too.
    """
    if not _SECOND.search(text):
        return text, []
    inline = _INLINE if weak else _STRONG
    for patterns, cut in ((_LINE, _options_on_lines), (inline, _options_in_line)):
        for pattern in patterns:
            marks = _run([*pattern.finditer(text)])
            if marks:
                options, tail = cut(text, marks)
                if all(options) and len({_folded(o) for o in options}) == len(options) <= MAX_OPTIONS:
                    return _question(text[: marks[0].start()], tail), options
    return text, []


def _run(marks: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    """The marks from the last A on, where they are A, B, C ... to the end; else none."""
    letters = [m.group(1).upper() for m in marks]
    if "A" not in letters:
        return []
    start = len(letters) - 1 - letters[::-1].index("A")
    run = letters[start:]
    in_order = run == [chr(ord("A") + i) for i in range(len(run))]
    return list(marks[start:]) if in_order and len(run) > 1 else []


def _options_on_lines(text: str, marks: Sequence[re.Match[str]]) -> tuple[list[str], str]:
    """An option ends at the next mark; the last one at its line's end, unless an earlier one is longer than a line."""
    ends = [m.start() for m in marks[1:]]
    options = [text[m.end() : end].strip() for m, end in zip(marks, ends, strict=False)]
    last, tail = text[marks[-1].end() :].strip(), ""
    if not any("\n" in o for o in options):
        last, _, tail = last.partition("\n")
    return [o.strip().rstrip(",;") for o in (*options, last)], tail


def _options_in_line(text: str, marks: Sequence[re.Match[str]]) -> tuple[list[str], str]:
    ends = [m.start() for m in marks[1:]]
    options = [text[m.end() : end].strip() for m, end in zip(marks, ends, strict=False)]
    last, _, tail = text[marks[-1].end() :].partition("\n")
    return [re.sub(r"[,;]?(?:\s+(?:and|or))?$", "", o.strip()) for o in (*options, last)], tail


def _question(head: str, tail: str) -> str:
    head = _HEADER.sub("", head.strip()).strip()
    tail = _FORM.sub("", tail).strip()  # the form that Eosin itself asked for is asked for again
    return "\n".join(t for t in (head, tail) if t)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .*")


def letter_of(answer: str, options: Sequence[str]) -> str | None:
    """The letter of an answer that is a letter, a letter with its option, or an option. Both must agree."""
    folded = [_folded(o) for o in options]
    plain = _folded(answer)
    by_text = chr(ord("A") + folded.index(plain)) if plain in folded else None
    match = _LETTER.match(answer.strip())
    if match is None or ord(match.group(1).upper()) - ord("A") >= len(options):
        return by_text
    letter = match.group(1).upper()
    said = _folded(match.group(2) or match.group(3) or "")
    by_letter = letter if not said or said == folded[ord(letter) - ord("A")] else None
    if by_text is None or by_letter is None:
        return by_text or by_letter
    return by_text if by_text == by_letter else None  # options that are letters themselves


def is_lone_letter(answer: str) -> bool:
    """Whether an answer is a letter and nothing else: without options nobody can tell what it means."""
    return _LONE_LETTER.fullmatch(answer.strip()) is not None


def with_options(messages: Sequence[Message], answer: str | None) -> dict[str, Any]:
    """Fields of a sample whose last message may state its options: messages, choices, answer; and how, under `how`.

    Without stated options `how` is None. Where they do not fit the answer it is "unclear", and all stays as it was.
    """
    as_it_was = {"messages": tuple(messages), "answer": answer, "how": None}
    if not messages:
        return as_it_was
    *earlier, last = messages
    for i in range(len(last.parts) - 1, -1, -1):
        part = last.parts[i]
        if not isinstance(part, TextPart):
            continue
        question, options = cut_options(part.text, weak=answer is not None)
        if not options:
            continue
        letter = None if answer is None else letter_of(answer, options)
        if answer is not None and letter is None:
            stated = is_lone_letter(answer) or cut_options(part.text, weak=False)[1]
            return {**as_it_was, "how": "unclear" if stated else None}
        alone = not any(isinstance(p, TextPart) and p.text.strip() for j, p in enumerate(last.parts) if j != i)
        kept = TextPart(text=question or ("Which option is right?" if alone else ""))
        parts = (*last.parts[:i], *([kept] if kept.text else []), *last.parts[i + 1 :])
        message = last.model_copy(update={"parts": parts})
        return {"messages": (*earlier, message), "choices": make_choices(options), "answer": letter, "how": "text"}
    found = _YES_NO.search(last.text) if answer is not None and _folded(answer) in _YES_NO_WORDS else None
    if found and answer is not None:
        options = [o for o in found.groups() if o]
        if _folded(answer) in [_folded(o) for o in options]:
            return {**as_it_was, "choices": make_choices(options), "answer": letter_of(answer, options), "how": "text"}
    if answer is not None and _LONE_NUMBER.fullmatch(answer.strip()) and _NUMBERED.search(last.text):
        return {**as_it_was, "how": "unclear"}  # numbered options are not guessed: lists of findings look the same
    return as_it_was


def option_notes(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Sentences for the user: how many questions had their options in the text, and which could not be read."""
    read: list[Sample] = []
    unclear: list[str] = []
    for sample in samples:
        how = sample.extra.get(OPTIONS_KEY)
        if how == "text":
            read.append(sample)
        elif how == "unclear" or (not sample.choices and sample.answer is not None and is_lone_letter(sample.answer)):
            unclear.append(sample.id)
    notes = []
    if read:
        first = read[0]
        shown = " / ".join(f"{c.letter}. {c.text:.40}" for c in first.choices)
        notes.append(f"The options of {len(read)} questions were read from their text, for example of {first.id}: "
                     f"{shown} (right: {first.answer}).")  # fmt: skip
    if unclear:
        more = f" and {len(unclear) - 8} more" if len(unclear) > 8 else ""
        notes.append(f"{len(unclear)} questions seem to have options that cannot be read from their text, or an answer "
                     f"that is none of them; they are open questions: {', '.join(unclear[:8])}{more}.")  # fmt: skip
    return tuple(notes)
