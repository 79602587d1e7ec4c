"""What rewards and judged exams are given beside the reply: a judge, a sentence encoder, CLIP, a knowledge graph."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from eosin.core.settings.base import PositiveInt, Settings

ANY_MODEL = "any"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Price(Settings):
    """What a model costs per million tokens, in any currency.

    Attributes:
        input, output: of tokens read and written.
    """

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)


class JudgeServer(Settings):
    """A judge behind an OpenAI-compatible server. docs/scoring.md says what it is asked and how it is checked.

    Attributes:
        url: base URL, such as http://host:8000/v1.
        model: the model's name at that server.
        answers_as: the name that the server gives in its answers, where it is another one (an alias, a dated name).
            An answer of any other model is not used, unless this is "any".
        api_key_env: name of the environment variable that holds the key. The key itself never stands in a recipe.
        timeout_s: limit of one attempt.
        retries: attempts after the first.
        backoff_s: the first wait between attempts; each further one is twice as long.
        max_wait_s: the longest wait between attempts.
        max_in_flight: questions at one time.
        max_calls, max_cost: limits for each stage and each exam; beyond them a reply is unscored.
        prices: per million tokens: {input: 0.5, output: 1.5}, or a JSON table of them by model.
        max_tokens: length limit of a verdict.
        image_tokens: what an image costs at most, for the worst case of a call.
        structured: how the schema is asked for; "auto" puts it in words where the server knows no other way.
        proxy: an HTTP proxy for an https address.
        cache: folder for verdicts; by default `verdicts` in the folder of the run.
        ask_first: ask the server once before the first step. Switch it off to go by a full cache without a server.
    """

    url: str
    model: str = Field(min_length=1)
    answers_as: str | None = None
    api_key_env: str = "EOSIN_JUDGE_API_KEY"
    timeout_s: float = Field(default=60.0, gt=0)
    retries: int = Field(default=4, ge=0)
    backoff_s: float = Field(default=1.0, ge=0)
    max_wait_s: float = Field(default=30.0, ge=0)
    max_in_flight: PositiveInt = 16
    max_calls: int | None = Field(default=None, ge=0)
    max_cost: float | None = Field(default=None, ge=0)
    prices: Price | str | None = None
    max_tokens: PositiveInt = 1024
    image_tokens: int = Field(default=16_384, ge=0)
    structured: Literal["auto", "json_schema", "prompt"] = "auto"
    proxy: str | None = None
    cache: str | None = None
    ask_first: bool = True

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str) -> str:
        if not _VARIABLE.fullmatch(value):
            raise ValueError("this is the name of an environment variable, never the key itself")
        return value

    def is_same(self, other: JudgeServer | None) -> bool:
        """Whether both are one model at one address."""
        return other is not None and (self.model, _address(self.url)) == (other.model, _address(other.url))


def _address(url: str) -> str:
    return url.rstrip("/").removesuffix("/chat/completions").rstrip("/")


class ScoringSettings(Settings):
    """What scoring is given. A recipe states it once for the run; a stage or an exam replaces single entries.

    Attributes:
        judge: asked by the terms `checklist` and `semantic`, and by the sets that have them.
        encoder: a sentence encoder for `semantic`: a folder, a name on the hub, or package:NAME.
        clip: CLIP for the term `clip`: a folder or a name on the hub (transformers), or open_clip:MODEL@WEIGHTS.
        knowledge: a graph folder (`eosin knowledge build`) for names and evidence.
        lexicon: names of the user's own in their place: kind, name, synonyms divided by |; divided by tabs.
    """

    judge: JudgeServer | None = None
    encoder: str | None = None
    clip: str | None = None
    knowledge: str | None = None
    lexicon: str | None = None

    @field_validator("lexicon")
    @classmethod
    def _one_place_for_names(cls, value: str | None, info: Any) -> str | None:
        if value is not None and info.data.get("knowledge") is not None:
            raise ValueError("names come from one place: a knowledge graph or a lexicon")
        return value


class OutageStop(Settings):
    """When training stops because too many replies have no score, as in an outage of the judge.

    Attributes:
        max_unscored: share of a step's replies without a reward above which the step counts.
        steps: such optimiser steps in a row.
    """

    max_unscored: float = Field(default=0.5, ge=0, lt=1)
    steps: PositiveInt = 3


def merged(shared: Any, own: Any) -> Any:
    """The scoring block of a stage or an exam, entry by entry over that of the run. What is no mapping stays as it is.

    A judge is replaced whole, so that no key goes to an address that was given beside it for another one.
    """
    if not isinstance(shared, dict) or not shared:
        return own
    if own is None:
        return dict(shared)
    return {**shared, **own} if isinstance(own, dict) else own
