"""A slide's prompt is read once for all its questions: the same replies, bounded memory, else the plain way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.support.slide_toys import new_reader, toy_bag
from tests.support.toys import toy_image

from eosin.core.nouns.sample import user_prompt
from eosin.engines.base import Decoding, Request
from eosin.engines.kept_prompts import KeptPrompts
from eosin.engines.transformers_engine import TransformersEngine
from eosin.models.load import Loaded

QUESTIONS = ("Which tissue is this?", "Is there tumour?", "Which tissue is this? Look at stroma, then say all of it.")
DECODING = Decoding(max_new_tokens=12)
BAGS = [toy_bag(k, np.random.default_rng(k)) for k in range(3)]


@pytest.fixture(scope="module")
def reader() -> Loaded:
    made = new_reader()
    made.model.eval()
    return made


def engines(reader: Loaded, **more: Any) -> tuple[TransformersEngine, TransformersEngine]:
    kept = KeptPrompts(reader.model, reader.processor.tokenizer.pad_token_id, **more)
    return TransformersEngine(reader, kept), TransformersEngine(reader)


def asked(question: str, *pictures: Any) -> Request:
    return Request(question, user_prompt(question, len(pictures)), pictures)


def said(engine: TransformersEngine, *requests: Request) -> list[tuple[str, int | None]]:
    return [(g.text, g.num_tokens) for g in engine.generate(requests, DECODING)]


def test_replies_are_those_of_the_plain_way_and_a_slide_is_read_once(reader: Loaded) -> None:
    engine, plain = engines(reader)
    for question in QUESTIONS:
        assert said(engine, asked(question, BAGS[0])) == said(plain, asked(question, BAGS[0]))
    assert engine.kept is not None and engine.kept.refused is None
    assert (engine.kept.misses, engine.kept.hits) == (1, 2)


@pytest.mark.parametrize("pictures", [[BAGS[0]], [BAGS[0], BAGS[1]], ["image"], [BAGS[1], "image"]])
def test_logits_and_positions_are_those_of_the_plain_way(reader: Loaded, pictures: list[Any]) -> None:
    """Slides, images and both: of each question the next token's logits, in one batch with rests of three lengths."""
    shown = [toy_image(0, np.random.default_rng(9), 56) if p == "image" else p for p in pictures]
    engine, plain = engines(reader)
    batch = [asked(q, *shown) for q in QUESTIONS]
    assert engine.kept is not None
    with torch.inference_mode():
        told = engine.kept.begun(engine._encode(batch))
        assert told is not None
        start = told["past_key_values"].get_seq_length()
        told["input_ids"], told["position_ids"] = told["input_ids"][:, start:], told["position_ids"][..., start:]
        kept = reader.model(**told).logits[:, -1]
        for row, request in enumerate(batch):
            alone = reader.model(**plain._encode([request])).logits[0, -1]
            assert torch.allclose(kept[row], alone, atol=2e-4, rtol=2e-4)


def test_questions_about_one_slide_share_a_batch_and_others_take_the_plain_way(reader: Loaded) -> None:
    engine, plain = engines(reader)
    together = [asked(q, BAGS[0]) for q in QUESTIONS]
    assert said(engine, *together) == [said(plain, r)[0] for r in together]
    assert engine.kept is not None and (engine.kept.misses, engine.kept.hits) == (1, 0)
    mixed = [asked(QUESTIONS[0], BAGS[0]), asked(QUESTIONS[0], BAGS[1])]
    assert said(engine, *mixed) == said(plain, *mixed)
    words = Request("w", user_prompt("Which tissue?", 0), ())
    assert said(engine, words) == said(plain, words)
    assert (engine.kept.misses, engine.kept.hits) == (1, 0)


def test_memory_is_bounded_and_the_slide_longest_unused_goes(reader: Loaded) -> None:
    engine, _ = engines(reader)
    assert engine.kept is not None
    said(engine, asked(QUESTIONS[0], BAGS[0]))
    one = engine.kept.num_bytes
    assert one > 0
    engine, plain = engines(reader, limit_bytes=2 * one + one // 2)
    for bag in (BAGS[0], BAGS[1], BAGS[0], BAGS[2], BAGS[0], BAGS[1]):
        assert said(engine, asked(QUESTIONS[0], bag)) == said(plain, asked(QUESTIONS[0], bag))
        assert engine.kept is not None and engine.kept.num_bytes <= 2 * one + one // 2
    assert (engine.kept.misses, engine.kept.hits) == (4, 2)  # the second slide went when the third came
    engine, _ = engines(reader, limit_bytes=one // 2)
    said(engine, asked(QUESTIONS[0], BAGS[0]))
    assert engine.kept is not None and engine.kept.num_bytes == 0


def test_a_model_whose_logits_would_differ_takes_the_plain_way(
    reader: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine, plain = engines(reader)
    read = KeptPrompts._read

    def wrong(self: KeptPrompts, prompt: Any, size: int) -> Any:
        made = read(self, prompt, size)
        return type(made)(tuple((k + 1.0, v) for k, v in made.layers))

    monkeypatch.setattr(KeptPrompts, "_read", wrong)
    assert said(engine, asked(QUESTIONS[0], BAGS[0])) == said(plain, asked(QUESTIONS[0], BAGS[0]))
    assert engine.kept is not None and "in a trial" in (engine.kept.refused or "") and "every question" in caplog.text
