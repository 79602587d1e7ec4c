"""Scores of patches from a model: against a closed form, finite differences, and full matrices of attention."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.slide_toys import new_reader, toy_bag
from torch import Tensor, nn

from eosin.core.errors import EosinError
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import user_prompt
from eosin.engines.base import Request
from eosin.evaluate.evidence.run import answer_span
from eosin.evaluate.evidence.scores import DECODER_ONLY, MIXED, ModelEvidence, _before_decoder
from eosin.evaluate.evidence.tests import AttributionTarget

REPLY = "<think>Glands are seen.</think>\n<answer>tumour glands</answer>"
ALL = ("sensitivity", "features", "centred", "gradient", "rollout")


def asked_of(bag: PatchBag, reply: str = REPLY) -> AttributionTarget:
    span = answer_span(reply, Grammar.of("think/answer"))
    assert span is not None
    return AttributionTarget(Request("a", user_prompt("Which tissue is this?"), (bag,)), reply, span)


# ---- a linear model, in closed form --------------------------------------------------------------------------------

PAD, IMAGE, ASK, YES, NO = range(5)


class Sum(nn.Module):
    """A decoder without weights: the hidden state is the sum of all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(_attn_implementation="none", layer_types=["sum"])

    def forward(self, inputs_embeds: Tensor, attention_mask: Any = None) -> Tensor:
        return inputs_embeds.cumsum(1)


class Linear(nn.Module):
    """logit(yes) = w . sum of all tokens; all other logits are 0. Tokens of text are 0."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.language_model = Sum()
        self.device = torch.device("cpu")
        text = SimpleNamespace(layer_types=["sum"])
        self.config = SimpleNamespace(image_token_id=IMAGE, get_text_config=lambda: text)

    @property
    def base_model(self) -> nn.Module:
        return self

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, image_grid_thw: Tensor,
        use_cache: bool, logits_to_keep: Tensor,
    ) -> Any:  # fmt: skip
        embeds = torch.zeros(*input_ids.shape, pixel_values.shape[1])
        embeds[input_ids == IMAGE] = pixel_values
        hidden = self.language_model(inputs_embeds=embeds)
        logits = torch.zeros(*input_ids.shape, 5)
        logits[..., YES] = hidden @ self.weights
        return SimpleNamespace(logits=logits[:, logits_to_keep])


class Words:
    """A processor: a token a patch, one for the question, one a word of the reply."""

    def __init__(self) -> None:
        self.tokenizer = self
        self.pad_token_id = PAD

    def __call__(self, text: str, **kwargs: Any) -> dict[str, Any]:
        places = [(i, j) for i, j in zip([0, 8], [8, len(text)], strict=True)]
        return {"input_ids": [NO, YES], "offset_mapping": places}

    def apply_chat_template(self, chats: list[Any], **kwargs: Any) -> dict[str, Tensor]:
        bags = [part["image"] for chat in chats for turn in chat for part in turn["content"] if "image" in part]
        size = max(len(b) for b in bags) + 1
        ids = torch.full((len(bags), size), PAD)
        for row, bag in zip(ids, bags, strict=True):
            row[size - len(bag) - 1 :] = torch.tensor([IMAGE] * len(bag) + [ASK])
        rows = torch.cat([torch.from_numpy(b.features) for b in bags])
        grids = torch.tensor([[len(b), 1, 1] for b in bags])
        mask = (ids != PAD).long()
        return {"input_ids": ids, "attention_mask": mask, "pixel_values": rows, "image_grid_thw": grids}


@pytest.fixture
def linear() -> tuple[ModelEvidence, PatchBag, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = torch.tensor([0.3, -0.5, 0.2])
    loaded = SimpleNamespace(model=Linear(weights), processor=Words())
    bag = PatchBag("line", rng.normal(size=(6, 3)).astype(np.float32), rng.random((6, 2)), 100.0, 0.5)
    return ModelEvidence(loaded, batch_size=2), bag, weights.numpy()  # type: ignore[arg-type]


def test_scores_of_a_linear_model_in_closed_form(linear: tuple[ModelEvidence, PatchBag, np.ndarray]) -> None:
    """p = e^z / (e^z + 4) with z = sum w . x_i: the slope in every patch is (1 - p) w."""
    evidence, bag, weights = linear
    asked = AttributionTarget(Request("a", user_prompt("?"), (bag,)), "<answer>yes</answer>", (8, 11))
    z = float((bag.features @ weights).sum())
    p = np.exp(z) / (np.exp(z) + 4)
    found = evidence.scores(asked, ALL[:-1])
    assert found.logprob == pytest.approx(np.log(p), abs=1e-6)
    assert (found.num_tokens, found.num_slide_tokens) == (1, 6)
    centred = bag.features - bag.features.mean(axis=0)
    expected = {
        "gradient": (1 - p) * (bag.features @ weights),
        "centred": (1 - p) * (centred @ weights),
        "features": (1 - p) * (centred @ weights),
        "sensitivity": (1 - p) * np.linalg.norm(centred * weights, axis=1),
    }
    for name, scores in expected.items():
        np.testing.assert_allclose(found.scores[name], scores, atol=1e-6)


def test_logprobs_of_bags_of_different_size(linear: tuple[ModelEvidence, PatchBag, np.ndarray]) -> None:
    evidence, bag, weights = linear
    asked = AttributionTarget(Request("a", user_prompt("?"), (bag,)), "<answer>yes</answer>", (8, 11))
    parts = [np.arange(6), np.array([0, 5]), np.array([4]), np.array([1, 2, 3])]
    found = evidence.logprobs([asked.with_bag(bag.take(p)) for p in parts])
    z = np.array([(bag.features[p] @ weights).sum() for p in parts])
    np.testing.assert_allclose(found, z - np.log(np.exp(z) + 4), atol=1e-6)


def test_a_decoder_without_attention_has_no_rollout(linear: tuple[ModelEvidence, PatchBag, np.ndarray]) -> None:
    evidence, bag, _ = linear
    asked = AttributionTarget(Request("a", user_prompt("?"), (bag,)), "<answer>yes</answer>", (8, 11))
    found = evidence.scores(asked, ["rollout"])
    assert not found.scores and "full attention" in found.notes["rollout"]
    with pytest.raises(EosinError, match="No such method"):
        evidence.scores(asked, ["saliency"])


# ---- the slide reader ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader() -> Any:
    loaded = new_reader()
    loaded.model.double()
    return loaded


@pytest.fixture(scope="module")
def asked() -> AttributionTarget:
    return asked_of(toy_bag(1, np.random.default_rng(3), 14))


def test_gradient_is_the_slope_in_each_slide_token(reader: Any, asked: AttributionTarget) -> None:
    """Growing one token by a part of itself changes log p by its score."""
    evidence = ModelEvidence(reader)
    scores = evidence.scores(asked, ["gradient"]).scores["gradient"]
    encoded = evidence._encode([asked])
    tokens = evidence._slide_tokens(encoded, asked)
    order = reader.model.eval().slide_tokens(
        encoded.inputs["pixel_values"], encoded.inputs["image_grid_thw"])[0].order.tolist()  # fmt: skip
    step = 0.01
    for token, row in list(zip(tokens, order, strict=True))[1:6]:
        found = []
        for sign in (1, -1):

            def grow(values: dict[str, Any], token: int = token, sign: int = sign) -> None:
                values["inputs_embeds"] = values["inputs_embeds"].clone()
                values["inputs_embeds"][0, token] *= 1 + sign * step

            with torch.no_grad(), _before_decoder(reader.model, grow):
                found.append(float(evidence._answer_logprobs(encoded)[0]))
        assert (found[0] - found[1]) / (2 * step) == pytest.approx(scores[row], rel=0.01, abs=1e-6)


def test_features_is_the_slope_in_each_patch(asked: AttributionTarget) -> None:
    """Moving one patch away from the mean of the slide changes log p by its score."""
    evidence = ModelEvidence(new_reader())
    scores = evidence.scores(asked, ["features"]).scores["features"]
    step, mean = 0.05, asked.bag.features.mean(axis=0)
    for row in range(4):
        found = []
        for sign in (1, -1):
            features = asked.bag.features.copy()
            features[row] += sign * step * (features[row] - mean)
            bag = PatchBag("b", features, asked.bag.centres_um, asked.bag.tile_um, asked.bag.mpp, asked.bag.encoder)
            found.append(evidence.logprobs([asked.with_bag(bag)])[0])
        assert (found[0] - found[1]) / (2 * step) == pytest.approx(scores[row], rel=0.05, abs=6e-5)


def test_rollout_is_the_product_of_full_matrices(reader: Any, asked: AttributionTarget) -> None:
    """Against (A + I) / 2 of every layer, multiplied as whole matrices, from the model's own eager attention."""
    evidence = ModelEvidence(reader)
    encoded = evidence._encode([asked])
    flow = evidence._rollout(encoded).double()
    text = reader.model.model.language_model
    before = text.config._attn_implementation
    text.config._attn_implementation = "eager"
    try:
        kept: list[Tensor] = []
        handles = [x.self_attn.register_forward_hook(lambda m, a, out: kept.append(out[1])) for x in text.layers]
        with torch.no_grad():
            reader.model(**encoded.inputs, use_cache=False)
        for handle in handles:
            handle.remove()
    finally:
        text.config._attn_implementation = before
    total = torch.eye(encoded.ids.shape[1], dtype=torch.float64)
    for layer in kept:  # the first layer first
        attention = layer[0].mean(0).double()
        total = (attention + torch.eye(len(attention))) / 2 @ total
    rows = [p - 1 for p in encoded.answers[0]]
    torch.testing.assert_close(flow, total[rows].mean(0), atol=2e-6, rtol=1e-4)
    assert float(flow.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("pooling", ["none", "kmeans", "topk", "queries"])
def test_scores_stand_with_their_patches_whatever_the_order(pooling: str) -> None:
    loaded = new_reader(tower={"pooling": pooling, "num_tokens": 5})
    evidence, rng = ModelEvidence(loaded), np.random.default_rng(1)
    asked = asked_of(toy_bag(1, rng, 15))
    found = evidence.scores(asked, ALL)
    turned = rng.permutation(15)
    again = evidence.scores(asked.with_bag(asked.bag.take(turned)), ALL)
    assert set(found.scores) == ({"sensitivity", "features"} if pooling == "queries" else set(ALL))
    for name, scores in found.scores.items():
        assert scores.shape == (15,) and np.abs(scores).max() > 0
        np.testing.assert_allclose(again.scores[name], scores[turned], atol=1e-7)
    if pooling == "queries":
        assert found.notes["gradient"] == found.notes["rollout"] == MIXED
        return
    assert found.notes["rollout"] == DECODER_ONLY
    if pooling == "topk":
        assert (found.scores["centred"] == 0).sum() == 10 and (found.scores["rollout"] > 0).sum() == 5
    if pooling == "kmeans":
        members = loaded.processor.shown(asked.bag).row_of  # type: ignore[attr-defined]
        for row in range(5):
            assert np.ptp(found.scores["rollout"][members == row]) == 0


def test_the_model_is_left_as_it_was(asked: AttributionTarget) -> None:
    loaded = new_reader()
    loaded.model.train()
    frozen = next(loaded.model.parameters()).requires_grad_(False)
    before = loaded.model.model.language_model.config._attn_implementation
    ModelEvidence(loaded).scores(asked, ALL)
    assert loaded.model.training and not frozen.requires_grad
    assert all(p.requires_grad for p in loaded.model.parameters() if p is not frozen)
    assert all(p.grad is None for p in loaded.model.parameters())
    assert loaded.model.model.language_model.config._attn_implementation == before


def test_removing_patches_is_seen_by_the_model(reader: Any, asked: AttributionTarget) -> None:
    evidence = ModelEvidence(reader, batch_size=3)
    bags = [asked.bag, asked.bag.take(np.arange(5)), asked.bag.take(np.arange(9, 14)), asked.bag.blank()]
    together = evidence.logprobs([asked.with_bag(b) for b in bags])
    alone = [evidence.logprobs([asked.with_bag(b)])[0] for b in bags]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert len({round(v, 6) for v in together}) == 4


def test_only_the_answer_counts() -> None:
    """log p of the answer is that of its own tokens given the reasoning, as one forward pass has it."""
    loaded = new_reader()
    evidence = ModelEvidence(loaded)
    asked = asked_of(toy_bag(0, np.random.default_rng(5), 8))
    encoded = evidence._encode([asked])
    words = loaded.processor.tokenizer.decode(encoded.ids[0, encoded.answers[0]])  # type: ignore[attr-defined]
    assert words.strip("<>").strip() in ("tumour glands", "tumour glands</") and "seen" not in words
    with torch.no_grad():
        logps = torch.log_softmax(loaded.model.eval()(**encoded.inputs).logits[0].float(), -1)
    expected = sum(float(logps[p - 1, int(encoded.ids[0, p])]) for p in encoded.answers[0])
    assert evidence.logprobs([asked])[0] == pytest.approx(expected, abs=1e-4)
