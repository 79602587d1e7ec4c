"""The key of a server: read from the environment, checked, and never shown."""

from __future__ import annotations

import logging
import os
import re

from eosin.core.errors import EosinError

HIDDEN = "***"
# A shorter key is a placeholder such as "EMPTY", and may well stand in an answer.
MIN_SECRET_CHARS = 8
# The loggers of the packages below.
LOGGERS = (
    "openai", "openai._base_client", "openai._response", "openai._legacy_response", "httpx2",
    "httpcore2.connection", "httpcore2.http11", "httpcore2.http2", "httpcore2.proxy", "httpcore2.socks",
)  # fmt: skip
_ALLOWED = re.compile(r"[!#-&(-\[\]-~]+")  # printable ASCII without space, quotes and backslash
# JSON in JSON in JSON: no server escapes more often, and each round costs a reading of the answer.
_MAX_ESCAPED = 5
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


class ApiKey:
    """A key that no repr, message or log shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"ApiKey({HIDDEN})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a key is never stored")

    def header(self) -> str:
        """Value of the Authorization header."""
        return f"Bearer {self._value}"

    def is_in(self, text: str) -> bool:
        """Whether a text holds the key, also in JSON escapes. A placeholder of a few characters is no secret."""
        if len(self._value) < MIN_SECRET_CHARS:
            return False
        for _ in range(_MAX_ESCAPED):
            if self._value in text:
                return True
            plainer = _ESCAPE.sub(lambda m: chr(int(m[1], 16)), text)
            if plainer == text:
                break
            text = plainer
        return self._value in text.replace("\\", "")

    def closed(self, text: str) -> str:
        """A text that still grows, without an end that may become the key."""
        if len(self._value) < MIN_SECRET_CHARS:
            return text
        longest = min(len(self._value), len(text))
        open_end = next((n for n in range(longest, 0, -1) if text.endswith(self._value[:n])), 0)
        return text[: len(text) - open_end]

    def hidden_in(self, text: str) -> str:
        """The text with stars in place of the key."""
        return text.replace(self._value, HIDDEN) if len(self._value) >= MIN_SECRET_CHARS else text


def read_key(variable: str) -> ApiKey | None:
    """The key in an environment variable, without spaces and line ends around it; None where there is none.

    Raises:
        EosinError: it holds a character that no key has; the message names the variable and the place, not the key.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    legal = _ALLOWED.match(value)
    if legal is None or legal.end() < len(value):
        at = legal.end() if legal else 0
        raise EosinError(
            f"The key in {variable} is not usable.",
            expected="printable ASCII characters without spaces, quotes and backslashes",
            found=f"U+{ord(value[at]):04X} as character {at + 1} of {len(value)}",
            next_step=f"set {variable} again, with the key and nothing else",
        )
    key = ApiKey(value)
    _filter.hide(key)
    return key


class _KeyFilter(logging.Filter):
    """Takes keys out of what the libraries below log, should a server send one back."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: list[ApiKey] = []

    def hide(self, key: ApiKey) -> None:
        self._keys = [k for k in self._keys if k.header() != key.header()] + [key]
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        shown = text = record.getMessage()
        for key in self._keys:
            shown = key.hidden_in(shown)
        if shown != text:
            record.msg, record.args = shown, ()
        return True


_filter = _KeyFilter()
