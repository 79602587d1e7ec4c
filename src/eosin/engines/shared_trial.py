"""Whether a model can share the prompt of a group: tried on the very model, not looked up in a list of names.

Prompts with two short completions each run three ways: plainly, one sequence at a time; decoded against one copy of the
prompt; and packed in a row. The log-probabilities must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from eosin.engines.group_decode import EncodedPrompt, PromptBatch, encode_prompt, for_model
from eosin.engines.packed_rows import pack
from eosin.models import shared_prefix
from eosin.models.load import placeholder_tokens
from eosin.models.shared_prefix import Decode, PatternMask, Prefill

NUM, LENGTH = 2, 3  # completions a prompt, tokens a completion
_TRIED: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()


def unsupported(model: PreTrainedModel, prompts: Sequence[EncodedPrompt] = ()) -> str | None:
    """Why the prompt of a group cannot be shared with this model, or None.

    Args:
        prompts: real ones, with their images; without them a prompt of text is tried, once a model.
    """
    why = shared_prefix.unsuited(model)
    if why is not None:
        return why
    if prompts:
        return _tried(model, prompts)
    if model not in _TRIED:
        _TRIED[model] = _tried(model, [encode_prompt(model, _text(model, 8), {})])
    return _TRIED[model]


def _tried(model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> str | None:
    limit = 1e-3 if model.dtype == torch.float32 else 0.2  # 16 bits: the checks of a stage look closer
    was_enabled, was_training = shared_prefix.is_enabled(model), model.training
    model.eval()
    try:
        with torch.no_grad():
            apart = _apart(model, prompts)
    except Exception as exc:  # whatever a model's code throws at a mask or a batch that it does not know
        return f"a trial with it failed ({type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:160]})"
    finally:
        model.train(was_training)
        (shared_prefix.enable if was_enabled else shared_prefix.disable)(model)
    for way, difference in apart.items():
        if not difference <= limit:
            return f"in a trial its {way} log-probabilities were {difference:.1e} nats from the plain ones"
    return None


def _text(model: PreTrainedModel, num: int) -> list[int]:
    """Token ids that stand for no image, spread over the vocabulary."""
    size, banned = int(model.get_input_embeddings().num_embeddings), set(placeholder_tokens(model))
    free = [i for i in range(size) if i not in banned]
    return [free[(k * len(free)) // num + (7 * k) % 5] for k in range(num)]


def _apart(model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> dict[str, float]:
    """Largest differences from the plain way, in nats, of the decoded and of the packed way."""
    drawn = torch.tensor(_text(model, NUM * LENGTH), device=model.device).view(NUM, LENGTH).repeat(len(prompts), 1)
    shared_prefix.disable(model)
    plain = torch.stack([_plain(model, p, drawn[NUM * i + k]) for i, p in enumerate(prompts) for k in range(NUM)])
    shared_prefix.enable(model)
    ways = {"decoded": _decoded(model, prompts, drawn), "packed": _packed(model, prompts, drawn)}
    return {way: float((found - plain).abs().max()) for way, found in ways.items()}


def _plain(model: Any, prompt: EncodedPrompt, own: Tensor) -> Tensor:
    """Log-probabilities of the vocabulary at each token of one completion: (LENGTH, V)."""
    ids = torch.cat((torch.tensor(prompt.ids, device=own.device), own))[None]
    kinds = {k: torch.cat((v, v.new_zeros(1, LENGTH)), 1) for k, v in prompt.kinds.items()}
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **kinds, **prompt.pixels)
    return torch.log_softmax(out.logits[0, -LENGTH - 1 : -1].float(), -1)


def _decoded(model: Any, prompts: Sequence[EncodedPrompt], drawn: Tensor) -> Tensor:
    """The same for all completions, a token at a time against one copy of each prompt: (n NUM, LENGTH, V)."""
    batch, kept = PromptBatch.of(prompts, 0), Prefill()
    where = drawn.device
    model(
        input_ids=batch.ids, position_ids=for_model(batch.positions), use_cache=False,
        attention_mask=PatternMask.of(kept, where), **batch.pixels,
    )  # fmt: skip
    state = Decode(kept, batch.is_prompt, NUM, LENGTH)
    positions, tokens = batch.last_positions.repeat_interleave(NUM, 1), batch.last_ids.repeat_interleave(NUM)
    found = []
    for step in range(LENGTH):
        out = model(
            input_ids=tokens[:, None], position_ids=for_model(positions[:, :, None] + step), use_cache=False,
            attention_mask=PatternMask.of(state, where),
        )  # fmt: skip
        found.append(torch.log_softmax(out.logits[:, -1].float(), -1))
        state.advance()
        tokens = drawn[:, step]
    return torch.stack(found, 1)


def _packed(model: Any, prompts: Sequence[EncodedPrompt], drawn: Tensor) -> Tensor:
    """The same for all completions, packed behind their prompts: (n NUM, LENGTH, V)."""
    rows = pack(prompts, drawn, torch.ones_like(drawn, dtype=torch.bool), 0)
    out = model(
        input_ids=rows.ids, position_ids=for_model(rows.positions), use_cache=False,
        attention_mask=PatternMask.of(rows.pattern, drawn.device), **rows.pixels,
    )  # fmt: skip
    logits = out.logits[:, rows.prompt_length :].float()
    return torch.log_softmax(logits, -1).reshape(len(prompts) * NUM, LENGTH, -1)
