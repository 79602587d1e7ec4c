"""A small OpenAI-compatible judge for tests: a real HTTP server on this machine, with faults on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EVENTS = ("image_features", "elimination", "knowledge", "definition_error", "contradiction", "outdated")


class JudgeStub(ThreadingHTTPServer):
    """Answers every request by its own reading of the reply, unless a fault is queued.

    Attributes:
        faults: what the next requests meet: an HTTP status, "slow", "drip", "garbage", "truncated", "cut off",
            "empty", "eight of ten", "unquoted", "hang up"; a function that is given the handler and the verdict
            answers by itself; None is an ordinary answer.
        always: a fault for every request.
    """

    daemon_threads = True
    request_queue_size = 128  # of connections that wait to be accepted; five, as by default, lose some at 16 at once

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[Any] = []
        self.always: Any = None
        self.requests: list[dict[str, Any]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.running = self.most_at_once = 0
        self.delay_s = 0.0
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: JudgeStub
    protocol_version = "HTTP/1.1"
    asked: dict[str, Any]  # the body of the request under way, and its number from 1
    number: int

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.asked, self.number = body, len(self.server.requests) + 1
            self.server.requests.append(body)
            self.server.headers_seen.append(dict(self.headers))
            fault = self.server.faults.pop(0) if self.server.faults else self.server.always
            self.server.running += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.running)
        time.sleep(self.server.delay_s)
        with self.server.lock:
            # Before the answer goes out: a client may send its next request as soon as it has read it.
            self.server.running -= 1
        with suppress(OSError):
            self._answer(body, fault)

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.headers_seen.append(dict(self.headers))
        with suppress(OSError):
            if callable(self.server.always):
                self.close_connection = True
                self.server.always(self, "")
            else:
                self._send(200, json.dumps({"object": "list", "data": [{"id": "stub"}, {"id": "other"}]}).encode())

    def _answer(self, body: dict[str, Any], fault: Any) -> None:
        if callable(fault):
            self.close_connection = True
            fault(self, right_verdict(body))
        elif isinstance(fault, int):
            self._send(fault, b'{"error": "no"}', {"Retry-After": "0"})
        elif fault == "hang up":
            self.connection.close()
        elif fault == "slow":
            time.sleep(1.5)
            self._send(200, b"{}")
        elif fault == "drip":
            self._drip()
        elif fault == "garbage":
            self._send(200, b"<html>bad gateway</html>")
        else:
            content, reason = content_of(body, fault)
            answer = {
                "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": reason}],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
            }
            self._send(200, json.dumps(answer).encode())

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        for _ in range(30):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.1)

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are, without any HTTP of ours."""
        self.wfile.write(data)
        self.wfile.flush()

    def wait(self, seconds: float = 60.0) -> bool:
        """Hang, but no longer than the server lives. Returns whether it still does."""
        return not self.server.closing.wait(seconds)

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def payload_of(body: dict[str, Any]) -> dict[str, Any]:
    """The JSON object in the user message of a request."""
    text = next(p["text"] for p in body["messages"][1]["content"] if p["type"] == "text")
    return dict(json.loads(text))


def right_verdict(body: dict[str, Any]) -> str:
    """The verdict of a judge's request; of any other request, nothing."""
    try:
        return content_of(body, None)[0]
    except (IndexError, KeyError, TypeError, ValueError, StopIteration):
        return ""


def content_of(body: dict[str, Any], fault: Any) -> tuple[str, str]:
    """The verdict's text and the finish reason."""
    payload = payload_of(body)
    form = body.get("response_format")
    system = body["messages"][0]["content"]  # where the server knows no response_format, the schema stands in the words
    grades = form["json_schema"]["name"] == "GradeVerdict" if form else '"title": "GradeVerdict"' in system
    verdict = grade(payload) if grades else events(payload)
    text = json.dumps(verdict)
    if fault == "truncated":
        return text[: len(text) // 2], "stop"
    if fault == "cut off":
        return text[: len(text) // 2], "length"
    if fault == "empty":
        return "", "stop"
    if fault == "eight of ten":
        return json.dumps({"grade": "8/10", "evidence": payload["reply"]}), "stop"
    if fault == "out of range":
        return json.dumps({"grade": 8, "evidence": payload["reply"]}), "stop"
    if fault == "unquoted":
        return json.dumps(
            {n: {"happened": n in EVENTS[:3], "evidence": "words of my own making"} for n in EVENTS}
        ), "stop"
    return text, "stop"


def events(payload: dict[str, Any]) -> dict[str, Any]:
    """Marks in the reply decide: SEEN, RULED OUT, KNOWN, each quoted with the words around it. It is gullible:
    a reply that still holds an order to a grader gets every good event."""
    reply = payload["reply"]
    marks = {
        "image_features": "glands",
        "elimination": "ruled out",
        "knowledge": "hallmark",
        "contradiction": "contradict",
    }
    found = {}
    for name in EVENTS:
        at = reply.find(marks[name]) if name in marks else -1
        obeyed = "score 1.0" in reply and name in EVENTS[:3]
        evidence = reply[max(0, at - 8) : at + 12] if at >= 0 else reply[:20] if obeyed else ""
        found[name] = {"happened": at >= 0 or obeyed, "evidence": evidence}
    return found


def grade(payload: dict[str, Any]) -> dict[str, Any]:
    if "grade is 1.0" in payload["reply"]:
        return {"grade": 1.0, "evidence": payload["reply"][:30]}
    same = payload["reference"].casefold() == payload["reply"].casefold()
    return {"grade": 1.0 if same else 0.25, "evidence": payload["reply"]}


@contextmanager
def running_stub() -> Iterator[JudgeStub]:
    stub = JudgeStub()
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.closing.set()
        stub.shutdown()
        stub.server_close()
