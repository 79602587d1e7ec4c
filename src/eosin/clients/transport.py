"""The `openai` package, held to what Eosin promises about addresses, keys, time and size.

- Nothing but the address that the user gave is asked. Redirects are refused.
- What leaves is a fixed list of headers. The key is set here, and the package below never holds it. Nothing comes from
  `OPENAI_*` variables, from `.netrc`, from proxies of the environment, or from cookies.
- An attempt ends at its deadline, whatever the server is doing, and a body at its limit. Compressed bodies are refused:
  none is asked for, and a small one may unfold to any size.
- Every attempt has a connection of its own. What a server sends too much can never be read as the next answer.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import functools
import math
import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from eosin import __version__
from eosin.clients.completion import AnswerError
from eosin.clients.keys import ApiKey
from eosin.clients.settings import ServerSettings
from eosin.core.errors import EosinError
from eosin.core.extras import need

MAX_ANSWER_BYTES = 1_000_000
# A token that comes alone brings some hundred bytes along, with its likely neighbours some thousand.
MAX_STREAM_BYTES = 64 * MAX_ANSWER_BYTES
# The last one tells the package, on the way back, that the body is read here.
_RAW = "x-stainless-raw-response"
_SENT = ("host", "content-type", "content-length", _RAW)
_AS_IT_COMES = {"headers": {_RAW: "stream"}}


class StatusError(Exception):
    """The server answered with another status than success.

    Attributes:
        status: the status code.
        wait_s: how long the server asks to wait, if it does.
    """

    def __init__(self, status: int, wait_s: float | None) -> None:
        super().__init__(str(status))
        self.status = status
        self.wait_s = wait_s


class ConnectionFailedError(Exception):
    """There was no whole answer.

    Attributes:
        reason: a short phrase, fit for counting.
        reached: whether the server may have seen the request.
    """

    def __init__(self, reason: str, *, reached: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reached = reached


def packages() -> tuple[Any, Any]:
    """`openai` and the HTTP package below it.

    Raises:
        MissingExtraError: they are not installed.
    """
    http = need("httpx2", "clients")
    return need("openai", "clients"), http


def check_address(settings: ServerSettings) -> None:
    """Refuse early what could not be asked.

    Raises:
        MissingExtraError: the packages are not installed.
        EosinError: the address is none for the package below, or the certificates cannot be read.
    """
    _, http = packages()
    for address in filter(None, (settings.base_url, settings.proxy)):
        try:
            http.URL(address)
        except http.InvalidURL:
            raise EosinError("This is no web address.", expected="http://... or https://..., with a host") from None
    try:
        _trust()
    except OSError as exc:
        raise EosinError(
            "The certificates of this machine cannot be read.",
            found=f"{type(exc).__name__}: {exc.strerror or exc}",
            where=os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"),
            next_step="mend or unset SSL_CERT_FILE and SSL_CERT_DIR",
        ) from None


class Transport:
    """Requests to one server. To be made and used inside the clients' event loop."""

    def __init__(self, settings: ServerSettings, key: ApiKey | None) -> None:
        openai, self._http = packages()
        http = self._http
        self._errors = (openai.OpenAIError, http.HTTPError, http.StreamError, http.InvalidURL, OSError, UnicodeError)
        self._settings = settings
        self._key = key
        client = self._http.AsyncClient(
            verify=_trust(),
            trust_env=False,
            proxy=settings.proxy,
            follow_redirects=False,
            # Connecting ends a little earlier: a server that was never reached is told from one that is slow.
            timeout=self._http.Timeout(settings.timeout_s, connect=0.9 * settings.timeout_s),
            limits=self._http.Limits(max_connections=None, max_keepalive_connections=0),
            event_hooks={"request": [self._prepare], "response": [_check]},
        )
        # Every value that the package would else take from the environment is given.
        self._openai = openai.AsyncOpenAI(
            api_key="-", admin_api_key="", organization="", project="", webhook_secret="",
            base_url=settings.base_url, max_retries=0, timeout=client.timeout, http_client=client,
        )  # fmt: skip

    async def chat(self, body: bytes) -> bytes:
        """The raw answer to a chat completion.

        Args:
            body: the request in JSON, sent as it is; typed arguments are walked through part by part at each attempt.

        Raises:
            StatusError, ConnectionFailedError, AnswerError, TimeoutError.
        """
        pieces: list[bytes] = []
        await self._read(self._openai.post, "/chat/completions", pieces.append, MAX_ANSWER_BYTES, content=body)
        return b"".join(pieces)

    async def chat_in_pieces(self, body: bytes, take: Callable[[bytes], None]) -> None:
        """The raw answer to a chat completion, given to `take` as it comes. Raises as `chat` and `take`."""
        await self._read(self._openai.post, "/chat/completions", take, MAX_STREAM_BYTES, content=body)

    async def models(self) -> bytes:
        """The raw list of models. Raises as `chat`."""
        pieces: list[bytes] = []
        await self._read(self._openai.get, "/models", pieces.append, MAX_ANSWER_BYTES)
        return b"".join(pieces)

    async def _read(
        self, ask: Callable[..., Awaitable[Any]], path: str, take: Callable[[bytes], None], limit: int, **body: bytes
    ) -> None:
        size = 0
        try:
            async with (
                asyncio.timeout(self._settings.timeout_s),
                aclosing(await ask(path, cast_to=self._http.Response, options=_AS_IT_COMES, **body)) as response,
            ):
                async for piece in response.aiter_bytes():
                    size += len(piece)
                    if size > limit:
                        raise AnswerError("the answer is too long")
                    take(piece)
        except self._errors as exc:
            raise self._failure(exc) from None

    def _failure(self, exc: BaseException) -> Exception:
        """What went wrong below, in words of ours: texts of a server may hold anything."""
        cause = exc if isinstance(exc, self._http.HTTPError) else exc.__cause__ or exc
        if isinstance(cause, self._http.ConnectTimeout):
            return ConnectionFailedError("timed out", reached=False)
        if isinstance(exc, TimeoutError) or isinstance(cause, self._http.TimeoutException):
            return TimeoutError()
        # The last one comes from looking up an odd name.
        if isinstance(cause, self._http.ConnectError | self._http.ProxyError | UnicodeError):
            return ConnectionFailedError(f"no connection ({_below(cause)})", reached=False)
        return ConnectionFailedError(f"no connection ({type(cause).__name__})")

    async def _prepare(self, request: Any) -> None:
        kept = [(name, request.headers[name]) for name in _SENT if name in request.headers]
        kept += [("User-Agent", f"eosin/{__version__}"), ("Accept", "application/json")]
        kept += [("Accept-Encoding", "identity"), ("Connection", "close")]
        if self._key is not None:
            kept.append(("Authorization", self._key.header()))
        request.headers = self._http.Headers(kept)


@functools.cache
def _trust() -> ssl.SSLContext:
    """The machine's certificates, or those of SSL_CERT_FILE or SSL_CERT_DIR."""
    context: ssl.SSLContext = packages()[1].create_ssl_context()
    return context


async def _check(response: Any) -> None:
    """Look at status and encoding before any of the body is read. Bodies of refusals are not read at all."""
    if not 200 <= response.status_code < 300:
        raise StatusError(response.status_code, seconds_asked(response.headers.get("retry-after")))
    if response.headers.get("content-encoding", "identity").strip().casefold() not in ("", "identity"):
        raise AnswerError("the answer is compressed, which was not asked for")


def seconds_asked(value: str | None) -> float | None:
    """The seconds in a Retry-After header, which gives a number or a date; never negative, None if it gives neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        now = datetime.datetime.now(datetime.UTC)
        seconds = (date.replace(tzinfo=date.tzinfo or datetime.UTC) - now).total_seconds()
    return None if math.isnan(seconds) else max(0.0, seconds)


def _below(exc: BaseException) -> str:
    """Name of the first cause: "gaierror" where a name is unknown, "SSLCertVerificationError", ..."""
    seen = exc
    while True:
        if isinstance(seen, BaseExceptionGroup):  # a name with several addresses
            seen = seen.exceptions[0]
        deeper = seen.__cause__ or seen.__context__
        if deeper is None:
            return type(seen).__name__
        seen = deeper
