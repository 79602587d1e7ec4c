"""Generation with transformers on this machine: batches of equal work, greedy or sampled."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from eosin.engines.base import Decoding, Generation, Request
from eosin.engines.kept_prompts import KeptPrompts
from eosin.models.load import Loaded, end_tokens
from eosin.models.pictures import max_pixels_of, shrink
from eosin.models.template import to_chat

Watch = Callable[[int, Callable[[], str]], bool]


class TransformersEngine:
    """Answers requests with a loaded model. The same template and pictures as in training.

    Args:
        kept: beginnings of prompts, read once for all questions about the same pictures; for a model at rest.
    """

    def __init__(self, loaded: Loaded, kept: KeptPrompts | None = None) -> None:
        self.kept = kept
        self.name = f"transformers:{loaded.source}"
        self._model = loaded.model
        self._processor = loaded.processor
        self._tokenizer = loaded.processor.tokenizer
        self._ends = end_tokens(loaded)
        self._max_pixels = max_pixels_of(loaded.processor)

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Generation]:
        """Replies in the order of the requests. Sampling is seeded by the batch, so that a resume repeats it."""
        was_training = self._model.training
        self._model.eval()
        try:
            for start in range(0, len(requests), decoding.batch_size):
                batch = requests[start : start + decoding.batch_size]
                yield from self._batch(batch, decoding)
        finally:
            self._model.train(was_training)

    def option_logprobs(self, request: Request, options: Sequence[str]) -> list[float]:
        """log p of each option's tokens behind the prompt and `request.begun`: sum over t of log p(x_t | x_<t).

        The tokens that all options share with each other at their start are left out: they change no comparison.
        """
        was_training = self._model.training
        self._model.eval()
        try:
            rows = [self._encode([replace(request, begun=request.begun + o)]) for o in options]
            ids = [r["input_ids"][0].tolist() for r in rows]
            shared = len(os.path.commonprefix(ids))
            # One by one: with padding, positions of some families differ from those of a prompt alone.
            return [self._tail_logprob(r, len(own) - shared) for r, own in zip(rows, ids, strict=True)]
        finally:
            self._model.train(was_training)

    def _tail_logprob(self, inputs: Any, num: int) -> float:
        """log p of the last `num` tokens of one row given those before them."""
        if num == 0:
            return 0.0
        with torch.inference_mode():
            logits = self._model(**inputs, use_cache=False).logits[0, -num - 1 : -1]
        last = inputs["input_ids"][0, -num:, None]
        return float(torch.log_softmax(logits.float(), -1).gather(1, last).sum())

    def generate_watched(self, requests: Sequence[Request], decoding: Decoding, watch: Watch) -> list[Generation]:
        """One batch of replies, told of while they are drawn.

        Args:
            watch: is given, after every token, the place of a request and what reads its reply so far (which costs a
                decoding of all of it); where it returns False, that reply ends there.
        """
        was_training = self._model.training
        self._model.eval()
        try:
            return self._batch(requests, decoding, watch)
        finally:
            self._model.train(was_training)

    def _batch(self, batch: Sequence[Request], decoding: Decoding, watch: Watch | None = None) -> list[Generation]:
        inputs = self._encode(batch)
        sizes = inputs["attention_mask"].sum(-1).tolist()
        if self.kept is not None and not any(r.begun for r in batch):
            with torch.inference_mode():
                inputs = self.kept.begun(inputs) or inputs
        if decoding.temperature > 0:
            torch.manual_seed(_seed_of(batch, decoding.seed))
        told = None
        if watch is not None:
            start = inputs["input_ids"].shape[1]
            told = StoppingCriteriaList([_Watched(start, watch, lambda i, ids: self._read(batch[i], ids).text)])
        with torch.inference_mode():
            output = self._model.generate(**inputs, generation_config=self._config(decoding), stopping_criteria=told)
        new = output[:, inputs["input_ids"].shape[1] :]
        return [
            replace(self._read(request, ids), num_prompt_tokens=int(size))
            for request, ids, size in zip(batch, new, sizes, strict=True)
        ]

    def _encode(self, batch: Sequence[Request]) -> Any:
        chats = [to_chat(r.messages, [shrink(i, self._max_pixels) for i in r.images]) for r in batch]
        begun = {bool(r.begun) for r in batch}
        if len(begun) > 1:
            raise ValueError("a batch holds replies that are begun and others that are not")
        if begun == {True}:
            for chat, request in zip(chats, batch, strict=True):
                chat.append({"role": "assistant", "content": [{"type": "text", "text": request.begun}]})
        inputs = self._processor.apply_chat_template(
            chats,
            tokenize=True,
            add_generation_prompt=begun != {True},
            continue_final_message=begun == {True},
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        return inputs.to(self._model.device)

    def _config(self, decoding: Decoding) -> GenerationConfig:
        sampled = decoding.temperature > 0
        base = self._model.generation_config
        return GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=sampled,
            temperature=decoding.temperature if sampled else None,
            top_p=decoding.top_p if sampled else None,
            top_k=0 if sampled else None,
            eos_token_id=base.eos_token_id,
            pad_token_id=self._tokenizer.pad_token_id,
            bos_token_id=base.bos_token_id,
        )

    def _read(self, request: Request, ids: torch.Tensor) -> Generation:
        tokens = ids.tolist()
        stop = next((i for i, token in enumerate(tokens) if token in self._ends), None)
        kept = tokens if stop is None else tokens[:stop]
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        return Generation(request.id, text, len(kept) + (stop is not None), truncated=stop is None)


class _Watched(StoppingCriteria):
    """Tells of every reply after every token, and ends those that nobody waits for any more."""

    def __init__(self, start: int, watch: Watch, read: Callable[[int, torch.Tensor], str]) -> None:
        self._start, self._watch, self._read = start, watch, read

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """(B,) bool: which replies end here."""
        ended = [not self._watch(i, partial(self._read, i, row[self._start :])) for i, row in enumerate(input_ids)]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)


def _seed_of(batch: Sequence[Request], seed: int) -> int:
    return (zlib.crc32("|".join(r.id for r in batch).encode()) ^ seed) & 0x7FFFFFFF
