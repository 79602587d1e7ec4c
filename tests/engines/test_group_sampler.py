"""Groups drawn with the prompt read once: the same greedy replies as the plain engine, seeded, left as it was found."""

from __future__ import annotations

import pytest
import torch
from tests.support.toys import toy_samples
from tests.train.conftest import GRAMMAR, new_model

from eosin.core.errors import EosinError
from eosin.core.images import load_image
from eosin.core.nouns.prompt import prompt_messages
from eosin.engines import shared_trial
from eosin.engines.base import Decoding, Request
from eosin.engines.group_sampler import EngineGroups, GroupSampler, groups_of
from eosin.engines.transformers_engine import TransformersEngine
from eosin.models import shared_prefix
from eosin.models.load import Loaded


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    found = new_model()
    with torch.no_grad():  # sharper than a random start, so that greedy choices do not hang on rounding
        for parameter in found.model.parameters():
            parameter.mul_(3.0)
    return found


def requests(num: int) -> list[Request]:
    made = []
    for i, sample in enumerate(toy_samples(num, "train")):
        messages = prompt_messages(sample, GRAMMAR, instruction=bool(i % 2))  # prompts of unequal length
        made.append(Request(sample.id, messages, tuple(load_image(r) for r in sample.images)))
    return made


def test_greedy_groups_equal_the_plain_engine(loaded: Loaded) -> None:
    decoding = Decoding(max_new_tokens=12, temperature=0.0, batch_size=6)
    plain = list(TransformersEngine(loaded).generate(requests(3), decoding))
    groups = groups_of(loaded).sample(requests(3), 2, decoding)
    assert [[g.text for g in group] for group in groups] == [[p.text] * 2 for p in plain]
    assert [[g.num_tokens for g in group] for group in groups] == [[p.num_tokens] * 2 for p in plain]
    assert [group[0].truncated for group in groups] == [p.truncated for p in plain]
    assert [g.id for g in groups[1]] == ["train-1#0", "train-1#1"]


def test_sampling_is_seeded_and_differs_within_a_group(loaded: Loaded) -> None:
    decoding = Decoding(max_new_tokens=8, temperature=2.0, batch_size=4, seed=5)
    sampler = GroupSampler(loaded)
    first = sampler.sample(requests(3), 4, decoding)
    assert first == sampler.sample(requests(3), 4, decoding)
    assert first != sampler.sample(requests(3), 4, Decoding(max_new_tokens=8, temperature=2.0, batch_size=4, seed=6))
    assert len({g.text for g in first[0]}) > 1
    assert all(g.num_tokens <= 8 for group in first for g in group)


def test_the_model_is_left_as_it_was_found(loaded: Loaded) -> None:
    loaded.model.train()
    GroupSampler(loaded).sample(requests(1), 2, Decoding(max_new_tokens=2, temperature=1.0))
    assert loaded.model.training and not shared_prefix.is_enabled(loaded.model)
    with pytest.raises(EosinError, match="whole vocabulary"):
        GroupSampler(loaded).sample(requests(1), 2, Decoding(temperature=1.0, top_p=0.9))


def test_a_model_that_cannot_share_takes_the_plain_way(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_trial, "unsupported", lambda model: "its layers are sliding_attention")
    sampler = groups_of(loaded)
    assert isinstance(sampler, EngineGroups)
    groups = sampler.sample(requests(2), 3, Decoding(max_new_tokens=4, temperature=1.0, batch_size=6))
    assert [len(g) for g in groups] == [3, 3] and len({g.text for g in groups[0]}) > 1
