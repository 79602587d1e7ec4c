"""A very small model that writes one reply by heart, so that what reads replies has something to read."""

from __future__ import annotations

from typing import Any

import torch

from eosin.evaluate.evidence.scores import ModelEvidence
from eosin.evaluate.evidence.tests import AttributionTarget


def memorise(made: Any, asked: list[AttributionTarget]) -> None:
    """Teach a model one reply to one question, with its end."""
    attributor, model = ModelEvidence(made), made.model.train()
    encoded = attributor._encode(asked)
    ends = torch.full((len(asked), 1), made.processor.tokenizer.eos_token_id)
    ids = torch.cat([encoded.ids, ends], 1)
    more = {"input_ids": ids, "attention_mask": torch.cat([encoded.inputs["attention_mask"], ends * 0 + 1], 1)}
    more["mm_token_type_ids"] = torch.cat([encoded.inputs["mm_token_type_ids"], ends * 0], 1)
    first = encoded.answers[0][0]
    optimiser = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(200):
        logps = torch.log_softmax(model(**{**encoded.inputs, **more}, use_cache=False).logits, -1)
        loss = -logps[:, first - 1 : -1].gather(2, ids[:, first:, None]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if float(loss.detach()) < 0.01:
            return
    raise AssertionError("the reply was not learned")
