"""A teacher that fails in every way, kept at its limit: what share of the places that it has is in use.

    python benchmarks/teacher.py [--quick] [--samples N] [--answer-s S] [--json FILE]

The server is a process of its own. It answers `--limit` questions at a time, each after `--answer-s` seconds, and turns
away more with 429. Besides, of its answers one in thirty each is 429, 500, a hang until the client gives up, garbage,
half of the JSON, and a refusal. The share is the time for which its places were taken, over all places from the first
question to the last answer. `eosin.curate.steps.reason` writes and checks chains; then the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
EVERY = 30
FAULTS = ("429", "500", "hang", "garbage", "half JSON", "refusal")
PATIENCE = 4  # times the time of an answer: after so long the client gives a question up, and asks again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--answer-s", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.limit, asked.answer_s)
        return
    cases = measure(asked.samples or (60 if asked.quick else 600), asked.limit, asked.answer_s)
    for case in cases:
        print(f"{case['name']:<44} {case['ours']:>12,.3f} {case['unit']:<10} {case['note']}")
    if asked.json:
        asked.json.write_text(json.dumps({"cases": cases}, indent=1))


class Teacher(ThreadingHTTPServer):
    """Counts what it is asked, and for how long its places are taken."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, limit: int, answer_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.limit, self.answer_s = limit, answer_s
        self.lock = threading.Lock()
        self.asked = self.running = self.turned_away = 0
        self.taken_s = self.first = self.changed = self.last = 0.0
        self.met: dict[str, int] = {}

    def change(self, by: int) -> bool:
        """Take or free a place; False where there is none."""
        with self.lock:
            now = time.monotonic()
            if by > 0 and self.running >= self.limit:
                self.turned_away += 1
                return False
            self.taken_s += self.running * (now - self.changed if self.changed else 0.0)
            self.first = self.first or now
            self.running += by
            self.changed = self.last = now
            return True

    def fault(self) -> str | None:
        with self.lock:
            self.asked += 1
            place, rest = divmod(self.asked % EVERY, EVERY // len(FAULTS))
            found = FAULTS[place] if rest == 0 else None
            if found:
                self.met[found] = self.met.get(found, 0) + 1
            return found

    def told(self) -> dict[str, Any]:
        with self.lock:
            span = self.last - self.first
            share = self.taken_s / (self.limit * span) if span else 0.0
            return {"asked": self.asked, "turned_away": self.turned_away, "share": share, "span": span, "met": self.met}


class _Handler(BaseHTTPRequestHandler):
    server: Teacher
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, self.server.told() if self.path == "/told" else {"object": "list", "data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        from tests.support.chat_server import request_of  # type: ignore[import-not-found]
        from tests.support.scripted_teacher import chain  # type: ignore[import-not-found]

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.change(+1):
            self._send(429, {"error": "busy"})
            return
        fault = self.server.fault()
        text = json.dumps(chain(request_of(body)))
        time.sleep(self.server.answer_s * (PATIENCE + 0.2 if fault == "hang" else 1))
        self.server.change(-1)
        if fault in ("429", "500"):
            self._send(int(fault), {"error": "no"})
        elif fault == "garbage":
            self._send(200, ["<html>"])
        elif fault != "hang":
            said = {"half JSON": text[: len(text) // 2], "refusal": "I cannot help with that."}.get(fault or "", text)
            choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            self._send(
                200, {"model": "tiny", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}
            )

    def _send(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass


def serve(limit: int, answer_s: float) -> None:
    """Serve until the process is ended; the address is printed first."""
    server = Teacher(limit, answer_s)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


def measure(count: int, limit: int, answer_s: float) -> list[dict[str, Any]]:
    """One curation with the step `reason`, and the same command again."""
    command = [sys.executable, __file__, "--serve", "--limit", str(limit), "--answer-s", str(answer_s)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    folder = Path(tempfile.mkdtemp(prefix="eosin-teacher-"))
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        return _measured(count, limit, answer_s, url, folder)
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _measured(count: int, limit: int, answer_s: float, url: str, folder: Path) -> list[dict[str, Any]]:
    from tests.support.audited import SIGNS, changed, clean_samples  # type: ignore[import-not-found]

    from eosin.chain.curation.run import curate
    from eosin.core.formats import write_samples
    from eosin.core.settings.curation.recipe import CurationRecipe

    made = [
        changed(s, caption=f"H&E, {SIGNS[s.label or ''][:-1].lower()} in field {i} of plate {i}. This is {s.label}.",
                choices=(), answer=None, reasoning=())
        for i, s in enumerate(clean_samples(count))
    ]  # fmt: skip
    write_samples(made, folder / "in.parquet")
    teacher = {"url": f"{url}/v1", "model": "tiny", "max_in_flight": limit, "backoff_s": 0.5, "max_wait_s": 4.0,
               "timeout_s": PATIENCE * answer_s}  # fmt: skip
    recipe = CurationRecipe.model_validate(
        {"data": {"source": "samples", "path": str(folder / "in.parquet")}, "teacher": teacher, "steps": ["reason"]}
    )
    began = time.process_time()
    curate(recipe, folder / "out")
    took, told = time.process_time() - began, _told(url)
    ledger = json.loads((folder / "out" / "ledger.json").read_text("utf-8"))["steps"][-1]
    curate(recipe, folder / "out")
    again = _told(url)["asked"] - told["asked"]
    lost = {k: n for k, n in ledger["dropped"].items() if k.startswith(("teacher:", "checker:"))}
    note = f"{told['asked']:,} asked in {told['span']:.0f} s, answers of {answer_s:g} s, our processor {took:.1f} s, "
    note += f"{told['turned_away']} turned away; met {told['met']}"
    name = f"teacher of {limit} places, {count:,} samples"
    unaccounted = ledger["num_in"] - ledger["num_kept"] - sum(ledger["dropped"].values())
    return [
        _case(f"{name}: share in use", told["share"], "share", note),
        _case(f"{name}: without outcome", unaccounted, "samples", f"{ledger['num_kept']} kept; lost to it: {lost}"),
        _case(f"{name}: asked again", again, "questions", "by the same command, given a second time"),
    ]


def _told(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/told") as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def _case(name: str, ours: float, unit: str, note: str) -> dict[str, Any]:
    return {"name": name, "ours": ours, "peer": None, "unit": unit, "ratio": None, "note": note}


if __name__ == "__main__":
    main()
