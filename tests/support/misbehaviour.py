"""Ways in which a server can misbehave, for `JudgeStub`: each is a function of the handler and of the right verdict."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.support.judge_stub import Handler

Behaviour = Callable[[Handler, str], None]
KEY = "placeholder-key-0123456789"


def envelope(verdict: Any, **changes: Any) -> dict[str, Any]:
    """A whole chat completion. `changes` replace fields of the message, the choice and the answer, by their names."""
    message = {"role": "assistant", "content": verdict} | changes.pop("message", {})
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | changes.pop("choice", {})
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    whole = {"object": "chat.completion", "model": "stub", "choices": [choice], "usage": usage} | changes
    return {k: v for k, v in whole.items() if v != "left out"}


def http(
    body: bytes | str = b"", status: str = "200 OK", headers: tuple[str, ...] = (), *, length: int | None = -1,
    version: str = "1.1",
) -> bytes:  # fmt: skip
    """A response in bytes. A length of -1 is the right one, None leaves the header out."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/{version} {status}", "Content-Type: application/json", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(data) if length == -1 else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def sends(make: Callable[[str], bytes]) -> Behaviour:
    """Answer with the bytes made from the right verdict, then close."""
    return lambda handler, verdict: handler.send_raw(make(verdict))


def body(data: bytes | str, *headers: str) -> Behaviour:
    return sends(lambda _: http(data, headers=headers))


def status(line: str, *headers: str, data: str = '{"error": {"message": "no"}}') -> Behaviour:
    return sends(lambda _: http(data, line, headers))


def answers(**changes: Any) -> Behaviour:
    """A chat completion with the right verdict and something changed in it."""
    return sends(lambda verdict: http(json.dumps(envelope(verdict, **changes))))


def says(change: Callable[[str], Any]) -> Behaviour:
    """A chat completion with another text than the right verdict."""
    return sends(lambda verdict: http(json.dumps(envelope(change(verdict)))))


def whole(verdict: str) -> bytes:
    return http(json.dumps(envelope(verdict)))


def drips(first: bytes, piece: bytes, every_s: float = 0.05) -> Behaviour:
    """Send a piece again and again, so that no single read ever waits long."""

    def behave(handler: Handler, verdict: str) -> None:
        handler.send_raw(first)
        while handler.wait(every_s):
            handler.send_raw(piece)

    return behave


def hangs_after(make: Callable[[str], bytes]) -> Behaviour:
    def behave(handler: Handler, verdict: str) -> None:
        handler.send_raw(make(verdict))
        handler.wait()

    return behave


def floods(first: bytes, piece: bytes, most: int = 400) -> Behaviour:
    """Send as fast as it is taken, some hundred megabytes at most."""

    def behave(handler: Handler, verdict: str) -> None:
        handler.send_raw(first)
        for _ in range(most):
            handler.send_raw(piece)

    return behave


def resets(handler: Handler, verdict: str) -> None:
    """Close with a reset in place of an end."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    handler.send_raw(whole(verdict)[:40])


def chunked(*chunks: bytes) -> bytes:
    return http(b"", headers=("Transfer-Encoding: chunked",), length=None) + b"".join(chunks)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def bomb(megabytes: int) -> bytes:
    """Spaces, packed to about a thousandth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(b" " * 2**20) for _ in range(megabytes)]
    return b"".join([*parts, packer.flush()])


def gzipped(verdict: str) -> bytes:
    return http(gzip.compress(json.dumps(envelope(verdict)).encode()), headers=("Content-Encoding: gzip",))


@contextmanager
def raw_server(behave: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """A listening socket whose connections are handed over as they are; with None they are never accepted."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    if behave is not None:
                        behave(connection)

    if behave is not None:
        threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
