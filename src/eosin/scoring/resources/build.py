"""From a recipe's `scoring` block to the tools of the terms. Nothing is asked, downloaded or loaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eosin.clients.prices import read_price
from eosin.core.errors import EosinError
from eosin.core.settings.scoring import ANY_MODEL, JudgeServer, Price, ScoringSettings
from eosin.scoring.judge.model import JudgeSettings, OpenAIJudge
from eosin.scoring.reading.linking import load_lexicon, open_knowledge
from eosin.scoring.resources.clip import ClipCosine
from eosin.scoring.resources.encoder import SentenceEncoder
from eosin.scoring.terms.base import Resources


def tools_of(
    settings: ScoringSettings, *, verdicts: Path | None = None, shares: int = 1, max_tokens: int | None = None
) -> Resources:
    """The tools that settings describe. Models are loaded when they are first used, the judge is asked then.

    Args:
        verdicts: folder for verdicts where the settings name none; None keeps them in memory.
        shares: processes that ask the judge side by side, each with its share of the limits.
        max_tokens: length cap of a reply, for the length term.

    Raises:
        EosinError: an address, a price table, a lexicon or a graph that cannot be used.
        MissingExtraError: packages for servers are not installed.
    """
    found: dict[str, Any] = {"max_tokens": max_tokens}
    if settings.judge is not None:
        found["judge"] = OpenAIJudge(judge_settings(settings.judge, verdicts, shares))
    if settings.encoder is not None:
        found["encode"] = encoder = SentenceEncoder(settings.encoder)
        found["encode_name"] = encoder.label
    if settings.clip is not None:
        found["clip"] = clip = ClipCosine(settings.clip)
        found["clip_name"] = clip.label
    if settings.lexicon is not None:
        found["linker"] = load_lexicon(Path(settings.lexicon))
    if settings.knowledge is not None:
        _see_that_it_stands(settings.knowledge)
        found["linker"], found["facts"] = open_knowledge(settings.knowledge)
        found["knowledge_name"] = Path(settings.knowledge).name
    return Resources(**found)


def judge_settings(server: JudgeServer, verdicts: Path | None = None, shares: int = 1) -> JudgeSettings:
    """How a recipe's judge is asked, by one of `shares` processes.

    Raises:
        EosinError: an address that cannot be used, no price for the model, or a limit without prices.
    """
    price = read_price(Path(server.prices), server.model) if isinstance(server.prices, str) else server.prices
    price = price or Price(input=0.0, output=0.0)
    cache = Path(server.cache) if server.cache is not None else verdicts
    return JudgeSettings(
        url=server.url, model=server.model, api_key_env=server.api_key_env, timeout_s=server.timeout_s,
        retries=server.retries, backoff_s=server.backoff_s, max_wait_s=server.max_wait_s,
        concurrency=max(1, server.max_in_flight // shares),
        max_calls=None if server.max_calls is None else server.max_calls // shares,
        max_cost=None if server.max_cost is None else server.max_cost / shares,
        price_in=price.input, price_out=price.output, max_tokens=server.max_tokens, image_tokens=server.image_tokens,
        structured=server.structured, proxy=server.proxy, cache_dir=cache,
        answers_as=None if server.answers_as == ANY_MODEL else server.answers_as or server.model,
    )  # fmt: skip


def _see_that_it_stands(knowledge: str) -> None:
    if not Path(knowledge).is_dir():
        raise EosinError(
            "There is no knowledge graph at this place.",
            expected="a folder that `eosin knowledge build` made",
            where=knowledge,
            next_step="eosin knowledge build --help",
        )
