"""Generation: order, padding, truncation, seeds; the same with any batch size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.toys import toy_image, toy_samples

from eosin.core.nouns.prompt import PromptSettings, prompt_messages, without_images
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.model import TinyModel, TinyText, TinyVision
from eosin.engines.base import Decoding, MockEngine, Request
from eosin.engines.transformers_engine import TransformersEngine
from eosin.models.load import Loaded
from eosin.models.tiny import build_tiny
from eosin.train.data.rows import corpus_of

GRAMMAR = Grammar.of("think/answer")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    settings = TinyModel(
        image_px=56,
        vocab_size=360,
        vision=TinyVision(depth=1, hidden_size=32, intermediate_size=64, num_heads=2),
        text=TinyText(hidden_size=48, intermediate_size=96, num_layers=2, num_heads=2, num_kv_heads=1),
    )
    model, processor = build_tiny(corpus_of(toy_samples(12, "train"), GRAMMAR, PromptSettings()), settings, 0)
    return TransformersEngine(Loaded(model, processor, "tiny"))


def requests() -> list[Request]:
    rng = np.random.default_rng(0)
    made = []
    for i, sample in enumerate(toy_samples(5, "test")):
        messages = prompt_messages(sample, GRAMMAR, instruction=i % 2 == 0)
        made.append(Request(sample.id, messages, (toy_image(i % 3, rng, 56 + 28 * (i % 2)),)))
    made.append(Request("no image", without_images(made[0].messages)))
    return made


def test_batches_and_order_change_nothing(engine: TransformersEngine) -> None:
    asked = requests()
    one = list(engine.generate(asked, Decoding(max_new_tokens=12, batch_size=1)))
    many = list(engine.generate(asked, Decoding(max_new_tokens=12, batch_size=6)))
    assert [g.id for g in one] == [r.id for r in asked]
    assert [(g.text, g.num_tokens) for g in one] == [(g.text, g.num_tokens) for g in many]
    sizes = [engine._encode([r])["input_ids"].shape[1] for r in asked]
    assert [g.num_prompt_tokens for g in one] == [g.num_prompt_tokens for g in many] == sizes  # padding is none


def test_a_begun_reply_stands_behind_its_prompt_and_stays_open(engine: TransformersEngine) -> None:
    asked, begun = requests()[0], "<think>The field is red.</think>"
    prompt = engine._encode([asked])["input_ids"][0].tolist()
    given = engine._encode([replace(asked, begun=begun)])["input_ids"][0].tolist()
    assert given == prompt + engine._tokenizer(begun, add_special_tokens=False)["input_ids"]
    [rest] = engine.generate([replace(asked, begun=begun)], Decoding(max_new_tokens=4))
    assert rest.num_tokens <= 4 and begun not in rest.text
    with pytest.raises(ValueError, match="begun and others"):
        list(engine.generate([asked, replace(asked, id="b", begun=begun)], Decoding()))


def test_the_cap_is_told(engine: TransformersEngine) -> None:
    [made] = engine.generate(requests()[:1], Decoding(max_new_tokens=3))
    assert made.truncated and made.num_tokens == 3


def test_sampling_is_seeded_by_the_batch(engine: TransformersEngine) -> None:
    asked = requests()[:3]

    def draw(seed: int) -> list[str]:
        return [g.text for g in engine.generate(asked, Decoding(max_new_tokens=10, temperature=1.0, seed=seed))]

    assert draw(1) == draw(1) != draw(2)


def test_the_picture_reaches_the_model(engine: TransformersEngine) -> None:
    """Tokens of the prompt are the same, the pixels are not."""
    asked = requests()
    a = engine._encode([asked[0]])
    b = engine._encode([Request("x", asked[0].messages, (toy_image(2, np.random.default_rng(9)),))])
    assert a["input_ids"].tolist() == b["input_ids"].tolist()
    assert not np.allclose(a["pixel_values"].numpy(), b["pixel_values"].numpy())


def test_mock_engine_obeys_the_cap() -> None:
    engine = MockEngine(lambda request: "one two three")
    [made] = engine.generate([Request("a", ())], Decoding(max_new_tokens=2))
    assert (made.text, made.truncated, made.num_tokens) == ("one two", True, 2)


def test_option_logprobs_are_those_of_a_plain_forward_pass(engine: TransformersEngine) -> None:
    asked = replace(requests()[0], begun="<think>It is red.</think><answer>")
    options = ["A. red tissue", "B. green tissue", "C. blue"]
    found = engine.option_logprobs(asked, options)
    wanted = []
    start = engine._encode([asked])["input_ids"].shape[1] - 4  # the last signs before an option may join its first
    for option in options:
        inputs = engine._encode([replace(asked, begun=asked.begun + option)])
        ids = inputs["input_ids"][0]
        with torch.inference_mode():
            logps = torch.log_softmax(engine._model(**inputs).logits[0].float(), -1)
        wanted.append(sum(float(logps[t - 1, ids[t]]) for t in range(start, len(ids))))
    # What all of them share at their start is left out of the found ones: differences are what counts.
    assert np.diff(found) == pytest.approx(np.diff(wanted), abs=1e-4)
