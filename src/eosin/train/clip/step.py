"""One backward pass of a batch that may be larger than memory: gradient caching (Gao et al., arXiv 2101.06983).

The towers meet only in the loss, so its gradient with respect to the embeddings is all that they need. The towers embed
chunk by chunk without a graph; the loss of the whole batch gives dL/dx of every embedding; then each chunk is embedded
again, with a graph, and dL/dx is sent through it. Random numbers are drawn twice from one state, so that dropout is the
same both times. The gradients are those of the whole batch at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eosin.train.clip.losses import Loss, Relations


@dataclass
class Tower:
    """One tower in a step.

    Attributes:
        embed: a chunk of inputs to unit vectors (b, D).
        inputs: this process's pairs, cut into chunks.
        trains: whether any of its weights do; a locked tower runs once, without a graph.
    """

    embed: Callable[[Tensor], Tensor]
    inputs: Sequence[Tensor]
    trains: bool

    def __post_init__(self) -> None:
        self._kept: Tensor | None = None
        self._states: list[Any] = []

    def first(self) -> Tensor:
        """Embeddings (b, D) of all chunks, without a graph to the outside."""
        if self.trains and len(self.inputs) == 1:
            self._kept = self.embed(self.inputs[0])
            return self._kept.detach()
        with torch.no_grad():
            parts = []
            for chunk in self.inputs:
                self._states.append(_random_state())
                parts.append(self.embed(chunk))
        return torch.cat(parts)

    def second(self, gradient: Tensor) -> None:
        """Send dL/dx (b, D) through the tower."""
        if not self.trains:
            return
        if self._kept is not None:
            self._kept.backward(gradient)
            return
        end = _random_state()
        parts = gradient.split([len(c) for c in self.inputs])
        for chunk, state, part in zip(self.inputs, self._states, parts, strict=True):
            _set_random_state(state)
            self.embed(chunk).backward(part)
        _set_random_state(end)


def backward(
    images: Tower, texts: Tower, relations: Relations, loss: Loss, log_scale: Tensor, bias: Tensor | None, rank: int = 0
) -> Tensor:
    """Leave in every weight the gradient of the loss of all processes' pairs; return the loss.

    Args:
        relations: of all N pairs, in the order of the processes; each process has as many.
        log_scale: logarithm of the inverse temperature, a weight of the model.
        bias: SigLIP's, or None.
        rank: number of this process.
    """
    own = [images.first(), texts.first()]
    rows = slice(rank * len(own[0]), (rank + 1) * len(own[0]))
    everyone = [gathered(x).requires_grad_() for x in own]
    value = loss(everyone[0], everyone[1], rows, relations, log_scale.exp(), bias)
    value.backward()
    for tower, leaf in zip((images, texts), everyone, strict=True):
        assert leaf.grad is not None
        tower.second(summed(leaf.grad)[rows])
    return summed(value.detach().clone())


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Add up the gradients of all processes, which each have those of their own pairs."""
    if not _several():
        return
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in parameters])
    torch.distributed.all_reduce(flat)
    for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.reshape(p.shape).clone()


def gathered(own: Tensor) -> Tensor:
    """Rows of all processes (R b, D), in their order, without a graph."""
    if not _several():
        return own.detach().clone()
    parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, own.contiguous())
    return torch.cat(parts)


def summed(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if _several():
        torch.distributed.all_reduce(value)
    return value


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _random_state() -> tuple[Tensor, list[Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


@contextlib.contextmanager
def half(device: torch.device, precision: str) -> Any:
    """bf16 where the settings ask for it, or where they leave it open and the GPU has it."""
    has = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bf16" or (precision == "auto" and has):
        with torch.autocast(device.type, torch.bfloat16):
            yield
    else:
        yield
