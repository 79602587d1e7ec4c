"""What a server sent, read strictly: one chat completion, or the reason why it is none."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

MAX_REPORTED_TOKENS = 10**9
MAX_NAME_CHARS = 100
_FENCE = "```"
THINKING = ("reasoning_content", "reasoning")  # names that servers give to it


class AnswerError(Exception):
    """An answer that cannot be used.

    Attributes:
        reason: a short fixed phrase, fit for counting.
        again: whether another attempt may mend it.
        completion: what could be read all the same, for the counts.
    """

    def __init__(self, reason: str, *, again: bool = True, completion: Completion | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.completion = completion


Tokens = list[tuple[str, list[tuple[str, float]]]]


@dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
        text: what the model wrote.
        model: the model's name as the server gives it.
        finish_reason: why it ended: "stop", "length", "content_filter", or what else the server says.
        refused: whether the server marks it as a refusal.
        prompt_tokens, completion_tokens: the server's counts; None where it gave none that can be true.
        thinking: what the model wrote before its answer, where the server gives it apart.
        tokens: of each token of the text: the token, and the tokens that could have stood there with their log
            probabilities, its own among them. None where the server gave none.
    """

    text: str
    model: str | None = None
    finish_reason: str | None = None
    refused: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    thinking: str | None = None
    tokens: Tokens | None = None


def read_json(text: str) -> Any:
    """Strict JSON: no NaN, no number beyond a float, no key twice, no depth that ends the reader.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def without_fence(text: str) -> str:
    """The text inside a code fence that encloses all of it; else the text."""
    first, _, rest = text.strip().partition("\n")
    if first.strip().casefold() not in (_FENCE, f"{_FENCE}json") or not rest.endswith(_FENCE):
        return text
    inside = rest.removesuffix(_FENCE).strip()
    return text if _FENCE in inside else inside


def read_completion(raw: bytes) -> Completion:
    """The chat completion in a response body, in UTF-8, with or without a byte order mark.

    Raises:
        AnswerError: there is none, or it holds no text.
    """
    try:
        answer = read_json(raw.decode("utf-8-sig"))
        choices = answer["choices"]
        message = choices[0]["message"]
        finish = choices[0].get("finish_reason")
        content = message.get("content")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise AnswerError("the answer is no chat completion") from None
    facts = Completion("", _name(answer.get("model")), _name(finish), bool(message.get("refusal")), *_tokens(answer))
    if not isinstance(choices, list) or len(choices) != 1:
        raise AnswerError("the answer holds several choices where one was asked for", completion=facts)
    text = "" if facts.refused and content is None else _text(content)
    thinking = next((t for t in map(message.get, THINKING) if isinstance(t, str) and t.strip()), None)
    if text is None and thinking is not None and finish == "length":
        text = ""  # cut off while it thought
    if text is None:
        called = message.get("tool_calls") or message.get("function_call")
        raise AnswerError("the model called a tool" if called else "the answer is empty", completion=facts)
    if _has_surrogates(text + (thinking or "")):
        raise AnswerError("the answer holds half a character", completion=facts)
    return replace(facts, text=text, thinking=thinking, tokens=read_tokens(choices[0].get("logprobs")))


def read_tokens(logprobs: object) -> Tokens | None:
    """The tokens of a choice's `logprobs`; None where there are none, or they cannot be true."""
    try:
        found = [
            (_token(t["token"]), [(_token(o["token"]), _logprob(o["logprob"])) for o in [t, *t["top_logprobs"]]])
            for t in logprobs["content"]  # type: ignore[index]
        ]
    except (KeyError, TypeError, ValueError):
        return None
    return [(token, list(dict(options).items())) for token, options in found] or None


def _token(value: object) -> str:
    if not isinstance(value, str) or _has_surrogates(value):
        raise ValueError("a token is a text")
    return value


def _logprob(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= 0.01:
        raise ValueError("a log probability is a number of at most 0")
    return min(0.0, float(value))


def whole_text(completion: Completion) -> str:
    """The text of an answer that ended by itself.

    Raises:
        AnswerError: it was cut off or withheld, or the model refused.
    """
    if completion.finish_reason == "length":
        raise AnswerError("the answer was cut off")
    if completion.finish_reason == "content_filter":
        raise AnswerError("the server's filter withheld the answer", again=False)
    if completion.refused:
        raise AnswerError("the model refused to answer", again=False)
    return completion.text


def read_models(raw: bytes) -> tuple[str, ...]:
    """The names in a list of models.

    Raises:
        AnswerError: it is none.
    """
    try:
        names = [entry["id"] for entry in read_json(raw.decode("utf-8-sig"))["data"]]
    except (ValueError, KeyError, TypeError):
        raise AnswerError("the answer is no list of models") from None
    return tuple(n for n in map(_name, names) if n is not None)


def _text(content: object) -> str | None:
    """The text of a message: a string, or the text parts of a list."""
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict) and p.get("type") in ("text", "output_text")]
        texts = [p for p in parts if isinstance(p, str)]
        return "".join(texts) if texts else None
    return content if isinstance(content, str) else None


def _tokens(answer: dict[str, Any]) -> tuple[int | None, int | None]:
    """Both counts, or neither: a cost from one of them would be wrong."""
    usage = answer.get("usage")
    counts = [usage.get(k) for k in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    good = [c for c in counts if isinstance(c, int) and not isinstance(c, bool) and 0 <= c <= MAX_REPORTED_TOKENS]
    return (good[0], good[1]) if len(good) == 2 else (None, None)


def _name(value: object) -> str | None:
    if not isinstance(value, str) or not value.isprintable():
        return None
    return value[:MAX_NAME_CHARS] or None


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number beyond a float")
    return value
