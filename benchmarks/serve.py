"""The reading room beside a plain OpenSlide DeepZoom example, and answers one by one beside batches.

    python benchmarks/serve.py SLIDE [--quick] [--tiles N] [--peer-python PYTHON]
        [--checkpoint FOLDER] [--prompts] [--open N] [--json FILE]

Tiles: 20 viewers walk over a slide, each on a path of its own, first cold, then warm, over HTTP. The peer is the
shortest server that one writes with Flask and openslide-python's DeepZoomGenerator, in an environment of its own
(PYTHON has both); it opens its slide before it listens, Eosin at the first tile. Answers: time to the first token, and
tokens a second at 1, 8 and 32 questions, at the server's batcher, without HTTP; one by one is a batch size of 1.
Prompts: questions about one slide, the keys and values of their prompt kept or not, in turn; the slide tower's output
is kept in both. The model has random weights: time does not depend on them. Run it with the repository and src on
PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEER = """
import sys
from io import BytesIO
from flask import Flask, make_response
from openslide import open_slide
from openslide.deepzoom import DeepZoomGenerator
app = Flask(__name__)
slide = DeepZoomGenerator(open_slide(sys.argv[1]), tile_size=254, overlap=1)
@app.route("/t/<int:level>/<int:column>_<int:row>.jpeg")
def tile(level, column, row):
    out = BytesIO()
    slide.get_tile(level, (column, row)).save(out, "jpeg", quality=85)
    answer = make_response(out.getvalue())
    answer.mimetype = "image/jpeg"
    return answer
app.run(port=int(sys.argv[2]), threaded=True)
"""
OURS = """
import sys, uvicorn
from pathlib import Path
from eosin.engines.base import Generation
from eosin.serve.app import create_app
from eosin.serve.settings import ServeSettings
class Silent:
    name = "silent"
    def generate_watched(self, requests, decoding, watch):
        return [Generation(r.id, "", 0, False) for r in requests]
most = {"max_open_slides": int(sys.argv[3])} if len(sys.argv) > 3 else {}
app = create_app(Silent(), ServeSettings(slides=Path(sys.argv[1]).parent, **most))
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            raise SystemExit(f"a server ended before it answered: {url}")
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no answer from {url}")


def together(work: list[Callable[[], None]]) -> float:
    """Seconds until all threads are done."""
    threads = [threading.Thread(target=w) for w in work]
    begun = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return time.perf_counter() - begun


def tiles(address: Callable[[int, int, int], str], level: int, size: tuple[int, int], viewers: int, num: int) -> Any:
    """First round cold, second warm: milliseconds of each request, and requests a second of the warm round."""
    columns, rows = (-(-side // 254) for side in size)
    paths = []
    for viewer in range(viewers):
        rng = random.Random(viewer)
        paths.append([(level, rng.randrange(columns), rng.randrange(rows)) for _ in range(num)])
    first_url = address(level, columns // 2, rows // 2)
    begun = time.perf_counter()
    urllib.request.urlopen(first_url).read()
    first = 1000 * (time.perf_counter() - begun)
    rounds = []
    for _ in range(2):
        took: list[float] = []

        def view(path: list[tuple[int, int, int]], took: list[float] = took) -> None:
            for place in path:
                begun = time.perf_counter()
                urllib.request.urlopen(address(*place)).read()
                took.append(1000 * (time.perf_counter() - begun))

        seconds = together([lambda p=p: view(p) for p in paths])  # type: ignore[misc]
        rounds.append((took, len(took) / seconds))
    (cold, cold_rate), (warm, rate) = rounds
    p95 = lambda v: statistics.quantiles(v, n=20)[-1]  # noqa: E731
    return {"first_ms": first, "cold_p95_ms": p95(cold), "warm_p95_ms": p95(warm), "cold_rate": cold_rate, "rate": rate}


def tile_cases(slide: Path, peer_python: str | None, viewers: int, num: int) -> list[dict[str, Any]]:
    import openslide

    with openslide.OpenSlide(str(slide)) as opened:
        size = opened.dimensions
    level = (max(size) - 1).bit_length()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / slide.name
        own.write_bytes(slide.read_bytes())
        for name, python, script in (("ours", sys.executable, OURS), ("peer", peer_python, PEER)):
            if python is None:
                continue
            port = free_port()
            process = subprocess.Popen([python, "-c", script, str(own), str(port)], stderr=subprocess.DEVNULL)
            base = f"http://127.0.0.1:{port}"
            try:
                if name == "ours":
                    wait_for(f"{base}/health", process)
                    key = json.loads(urllib.request.urlopen(f"{base}/slides").read())["slides"][0]["key"]
                    urls = lambda z, c, r, k=key, b=base: f"{b}/slides/{k}/dz_files/{z}/{c}_{r}.jpeg"  # noqa: E731
                else:
                    wait_for(f"{base}/t/0/0_0.jpeg", process)
                    urls = lambda z, c, r, b=base: f"{b}/t/{z}/{c}_{r}.jpeg"  # noqa: E731
                found[name] = tiles(urls, level, size, viewers, num)
            finally:
                process.kill()
                process.wait()
    note = f"{viewers} viewers, {num} tiles each, {size[0]} x {size[1]} px"
    note += f", {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    cases = []
    for key, unit, more in (("first_ms", "ms", False), ("cold_p95_ms", "ms", False), ("warm_p95_ms", "ms", False),
                            ("cold_rate", "tiles/s", True), ("rate", "tiles/s", True)):  # fmt: skip
        ours, peer = found["ours"][key], found.get("peer", {}).get(key)
        ratio = None if peer is None else (ours / peer if more else peer / ours)
        cases.append({"name": f"tiles {key}", "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "note": note})
    return cases


def held(slide: Path, num: int, max_open: int) -> dict[str, float]:
    """MiB of memory and open files of the server, once a thumbnail and a tile of each of `num` slides were shown."""
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / f"0000{slide.suffix}"
        first.write_bytes(slide.read_bytes())
        for k in range(1, num):
            os.link(first, Path(folder) / f"{k:04}{slide.suffix}")
        port = free_port()
        process = subprocess.Popen([sys.executable, "-c", OURS, str(first), str(port), str(max_open)])
        base = f"http://127.0.0.1:{port}"
        try:
            wait_for(f"{base}/health", process)
            before = resident_mib(process.pid)
            keys = [s["key"] for s in json.loads(urllib.request.urlopen(f"{base}/slides").read())["slides"]]
            for key in keys:
                for part in ("thumbnail?px=256", "dz_files/10/0_0.jpeg"):
                    urllib.request.urlopen(f"{base}/slides/{key}/{part}").read()
            files = sum("/0" in os.readlink(f) for f in Path(f"/proc/{process.pid}/fd").iterdir() if f.exists())
            return {"mib": resident_mib(process.pid) - before, "files": files}
        finally:
            process.kill()
            process.wait()


def resident_mib(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    line = next(r for r in Path(f"/proc/{pid}/status").read_text().splitlines() if r.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def memory_cases(slide: Path, num: int) -> list[dict[str, Any]]:
    """What open slides hold: at most 32 of them, beside all of them."""
    ours, peer = held(slide, num, 32), held(slide, num, num)
    note = f"{num} slides shown, at most 32 open; peer: all of them open"
    return [
        {"name": f"memory that {num} slides add", "ours": ours["mib"], "peer": peer["mib"], "unit": "MiB",
         "ratio": peer["mib"] / max(ours["mib"], 0.1), "note": note},
        {"name": f"open slide files, {num} slides", "ours": ours["files"], "peer": peer["files"], "unit": "files",
         "ratio": peer["files"] / max(ours["files"], 1), "note": note},
    ]  # fmt: skip


def answers(checkpoint: str, num: int, batch_size: int, max_tokens: int) -> dict[str, float]:
    """Seconds to the first token (median), and tokens a second of all replies together."""
    import numpy as np
    from tests.support.toys import toy_image  # type: ignore[import-not-found]

    from eosin.core.nouns.sample import user_prompt
    from eosin.engines.base import Decoding, Request
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.models.load import load
    from eosin.serve.batching import Batcher

    engine = TransformersEngine(load(checkpoint))
    batcher = Batcher(engine, batch_size, 0.05, 256)
    rng = np.random.default_rng(0)
    asked = [Request(str(i), user_prompt("Which colour is this field?"), (toy_image(i % 3, rng),)) for i in range(num)]
    decoding = Decoding(max_new_tokens=max_tokens)
    batcher.submit(asked[0], decoding, 600).done.result()
    firsts: dict[int, float] = {}
    begun = time.perf_counter()
    waiting = [
        batcher.submit(r, decoding, 600, lambda text, i=i: firsts.setdefault(i, time.perf_counter() - begun))  # type: ignore[misc]
        for i, r in enumerate(asked)
    ]
    tokens = sum(w.done.result().num_tokens or 0 for w in waiting)
    seconds = time.perf_counter() - begun
    batcher.close()
    return {"first_s": statistics.median(firsts.values()), "rate": tokens / seconds}


def answer_cases(checkpoint: str, max_tokens: int) -> list[dict[str, Any]]:
    cases = []
    for num in (1, 8, 32):
        batched, single = (answers(checkpoint, num, size, max_tokens) for size in (32, 1))
        note = f"{num} questions, {max_tokens} tokens, load {os.getloadavg()[0]:.0f}; peer: a batch size of 1"
        cases.append({"name": f"tokens a second, {num} questions", "ours": batched["rate"], "peer": single["rate"],
                      "unit": "tokens/s", "ratio": batched["rate"] / single["rate"], "note": note})  # fmt: skip
        cases.append({"name": f"first token, {num} questions", "ours": batched["first_s"], "peer": single["first_s"],
                      "unit": "s", "ratio": single["first_s"] / batched["first_s"], "note": note})  # fmt: skip
    return cases


def prompt_model() -> Any:
    """A slide reader of 12 million parameters, at rest."""
    from tests.support.slide_toys import CORPUS, slide_settings  # type: ignore[import-not-found]

    from eosin.core.settings.model import TinyModel, TinyText, TinyVision
    from eosin.models.load import Loaded
    from eosin.models.slide_encoder.build import build_slide_reader

    base = TinyModel(
        image_px=56, vocab_size=420, vision=TinyVision(depth=1, hidden_size=32, intermediate_size=64, num_heads=2),
        text=TinyText(hidden_size=384, intermediate_size=1024, num_layers=6, num_heads=6, num_kv_heads=2),
    )  # fmt: skip
    model, processor = build_slide_reader(CORPUS, slide_settings(base=base, sees_images=False), 0)
    return Loaded(model.eval().requires_grad_(False), processor, "prompts")


def first_token_s(engine: Any, bag: Any, question: str) -> float:
    """Seconds from a question to the first token of its reply."""
    from eosin.core.nouns.sample import user_prompt
    from eosin.engines.base import Decoding, Request

    begun = time.perf_counter()
    engine.generate_watched([Request(question, user_prompt(question), (bag,))], Decoding(1), lambda i, read: True)
    return time.perf_counter() - begun


def prompt_cases(sizes: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Time to first token of the second and later questions about slides of so many patches."""
    import numpy as np
    from tests.support.slide_toys import toy_bag

    from eosin.engines.kept_prompts import KeptPrompts
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.models.slide_encoder.kept import kept_slides

    loaded = prompt_model()
    kept = KeptPrompts(loaded.model, loaded.processor.tokenizer.pad_token_id)
    engines = {"ours": TransformersEngine(loaded, kept), "peer": TransformersEngine(loaded)}
    cases = []
    with kept_slides(loaded.model):
        for size in sizes:
            bag = toy_bag(0, np.random.default_rng(size), size)
            first = first_token_s(engines["ours"], bag, "Which tissue is this?")
            took: dict[str, list[float]] = {"ours": [], "peer": []}
            for number in range(rounds):
                for name in sorted(took, reverse=bool(number % 2)):
                    took[name].append(first_token_s(engines[name], bag, f"Which tissue is this, asked {number}?"))
            ours, peer = (statistics.median(took[n]) for n in ("ours", "peer"))
            note = f"median of {rounds}, {kept.num_bytes / 2**20:.0f} MiB kept so far, the first question {first:.2f} s"
            cases.append({"name": f"next question, {size} patches", "ours": ours, "peer": peer, "unit": "s",
                          "ratio": peer / ours, "note": f"{note}, load {os.getloadavg()[0]:.0f}"})  # fmt: skip
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?", help="without one no tiles are timed")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiles", type=int, help="tiles of each viewer and round; default 60, with --quick 10")
    parser.add_argument("--peer-python")
    parser.add_argument("--checkpoint", help="a tile model; without it only tiles are timed")
    parser.add_argument("--prompts", action="store_true", help="also time further questions about one slide")
    parser.add_argument("--open", type=int, default=0, help="also measure what so many slides hold")
    parser.add_argument("--no-tiles", action="store_true", help="time no tiles")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases = []
    if args.slide and args.open:
        cases += memory_cases(args.slide, args.open)
    if args.slide and not args.no_tiles:
        cases += tile_cases(args.slide, args.peer_python, 20, args.tiles or (10 if args.quick else 60))
    if args.prompts:
        cases += prompt_cases((250, 1000) if args.quick else (250, 1000, 4000), 5 if args.quick else 9)
    if args.checkpoint:
        cases += answer_cases(args.checkpoint, 16 if args.quick else 64)
    for c in cases:
        peer = "-" if c["peer"] is None else f"{c['peer']:.2f}"
        ratio = "-" if c["ratio"] is None else f"{c['ratio']:.2f}"
        print(f"{c['name']:<32} {c['ours']:>10.2f} {peer:>10} {c['unit']:<9} x {ratio}   {c['note']}")
    if args.json:
        args.json.write_text(json.dumps({"cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
