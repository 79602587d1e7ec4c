"""Drawing held to the reply grammar: which tokens may follow, for every state that a reply can be in.

The grammar is an automaton over bytes: the literal tags in their order, any text without a tag inside the blocks, up to
two characters of white space between them, and nothing behind the last. Lifted to tokens it is two tables, (states,
vocabulary): whether a token may be drawn, and the state behind it. A token may end one block and begin another.
With the tokens A(s) that state s allows, the policy that is drawn from and trained is

    p(x | s) = p(x) / sum over y in A(s) of p(y)   for x in A(s), else 0,

so that log-probabilities are exact under the mask. An end token is allowed where the reply is whole, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.models.load import Loaded, end_tokens

_SPACE = frozenset(b" \n")
_MOST_SPACE = 2


@dataclass(frozen=True)
class ByteAutomaton:
    """States and what each byte leads to.

    Attributes:
        follow: int16 (S, 256), the state behind a byte; -1 where the byte is not allowed.
        whole: the state in which the reply is complete. The state 0 is the start.
    """

    follow: np.ndarray
    whole: int


def byte_automaton(grammar: Grammar) -> ByteAutomaton:
    """The automaton of a grammar with tags. What it accepts is parsed by `Grammar.parse`; the answer is not empty.

    Raises:
        EosinError: the grammar has no tags.
    """
    if grammar.bare:
        raise EosinError(
            "Drawing cannot be held to a grammar without tags.", expected="a grammar such as think/answer",
            found=f"bare: {grammar.bare}", next_step="leave constrain out",
        )  # fmt: skip
    builder = _Builder(grammar.tags)
    start = builder.new()
    ends = [builder.gap() for _ in grammar.tags[1:]]
    whole = builder.new()
    builder.literal(start, f"<{grammar.tags[0]}>", builder.block(grammar.tags[0], [*ends, whole][0]))
    for tag, behind, gap in zip(grammar.tags[1:], [*ends[1:], whole], ends, strict=True):
        inside = builder.block(tag, behind)
        for state in range(gap, gap + _MOST_SPACE + 1):
            builder.literal(state, f"<{tag}>", inside)
    return ByteAutomaton(np.array(builder.rows, dtype=np.int16), whole)


class _Builder:
    """Rows of the table, state by state."""

    def __init__(self, tags: Sequence[str]) -> None:
        self.rows: list[list[int]] = []
        self._texts = _prefixes([f"<{slash}{tag}>".encode() for tag in tags for slash in ("", "/")])

    def new(self) -> int:
        self.rows.append([-1] * 256)
        return len(self.rows) - 1

    def gap(self) -> int:
        """States between two blocks: no white space yet, one character of it, ... up to `_MOST_SPACE`."""
        states = [self.new() for _ in range(_MOST_SPACE + 1)]
        for state, following in zip(states, states[1:], strict=False):
            for byte in _SPACE:
                self.rows[state][byte] = following
        return states[0]

    def literal(self, state: int, text: str, behind: int) -> None:
        """From a state through the bytes of a text."""
        *first, last = text.encode()
        for byte in first:
            self.rows[state][byte] = self.new()
            state = self.rows[state][byte]
        self.rows[state][last] = behind

    def block(self, tag: str, behind: int) -> int:
        """States inside a block; its closing tag leads to `behind`, and no other tag may be completed.

        A state is what of a tag has just been written (Aho and Corasick's automaton, doi 10.1145/360825.360855), and
        whether there is text yet: the answer's closing tag needs some.
        """
        empty_too = (True, False) if tag == "answer" else (False,)
        at = {(text, empty): self.new() for empty in empty_too for text in self._texts if not text.endswith(b">")}
        closing = f"</{tag}>".encode()
        for (text, empty), state in at.items():
            for byte in range(256):
                written = self._longest(text + bytes([byte]))
                if written.endswith(b">"):
                    if written == closing and not empty:
                        self.rows[state][byte] = behind
                    continue
                still = empty and (written == text + bytes([byte]) or (not text and byte in b" \n\r\t"))
                self.rows[state][byte] = at[written, still]
        return at[b"", empty_too[0]]

    def _longest(self, text: bytes) -> bytes:
        """The longest end of a text that begins, or is, a tag."""
        while text not in self._texts:
            text = text[1:]
        return text


def _prefixes(texts: Iterable[bytes]) -> dict[bytes, None]:
    return dict.fromkeys([b""] + [text[:size] for text in texts for size in range(1, len(text) + 1)])


@dataclass(frozen=True, eq=False)
class ReplyAutomaton:
    """The automaton over tokens.

    Attributes:
        may: bool (S + 1, V). The last state, behind the end or behind a token that is not allowed, allows all.
        follow: int64 (S + 1, V).
        grammar: its name.
    """

    may: Tensor
    follow: Tensor
    grammar: str

    @property
    def over(self) -> int:
        """The state behind the end."""
        return len(self.may) - 1

    def to(self, device: torch.device) -> ReplyAutomaton:
        return self if self.may.device == device else _moved(self, device)

    def step(self, states: Tensor, tokens: Tensor) -> Tensor:
        """States (B,) behind tokens (B,)."""
        return self.follow[states, tokens]

    def states(self, labels: Tensor) -> Tensor:
        """The state before each token, (B, T) of (B, T). A reply begins behind every -100, and in the first place."""
        found = torch.zeros_like(labels)
        now = torch.zeros_like(labels[:, 0])
        for t in range(labels.shape[1]):
            found[:, t] = now
            is_reply = labels[:, t] >= 0
            now = torch.where(is_reply, self.step(now, labels[:, t].clamp(min=0)), torch.zeros_like(now))
        return found

    def accepts(self, ids: Sequence[int]) -> bool:
        """Whether all of these tokens may be drawn one behind the other, from the start to the end token."""
        state = 0
        for token in ids:
            if not bool(self.may[state, token]):
                return False
            state = int(self.follow[state, token])
        return state == self.over


@cache
def _moved(automaton: ReplyAutomaton, device: torch.device) -> ReplyAutomaton:
    return ReplyAutomaton(automaton.may.to(device), automaton.follow.to(device), automaton.grammar)


def reply_automaton(grammar: Grammar, tokenizer: Any, ends: Sequence[int], size: int) -> ReplyAutomaton:
    """The automaton of a grammar over a tokenizer's tokens.

    Args:
        ends: the end tokens, which a whole reply ends with.
        size: of the logits, which may be more than the tokenizer has tokens; the rest is never drawn.

    Raises:
        EosinError: the grammar has no tags, or the tokenizer does not tell the bytes of its tokens.
    """
    automaton = byte_automaton(grammar)
    texts = token_bytes(tokenizer)[:size]
    num = len(automaton.follow)
    follow = np.full((num + 1, size), num, dtype=np.int64)
    may = np.zeros((num + 1, size), dtype=bool)
    may[num] = True
    for places, table in _by_length(texts):
        states = np.broadcast_to(np.arange(num, dtype=np.int16)[:, None], (num, len(places))).copy()
        for column in table.T:
            states = np.where(states >= 0, automaton.follow[states, column[None]], -1)
        may[:num, places] = states >= 0
        follow[:num, places] = np.where(states >= 0, states, num)
    may[automaton.whole, list(ends)] = True
    return ReplyAutomaton(torch.from_numpy(may), torch.from_numpy(follow), grammar.name)


def automaton_of(loaded: Loaded, grammar: Grammar, gold: Sequence[str], where: str) -> ReplyAutomaton:
    """What the drawing of a loaded model is held to.

    Args:
        gold: replies that must be allowed, without the end token.
        where: the setting that asks for it, for errors.

    Raises:
        EosinError: as `reply_automaton`, or a gold reply is not allowed.
    """
    tokenizer, ends = loaded.processor.tokenizer, sorted(end_tokens(loaded))
    try:
        automaton = reply_automaton(grammar, tokenizer, ends, loaded.model.get_output_embeddings().weight.shape[0])
    except EosinError as exc:
        exc.where = where
        raise
    for text in gold:
        if not automaton.accepts([*tokenizer.encode(text, add_special_tokens=False), ends[0]]):
            raise EosinError(
                "Drawing held to the grammar would forbid a gold reply.", expected=f"a reply in {grammar.name}",
                found=text[:200], where=where, next_step="leave constrain out, or mend the sample",
            )  # fmt: skip
    return automaton


def _by_length(texts: Sequence[bytes | None]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Tokens of one length at a time: their places, and their bytes (n, length)."""
    lengths = np.array([len(t) if t else 0 for t in texts])
    for length in sorted(set(lengths.tolist()) - {0}):
        places = np.flatnonzero(lengths == length)
        joined = b"".join(texts[i] or b"" for i in places.tolist())
        yield places, np.frombuffer(joined, dtype=np.uint8).reshape(len(places), length)


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """What each token writes; None for special tokens and for those that write nothing.

    Raises:
        EosinError: neither a byte-level tokenizer nor one of SentencePiece's kind.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.dumps(json.loads(backend.to_str()).get("decoder")) if backend is not None else ""
    if "ByteLevel" in decoder:
        read = _of_byte_level
    elif "ByteFallback" in decoder or "\u2581" in decoder or "\\u2581" in decoder:
        read = _of_sentencepiece
    else:
        raise EosinError(
            "Drawing cannot be held to a grammar with this tokenizer: it does not tell the bytes of its tokens.",
            expected="a byte-level tokenizer, or one of SentencePiece's kind",
            found=type(tokenizer).__name__, next_step="leave constrain out",
        )  # fmt: skip
    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids) | {i for i, t in added.items() if t.special}
    found: list[bytes | None] = []
    for i, text in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
        written = b"" if text is None or i in special else added[i].content.encode() if i in added else read(text)
        found.append(written or None)
    return found


def _of_byte_level(text: str) -> bytes:
    return bytes(_byte_letters()[c] for c in text) if all(c in _byte_letters() for c in text) else b""


def _of_sentencepiece(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace("\u2581", " ").encode()


@cache
def _byte_letters() -> dict[str, int]:
    """The letters that stand for bytes in byte-level vocabularies: printable ones for themselves, the rest from 256."""
    own = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in own]
    return {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(others)}


class HoldToGrammar(LogitsProcessor):
    """Logits of tokens that may not follow become -inf, in transformers' `generate`. One object a call."""

    def __init__(self, automaton: ReplyAutomaton) -> None:
        self._automaton = automaton
        self._states: Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """scores (B, V) with what is not allowed at -inf."""
        automaton = self._automaton.to(scores.device)
        if self._states is None:
            self._states = torch.zeros(len(input_ids), dtype=torch.long, device=scores.device)
        else:
            self._states = automaton.step(self._states, input_ids[:, -1])
        return scores.masked_fill(~automaton.may[self._states], -torch.inf)


@contextmanager
def generate_with(model: Any, make: Callable[[], LogitsProcessor]) -> Iterator[None]:
    """While entered, every call of the model's own `generate` has one more processor, a new one, behind the others."""
    own, before = model.generate, vars(model).get("generate")

    def generate(*args: Any, logits_processor: Any = None, **kwargs: Any) -> Any:
        return own(*args, logits_processor=LogitsProcessorList([*(logits_processor or []), make()]), **kwargs)

    model.generate = generate
    try:
        yield
    finally:
        if before is None:
            del model.generate
        else:
            model.generate = before


@contextmanager
def held_generate(model: Any, automaton: ReplyAutomaton | None) -> Iterator[None]:
    """What the model's own `generate` draws meanwhile is held to the grammar; without an automaton nothing changes."""
    if automaton is None:
        yield
        return
    with generate_with(model, lambda: HoldToGrammar(automaton)):
        yield
