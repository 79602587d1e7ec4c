"""A small OpenAI-compatible server for tests: a function or a real model answers; faults on demand.

`python -m tests.support.chat_server CHECKPOINT` serves a checkpoint and prints its address.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from eosin.core.nouns.sample import ImagePart, Message, TextPart
from eosin.engines.base import Decoding, Generation, Request

Answer = Callable[[Request, Decoding], Generation]


def request_of(body: dict[str, Any]) -> Request:
    """The question in a chat completion's body, as an engine takes it."""
    images: list[Image.Image] = []
    messages = []
    for turn in body["messages"]:
        content = turn["content"]
        parts: list[Any] = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                parts.append(TextPart(text=part["text"]))
            else:
                head, _, data = part["image_url"]["url"].partition(",")
                assert head in ("data:image/png;base64", "data:image/jpeg;base64"), head
                parts.append(ImagePart(index=len(images)))
                images.append(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        messages.append(Message(role=turn["role"], parts=tuple(parts)))
    return Request("asked", tuple(messages), tuple(images))


class ChatServer(ThreadingHTTPServer):
    """Answers by a function.

    Attributes:
        fault: is given the number of a request (from 1) and says what it meets: an HTTP status, "no choice",
            "garbage", "hang up"; None is an ordinary answer.
        refuse: is given a request's body and says the same.
        logprobs: makes the token probabilities of a reply, where they are asked for; None gives none.
        bodies: what was asked, in order.
        headers: sent with a status, such as Retry-After.
        gate: is passed by every request before its answer.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.fault: Callable[[int], Any] = lambda number: None
        self.refuse: Callable[[dict[str, Any]], Any] = lambda body: None
        self.logprobs: Callable[[str], list[dict[str, Any]]] | None = None
        self.headers: dict[str, str] = {"Retry-After": "0"}
        self.delay_s = 0.0
        self.gate: Callable[[], object] = lambda: None
        self.bodies: list[dict[str, Any]] = []
        self.answered: list[str] = []
        self.lock = threading.Lock()
        self.running = self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        with suppress(OSError):
            if self.server.fault(0) == "hang up":
                self.connection.close()
                return
            self._send(200, {"object": "list", "data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.bodies.append(body)
            fault = server.fault(len(server.bodies)) or server.refuse(body)
            server.running += 1
            server.most_at_once = max(server.most_at_once, server.running)
        server.gate()
        time.sleep(server.delay_s)
        with server.lock:
            server.running -= 1
        with suppress(OSError):
            self._answer(body, fault)

    def _answer(self, body: dict[str, Any], fault: Any) -> None:
        if fault == "hang up":
            self.connection.close()
        elif isinstance(fault, int):
            self._send(fault, {"error": "no"}, self.server.headers)
        elif fault == "no choice":
            self._send(200, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}})
        elif fault == "garbage":
            self._send(200, ["<html>"])
        else:
            decoding = Decoding(
                body["max_tokens"], body["temperature"], body.get("top_p", 1.0), 1, body.get("seed") or 0
            )
            made = self.server.answer(request_of(body), decoding)
            with self.server.lock:
                self.server.answered.append(json.dumps(body, sort_keys=True))
            choice: dict[str, Any] = {
                "message": {"role": "assistant", "content": made.text},
                "finish_reason": "length" if made.truncated else "stop",
            }
            if body.get("logprobs") and self.server.logprobs is not None:
                choice["logprobs"] = {"content": self.server.logprobs(made.text)}
            usage = {"prompt_tokens": 100, "completion_tokens": made.num_tokens}
            self._send(200, {"model": "tiny", "choices": [choice], "usage": usage})

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def by_reply(reply: Callable[[Request], str]) -> Answer:
    """An answer from a function that writes replies."""
    return lambda request, _: Generation("asked", text := reply(request), len(text.split()), False)


@contextmanager
def serving(answer: Answer) -> Iterator[ChatServer]:
    """A server in a thread of this process."""
    server = ChatServer(answer)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _serve(checkpoint: str) -> None:
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.models.load import load, quiet

    quiet()
    engine, one_at_a_time = TransformersEngine(load(checkpoint)), threading.Lock()

    def answer(request: Request, decoding: Decoding) -> Generation:
        with one_at_a_time:
            return next(iter(engine.generate([request], decoding)))

    server = ChatServer(answer)
    print(server.url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])
