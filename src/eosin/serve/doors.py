"""What every request passes: token, size of its body, safe headers, and a line in the audit log."""

from __future__ import annotations

import hmac
import logging
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eosin.serve.refusals import refusal
from eosin.serve.settings import ServeSettings, is_loopback

OPEN = ("/health", "/")
"""What may be asked without a token, beside the files of the page."""
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
audit = logging.getLogger("eosin.serve.audit")


class Doors:
    """Lets requests in, or turns them away. The log holds address, method, path, status and time, and no content.

    It stands directly between server and application, so that a client that goes away is noticed even while nothing
    is being sent to it.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        try:
            await (self._turned_away(request) or self._app)(scope, receive, sent)
        finally:
            audit.info(
                "%s %s %s %d %.3f s", request.client.host if request.client else "-", request.method, request.url.path,
                status, time.perf_counter() - started,
            )  # fmt: skip

    def _turned_away(self, request: Request) -> Response | None:
        """Why a request is not let in, or None."""
        path, settings, headers = request.url.path, self._settings, Headers(scope=request.scope)
        if settings.token is None and not _is_own(headers.get("host", ""), settings.host):
            return refusal(400, "Without a token this server answers to the address of its own machine alone, such as "
                           "127.0.0.1 or localhost; under another name start it with --token-env.")  # fmt: skip
        if settings.token is not None and path not in OPEN and not path.startswith("/page/"):
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), settings.token.encode()):
                return refusal(401, "This server needs its token: Authorization: Bearer TOKEN.")
        if request.method in ("POST", "PUT", "PATCH"):
            told = headers.get("content-length", "")
            if not told.isdigit():
                return refusal(411, "The length of the body must be stated.")
            if int(told) > settings.max_body_bytes:
                return refusal(413, f"A request may have {settings.max_body_bytes} bytes.")
        return None


def _is_own(told: str, host: str) -> bool:
    """Whether a request names this machine: the page of a stranger whose name was made to lead here names its own."""
    try:
        name = urlsplit(f"//{told}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name) or name == host.casefold()
