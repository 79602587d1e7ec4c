"""How a server is asked: address, limits, budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from eosin.core.errors import EosinError

_PATH = "/chat/completions"


@dataclass(frozen=True)
class ServerSettings:
    """How a model behind an OpenAI-compatible server is asked.

    Attributes:
        url: base URL of the server, with or without /v1 at its end, such as http://host:8000/v1.
        model: the model's name at that server.
        api_key_env: environment variable that holds the key; its value is never written anywhere.
        timeout_s: limit of one attempt, from connecting to the last byte.
        retries: attempts after the first.
        backoff_s: first wait; it doubles with every attempt, up to max_wait_s, with jitter.
        concurrency: requests at one time.
        max_calls: calls in all; beyond it requests are refused.
        max_cost: cost in all, in the currency of the prices. Before a call its worst case is set aside.
        price_in, price_out: per million tokens.
        max_tokens: length limit of an answer.
        image_tokens: what an image costs at most, for the worst case.
        structured: how a schema is asked for. "auto": by `response_format`, and in words where the server refuses
            that with 400, 422 or 501; "json_schema": by `response_format` only; "prompt": in words only.
        proxy: an HTTP proxy for https addresses. Proxies of the environment are not used.
    """

    url: str
    model: str
    api_key_env: str = "EOSIN_API_KEY"
    timeout_s: float = 60.0
    retries: int = 4
    backoff_s: float = 1.0
    max_wait_s: float = 30.0
    concurrency: int = 8
    max_calls: int | None = None
    max_cost: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    max_tokens: int = 1024
    image_tokens: int = 16_384
    structured: Literal["auto", "json_schema", "prompt"] = "auto"
    proxy: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = _split(self.url, "The server needs a web address.")
        if not self.model:
            raise EosinError("The server needs a model name.", expected="a name that the server knows")
        if self.proxy is not None:
            _split(self.proxy, "The proxy needs a web address.", with_password=True)
            if parts.scheme != "https":
                raise EosinError(
                    "A proxy could read the key and the texts of an http address.",
                    expected="an https address with a proxy, or an http address without one",
                )
        self._check_numbers()

    def _check_numbers(self) -> None:
        least = {"timeout_s": 1e-3, "retries": 0, "backoff_s": 0, "max_wait_s": 0, "concurrency": 1, "max_calls": 0,
                 "max_cost": 0, "price_in": 0, "price_out": 0, "max_tokens": 1, "image_tokens": 0}  # fmt: skip
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= low):
                raise EosinError(f"{name} is out of range.", expected=f"at least {low:g}", found=str(value))
        if self.max_cost is None:
            return
        if not (self.price_in or self.price_out):
            raise EosinError("A limit of cost needs prices.", expected="price_in and price_out, per million tokens")
        if self.max_tokens * self.price_out / 1e6 > self.max_cost:
            raise EosinError(
                "Not one call fits the limit of cost.",
                expected=f"max_cost of at least {self.max_tokens * self.price_out / 1e6:g}",
                found=f"{self.max_cost:g} for answers of up to {self.max_tokens} tokens",
                next_step="raise max_cost or lower max_tokens",
            )

    @property
    def base_url(self) -> str:
        """The address to which /chat/completions and /models are added."""
        return self.url.rstrip("/").removesuffix(_PATH)


def _split(url: str, message: str, *, with_password: bool = False) -> SplitResult:
    """The parts of an address. One that could hold a secret is refused without being shown."""
    expected = "http://... or https://..., with a host"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise EosinError(message, expected=expected) from None
    if "@" in parts.netloc and not with_password:
        raise EosinError(
            "The address holds a user or password.",
            expected=f"{parts.scheme}://{host}",
            next_step="put the key into the environment variable and take it out of the address",
        )
    if parts.query or parts.fragment:
        raise EosinError("The address holds a query.", expected=f"{parts.scheme}://{parts.netloc}{parts.path}")
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise EosinError(message, expected=expected, found=None if with_password else repr(url))
    return parts
