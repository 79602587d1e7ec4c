"""The reply grammar: exactly one of each block, in order, nothing outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.reply import Grammar, Reply

TA = Grammar.of("think/answer")
ITA = Grammar.of("info/think/answer")
OTA = Grammar.of("observe/think/answer")

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).map(str.strip)


@given(texts, texts, texts, st.sampled_from([TA, ITA, OTA]))
def test_what_is_rendered_parses_to_the_same(a: str, b: str, c: str, grammar: Grammar) -> None:
    blocks = dict(zip(grammar.tags, (a, b, c)[-len(grammar.tags) :], strict=True))
    if any(f"<{slash}{tag}>" in text for text in blocks.values() for tag in grammar.tags for slash in ("", "/")):
        with pytest.raises(EosinError, match="holds a tag"):
            grammar.render(blocks)
        return
    assert grammar.parse(grammar.render(blocks)) == Parsed(Reply(blocks))
    assert grammar.parse_tolerant(grammar.render(blocks)) == (
        Parsed(Reply(blocks)) if blocks["answer"] else Unparsed("no answer block")
    )


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("<think>a</think><answer>b</answer>", {"think": "a", "answer": "b"}),
        ("words <think>a</think> words <answer>b</answer>", {"think": "a", "answer": "b"}),
        ("<think>a<answer>b</answer>", {"think": "a", "answer": "b"}),
        ("<think>a</think><answer>b.</think>", {"think": "a", "answer": "b."}),
        ("<think>a</think><answer>b</think></answer>\n", {"think": "a", "answer": "b"}),
        ("<think>a</think><answer>b", {"think": "a", "answer": "b"}),
        ("<think>a</think><answer>b</answer> or c", {"think": "a"}),
        ("<think>a</think><answer>b</think> or c</answer>", {"think": "a"}),
        ("<think>a</think><answer>b<think>c</think>", {}),
        ("<think>a</think><think>b</think><answer>c</answer>", {"answer": "c"}),
        ("<think>a</think><answer>b</answer><answer>c</answer>", {"think": "a"}),
        ("<think><answer>b</answer></think>", {"think": ""}),
        ("a </think> <answer>b</answer>", {"answer": "b"}),
        ("b", {}),
    ],
)
def test_blocks_that_can_be_read_in_a_broken_form(text: str, blocks: dict[str, str]) -> None:
    assert TA.readable_blocks(text) == blocks


@given(texts, texts, texts, st.sampled_from([TA, ITA, OTA]))
def test_what_parses_is_readable_as_it_parses(a: str, b: str, c: str, grammar: Grammar) -> None:
    text = "".join(f"<{t}>{x}</{t}>" for t, x in zip(grammar.tags, (a, b, c), strict=False))
    parsed = grammar.parse(text)
    if isinstance(parsed, Parsed):
        assert grammar.readable_blocks(text) == dict(parsed.value.blocks)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no <think>"),
        ("<answer>A</answer>", "no <think>"),
        ("<think>x</think>", "no <answer>"),
        ("<think>x<answer>A</answer>", "<think> not closed"),
        ("<think>x</think><answer>A", "<answer> not closed"),
        ("<think>x</think><answer>A</answer><answer>B</answer>", "<answer> more than once"),
        ("<think>x</think></think><answer>A</answer>", "<think> more than once"),
        ("<answer>A</answer><think>x</think>", "blocks out of order or nested"),
        ("<think>x<answer>A</answer></think>", "blocks out of order or nested"),
        ("Sure. <think>x</think><answer>A</answer>", "text outside the blocks"),
        ("<think>x</think> so <answer>A</answer>", "text outside the blocks"),
        ("<think>x</think><answer>A</answer>.", "text outside the blocks"),
        ("<THINK>x</THINK><answer>A</answer>", "no <think>"),
        ("<think >x</think><answer>A</answer>", "no <think>"),
    ],
)
def test_strict_faults(text: str, reason: str) -> None:
    assert TA.parse(text) == Unparsed(reason)


def test_white_space_around_blocks_is_allowed() -> None:
    parsed = TA.parse("\n <think>\n x\n</think>\n\n<answer> A </answer>\n")
    assert parsed == Parsed(Reply({"think": "x", "answer": "A"}))


def test_tags_of_another_grammar_are_only_text() -> None:
    assert TA.parse("<think><info>x</info></think><answer>A</answer>") == Parsed(
        Reply({"think": "<info>x</info>", "answer": "A"})
    )
    assert isinstance(ITA.parse("<observe>x</observe><think>y</think><answer>A</answer>"), Unparsed)


def test_findings_under_either_tag() -> None:
    for grammar in (ITA, OTA):
        text = f"<{grammar.tags[0]}>glands</{grammar.tags[0]}><think>y</think><answer>A</answer>"
        parsed = grammar.parse(text)
        assert isinstance(parsed, Parsed)
        assert parsed.value.findings == "glands"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("well <answer>A</answer>", "A"),
        ("<answer>A</answer> no <answer>B</answer>", "B"),
        ("<think>x</think><answer>B. cut o", "B. cut o"),
        ("<think>x<answer>C", "C"),
    ],
)
def test_tolerant_takes_the_last_block(text: str, answer: str) -> None:
    parsed = TA.parse_tolerant(text)
    assert isinstance(parsed, Parsed)
    assert parsed.value.answer == answer


@pytest.mark.parametrize("text", ["The answer is B.", "<answer></answer>", "<think>B</think>", "B"])
def test_tolerant_never_searches_the_whole_reply(text: str) -> None:
    assert TA.parse_tolerant(text) == Unparsed("no answer block")


@given(st.lists(st.text("abc defg,;", min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_numbered_steps_come_back(steps: list[str]) -> None:
    grammar = Grammar.of("think/answer", numbered_steps=True)
    steps = [s.strip() for s in steps]
    assert grammar.split_steps(grammar.join_steps(steps)) == tuple(steps)


def test_sentences_are_steps_where_nothing_is_numbered() -> None:
    steps = ("Glands are crowded.", "Is it invasive?", "Nuclei measure 7.5 um.")
    assert TA.split_steps(TA.join_steps(steps)) == steps
    assert TA.split_steps("") == ()


@pytest.mark.parametrize("name", ["think", "", "answer/answer", "Think/answer", "think/ans wer/answer", "/answer"])
def test_bad_tag_sets(name: str) -> None:
    with pytest.raises(EosinError, match="tag set"):
        Grammar.of(name)


def test_render_needs_every_block() -> None:
    with pytest.raises(EosinError, match="each of its blocks"):
        TA.render({"answer": "A"})


def test_the_last_tag_is_the_answer() -> None:
    with pytest.raises(EosinError, match="tag set"):
        Grammar.of("answer/think")


def test_instruction_shows_the_form() -> None:
    assert ITA.instruction() == "Reply in this form: <info>...</info><think>...</think><answer>...</answer>"


pieces = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", " ", "x"])


@given(
    st.lists(pieces, max_size=9).map("".join) | st.permutations(["<think>x</think>", "<answer>A</answer>"]).map("".join)
)
def test_only_one_order_of_tags_parses(text: str) -> None:
    parsed = TA.parse(text)
    squeezed = text.replace(" ", "")
    ok = squeezed.replace("x", "").replace("A", "") == "<think></think><answer></answer>"
    outside = squeezed.startswith("x") or squeezed.endswith("x") or "</think>x" in squeezed
    assert isinstance(parsed, Parsed) == (ok and not outside)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think><answer>B</answer> sure", "B"),
        ("<think>a<answer>B</answer>", "B"),  # think is not closed: no block around the answer
        ("<think>a<answer>B</answer></think>", None),
        ("<answer>A</answer><answer>B</answer>", None),
        ("<answer>B", None),
        ("</answer>B<answer>", None),
        ("<answer>B<think></answer>", None),
        ("B", None),
    ],
)
def test_one_answer_block_whatever_stands_around_it(text: str, expected: str | None) -> None:
    found = Grammar.of("think/answer").one_answer(text)
    assert (found.value if isinstance(found, Parsed) else None) == expected


def test_the_first_closed_block_of_each_tag() -> None:
    grammar = Grammar.of("observe/think/answer")
    text = "<think>1</think><observe>2</observe><think>3</think><answer>4"
    assert grammar.first_blocks(text) == {"think": "1", "observe": "2"}
    assert grammar.first_blocks(text, or_whole=True) == {"think": "1", "observe": "2", "answer": text}
    assert grammar.first_blocks(" x ", or_whole=True) == {"think": "x", "answer": "x"}
    assert grammar.first_blocks("</think>x<think>") == {}


def test_blocks_one_after_the_other_somewhere() -> None:
    grammar = Grammar.of("observe/think/answer")
    good = "<observe>a</observe>\n<think>b</think> <answer>c</answer>"
    assert grammar.is_somewhere(f"so {good} yes") and grammar.is_somewhere(f"<observe>{good}")
    for bad in ("", good.replace("\n", "x"), good.replace("</answer>", ""), good.replace("<observe>", "")):
        assert not grammar.is_somewhere(bad)


def test_the_prompt_may_ask_for_a_chain_of_thought_or_of_drafts() -> None:
    """Patho-R1 has prompts of both kinds; the form of the reply is the same."""
    plain = Grammar.of("think/answer")
    draft = Grammar.of("think/answer", think_style="chain-of-draft")
    assert draft.instruction().startswith(plain.instruction()) and "at most five words" in draft.instruction()
    assert "step by step" in Grammar.of("think/answer", think_style="chain-of-thought").instruction()
    assert plain.as_facts() == {"tags": "think/answer", "numbered_steps": False}
    facts = draft.as_facts()
    assert Grammar.of(facts.pop("tags"), **facts) == draft
