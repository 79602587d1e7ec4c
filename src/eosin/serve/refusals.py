"""What is said to a request that is not answered: one form for all endpoints, and its place in their description."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 413: "request_too_large",
         429: "rate_limit_error"}  # fmt: skip
REASONS = {
    400: "It cannot be asked.", 401: "The token is missing or another.", 403: "Not in a blinded study.",
    404: "There is no such thing here.", 409: "The key stands for another correction.",
    411: "The length of the body is not stated.", 413: "The body is too large.", 422: "A field is wrong.",
    429: "Too many wait.", 500: "The model failed.", 503: "The store is too busy.",
}  # fmt: skip


class Reason(BaseModel):
    """Why, in words."""

    message: str
    type: str
    code: int


class Refusal(BaseModel):
    """An error in the form that OpenAI's clients read."""

    error: Reason


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the form that OpenAI's clients read."""
    kind = KINDS.get(status, "server_error")
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status, headers)


def told(*statuses: int, **media: str) -> dict[int | str, dict[str, Any]]:
    """The refusals of an endpoint for its description; `ok`: the media type of its answer where it is no JSON alone."""
    found: dict[int | str, dict[str, Any]] = {s: {"model": Refusal, "description": REASONS[s]} for s in statuses}
    if "ok" in media:
        found[200] = {"content": {media["ok"]: {}}}
    return found
