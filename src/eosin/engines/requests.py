"""Samples as requests to an engine, without those whose pictures cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from eosin.core.errors import ImageError
from eosin.core.images import Picture
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.engines.base import Request


def requests_of(
    samples: Sequence[Sample], pictures: Callable[[Sample], Iterable[Picture]], grammar: Grammar, *, instruction: bool
) -> tuple[list[Request], dict[str, ImageError]]:
    """The requests of the samples that can be shown, in their order; and by id why the others cannot.

    Args:
        pictures: gives the pictures of a sample.
        instruction: whether the prompt states the form of the reply.
    """
    requests: list[Request] = []
    faults: dict[str, ImageError] = {}
    for sample in samples:
        try:
            own = tuple(pictures(sample))
        except ImageError as exc:
            faults[sample.id] = exc
            continue
        requests.append(Request(sample.id, prompt_messages(sample, grammar, instruction=instruction), own))
    return requests, faults
