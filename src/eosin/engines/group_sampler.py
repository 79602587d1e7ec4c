"""Several replies to each request. Where the model allows it, image and prompt are read once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from eosin.core.errors import EosinError
from eosin.engines import shared_trial
from eosin.engines.base import Decoding, Engine, Generation, Request
from eosin.engines.group_decode import EncodedPrompt, SamplingParams, encode_prompt, sample_groups
from eosin.engines.transformers_engine import TransformersEngine
from eosin.models import shared_prefix
from eosin.models.load import Loaded, end_tokens, placeholder_tokens
from eosin.models.pictures import max_pixels_of, shrink
from eosin.models.template import to_chat


class SamplesGroups(Protocol):
    """Anything that draws several replies to each request."""

    name: str

    def sample(self, requests: Sequence[Request], num: int, decoding: Decoding) -> list[list[Generation]]:
        """`num` replies to every request, in the order of the requests, with ids "17#0", "17#1", ...

        The same requests and seed draw the same replies. `decoding.batch_size` counts replies.
        """
        ...


class EngineGroups:
    """Groups from any engine: every request is put `num` times."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self._engine = engine

    def sample(self, requests: Sequence[Request], num: int, decoding: Decoding) -> list[list[Generation]]:
        copies = [replace(r, id=f"{r.id}#{i}") for r in requests for i in range(num)]
        replies = list(self._engine.generate(copies, decoding))
        if [r.id for r in replies] != [c.id for c in copies]:
            raise EosinError(
                "The engine did not answer every request in order.",
                expected=f"{len(copies)} replies",
                found=f"{len(replies)} replies",
            )
        return [replies[i : i + num] for i in range(0, len(replies), num)]


class GroupSampler:
    """Groups from a loaded model, with image and prompt read once a request (`engines.group_decode`).

    Only for models that `engines.shared_trial.unsupported` has nothing against; `groups_of` chooses. Sampling draws
    from the whole vocabulary: `decoding.top_p` must be 1.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.name = f"shared prompt:{loaded.source}"
        self._model = loaded.model
        self._processor = loaded.processor
        self._ends = end_tokens(loaded)
        self._max_pixels = max_pixels_of(loaded.processor)
        self._banned = placeholder_tokens(loaded.model)

    def sample(self, requests: Sequence[Request], num: int, decoding: Decoding) -> list[list[Generation]]:
        if decoding.top_p != 1.0:
            raise EosinError(
                "Groups are drawn from the whole vocabulary.", expected="top_p 1", found=str(decoding.top_p)
            )
        size = max(1, decoding.batch_size // num)
        groups: list[list[Generation]] = []
        was_training, was_shared = self._model.training, shared_prefix.is_enabled(self._model)
        self._model.eval()
        shared_prefix.enable(self._model)
        try:
            torch.manual_seed(decoding.seed)
            for start in range(0, len(requests), size):
                groups += self._batch(requests[start : start + size], num, decoding)
        finally:
            self._model.train(was_training)
            if not was_shared:
                shared_prefix.disable(self._model)
        return groups

    def _batch(self, batch: Sequence[Request], num: int, decoding: Decoding) -> list[list[Generation]]:
        tokenizer = self._processor.tokenizer
        sampling = SamplingParams(
            num, decoding.max_new_tokens, decoding.temperature, tuple(sorted(self._ends)), tokenizer.pad_token_id,
            self._banned,
        )  # fmt: skip
        drawn = sample_groups(self._model, [self._encode(r) for r in batch], sampling).ids
        return [
            [self._read(f"{r.id}#{i}", drawn[place * num + i]) for i in range(num)] for place, r in enumerate(batch)
        ]

    def _encode(self, request: Request) -> EncodedPrompt:
        chat = to_chat(request.messages, [shrink(i, self._max_pixels) for i in request.images])
        inputs = self._processor.apply_chat_template(
            [chat], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        fields = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}
        return encode_prompt(self._model, inputs["input_ids"][0].tolist(), fields)

    def _read(self, id: str, ids: Sequence[int]) -> Generation:
        ended = bool(ids) and ids[-1] in self._ends
        kept = list(ids[:-1]) if ended else list(ids)
        text = self._processor.tokenizer.decode(kept, skip_special_tokens=True)
        return Generation(id, text, len(ids), truncated=not ended)


def groups_of(loaded: Loaded) -> SamplesGroups:
    """The fastest way to draw groups from this model."""
    if shared_trial.unsupported(loaded.model) is None:
        return GroupSampler(loaded)
    return EngineGroups(TransformersEngine(loaded))
