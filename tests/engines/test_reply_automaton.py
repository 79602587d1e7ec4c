"""The reply grammar over bytes and over tokens: what may follow, and nothing else."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from tests.train.conftest import GRAMMAR, new_model
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.reply import Grammar
from eosin.engines.reply_automaton import (
    HoldToGrammar,
    ReplyAutomaton,
    automaton_of,
    byte_automaton,
    reply_automaton,
    token_bytes,
)

WHOLE = "<think>Pale cells, p < 0.05, <b>.</think>\n<answer>fat</answer>"
THREE = Grammar.of("info/think/answer")


def accepts(grammar: Grammar, text: str) -> bool:
    automaton = byte_automaton(grammar)
    state = 0
    for byte in text.encode():
        state = int(automaton.follow[state, byte])
        if state < 0:
            return False
    return state == automaton.whole


@pytest.mark.parametrize(
    ("grammar", "text", "allowed"),
    [
        (GRAMMAR, WHOLE, True),
        (GRAMMAR, "<think></think><answer>x</answer>", True),  # nothing thought
        (GRAMMAR, "<think><<think</think> \n<answer></answe</answer>", True),  # pieces of tags are text
        (GRAMMAR, "<think>\u00e9</think>\n<answer>  a </answer>", True),
        (GRAMMAR, "<think>a</think>\n<answer></answer>", False),  # no answer
        (GRAMMAR, "<think>a</think>\n<answer> \n </answer>", False),
        (GRAMMAR, "<think>a</think>\n\n\n<answer>x</answer>", False),  # white space could go on for ever
        (GRAMMAR, "<think>a</think>\n<answer>x</answer>\n", False),
        (GRAMMAR, " " + WHOLE, False),
        (GRAMMAR, "<think>a<answer>b</think>\n<answer>x</answer>", False),
        (GRAMMAR, "<think>a</answer>", False),
        (GRAMMAR, "<answer>x</answer>", False),
        (THREE, "<info>i</info>\n<think>t</think>\n<answer>x</answer>", True),
        (THREE, "<info>i</info>\n<answer>x</answer>", False),
        (THREE, "<info>i</think>", False),
    ],
)
def test_what_a_reply_may_be(grammar: Grammar, text: str, allowed: bool) -> None:
    assert accepts(grammar, text) == allowed
    if allowed:
        assert isinstance(grammar.parse(text), Parsed)


@pytest.fixture(scope="module")
def held() -> ReplyAutomaton:
    return automaton_of(new_model(), GRAMMAR, [WHOLE], "here")


def test_tokens_lead_where_their_bytes_lead(held: ReplyAutomaton) -> None:
    automaton = byte_automaton(GRAMMAR)
    texts = token_bytes(new_model().processor.tokenizer)
    assert max(len(t) for t in texts if t) > 4
    for token, text in enumerate(texts):
        for state in range(held.over):
            at = state
            for byte in text or b"":
                at = int(automaton.follow[at, byte]) if at >= 0 else -1
            wanted = bool(text) and at >= 0
            ends = state == automaton.whole and token == new_model_end()
            assert bool(held.may[state, token]) == (wanted or ends)
            assert int(held.follow[state, token]) == (at if wanted else held.over)


def new_model_end() -> int:
    return int(END.processor.tokenizer.eos_token_id)


END = new_model()


@functools.cache
def states_in_text() -> np.ndarray:
    """States in a block that are no piece of a tag."""
    follow = byte_automaton(GRAMMAR).follow
    within = np.flatnonzero((follow >= 0).sum(1) > 250)
    return follow[within, ord("z")]


def random_reply(held: ReplyAutomaton, rng: np.random.Generator, plain: np.ndarray, most: int = 400) -> list[int]:
    """Tokens drawn at random of those that may follow; where one goes on with a tag, mostly such a one."""
    text = states_in_text()
    state, ids = 0, []
    while state != held.over and len(ids) < most:
        may = np.flatnonzero(held.may[state].numpy() & plain)
        tags = may[~np.isin(held.follow[state].numpy()[may], text)]
        ids.append(int(rng.choice(tags if len(tags) and rng.random() < 0.8 else may)))
        state = int(held.follow[state, ids[-1]])
    return ids if state == held.over else []


def test_whatever_is_drawn_is_parsed(held: ReplyAutomaton) -> None:
    tokenizer = END.processor.tokenizer
    plain = np.zeros(held.may.shape[1], dtype=bool)  # whole characters: a lone byte has no text to compare
    plain[[i for i, t in enumerate(token_bytes(tokenizer)) if t is not None and t.isascii()]] = True
    plain[new_model_end()] = True
    rng = np.random.default_rng(0)
    replies = [ids for ids in (random_reply(held, rng, plain) for _ in range(40)) if ids]
    assert len(replies) > 5
    for ids in replies:
        parsed = GRAMMAR.parse(tokenizer.decode(ids[:-1], skip_special_tokens=True))
        assert isinstance(parsed, Parsed) and parsed.value.answer


def test_states_of_labels_begin_anew_behind_a_gap(held: ReplyAutomaton) -> None:
    ids = END.processor.tokenizer.encode(WHOLE, add_special_tokens=False)[:6]
    labels = torch.tensor([[-100, -100, *ids], [*ids, -100, -100], [-100, *ids, -100]])
    states = held.states(labels)
    alone = held.states(torch.tensor([ids]))[0]
    assert (
        torch.equal(states[0, 2:], alone) and torch.equal(states[1, :6], alone) and torch.equal(states[2, 1:7], alone)
    )
    assert states[0, :2].tolist() == [0, 0] and alone[0] == 0 and len(set(alone.tolist())) > 2


def test_generate_is_held_row_by_row(held: ReplyAutomaton) -> None:
    hold = HoldToGrammar(held)
    prompt = torch.zeros(2, 3, dtype=torch.long)
    first = hold(prompt, torch.zeros(2, held.may.shape[1]))
    assert torch.equal(first.isfinite()[0], held.may[0]) and torch.equal(first[0], first[1])
    opened = END.processor.tokenizer.encode("<", add_special_tokens=False)[0]
    whole = int(held.may[0].nonzero()[-1])
    second = hold(torch.tensor([[0, 0, 0, opened], [0, 0, 0, whole]]), torch.zeros_like(first))
    for row, token in enumerate((opened, whole)):
        assert torch.equal(second[row].isfinite(), held.may[held.follow[0, token]])


def test_sentencepiece_tokens_and_added_ones() -> None:
    vocab = {"<unk>": 0, "\u2581a": 1, "<0x3C>": 2, "think": 3, "b": 4}
    plain = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    plain.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="<end>")
    tokenizer.add_tokens(["<answer>"])
    assert token_bytes(tokenizer)[:5] == [None, b" a", b"<", b"think", b"b"]
    assert token_bytes(tokenizer)[tokenizer.convert_tokens_to_ids("<answer>")] == b"<answer>"
    assert token_bytes(tokenizer)[tokenizer.eos_token_id] is None
    automaton = reply_automaton(GRAMMAR, tokenizer, [tokenizer.eos_token_id], len(tokenizer) + 3)
    assert automaton.may[0].nonzero()[:, 0].tolist() == [2]  # only "<" begins a reply
    assert not automaton.may[: automaton.over, -3:].any()


@pytest.mark.parametrize(
    ("grammar", "gold", "tokenizer", "message"),
    [
        (Grammar(("answer",), bare="whole"), [], None, "without tags"),
        (GRAMMAR, ["<think>a</think>\n<answer></answer>"], None, "would forbid a gold reply"),
        (GRAMMAR, [], object(), "does not tell the bytes"),
    ],
)
def test_what_cannot_be_held_says_where(grammar: Grammar, gold: list[str], tokenizer: Any, message: str) -> None:
    loaded = new_model()
    if tokenizer is not None:
        with pytest.raises(EosinError, match=message):
            token_bytes(tokenizer)
        return
    with pytest.raises(EosinError, match=message) as found:
        automaton_of(loaded, grammar, gold, "stages.rl.constrain")
    assert found.value.where == "stages.rl.constrain"
