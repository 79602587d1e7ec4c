"""Addresses, keys, prices and answers, before and after any request."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from eosin.clients import ChatClient, ChatRequest, Message, ServerSettings
from eosin.clients.cache import TextCache
from eosin.clients.completion import AnswerError, read_completion, read_json, without_fence
from eosin.clients.keys import ApiKey, read_key
from eosin.clients.prices import read_price
from eosin.clients.transport import seconds_asked
from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Unparsed

SECRET = "placeholder-secret-123"


@pytest.mark.parametrize(
    "url",
    ["", "host:8000", "ftp://host/v1", "http://", "http:///v1", "http://host:port/v1", "http://host:99999/v1",
     "http://[::1/v1", "http://ho st/v1", "http://host/v1\n", "http://host/\x00", "file:///etc/passwd", "//host/v1"],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(EosinError):
        ServerSettings(url, "m")


@pytest.mark.parametrize(
    "url",
    [f"https://user:{SECRET}@host/v1", f"https://{SECRET}@host/v1", f"https://host/v1?key={SECRET}",
     f"https://host/v1#{SECRET}", f"https://user:{SECRET}@host:port/v1"],
)  # fmt: skip
def test_an_address_with_a_secret_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(EosinError) as caught:
        ServerSettings(url, "m")
    assert SECRET not in str(caught.value) and "address" in str(caught.value)


@pytest.mark.parametrize("host", ["ex ample", "\u2603" * 80, "256.1.1.1.1:80:80", "[::zz]"])
def test_a_host_that_no_server_can_have_is_refused_before_any_request(host: str) -> None:
    with pytest.raises(EosinError):
        ChatClient(ServerSettings(f"http://{host}/v1", "m"))


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".example"])
def test_a_host_that_only_the_look_up_refuses_is_no_connection(host: str) -> None:
    client = ChatClient(ServerSettings(f"http://{host}/v1", "m", retries=0, timeout_s=5.0))
    answer = client.complete_now(ChatRequest((Message("user", ("x",)),)))
    assert isinstance(answer, Unparsed)
    assert answer.reason.startswith(("no connection (", "timed out"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"proxy": "http://proxy:3128"}, "A proxy could read"),
        ({"proxy": f"socks://user:{SECRET}@proxy"}, "The proxy needs a web address"),
        ({"timeout_s": 0.0}, "timeout_s is out of range"),
        ({"timeout_s": math.inf}, "timeout_s is out of range"),
        ({"timeout_s": math.nan}, "timeout_s is out of range"),
        ({"retries": -1}, "retries is out of range"),
        ({"concurrency": 0}, "concurrency is out of range"),
        ({"price_in": -1.0}, "price_in is out of range"),
        ({"max_cost": 1.0}, "A limit of cost needs prices"),
        ({"max_cost": 0.001, "price_out": 10.0}, "Not one call fits"),
    ],
)
def test_settings_that_cannot_work_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(EosinError) as caught:
        ServerSettings("http://host/v1", "m", **more)
    assert words in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize("value", ["", "   ", "\n", "\t\r\n"])
def test_no_key_is_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    assert read_key("SOME_KEY") is None
    monkeypatch.delenv("SOME_KEY")
    assert read_key("SOME_KEY") is None


@pytest.mark.parametrize("around", [" {} ", "{}\n", "\t{}\r\n", "\ufeff{}"[1:]])
def test_space_around_a_key_is_taken_off(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", around.format(SECRET))
    key = read_key("SOME_KEY")
    assert key is not None and key.header() == f"Bearer {SECRET}"


@pytest.mark.parametrize("bad", [" ", "\n", "\r\nX-Other: 1", "\t", "\x7f", "\x1b", "é", "\ufeff", "“", "'", '"', "\\"])
def test_a_key_with_a_foreign_character_is_refused_and_not_shown(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("SOME_KEY", f"{SECRET}{bad}{SECRET}")
    except UnicodeEncodeError:
        pytest.skip("the environment of this locale cannot hold the character")
    with pytest.raises(EosinError) as caught:
        read_key("SOME_KEY")
    shown = str(caught.value)
    assert SECRET not in shown and "SOME_KEY" in shown
    assert f"U+{ord(bad[0]):04X} as character 23 of" in shown


def test_a_key_does_not_show_itself() -> None:
    key = ApiKey(SECRET)
    assert SECRET not in f"{key} {key!r} {[key]} {vars(type(key))}"
    for copies in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="never stored"):
            copies(key)


def test_keys_are_taken_out_of_the_logs_below(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", SECRET)
    read_key("SOME_KEY")
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2.http11", "openai._base_client"):
        logging.getLogger(name).debug("headers %r, %s", {"x": SECRET.encode()}, "as they were")
        logging.getLogger(name).info(f"in the text: {SECRET}")
    assert SECRET not in caplog.text
    assert caplog.text.count("***") == 6 and caplog.text.count("as they were") == 3


def test_a_placeholder_is_no_secret() -> None:
    assert not ApiKey("EMPTY").is_in("the glass is EMPTY")


@pytest.mark.parametrize(
    "text",
    [SECRET, f"x{SECRET}x", SECRET.replace("-", "\\u002d"), SECRET.replace("-", "\\\\u002d"),
     SECRET.replace("-", "\\u005cu002d"), SECRET.replace("s", "\\s")],
)  # fmt: skip
def test_a_key_is_found_behind_escapes(text: str) -> None:
    assert ApiKey(SECRET).is_in(text)
    assert not ApiKey(SECRET).is_in(text.replace("2", "3"))


def test_looking_for_a_key_takes_no_time() -> None:
    started = time.monotonic()
    for bomb in ("\\u005c" + "u005c" * 200_000, "\\" * 10**6, "\\u005c" * 160_000):
        assert not ApiKey(SECRET).is_in(bomb)
    assert time.monotonic() - started < 20.0


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("3", 3.0), ("0.5", 0.5), (" 2 ", 2.0), ("-4", 0.0), ("1e3", 1000.0), ("nan", None), ("soon", None), ("", None),
     (None, None), ("Fri, 99 Nov 2026 00:00:00 GMT", None), (formatdate(0, usegmt=True), 0.0)],
)  # fmt: skip
def test_retry_after(asked: str | None, seconds: float | None) -> None:
    assert seconds_asked(asked) == seconds


def test_retry_after_as_a_date() -> None:
    found = seconds_asked(formatdate(time.time() + 100, usegmt=True))
    assert found is not None and 60.0 < found <= 101.0


@pytest.mark.parametrize(
    "text",
    ["NaN", "[Infinity]", "-Infinity", "1e999", '{"a": 1, "a": 1}', "[" * 10**5, "1" * 5000, "", "{", "'a'", "1 2"],
)
def test_json_is_read_strictly(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('```\n{"a": 1}```', '{"a": 1}'),
        ('  ```JSON  \n{"a": 1}\n```  \n', '{"a": 1}'),
        ('```python\n{"a": 1}\n```', '```python\n{"a": 1}\n```'),
        ('a ```json\n{"a": 1}\n```', 'a ```json\n{"a": 1}\n```'),
        ("```json\n1\n```\n```json\n2\n```", "```json\n1\n```\n```json\n2\n```"),
        ("```", "```"),
        ("```json```", "```json```"),
    ],
)
def test_a_fence_around_all_is_taken_off(text: str, inside: str) -> None:
    assert without_fence(text) == inside


def test_a_completion_by_hand() -> None:
    raw = {"model": "m", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
           "usage": {"prompt_tokens": 3, "completion_tokens": 4}}  # fmt: skip
    found = read_completion(json.dumps(raw).encode())
    assert (found.text, found.model, found.finish_reason, found.refused) == ("x", "m", "stop", False)
    assert (found.prompt_tokens, found.completion_tokens) == (3, 4)


def test_what_an_unusable_answer_cost_is_known() -> None:
    raw = {"choices": [{"message": {"content": None}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    with pytest.raises(AnswerError) as caught:
        read_completion(json.dumps(raw).encode())
    assert caught.value.completion is not None
    assert (caught.value.completion.prompt_tokens, caught.value.completion.completion_tokens) == (3, 4)


def test_prices(tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text('{"a-model": {"input": 0.5, "output": 1.5}}')
    assert (read_price(table, "a-model").input, read_price(table, "a-model").output) == (0.5, 1.5)
    with pytest.raises(EosinError, match="no price for this model") as caught:
        read_price(table, "a-modal")
    assert caught.value.next_step == "did you mean 'a-model'?"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"m": 1}', '{"m": {"input": 1}}', '{"m": {"input": -1, "output": 1}}',
             '{"m": {"input": 1, "output": NaN}}', '{"m": {"input": 1, "output": 1, "per": "day"}}'],
)  # fmt: skip
def test_a_table_of_prices_that_is_none(text: str, tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text(text)
    with pytest.raises(EosinError) as caught:
        read_price(table, "m")
    assert caught.value.where == str(table)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"text": 1}', "[" * 10**5, '{"text": "x"'])
def test_a_damaged_file_of_the_cache_holds_nothing(text: str, tmp_path: Path) -> None:
    cache = TextCache(tmp_path, "text")
    cache.put("ab12", "kept", {"model": "m"})
    assert cache.get("ab12") == "kept" == TextCache(tmp_path, "text").get("ab12")
    (tmp_path / "ab" / "ab12.json").write_text(text)
    assert cache.get("ab12") is None


def test_a_cache_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "ab").write_text("a file where a folder belongs")
    for folder in (tmp_path, tmp_path / "ab"):
        with pytest.raises(EosinError, match="must be a folder"):
            TextCache(folder, "text").put("ab12", "x", {})
