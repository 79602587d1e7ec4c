"""A real server in a thread, with an engine whose replies a function writes, word by word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn

from eosin.engines.base import Decoding, Generation, Request
from eosin.serve.app import create_app
from eosin.serve.settings import ServeSettings


class WordEngine:
    """Says a word a step.

    Attributes:
        reply: what is said to a request. before_step: is called before each word. batches: ids of each batch, in order.
        prompt_size: tokens of every prompt, as it is told.
    """

    name = "words"

    def __init__(
        self, reply: Callable[[Request], str], before_step: Callable[[int], object] = lambda step: None
    ) -> None:
        self.reply, self.before_step = reply, before_step
        self.batches: list[list[str]] = []
        self.said = 0
        self.prompt_size: int | None = 7

    def generate_watched(
        self, requests: Sequence[Request], decoding: Decoding, watch: Callable[[int, Callable[[], str]], bool]
    ) -> list[Generation]:
        self.batches.append([r.id for r in requests])
        words = [self.reply(r).split(" ") for r in requests]
        ended: dict[int, int] = {}
        for step in range(1, decoding.max_new_tokens + 1):
            self.before_step(step)
            for i in range(len(requests)):
                if i not in ended:
                    self.said += 1
                    if step >= len(words[i]) or not watch(i, partial(" ".join, words[i][:step])):
                        ended[i] = step
            if len(ended) == len(requests):
                break
        kept = [w[: ended.get(i, decoding.max_new_tokens)] for i, w in enumerate(words)]
        return [
            Generation(r.id, " ".join(k), len(k), len(k) < len(w), num_prompt_tokens=self.prompt_size)
            for r, k, w in zip(requests, kept, words, strict=True)
        ]


@contextmanager
def serving(engine: Any, room: Any = None, **settings: Any) -> Iterator[tuple[str, Any]]:
    """Address and application of a running server."""
    app = create_app(engine, ServeSettings(port=0, **settings), room)
    with running(app) as url:
        yield url, app


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Address of a server of an application."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
