"""The protocol of every generation engine, and a mock that needs no model. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from eosin.core.images import Picture
from eosin.core.nouns.sample import Message


@dataclass(frozen=True)
class Request:
    """One prompt. `images[i]`, an RGB image or a bag of patches, stands where the messages hold ImagePart(index=i).

    Attributes:
        begun: how the reply begins, as given; the engine goes on from there, and its text is what it adds.
        scores: whether the likely tokens at each place of the reply are asked for, where the engine has them.
        stored: empty, or for each image the encoded file whose whole, unchanged picture it is, else None.
    """

    id: str
    messages: tuple[Message, ...]
    images: tuple[Picture, ...] = ()
    begun: str = ""
    scores: bool = False
    stored: tuple[bytes | None, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Generation:
    """One reply.

    Attributes:
        text: the reply without special tokens.
        num_tokens: tokens generated, the end token included; None where a server does not say.
        truncated: the length cap was reached before the end token.
        failed: why there is no reply, a short phrase fit for counting; None where there is one.
        num_prompt_tokens: tokens of the prompt, those of pictures included; None where that is not known.
        tokens: of each token of the text: the token, and the likely tokens at its place with their log probabilities.
    """

    id: str
    text: str
    num_tokens: int | None
    truncated: bool
    failed: str | None = None
    tokens: Sequence[tuple[str, Sequence[tuple[str, float]]]] | None = field(default=None, repr=False)
    num_prompt_tokens: int | None = None


@dataclass(frozen=True)
class Decoding:
    """How replies are drawn. temperature 0 is greedy decoding."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    batch_size: int = 32
    seed: int = 0


class Engine(Protocol):
    """Anything that answers requests. Results come in the order of the requests."""

    name: str

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Generation]: ...


@runtime_checkable
class StreamingEngine(Protocol):
    """An engine that keeps many requests under way at once and gives each reply as it arrives, in any order.

    Requests are taken one by one as places become free, so that not all their pictures are in memory. A request that
    ends without a reply gives a Generation with `failed`.
    """

    name: str

    def stream(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Generation]: ...

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Generation]: ...


@runtime_checkable
class OptionScorer(Protocol):
    """An engine that knows how probable a continuation is."""

    def option_logprobs(self, request: Request, options: Sequence[str]) -> list[float]:
        """log p of each option as what comes next after `request.begun`, up to a constant that all of them share."""
        ...


class MockEngine:
    """An engine whose replies a function writes: for tests of exams, serving and the command line."""

    name = "mock"

    def __init__(self, reply: Callable[[Request], str]) -> None:
        self._reply = reply

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Generation]:
        for request in requests:
            words = self._reply(request).split(" ")
            kept = words[: decoding.max_new_tokens]
            yield Generation(request.id, " ".join(kept), len(kept), len(kept) < len(words))
