"""Which patches a reply depends on: a score per patch from a loaded model (docs/evidence.md).

What is attributed is log p of a part of the reply (`Asked.span`: all of it, or the answer block's text): the sum over
its tokens, given the prompt and all that stands before it in the reply. Of the answer alone the reasoning is context:
a model that copies its answer from there has next to no slope left in the slide.

- gradient: gradient x input on the slide tokens that enter the decoder, summed over the width of a token.
- centred: the same with the mean of the slide's tokens taken from each. What all patches share says nothing of one.
- features: gradient x (features - their mean over the slide), summed, through the slide tower.
- sensitivity: the length of that product instead of its sum: how much, not in which direction.
- rollout: attention rollout (Abnar and Zuidema 2020, arXiv:2005.00928, eq. 1) from the positions that predict the
  part down to the slide tokens: v <- v (A + I) / 2 a layer, A averaged over heads. Only the vector v is kept; rows
  of A are made again from queries and keys, some at a time, so that no (T, T) matrix exists.

Torch is imported inside functions: exams that measure no evidence do without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.core.nouns.bags import F64
from eosin.core.settings.exam import EvidenceMethod
from eosin.evaluate.evidence.tests import Attribution, AttributionTarget

if TYPE_CHECKING:
    from torch import Tensor

    from eosin.models.load import Loaded

DECODER_ONLY = "through the decoder's layers only; the slide tower's attention is not followed"
MIXED = "every slide token draws on all patches (learned queries): ask for sensitivity or features"
METHODS = get_args(EvidenceMethod)
ON_TOKENS, ON_FEATURES = ("gradient", "centred"), ("features", "sensitivity")
_PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True)
class _Encoded:
    """Prompts with their replies, padded on the left.

    Attributes:
        inputs: arguments of the model. ids: (B, T). answers: places of each reply's answer tokens in its row of `ids`.
    """

    inputs: dict[str, Any]
    ids: Tensor
    answers: list[list[int]]


@dataclass(frozen=True)
class _Slopes:
    """log p and its slopes: (inputs, gradients) of the slide tokens (T, W), and of the rows of features (R, D)."""

    logprob: float
    tokens: tuple[Tensor, Tensor]
    features: tuple[Tensor, Tensor] | None

    def on_tokens(self, rows_T: NDArray[np.int64], *, centred: bool) -> F64:
        """Gradient x input of each token (T,); the mean is that of the tokens that stand for patches."""
        inputs, slopes = self.tokens
        if centred:
            inputs = inputs - inputs[(rows_T >= 0).tolist()].mean(0)
        return np.asarray((inputs * slopes).sum(-1).cpu().numpy())

    def on_features(self, *, signed: bool) -> F64:
        """Sum, or length, of gradient x centred features of each row (R,)."""
        assert self.features is not None
        inputs, slopes = self.features
        product = (inputs - inputs.mean(0)) * slopes
        return np.asarray((product.sum(-1) if signed else product.norm(dim=-1)).cpu().numpy())


class ModelEvidence:
    """An `evidence_tests.Attributor` from a loaded model. The model is left as it was found.

    Args:
        batch_size: bags that are read together where no gradient is needed.
    """

    def __init__(self, loaded: Loaded, *, batch_size: int = 4) -> None:
        from eosin.models.pictures import max_pixels_of

        self._model: Any = loaded.model
        self._processor: Any = loaded.processor
        self._max_pixels = max_pixels_of(loaded.processor)
        self._batch_size = batch_size

    def logprobs(self, asked: Sequence[AttributionTarget]) -> list[float]:
        """log p of each answer; see `evidence_tests.Attributor`."""
        import torch

        found: list[float] = []
        with torch.no_grad(), _resting(self._model):
            for start in range(0, len(asked), self._batch_size):
                encoded = self._encode(asked[start : start + self._batch_size])
                found += [float(v) for v in self._answer_logprobs(encoded)]
        return found

    def scores(self, asked: AttributionTarget, methods: Sequence[str]) -> Attribution:
        """Scores of every patch for the answer.

        Raises:
            EosinError: no such method; the model's decoder was not found; slide tokens that do not fit the bag.
        """
        strange = sorted(set(methods) - set(METHODS))
        if strange:
            raise EosinError("No such method.", expected=", ".join(METHODS), found=", ".join(strange))
        found: dict[str, F64] = {}
        notes: dict[str, str] = {}
        with _resting(self._model):
            encoded = self._encode([asked])
            places = self._slide_tokens(encoded, asked)
            with _rows_of_tokens(self._model) as rows:
                slopes = self._gradients(encoded, asked, places, with_features=bool(set(methods) & set(ON_FEATURES)))
            rows_T = self._rows_of(asked, len(places), rows[asked.slide] if rows else None)
            if (rows_T < 0).all():
                notes |= dict.fromkeys({*ON_TOKENS, "rollout"} & set(methods), MIXED)
                methods = [m for m in methods if m in ON_FEATURES]
            for name in methods:
                if name == "rollout" and (reason := self._no_rollout()) is not None:
                    notes[name] = reason
                elif name == "rollout":
                    notes[name] = DECODER_ONLY
                    found[name] = self._spread(asked, self._rollout(encoded)[places].double().cpu().numpy(), rows_T)
                elif name in ON_TOKENS:
                    found[name] = self._spread(asked, slopes.on_tokens(rows_T, centred=name == "centred"), rows_T)
                else:
                    values = slopes.on_features(signed=name == "features")
                    found[name] = self._spread(asked, values, np.arange(len(values)))
        return Attribution(found, slopes.logprob, len(encoded.answers[0]), len(places), notes)

    # ---- prompts and replies as tokens -----------------------------------------------------------------------------

    def _encode(self, asked: Sequence[AttributionTarget]) -> _Encoded:
        """Prompts as the engine puts them, with the replies behind them."""
        import torch

        from eosin.models.pictures import shrink
        from eosin.models.template import to_chat

        chats = [to_chat(a.request.messages, [shrink(p, self._max_pixels) for p in a.request.images]) for a in asked]
        fields = self._processor.apply_chat_template(
            chats, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )  # fmt: skip
        replies = [self._reply_tokens(a) for a in asked]
        kinds = next((k for k in ("mm_token_type_ids", "token_type_ids") if k in fields), None)
        prompts = [fields["attention_mask"][i].bool() for i in range(len(asked))]
        rows = [
            torch.cat([fields["input_ids"][i][p], r])
            for i, (p, (r, _)) in enumerate(zip(prompts, replies, strict=True))
        ]
        size = max(len(r) for r in rows)
        ids = torch.full((len(rows), size), int(self._processor.tokenizer.pad_token_id))
        mask, kind = torch.zeros_like(ids), torch.zeros_like(ids)
        answers = []
        for i, (row, (reply, own)) in enumerate(zip(rows, replies, strict=True)):
            ids[i, size - len(row) :], mask[i, size - len(row) :] = row, 1
            if kinds is not None:
                kind[i, size - len(row) : size - len(reply)] = fields[kinds][i][prompts[i]].to(kind.dtype)
            answers.append([size - len(reply) + place for place in own])
        inputs = {k: v for k, v in fields.items() if k not in _PER_TOKEN}
        inputs |= {"input_ids": ids, "attention_mask": mask, **({kinds: kind} if kinds else {})}
        where = self._model.device
        inputs = {k: v.to(where) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        return _Encoded(inputs, inputs["input_ids"], answers)

    def _reply_tokens(self, asked: AttributionTarget) -> tuple[Tensor, list[int]]:
        """The reply as tokens, and which of them hold a character of the answer."""
        import torch

        from eosin.models.template import escape_special

        start, end = asked.span
        parts = [escape_special(p) for p in (asked.reply[:start], asked.reply[start:end], asked.reply[end:])]
        first, last = len(parts[0]), len(parts[0]) + len(parts[1])
        told = self._processor.tokenizer("".join(parts), add_special_tokens=False, return_offsets_mapping=True)
        own = [i for i, (a, b) in enumerate(told["offset_mapping"]) if a < last and b > first]
        if not own:
            raise EosinError("There is no answer whose evidence could be sought.", found=asked.reply[:80])
        return torch.tensor(told["input_ids"], dtype=torch.long), own

    def _answer_logprobs(self, encoded: _Encoded) -> Tensor:
        """log p of every answer (B,). Logits are made only where a token of an answer is predicted."""
        import torch

        places = torch.tensor(sorted({p - 1 for row in encoded.answers for p in row}), device=encoded.ids.device)
        out = self._model(**encoded.inputs, use_cache=False, logits_to_keep=places)
        logps_BKV = torch.log_softmax(out.logits.to(torch.promote_types(out.logits.dtype, torch.float32)), -1)
        column = {int(p): i for i, p in enumerate(places.tolist())}
        sums = []
        for i, row in enumerate(encoded.answers):
            at = torch.tensor([column[p - 1] for p in row], device=places.device)
            sums.append(logps_BKV[i, at].gather(1, encoded.ids[i, row][:, None]).sum())
        return torch.stack(sums)

    # ---- attribution -----------------------------------------------------------------------------------------------

    def _gradients(
        self, encoded: _Encoded, asked: AttributionTarget, places: list[int], *, with_features: bool
    ) -> _Slopes:
        """log p and its slopes in the slide tokens and, through the tower, in the patch features."""
        import torch

        kept: dict[str, Tensor] = {}

        def take(values: dict[str, Any]) -> None:
            embeds = values["inputs_embeds"]
            kept["embeds"] = embeds if embeds.requires_grad else embeds.detach().requires_grad_()
            values["inputs_embeds"] = kept["embeds"]

        inputs = dict(encoded.inputs)
        if with_features:
            inputs["pixel_values"] = inputs["pixel_values"].detach().clone().requires_grad_()
        with torch.enable_grad(), _frozen(self._model), _before_decoder(self._model, take):
            logprob = self._answer_logprobs(_Encoded(inputs, encoded.ids, encoded.answers))[0]
            sources = [kept["embeds"], *([inputs["pixel_values"]] if with_features else [])]
            slopes = torch.autograd.grad(logprob, sources)
        tokens = kept["embeds"].detach()[0, places].double(), slopes[0][0, places].double()
        features = None
        if with_features:
            grid = encoded.inputs["image_grid_thw"]
            first = int(grid[: asked.place].prod(-1).sum())
            part = slice(first, first + int(grid[asked.place].prod())), slice(0, asked.bag.dimension)
            features = inputs["pixel_values"].detach()[part].double(), slopes[1][part].double()
        return _Slopes(float(logprob.detach()), tokens, features)

    def _no_rollout(self) -> str | None:
        from eosin.engines import shared_trial

        return shared_trial.unsupported(self._model)

    def _rollout(self, encoded: _Encoded) -> Tensor:
        """Share of the flow of attention from the answer that reaches each position (T,); it sums to 1."""
        import torch

        from eosin.engines.attention_flow import AttentionRecorder, attention_rollout
        from eosin.models import shared_prefix

        recorder = AttentionRecorder()

        def swap(values: dict[str, Any]) -> None:
            values["attention_mask"] = shared_prefix.PatternMask.of(recorder, encoded.ids.device)

        was_enabled = shared_prefix.is_enabled(self._model)
        before = shared_prefix.text_model(self._model).config._attn_implementation
        shared_prefix.enable(self._model)
        try:
            with torch.no_grad(), _before_decoder(self._model, swap):
                self._model(**encoded.inputs, use_cache=False, logits_to_keep=1)
                start = torch.zeros(encoded.ids.shape[1], device=encoded.ids.device)
                start[[p - 1 for p in encoded.answers[0]]] = 1 / len(encoded.answers[0])
                return attention_rollout(recorder, start)
        finally:
            if not was_enabled:
                shared_prefix.text_model(self._model).config._attn_implementation = before

    # ---- from tokens to patches ------------------------------------------------------------------------------------

    def _slide_tokens(self, encoded: _Encoded, asked: AttributionTarget) -> list[int]:
        """Places of the slide's tokens in the sequence: each image is one run of placeholders."""
        places = (encoded.ids[0] == int(self._model.config.image_token_id)).nonzero()[:, 0].tolist()
        runs: list[list[int]] = []
        for place in places:
            if runs and place == runs[-1][-1] + 1:
                runs[-1].append(place)
            else:
                runs.append([place])
        if len(runs) != len(asked.request.images):
            raise EosinError(
                "The pictures in the prompt are not those of the question.",
                expected=f"{len(asked.request.images)} runs of image tokens", found=str(len(runs)),
            )  # fmt: skip
        return runs[asked.place]

    def _rows(self, asked: AttributionTarget) -> NDArray[np.int64]:
        """The row of `pixel_values` (counted within the slide) that each patch of the bag is in: (N,)."""
        shown = getattr(self._processor, "shown", None)
        return np.arange(len(asked.bag)) if shown is None else np.asarray(shown(asked.bag).row_of)

    def _rows_of(self, asked: AttributionTarget, num_tokens: int, told: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The row that each slide token stands for, (T,), -1 for none; without a tower the tokens are the patches in
        order, behind at most one other token."""
        num = int(self._rows(asked).max()) + 1
        rows_T = np.arange(num_tokens) - (num_tokens - num) if told is None else told
        if len(rows_T) != num_tokens or rows_T.max() >= num or (told is None and num_tokens - num not in (0, 1)):
            raise EosinError(
                "The slide tokens in the prompt are not those of the slide.",
                expected=f"tokens of {num} rows", found=f"{num_tokens} tokens", where=asked.bag.name,
            )  # fmt: skip
        return rows_T

    def _spread(self, asked: AttributionTarget, values: F64, rows_T: NDArray[np.int64]) -> F64:
        """Scores of tokens (T,) as scores of patches (N,): patches that became one token share its score evenly, those
        in no token have 0."""
        row_of_patch = self._rows(asked)
        num = int(row_of_patch.max()) + 1
        by_row = np.zeros(num)
        np.add.at(by_row, rows_T[rows_T >= 0], values[rows_T >= 0])
        return np.asarray((by_row / np.bincount(row_of_patch, minlength=num))[row_of_patch])


# ---- the model, for a moment otherwise -----------------------------------------------------------------------------


@contextmanager
def _rows_of_tokens(model: Any) -> Iterator[list[NDArray[np.int64]]]:
    """Filled while entered: for every slide that is read, the row that each of its tokens stands for; -1 for none."""
    from eosin.models.load import slide_tower
    from eosin.models.slide_encoder.tower import SlideTower, kept_tokens

    tower = slide_tower(model)
    found: list[NDArray[np.int64]] = []
    if not isinstance(tower, SlideTower):
        yield found
        return
    with kept_tokens(tower) as kept:
        yield found
        # The block has ended: what was read stands in `kept`.
        found += [k.order.cpu().numpy() for k in kept]


@contextmanager
def _resting(model: Any) -> Iterator[None]:
    """No dropout."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """No gradients of weights: only what leads from the slide to the answer is kept."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _before_decoder(model: Any, change: Any) -> Iterator[None]:
    """Let `change` see and alter what the decoder is given: its named arguments."""
    from eosin.models.shared_prefix import text_model

    decoder = text_model(model)
    if decoder is None:
        raise EosinError("The decoder of this model was not found.", found=type(model).__name__)

    def hook(module: Any, args: tuple[Any, ...], values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        change(values)
        return args, values

    handle = decoder.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
