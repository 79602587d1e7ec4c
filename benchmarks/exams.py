"""What exams cost: `python benchmarks/exams.py [--quick] [--part NAME] [--delay-s 1.0] [--json FILE]`.

1. The harness beside generation: processor time of a whole exam of a small model, against what its engine took of it.
2. A server exam: questions scored a second from a stub in a process of its own that takes 64 requests at a time and
   answers a tenth of them with 429 or 500, against what the stub allows: good answers a second that the plainest client
   (bytes by hand, 64 in flight, nothing asked again) gets of the same stub just before.
   Beside it the processor time of a question, against that of a bare client of the same stub. On a machine that others
   use give a longer `--delay-s`: the rate then says whether 64 are kept in flight, the processor time what they cost.
3. The bootstrap of accuracy, balanced accuracy and a mean, beside scipy's on the same numbers.
4. `eosin report compare` of 100,000 logged questions, in a process of its own: seconds and peak memory beside the
   limits of 30 s and 1 GB.

Ratio above 1 means Eosin is better. Research use only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from beside import serving

IN_FLIGHT = 64
FAULTS = 0.1
LIMIT_S, LIMIT_BYTES = 30.0, 1e9
Case = dict[str, Any]


def case(name: str, ours: float, peer: float, unit: str, ratio: float, note: str) -> Case:
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "note": note}


def seconds_of(work: Callable[[], object], times: int = 3, clock: Callable[[], float] = time.perf_counter) -> float:
    """The least of several runs."""
    best = float("inf")
    for _ in range(times):
        begun = clock()
        work()
        best = min(best, clock() - begun)
    return best


def questions(num: int, side: int = 56) -> list[Any]:
    """Closed questions about noisy fields of one of three colours."""
    from PIL import Image

    from eosin.core.images import encode_png
    from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt

    rng = np.random.default_rng(0)
    names = ["red tissue", "green tissue", "blue tissue"]
    made = []
    for i in range(num):
        pixels = rng.integers(0, 120, (side, side, 3), dtype=np.uint8)
        pixels[..., i % 3] += 120
        image = ImageBytes(data=encode_png(Image.fromarray(pixels)))
        made.append(
            Sample(
                id=f"q{i}", images=(image,), messages=user_prompt("Which colour is this field?"),
                choices=make_choices(names), answer="ABC"[i % 3], label=names[i % 3],
                origin=Origin(source="fields", case=f"c{i // 2}"),
            )
        )  # fmt: skip
    return made


class Clocked:
    """An engine whose own processor time is taken, reply by reply."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.name, self.seconds = engine, engine.name, 0.0

    def generate(self, requests: Any, decoding: Any) -> Iterator[Any]:
        replies = iter(self.engine.generate(requests, decoding))
        while True:
            begun = time.process_time()
            reply = next(replies, None)
            self.seconds += time.process_time() - begun
            if reply is None:
                return
            yield reply


def harness(num: int, tokens: int) -> Case:
    """A whole exam (images read, prompts written, replies graded, figures and intervals, files) beside the processor
    time that its engine took inside it: a second run of the engine differs from the first by more than the rest."""
    from eosin.core.nouns.prompt import PromptSettings
    from eosin.core.nouns.reply import Grammar
    from eosin.core.settings.exam import ExamSettings
    from eosin.core.settings.model import TinyModel
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.evaluate.exam.exam import run_exam
    from eosin.models.load import Loaded, quiet
    from eosin.models.tiny import build_tiny
    from eosin.train.data.rows import corpus_of

    quiet()
    samples, grammar = questions(num), Grammar.of("think/answer")
    model, processor = build_tiny(corpus_of(samples[:12], grammar, PromptSettings()), TinyModel(image_px=56), 0)
    engine = Clocked(TransformersEngine(Loaded(model, processor, "tiny")))
    settings = ExamSettings(probes=[], max_new_tokens=tokens, batch_size=32)
    with tempfile.TemporaryDirectory() as folder:
        run_exam(engine, samples[:32], grammar, settings, Path(folder) / "warm")
        engine.seconds = 0.0
        ours = seconds_of(lambda: run_exam(engine, samples, grammar, settings, Path(folder) / "exam"), 1,
                          time.process_time)  # fmt: skip
    rest = ours - engine.seconds
    note = (
        f"{num} questions, {tokens} tokens each at most; the rest is {1000 * rest / num:.2f} ms a question, "
        f"{100 * rest / engine.seconds:.1f} % of generation"
    )
    return case("exam beside its generation", ours, engine.seconds, "s of processor", engine.seconds / ours, note)


async def stub(delay_s: float) -> None:
    """Answers as an OpenAI-compatible server does: after a delay, so many at a time, a tenth with 429 or 500."""
    turns, rng = asyncio.Semaphore(IN_FLIGHT), np.random.default_rng(0)
    message = {"role": "assistant", "content": "<think>seen</think><answer>A</answer>"}
    good = json.dumps(
        {"model": "stub", "choices": [{"message": message, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 300, "completion_tokens": 12}}
    ).encode()  # fmt: skip

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length"))
            await reader.readexactly(length)
            async with turns:
                await asyncio.sleep(delay_s)
            draw = rng.random()
            status, body = (
                (b"200 OK", good) if draw >= FAULTS else (b"429 Busy" if draw < FAULTS / 2 else b"500 No", b"{}")
            )
            writer.write(b"HTTP/1.1 " + status + b"\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: ")
            writer.write(str(len(body)).encode() + b"\r\n\r\n" + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def bare_client(url: str, body: bytes, num: int) -> tuple[float, float]:
    """Processor seconds of a request by the plainest client, and good answers a second: 64 in flight, bytes by hand."""
    port, left = int(url.split(":")[2].split("/")[0]), num
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + body)
            good.append(b" 200 " in (await reader.read())[:16])
            writer.close()

    good: list[bool] = []
    begun, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*[worker() for _ in range(IN_FLIGHT)])
    return (time.process_time() - busy) / num, sum(good) / (time.perf_counter() - begun)


def server_exam(num: int, delay_s: float) -> list[Case]:
    """Questions scored a second beside what the stub allows, and processor time a question beside a bare client's."""
    from eosin.clients.settings import ServerSettings
    from eosin.core.nouns.reply import Grammar
    from eosin.core.nouns.sample import user_prompt
    from eosin.core.settings.exam import ExamSettings
    from eosin.engines.base import Decoding, Request
    from eosin.engines.server_engine import ServerEngine
    from eosin.evaluate.exam.exam import run_exam

    samples = questions(num, 112)
    image = "data:image/png;base64," + "A" * 50_000
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "Which colour is it?"}]
    body = json.dumps({"model": "stub", "messages": [{"role": "user", "content": content}]}).encode()
    with serving(__file__, "--delay-s", "0.05") as url:
        bare = asyncio.run(bare_client(url, body, 2 * IN_FLIGHT))[0]
    with serving(__file__, "--delay-s", str(delay_s)) as url, tempfile.TemporaryDirectory() as folder:
        peer = asyncio.run(bare_client(url, body, 10 * IN_FLIGHT))[1]
        settings = ServerSettings(url, "stub", concurrency=IN_FLIGHT, backoff_s=0.1, retries=10)
        engine = ServerEngine(settings, Path(folder) / "answers")
        warm = ServerEngine(settings)
        list(warm.generate([Request("warm", user_prompt("Which colour?", 0))], Decoding()))
        begun, busy = time.perf_counter(), time.process_time()
        summary = run_exam(engine, samples, Grammar.of("think/answer"), ExamSettings(probes=[]), Path(folder) / "exam")
        ours, busy = num / (time.perf_counter() - begun), (time.process_time() - busy) / num
    if summary["n"] + summary["num_set_aside"] != num:
        raise SystemExit("a question was lost")
    usage = engine.described()
    note = (
        f"{num} questions, {IN_FLIGHT} in flight, {delay_s:g} s an answer, a tenth faults, {usage['retries']} retries; "
        f"{summary['n']} scored, {summary['num_set_aside']} set aside"
    )
    each = "images read, prompts, requests with retries, replies graded and kept; the peer sends and reads bytes alone"
    return [
        case("server exam beside what the stub allows", ours, peer, "questions/s", ours / peer, note),
        case("server exam: processor time", 1000 * busy, 1000 * bare, "ms a question", bare / busy, each),
    ]


def bootstraps(num: int, resamples: int) -> list[Case]:
    """The intervals that exams use, beside scipy.stats.bootstrap (percentile) of the same statistic."""
    from scipy import stats

    from eosin.evaluate.statistics.intervals import cluster_interval
    from eosin.evaluate.statistics.mean_intervals import mean_interval

    rng = np.random.default_rng(0)
    right, values = rng.random(num) < 0.73, rng.normal(0.5, 0.2, num)
    gold = [f"class {k}" for k in rng.integers(0, 8, num)]
    own, pairs = [str(i) for i in range(num)], [str(i // 2) for i in range(num)]

    def scipy_of(data: np.ndarray) -> Callable[[], object]:
        return lambda: stats.bootstrap(
            (data,), np.mean, n_resamples=resamples, method="percentile", batch=200, random_state=rng
        )

    peer = seconds_of(scipy_of(right.astype(float)), 2)
    peer_mean = seconds_of(scipy_of(values), 2)
    rows = [
        ("accuracy", lambda: cluster_interval(right, own, resamples=resamples), peer),
        ("accuracy, cases of two", lambda: cluster_interval(right, pairs, resamples=resamples), peer),
        ("balanced accuracy, 8 classes, cases of two",
         lambda: cluster_interval(right, pairs, gold, metric="balanced_accuracy", resamples=resamples), peer),
        ("mean of real numbers", lambda: mean_interval(values.tolist(), own, resamples=resamples), peer_mean),
    ]  # fmt: skip
    note = f"{resamples:,} resamples of n = {num:,}; scipy resamples items and knows neither cases nor classes"
    found = []
    for name, work, theirs in rows:
        ours = seconds_of(work)
        found.append(case(f"bootstrap of {name}", ours, theirs, "s", theirs / ours, note))
    return found


def write_log(out: Path, num: int, model: int) -> None:
    """An exam of so many questions, as a log."""
    from eosin.core.store import artifacts as store

    rng = np.random.default_rng(model)
    right, names = rng.random(num) < 0.5 + 0.04 * model, ["normal mucosa", "adenoma", "carcinoma"]
    with store.writing(out, "eval", record={"checkpoint": f"model{model}", "samples": "many.jsonl"}) as writer:
        with (writer.dir / "predictions.jsonl").open("w") as handle:
            for i in range(num):
                row = {
                    "id": f"q{i}", "group": f"case:{i // 3}", "label": names[i % 3], "question": f"What is tile {i}?",
                    "predicted_label": names[i % 3 if right[i] else (i + 1) % 3], "answer": "ABC"[i % 3],
                    "choices": dict(zip("ABC", names, strict=True)), "reply": "<think>It is seen.</think>" * 20,
                    "parsed": "A", "unparsed_reason": None, "tolerant": "A", "correct": bool(right[i]),
                    "tolerant_correct": bool(right[i]), "num_tokens": 60, "truncated": False,
                    "organ": f"organ {i % 9}", "stain": f"stain {i % 3}", "subset": f"part {i % 7}",
                }  # fmt: skip
                handle.write(json.dumps(row) + "\n")
        summary = {"labels": names, "engine": f"mock:model{model}", "num_set_aside": 0, "chance": 1 / 3, "probes": {}}
        store.write_json(writer.dir / "summary.json", summary)


def report(num: int, models: int) -> list[Case]:
    """A report of models x questions logged rows."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from peak import peak_bytes\n"
        "begun = time.perf_counter(); from eosin.report import compare\n"
        "compare([Path(p) for p in sys.argv[3:]], Path(sys.argv[2]))\n"
        "print(time.perf_counter() - begun, peak_bytes(), time.process_time())"
    )
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / f"m{k}" for k in range(models)]
        for k, place in enumerate(places):
            write_log(place, num // models, k)
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(Path(folder) / "out"), *map(str, places)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak, busy = map(float, done.stdout.split())
    note = f"{num:,} logged questions of {models} models, {busy:.1f} s of processor time; the peer is the stated limit"
    return [
        case("report of logged questions: time", seconds, LIMIT_S, "s", LIMIT_S / seconds, note),
        case("report of logged questions: peak memory", peak / 1e6, LIMIT_BYTES / 1e6, "MB", LIMIT_BYTES / peak, note),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a look that it runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=("bootstrap", "report", "server", "harness"), help="this part alone")
    parser.add_argument("--delay-s", type=float, default=1.0, help="seconds that the stub takes for an answer")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(stub(args.delay_s))
        return
    quick = args.quick
    parts: dict[str, Callable[[], list[Case]]] = {
        "bootstrap": lambda: bootstraps(2000 if quick else 10_000, 2000 if quick else 10_000),
        "report": lambda: report(8000 if quick else 100_000, 4),
        "server": lambda: server_exam(200 if quick else 5000, args.delay_s),
        "harness": lambda: [harness(32 if quick else 256, 8 if quick else 48)],
    }
    cases: list[Case] = []
    for part in parts.values() if args.part is None else [parts[args.part]]:
        for c in part():
            cases.append(c)
            told = (
                f"{c['name']:<58}{c['ours']:>10.3f}{c['peer']:>10.3f} {c['unit']:<12} x {c['ratio']:.2f}  {c['note']}"
            )
            print(told, flush=True)
    if args.json:
        args.json.write_text(json.dumps({"cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
