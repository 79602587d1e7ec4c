"""A chat completion that comes piece by piece (server-sent events), read as strictly as a whole one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from eosin.clients.completion import THINKING, AnswerError, Completion, read_completion, read_json
from eosin.clients.keys import ApiKey

OnText = Callable[[str], None]


class StreamReader:
    """Takes the bytes of an answer as they come, and tells of the reply so far.

    A server that does not stream and sends one completion is read too. A reply that gives the key back is cut off
    before any of the key is told of.

    Args:
        key: that was sent with the question.
        on_text: is given the reply so far, thinking first, each time it has grown.
    """

    def __init__(self, key: ApiKey | None, on_text: OnText) -> None:
        self._key, self._on_text = key, on_text
        self._rest = b""
        self._whole: bytes | None = None
        self._texts: dict[str, list[str]] = {"content": [], "refusal": [], **{name: [] for name in THINKING}}
        self._facts: dict[str, Any] = {}
        self._tokens: list[Any] = []
        self._is_done = False
        self.told = ""

    def feed(self, data: bytes) -> None:
        """The next bytes.

        Raises:
            AnswerError: they are no part of a completion, hold the key, or tell of a failure of the server.
        """
        if self._whole is None and not self._rest and not self._facts and data.lstrip()[:1] == b"{":
            self._whole = b""
        if self._whole is not None:
            self._whole += data
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())
                self._tell()

    def completion(self) -> Completion:
        """The whole of it, once the server has sent its last byte.

        Raises:
            AnswerError: it broke off, or it is no completion.
        """
        if self._whole is not None:
            self._refuse_key(self._whole.decode("latin-1"))
            found = read_completion(self._whole)
        else:
            if not (self._is_done or self._facts.get("finish_reason")):
                raise AnswerError("the reply broke off")
            found = read_completion(json.dumps(self._as_whole()).encode("ascii"))
        return found

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._is_done = True
            return
        try:
            event = read_json(data.decode("utf-8"))
            if "error" in event:
                raise AnswerError("the server told of a failure of its own")
            self._facts.update({k: event[k] for k in ("model", "usage") if event.get(k) is not None})
            for choice in event.get("choices") or []:
                self._choice(choice)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise AnswerError("the answer is no stream of a chat completion") from None

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        for name, pieces in self._texts.items():
            if isinstance(delta.get(name), str):
                pieces.append(delta[name])
        if choice.get("finish_reason") is not None:
            self._facts["finish_reason"] = choice["finish_reason"]
        self._tokens += (choice.get("logprobs") or {}).get("content") or []

    def _joined(self, name: str) -> str:
        return "".join(self._texts[name])

    def _tell(self) -> None:
        thinking = next((t for name in THINKING if (t := self._joined(name)).strip()), "")
        text = self._joined("content")
        shown = text
        if thinking and "<think>" not in text:
            shown = f"<think>{thinking}" + (f"</think>{text}" if text else "")
        self._refuse_key(shown)
        if self._key is not None:
            shown = self._key.closed(shown)
        if len(shown) > len(self.told):
            self.told = shown
            self._on_text(shown)

    def _refuse_key(self, text: str) -> None:
        if self._key is not None and self._key.is_in(text):
            raise AnswerError("the answer holds the key", again=False)

    def _as_whole(self) -> dict[str, Any]:
        """The completion that a server would send at once."""
        message: dict[str, Any] = {name: self._joined(name) or None for name in (*THINKING, "refusal")}
        message |= {"content": self._joined("content"), "role": "assistant"}
        choice = {"message": message, "finish_reason": self._facts.get("finish_reason")}
        if self._tokens:
            choice["logprobs"] = {"content": self._tokens}
        return {"model": self._facts.get("model"), "choices": [choice], "usage": self._facts.get("usage")}
