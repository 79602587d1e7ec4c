"""What a server may be asked for, and by whom."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from eosin.core.errors import EosinError


class ServeSettings(BaseModel):
    """Limits and doors of a server.

    Attributes:
        model_name: what /v1/models calls the model.
        host, port: where it listens; anything but this machine itself needs a token.
        token: what a client sends as "Authorization: Bearer TOKEN".
        slides: folder whose slides are shown. cases: case by slide, see `SlideShelf`.
        slide_mpp: µm per pixel of level 0 of all slides, whatever their files state; None takes what they state.
        batch_size: questions that are answered together; batch_wait_s: how long the first waits for others.
        max_waiting: questions that may wait; more are refused with 429.
        max_body_bytes: of a request. max_images, max_image_px: pictures of a question, and pixels of each.
        max_new_tokens: cap of any reply, in tokens.
        timeout_s: a question that waits longer is given up.
        blinded: readers answer before they see the model's reply, or one another's.
        tile_cache_bytes, max_open_slides: bounds of the viewer's memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str = "eosin"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    token: str | None = Field(default=None, min_length=16)
    slides: Path | None = None
    cases: dict[str, str] = Field(default_factory=dict)
    slide_mpp: float | None = Field(default=None, gt=0, lt=1000)
    batch_size: int = Field(default=32, ge=1)
    batch_wait_s: float = Field(default=0.01, ge=0)
    max_waiting: int = Field(default=256, ge=1)
    max_body_bytes: int = Field(default=64 * 2**20, ge=1024)
    max_images: int = Field(default=16, ge=0)
    max_image_px: int = Field(default=64_000_000, ge=1)
    max_new_tokens: int = Field(default=1024, ge=1)
    timeout_s: float = Field(default=600.0, gt=0)
    blinded: bool = False
    tile_cache_bytes: int = Field(default=256 * 2**20, ge=0)
    max_open_slides: int = Field(default=32, ge=1)


def check_doors(settings: ServeSettings) -> None:
    """Refuse to listen beyond this machine without a token.

    Raises:
        EosinError: no token where one is needed.
    """
    if settings.token is None and not is_loopback(settings.host):
        raise EosinError(
            "A server that others can reach needs a token.",
            expected="--token-env NAME, with a secret of 16 letters or more in that variable",
            found=f"--host {settings.host}",
            next_step="or leave --host out: 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
