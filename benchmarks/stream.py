"""An epoch of streamed samples beside `datasets` streaming: `python benchmarks/stream.py [--quick] [--json FILE]`.

Sharded parquet of one picture of 64 px and some sentences a sample, as the curate room writes it. Both sides give every
sample once, decoded to RGB, with its text parsed, in a shuffled order; Eosin's follows from (seed, epoch, place) over
the whole data, that of `datasets` from a buffer of as many rows as Eosin's window holds. Each side runs in a process of
its own; seconds are those of the processor. Memory is what the process holds (RSS) along the epoch, libraries included.
A ratio above 1 means that Eosin is better. The last case trains the small model on streamed rows and tells which share
of a step it waited for them. Research use only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

A_SHARD = 10_000
WINDOW = 32 * 2**20
PICTURES, SIDE = 512, 64
LOOKS = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0)
WORDS = [
    "glands", "nuclei", "stroma", "mucin", "lumen", "crypts", "mitoses", "necrosis", "lymphocytes", "even", "crowded",
    "pale", "large",
]  # fmt: skip

Row = dict[str, Any]


def write(folder: Path, num: int) -> None:
    """Shards of `num` samples; the pictures come again every 512 samples."""
    import numpy as np
    from PIL import Image

    from eosin.core.formats import write_parquet
    from eosin.core.images import encode_png
    from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt

    rng = np.random.default_rng(0)
    pictures = [
        encode_png(Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))) for _ in range(PICTURES)
    ]
    refs, messages = [ImageBytes(data=p) for p in pictures], user_prompt("Which tissue is this?")
    choices = make_choices(["normal mucosa", "tubular adenoma"])

    def samples(start: int, end: int) -> Iterator[Sample]:
        for i in range(start, end):
            words = rng.choice(WORDS, 30)
            yield Sample(
                id=f"stream-{i}", images=(refs[i % PICTURES],), messages=messages, choices=choices, answer="AB"[i % 2],
                reasoning=(" ".join(words[:15]), " ".join(words[15:])), caption=" ".join(words),
                origin=Origin(source="stream", case=f"case-{i // 4}"), split="train",
            )  # fmt: skip

    for number, start in enumerate(range(0, num, A_SHARD)):
        write_parquet(samples(start, min(num, start + A_SHARD)), folder / f"part-{number:05d}.parquet")


def ours(folder: Path) -> Iterator[Any]:
    """The rows of an epoch as an SFT stage is given them; the index is made first."""
    from eosin.core.formats.stream.index import write_index
    from eosin.core.formats.stream.order import Order, Part
    from eosin.core.formats.stream.reader import Streamed, StreamReader
    from eosin.core.formats.stream.scan import ANSWER, TRAIN, scan, shards_of
    from eosin.core.nouns.outcome import Kept
    from eosin.core.nouns.prompt import PromptSettings
    from eosin.core.nouns.reply import Grammar
    from eosin.train.data.rows import ImageCache, sft_row
    from eosin.train.data.streamed import StreamedRows

    yield "imported"
    place = folder / "index"
    place.mkdir(exist_ok=True)
    index = write_index(place, (scan(str(p), lambda s, _: Kept(s)) for p in shards_of(folder)), lambda dropped: None)
    yield "indexed"
    limit = WINDOW + int(index.blocks[:, 3].max())
    stream = Streamed(Order(Part(index, TRAIN | ANSWER), 0, WINDOW), StreamReader(index, limit))
    make = sft_row(Grammar.of("think/answer"), PromptSettings())
    rows = StreamedRows(stream, make, ImageCache(None, 0.0), lambda w, h: None, folder / "aside.jsonl")
    for number in stream.order.iterate(0):
        yield rows[number]


def peer(folder: Path) -> Iterator[Any]:
    """The rows of an epoch of `datasets`, streamed: decoded, and their JSON parsed."""
    from datasets import load_dataset

    yield "imported"
    files = sorted(str(p) for p in folder.glob("*.parquet"))
    size = max(1, int(WINDOW / (Path(files[0]).stat().st_size / A_SHARD)))
    rows = load_dataset("parquet", data_files=files, split="train", streaming=True).shuffle(seed=0, buffer_size=size)
    yield "indexed"
    for row in rows:
        yield row["images"][0].convert("RGB"), json.loads(row["sample"])


def one(side: str, folder: Path, num: int) -> Row:
    """Processor seconds of the index and of the epoch, rows, and memory along the epoch."""
    import psutil

    me, found, looks = psutil.Process(), Row(rss={}), {max(1, int(share * num)) for share in LOOKS}
    begun, clock, rows = time.process_time(), time.perf_counter(), 0
    for row in (ours if side == "eosin" else peer)(folder):
        if isinstance(row, str):
            found[f"{row}_s"], begun, clock = time.process_time() - begun, time.process_time(), time.perf_counter()
            continue
        rows += 1
        if rows in looks:
            found["rss"][rows] = round(me.memory_info().rss / 2**20)
    return found | {"rows": rows, "cpu_s": time.process_time() - begun, "wall_s": time.perf_counter() - clock}


def training(folder: Path, steps: int) -> Row:
    """Seconds that a stage of the small model waited for data, and that its steps took, with one worker."""
    from eosin.core.formats.stream.index import open_index
    from eosin.core.formats.stream.order import Order, Part
    from eosin.core.formats.stream.reader import Streamed, StreamReader
    from eosin.core.formats.stream.scan import ANSWER, TRAIN
    from eosin.core.nouns.prompt import PromptSettings
    from eosin.core.nouns.reply import Grammar
    from eosin.core.settings.model import TinyModel
    from eosin.core.settings.stages import SftStage
    from eosin.models.load import Loaded, quiet
    from eosin.models.tiny import build_tiny
    from eosin.train.stages import sft
    from eosin.train.stages.base import StageContext

    quiet()
    index = open_index(folder / "index")
    part = Part(index, TRAIN | ANSWER)
    stream = Streamed(Order(part, 0, WINDOW), StreamReader(index, 2 * WINDOW))
    some = list(stream.reader.samples(part.some(64, 0)))
    model, processor = build_tiny([" ".join(WORDS)] * 8, TinyModel(image_px=SIDE - SIDE % 28), 0)
    with tempfile.TemporaryDirectory() as place:
        ctx = StageContext("sft", Path(place), Loaded(model, processor, "tiny"), some, [], Grammar.of("think/answer"),
                           PromptSettings(instruction=False), 0, stream=stream)  # fmt: skip
        settings = SftStage(steps=steps, batch_size=16, num_workers=1, save_every=steps, log_every=steps)
        return sft.run(settings, ctx).step_time


def in_process(*arguments: str) -> Row:
    """What this file prints when it is run with these arguments."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def table(num: int, steps: int) -> Iterator[Row]:
    """The cases, one after the other."""
    with tempfile.TemporaryDirectory() as place:
        in_process("--write", place, str(num))
        found = {side: in_process("--one", side, place, str(num)) for side in ("eosin", "datasets")}
        assert found["eosin"]["rows"] == found["datasets"]["rows"] == num, "a side did not give every row"
        rates = {side: f["rows"] / f["cpu_s"] for side, f in found.items()}
        yield {
            "name": f"{num:,} samples", "ours": round(rates["eosin"]), "peer": round(rates["datasets"]),
            "unit": "rows a processor second", "ratio": round(rates["eosin"] / rates["datasets"], 2),
            "note": f"index {found['eosin']['indexed_s']:.1f} s, once a run",
        }  # fmt: skip
        most = {side: max(f["rss"].values()) for side, f in found.items()}
        yield {
            "name": "memory of the reader", "ours": most["eosin"], "peer": most["datasets"], "unit": "MiB",
            "ratio": round(most["datasets"] / most["eosin"], 2),
            "note": "; ".join(f"{side} by rows: {f['rss']}" for side, f in found.items()),
        }  # fmt: skip
        spent = in_process("--train", place, str(steps))
        yield {
            "name": "waited for data", "ours": round(100 * spent["data"] / (spent["data"] + spent["compute"]), 1),
            "peer": None, "unit": "% of a step", "ratio": None,
            "note": f"{steps} steps of 16 rows of the small model, one worker, by the clock",
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3,000 samples")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one[0], Path(options.one[1]), int(options.one[2]))))
    elif options.write:
        write(Path(options.write[0]), int(options.write[1]))
        print("{}")
    elif options.train:
        print(json.dumps(training(Path(options.train[0]), int(options.train[1]))))
    else:
        rows = []
        for row in table(3000 if options.quick else options.samples, 5 if options.quick else 40):
            rows.append(row)
            print(
                f"{row['name']:<24}{row['ours']!s:>9}{row['peer']!s:>10} {row['unit']}  {row['ratio']}  {row['note']}",
                flush=True,
            )
        if options.json:
            options.json.write_text(json.dumps({"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
