"""The one client of OpenAI-compatible servers, against a real HTTP server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.judge_stub import Handler, JudgeStub, running_stub
from tests.support.misbehaviour import KEY, answers, envelope, hangs_after, http, raw_server, says, sends, status

from eosin.clients import ChatClient, ChatRequest, Completion, Message, ServerSettings
from eosin.clients.completion import AnswerError
from eosin.core.errors import MissingExtraError
from eosin.core.nouns.outcome import Parsed, Unparsed

SCHEMA = ("Answer", {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stub() -> Iterator[JudgeStub]:
    with running_stub() as server:
        server.always = says(lambda _: "a reply")
        yield server


def client_of(stub: JudgeStub, **more: Any) -> ChatClient:
    return ChatClient(ServerSettings(stub.url, "stub", **({"backoff_s": 0.01, "retries": 1} | more)))


def said(text: str = "What is it?") -> ChatRequest:
    return ChatRequest((Message("user", (text,)),))


def test_a_reply_is_text(stub: JudgeStub) -> None:
    assert client_of(stub).complete_now(said()) == Parsed("a reply")
    body = stub.requests[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("stub", 0.0, 1024)
    assert set(body) == {"model", "temperature", "max_tokens", "messages"}


def test_turns_and_images_are_sent_in_order(stub: JudgeStub) -> None:
    jpeg, webp, png = b"\xff\xd8\xff\xe0rest", b"RIFF0000WEBPrest", b"\x89PNGrest"
    request = ChatRequest(
        (
            Message("system", ("Be ", "brief.")),
            Message("user", (jpeg, "first", webp, png)),
            Message("assistant", ("An answer.",)),
            Message("user", ("And now?",)),
        ),
        temperature=0.7,
        seed=3,
        max_tokens=9,
    )
    assert client_of(stub).complete_now(request) == Parsed("a reply")
    body = stub.requests[0]
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][0]["content"] == "Be brief."
    parts = body["messages"][1]["content"]
    kinds = [p["text"] if p["type"] == "text" else p["image_url"]["url"].partition(";")[0] for p in parts]
    assert kinds == ["data:image/jpeg", "first", "data:image/webp", "data:image/png"]
    assert base64.b64decode(parts[0]["image_url"]["url"].partition(",")[2]) == jpeg
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.7, 3, 9)


def test_an_image_where_none_can_be_is_an_error() -> None:
    with pytest.raises(ValueError, match="image in a system message"):
        Message("system", (b"\x89PNG",))


def test_the_caller_may_read_what_is_cut_off_or_empty(stub: JudgeStub) -> None:
    """An examined model's reply is one also where it was cut off; by default it is not."""
    stub.always = answers(message={"content": ""}, choice={"finish_reason": "length"})
    client = client_of(stub)
    whole = client.complete_now(said(), lambda completion: completion)
    assert whole == Parsed(Completion("", "stub", "length", False, 1000, 100))
    assert client.complete_now(said()) == Unparsed("the answer was cut off (after 2 attempts)")


def test_a_reader_decides_whether_another_attempt_is_made(stub: JudgeStub) -> None:
    def final(completion: Completion) -> str:
        raise AnswerError("not this", again=False)

    assert client_of(stub).complete_now(said(), final) == Unparsed("not this")
    assert len(stub.requests) == 1


def test_a_reader_that_breaks_is_no_answer_of_the_server(stub: JudgeStub) -> None:
    client = client_of(stub)
    with pytest.raises(ZeroDivisionError):
        client.complete_now(said(), lambda _: 1 / 0)
    assert client.complete_now(said()) == Parsed("a reply")


def test_a_reader_cannot_wait_for_another_answer(stub: JudgeStub) -> None:
    client = client_of(stub)
    with pytest.raises(RuntimeError, match="cannot wait for another answer"):
        client.complete_now(said(), lambda _: client.complete_now(said("more")))
    assert len(stub.requests) == 1


def knows_no_schema(handler: Handler, verdict: str) -> None:
    asked = handler.server.requests[-1]
    text = http(b"{}", "400 Bad Request") if "response_format" in asked else http(json.dumps(envelope('{"x": 1}')))
    handler.send_raw(text)


def test_a_server_without_schemas_is_told_in_words(stub: JudgeStub) -> None:
    stub.always = knows_no_schema
    client = client_of(stub)
    for num_requests in (2, 3):  # the second question is put in words at once
        request = ChatRequest((Message("system", ("Task.",)), *said().messages), schema=SCHEMA)
        assert client.complete_now(request) == Parsed('{"x": 1}')
        assert len(stub.requests) == num_requests
        system = stub.requests[-1]["messages"][0]["content"]
        assert system.startswith("Task.") and json.dumps(SCHEMA[1]) in system
    assert (client.usage.calls, client.usage.failures, client.usage.in_words) == (3, 0, 2)


@pytest.mark.parametrize(("structured", "asks"), [("json_schema", True), ("prompt", False)])
def test_how_a_schema_is_asked_for_can_be_fixed(stub: JudgeStub, structured: Any, asks: bool) -> None:
    stub.always = status("400 Bad Request")
    answer = client_of(stub, structured=structured).complete_now(ChatRequest(said().messages, schema=SCHEMA))
    assert answer == Unparsed("the server refused the request (400)")
    assert ["response_format" in r for r in stub.requests] == [asks]
    assert [m["role"] for m in stub.requests[0]["messages"]] == (["user"] if asks else ["system", "user"])


def test_a_request_that_cannot_be_written_is_set_aside(stub: JudgeStub) -> None:
    client = client_of(stub)
    assert client.complete_now(said("a \ud800 b")) == Unparsed("the request holds half a character")
    assert client.complete_now(said("a \U0001f52c b")) == Parsed("a reply")
    assert stub.requests[0]["messages"][0]["content"][0]["text"] == "a \U0001f52c b"
    assert len(stub.requests) == 1


def test_certificates_that_cannot_be_read_are_the_users_to_mend() -> None:
    code = """
import sys
from eosin.clients import ChatClient, ServerSettings
from eosin.core.errors import EosinError
try:
    ChatClient(ServerSettings("https://host/v1", "m"))
except EosinError as exc:
    print(exc)
"""
    for value in ("/does/not/exist.pem", __file__):
        assert "certificates of this machine cannot be read" in run_python(code, SSL_CERT_FILE=value)


def test_a_server_that_was_never_reached_costs_nothing(stub: JudgeStub) -> None:
    with raw_server(None) as gone:
        pass
    settings = ServerSettings(f"http://{gone}/v1", "m", price_out=1.0, retries=2, backoff_s=0.01)
    client = ChatClient(settings)
    assert "ConnectionRefusedError" in str(client.complete_now(said()))
    with raw_server(lambda c: c.recv(9999) and time.sleep(4.0)) as silent:  # a handshake without an answer
        slow = ChatClient(ServerSettings(f"https://{silent}/v1", "m", price_out=1.0, retries=0, timeout_s=1.5))
        assert slow.complete_now(said()) == Unparsed("timed out (after 1 attempts)")
    with raw_server(lambda c: (c.recv(9999), c.sendall(http(b"", "407 Who are you")))) as proxy:
        settings = ServerSettings("https://host/v1", "m", proxy=f"http://{proxy}", price_out=1.0, retries=0)
        refused = ChatClient(settings)
        assert refused.complete_now(said()) == Unparsed("no connection (ProxyError) (after 1 attempts)")
    for usage in (client.usage, slow.usage, refused.usage):
        assert (usage.cost, usage.cost_assumed, usage.unreported) == (0.0, 0.0, 0)


def test_models_are_listed(stub: JudgeStub) -> None:
    stub.always = None
    client = client_of(stub)
    assert client.models_now() == Parsed(("stub", "other"))
    stub.always = status("302 Found", "Location: http://127.0.0.1:1/")
    assert "redirects" in str(client.models_now())
    stub.always = sends(lambda _: http('{"data": "none"}'))
    assert client.models_now() == Unparsed("the answer is no list of models")
    assert client.usage.calls == 0


def test_an_address_may_name_the_endpoint(stub: JudgeStub) -> None:
    for url in (stub.url, f"{stub.url}/", f"{stub.url}/chat/completions", f"{stub.url}/chat/completions/"):
        assert ChatClient(ServerSettings(url, "stub")).complete_now(said()) == Parsed("a reply")


def test_loops_and_threads_share_the_limits(stub: JudgeStub) -> None:
    stub.delay_s = 0.05
    client = client_of(stub, concurrency=3)
    found: list[Any] = []

    async def several() -> list[Any]:
        return list(await asyncio.gather(*(client.complete(said(f"{n}")) for n in range(6))))

    threads = [threading.Thread(target=lambda: found.extend(asyncio.run(several()))) for _ in range(2)]
    threads += [threading.Thread(target=lambda: found.append(client.complete_now(said()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [Parsed("a reply")] * 16
    assert 2 <= stub.most_at_once <= 3
    assert client.usage.calls == 16


def test_a_caller_that_goes_away_frees_its_place(stub: JudgeStub) -> None:
    stub.faults = [hangs_after(lambda _: b"")]
    client = client_of(stub, concurrency=1, timeout_s=600.0, price_out=1.0)

    async def impatient() -> None:
        task = asyncio.ensure_future(client.complete(said()))
        while not stub.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.wait_for(client.complete(said()), 60) == Parsed("a reply")

    asyncio.run(impatient())
    assert (client.usage.calls, client.usage.unreported) == (2, 1)


def test_waiting_for_a_place_does_not_use_up_the_time(stub: JudgeStub) -> None:
    stub.delay_s = 0.4
    client = client_of(stub, concurrency=1, timeout_s=2.5, retries=0)

    async def several() -> list[Any]:
        return list(await asyncio.gather(*(client.complete(said(f"{n}")) for n in range(9))))

    assert asyncio.run(several()) == [Parsed("a reply")] * 9


def test_no_cost_limit_is_exceeded_whatever_the_answers_cost(stub: JudgeStub) -> None:
    """Answers of 1 to 100 tokens, some unreported, 16 at once: the sum stays below the limit, and close to it."""

    def costs(handler: Handler, verdict: str) -> None:
        n = len(handler.server.requests) * 37 % 100 + 1
        usage = None if n % 5 == 0 else {"prompt_tokens": 0, "completion_tokens": n}
        handler.send_raw(http(json.dumps(envelope("a reply", usage=usage))))

    stub.always = costs
    client = client_of(stub, concurrency=16, price_out=1e6, max_tokens=100, max_cost=1500.0)

    async def many() -> list[Any]:
        return list(await asyncio.gather(*(client.complete(said(f"{n}")) for n in range(100))))

    found = asyncio.run(many())
    spent = client.usage.cost + client.usage.cost_assumed
    assert 1400.0 < spent <= 1500.0
    assert {f.reason for f in found if isinstance(f, Unparsed)} == {"budget spent (max_cost)"}
    assert len(stub.requests) == client.usage.calls


def test_an_image_counts_with_its_worst_case(stub: JudgeStub) -> None:
    request = ChatRequest((Message("user", (b"\x89PNG" + b"0" * 100_000, "What is it?")),))
    cheap = client_of(stub, price_in=1e6, max_cost=2000.0, image_tokens=1000)
    assert cheap.complete_now(request) == Parsed("a reply")
    dear = client_of(stub, price_in=1e6, max_cost=2000.0, image_tokens=2000)
    assert dear.complete_now(request) == Unparsed("budget spent (max_cost)")


def test_only_what_was_given_leaves_for_the_server(
    stub: JudgeStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither variables made for other servers, nor .netrc, nor proxies, nor cookies have a say."""
    (tmp_path / ".netrc").write_text("default login somebody password placeholder-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    with raw_server(lambda c: c.sendall(http(json.dumps(envelope("from a proxy"))))) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy}")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        for name in ("HOME", "NETRC"):
            monkeypatch.setenv(name, str(tmp_path / (".netrc" if name == "NETRC" else "")))
        for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
            monkeypatch.setenv(f"OPENAI_{name}", "placeholder-openai")
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://{proxy}/v1")
        monkeypatch.setenv(
            "OPENAI_CUSTOM_HEADERS", "Authorization: Bearer placeholder-openai\nX-Other: placeholder-openai"
        )
        stub.always = sends(lambda _: http(json.dumps(envelope("a reply")), headers=("Set-Cookie: a=b; Path=/",)))
        client = client_of(stub)
        for _ in range(2):
            assert client.complete_now(said()) == Parsed("a reply")
    for headers in stub.headers_seen:
        assert "placeholder" not in str(headers)
        assert {h.lower() for h in headers} == {
            "host", "content-type", "content-length", "x-stainless-raw-response", "user-agent", "accept",
            "accept-encoding", "connection",
        }  # fmt: skip


def test_the_key_is_sent_stripped(stub: JudgeStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOSIN_API_KEY", f"  {KEY}\r\n")
    assert client_of(stub).complete_now(said()) == Parsed("a reply")
    assert stub.headers_seen[0]["Authorization"] == f"Bearer {KEY}"


def test_a_named_proxy_is_asked_for_a_tunnel_and_sees_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOSIN_API_KEY", KEY)
    seen: list[bytes] = []

    def tunnel(connection: Any) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        seen.append(connection.recv(65536))

    with raw_server(tunnel) as proxy:
        settings = ServerSettings("https://models.example/v1", "m", proxy=f"http://{proxy}", retries=0)
        assert "no connection" in str(ChatClient(settings).complete_now(said()))
    assert seen[0].startswith(b"CONNECT models.example:443 ")
    assert seen[1][:1] == b"\x16"  # a TLS handshake
    assert KEY.encode() not in b"".join(seen)


def test_the_global_random_stream_is_left_alone(stub: JudgeStub) -> None:
    import random

    random.seed(5)
    expected = random.Random(5).random()
    stub.faults = [status("500 No")]
    assert client_of(stub).complete_now(said()) == Parsed("a reply")
    assert random.random() == expected


@pytest.mark.parametrize("package", ["openai", "httpx2"])
def test_a_missing_package_names_the_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        ChatClient(ServerSettings("http://host/v1", "m"))
    assert package in str(caught.value) and "pip install 'eosin[clients]'" in str(caught.value)


def run_python(code: str, *arguments: str, **variables: str) -> str:
    paths = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": paths, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_is_loaded_only_by_those_who_ask_a_server() -> None:
    code = (
        "import sys, eosin.clients, eosin.clients.prices, eosin.scoring, eosin.cli.main\n"
        "from eosin.scoring.judge.model import OpenAIJudge\n"
        "print([m for m in ('openai', 'httpx2', 'anyio') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_a_forked_process_asks_too_and_the_end_is_quiet(stub: JudgeStub) -> None:
    code = """
import os, sys, warnings
from eosin.clients import ChatClient, ChatRequest, Message, ServerSettings
client = ChatClient(ServerSettings(sys.argv[1], "stub", retries=0))
request = ChatRequest((Message("user", ("x",)),))
print(client.complete_now(request).value, flush=True)
warnings.simplefilter("ignore")
child = os.fork()
if not child:
    print(client.complete_now(request).value, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(code, stub.url).split("\n") == ["a reply", "a reply", "0"]


def test_the_example_in_the_documentation_runs(stub: JudgeStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    stub.always, stub.faults = None, [says(lambda _: "a reply")]
    page = (ROOT / "docs" / "scoring.md").read_text("utf-8").partition("### The client")[2]
    code = page.partition("```python\n")[2].partition("```")[0]
    assert "http://host:8000/v1" in code and "complete_now" in code
    names: dict[str, Any] = {"png_bytes": b"\x89PNG"}
    exec(code.replace("http://host:8000/v1", stub.url), names)
    assert names["client"].usage.calls == names["client"].usage.answered_by["stub"] == 1
    assert names["client"].models_now() == Parsed(("stub", "other"))


def test_many_clients_share_one_thread(stub: JudgeStub) -> None:
    before = threading.active_count()
    for _ in range(20):
        assert client_of(stub).complete_now(said()) == Parsed("a reply")
    limit = time.monotonic() + 30
    while threading.active_count() > before + 2 and time.monotonic() < limit:
        time.sleep(0.05)  # threads of the stub end by themselves
    assert threading.active_count() <= before + 2
