"""A model that cannot share a prompt is found by trying it, with the reason, and is left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.train.conftest import new_model

from eosin.core.errors import EosinError
from eosin.engines import shared_trial
from eosin.models import shared_prefix
from eosin.train.rl.trl_overrides import one_image_each


def test_a_model_that_shares_passes_and_stays_as_it_was() -> None:
    model = new_model().model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert shared_trial.unsupported(model) is None
    assert model.training and not shared_prefix.is_enabled(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_model_whose_attention_looks_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets_the_prompt(self: Any, layer: int, query: Any, key: Any, value: Any, scale: float) -> Any:
        return shared_prefix.causal(query, key, value, scale)  # replies see each other, as in a plain row

    model = new_model().model
    with torch.no_grad():  # random weights of the usual size attend to all tokens nearly alike
        for name, weight in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")):
                weight.mul_(8)
    monkeypatch.setattr(shared_prefix.Packed, "attend", forgets_the_prompt)
    assert "its packed log-probabilities were" in (shared_trial.unsupported(model) or "")


def test_a_model_that_raises_is_found_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model().model

    def raises(*_: Any, **__: Any) -> Any:
        raise AttributeError("'PatternMask' object has no attribute 'window'")

    monkeypatch.setattr(shared_prefix.Prefill, "attend", raises)
    why = shared_trial.unsupported(model) or ""
    assert "a trial with it failed (AttributeError" in why and "window" in why
    assert not shared_prefix.is_enabled(model)


def test_other_settings_are_refused_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model().model
    monkeypatch.setattr(shared_trial, "_tried", lambda *_: pytest.fail("no trial is needed"))
    text = model.config.text_config
    text.layer_types = ["sliding_attention"] * len(text.layer_types)
    assert "sliding_attention" in (shared_trial.unsupported(model) or "")
    text.layer_types, text.sliding_window = None, 4096
    assert "slides over a window" in (shared_trial.unsupported(model) or "")


def test_several_images_are_refused_where_trl_cannot_tell_the_model() -> None:
    one_image_each(None)
    one_image_each([1, 1])
    with pytest.raises(EosinError, match="several images"):
        one_image_each(torch.tensor([1, 2]))
