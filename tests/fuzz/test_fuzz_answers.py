"""Whatever a server sends, reading it ends in a completion and a verdict, or in an AnswerError."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eosin.clients.completion import AnswerError, Completion, read_completion, read_json, read_models, without_fence
from eosin.clients.transport import seconds_asked
from eosin.scoring.judge.checklist import GRADE_SYSTEM, GradeVerdict
from eosin.scoring.judge.model import JudgeRequest, read_verdict
from tests.fuzz.budget import fuzz_settings
from tests.support.misbehaviour import envelope

ANSWER = envelope('{"grade": 0.5, "evidence": "lipoma"}')
REQUEST = JudgeRequest(GRADE_SYSTEM, "{}", GradeVerdict, "grade-1")

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all parts of a JSON value."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, child in children for p in places(child, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    whole = copy.deepcopy(value)
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = new
    return whole


def read_all(raw: bytes) -> None:
    for read in (read_completion, read_models):
        with contextlib.suppress(AnswerError):
            found = read(raw)
            if isinstance(found, Completion):
                json.dumps(found.text).encode()
                found.text.encode("utf-8")
                read_verdict(found, REQUEST)


@fuzz_settings(examples_a_second=300)
@given(st.sampled_from(places(ANSWER)), _values)
def test_a_completion_with_any_part_replaced(path: tuple[Any, ...], new: Any) -> None:
    read_all(json.dumps(changed(ANSWER, path, new)).encode())


@fuzz_settings(examples_a_second=300)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 60))
def test_a_completion_with_bytes_replaced(piece: bytes, at: int, length: int) -> None:
    raw = json.dumps(ANSWER).encode()
    read_all(raw[:at] + piece + raw[at + length :])


@fuzz_settings(examples_a_second=300)
@given(st.binary(max_size=400) | _values.map(lambda v: json.dumps(v).encode()))
def test_any_body(raw: bytes) -> None:
    read_all(raw)


@fuzz_settings(examples_a_second=300)
@given(st.text(alphabet='{}[]",:` \n\\u0dD8e1-.gradevincNaI', max_size=120))
def test_any_verdict(text: str) -> None:
    assert without_fence(text) in text
    with contextlib.suppress(AnswerError):
        _, verdict = read_verdict(Completion(text), REQUEST)
        assert isinstance(verdict, GradeVerdict) and math.isfinite(verdict.grade)
    with contextlib.suppress(ValueError):
        json.dumps(read_json(text), allow_nan=False)


@fuzz_settings(examples_a_second=300)
@given(st.text(max_size=40) | st.text(alphabet="MonTueJan 0123456789:-+,GT.enai", max_size=40))
def test_any_retry_after(value: str) -> None:
    seconds = seconds_asked(value)
    assert seconds is None or seconds >= 0
