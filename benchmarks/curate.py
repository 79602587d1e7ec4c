"""Curating captions, made and read as a stream: time and memory of every step; near texts beside a peer; near pictures.

    python benchmarks/curate.py [--quick] [--count N ...] [--workers N] [--peer FOLDER] [--pictures N] [--json FILE]

--count: caption records of a run, such as 10000 100000 1000000; each run is a process of its own, so that its peak of
memory is its own. --peer: a folder with datasketch in it (`pip install --no-deps --target FOLDER datasketch`), which
does the near-duplicate step on the same texts. --pictures: phantom tiles, of which half are planted again as crops,
turns, flips, encodings and shifts of stain; with --tiles also those of a labelled folder.

Times are given twice: of the clock, and of the processor, which a machine with other work on it changes less.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peak import peak_bytes
from PIL import Image

NUM_EXAM = 50_000
BLANK = 4.0  # spread of grey values: min_contrast of the step `filter`
_WORDS = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--count", type=int, nargs="*", default=None)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--near-texts", type=int, default=5000)
    parser.add_argument("--pictures", type=int, default=None)
    parser.add_argument("--tiles", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(asked.one, asked.workers)))
        return
    counts = asked.count if asked.count is not None else ([2000] if asked.quick else [10_000, 100_000])
    cases = [case for count in counts for case in _in_a_process(count, asked.workers)]
    cases += near_texts(1000 if asked.quick else asked.near_texts, asked.peer)
    num = asked.pictures if asked.pictures is not None else (40 if asked.quick else 1000)
    cases += near_pictures(num, asked.tiles) if num else []
    for case in cases:
        peer = f" (peer {case['peer']:,.3f}, ratio {case['ratio']:.2f})" if case["ratio"] is not None else ""
        print(f"{case['name']:<44} {case['ours']:>12,.3f} {case['unit']:<10} {case['note']}{peer}")
    if asked.json:
        asked.json.write_text(json.dumps({"cases": cases}, indent=1))


def case(
    name: str, ours: float, unit: str, note: str = "", peer: float | None = None, ratio: float | None = None
) -> Any:
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "note": note}


def captions(count: int, seed: int = 0) -> Iterator[str]:
    """Captions of 20 to 60 words by Zipf's law; every 20th is an earlier one with a word changed, every 50th says
    nothing, every 100th holds a question of the exam."""
    rng, words = random.Random(seed), [f"term{i}" for i in range(_WORDS)]
    weights = np.cumsum(1 / np.arange(2, _WORDS + 2))
    exam = list(exam_texts(200))
    last: list[str] = ["the"] * 20
    for i in range(count):
        if i % 50 == 49:
            yield "Figure 1."
        elif i % 20 == 19:
            copy = list(last)
            copy[len(copy) // 2] = "changed"
            yield " ".join(copy)
        else:
            last = rng.choices(words, cum_weights=weights, k=rng.randrange(20, 60))
            yield " ".join([*last, exam[i // 100 % 200]] if i % 100 == 99 - 2 else last)


def exam_texts(count: int) -> Iterator[str]:
    """Questions of 15 to 25 words that no caption says by itself."""
    rng = random.Random(99)
    for i in range(count):
        yield " ".join(f"asked{rng.randrange(3000)}" for _ in range(rng.randrange(15, 26))) + f" number{i}"


def run_one(count: int, workers: int) -> dict[str, Any]:
    """One whole curation; what it took."""
    from eosin.core.nouns.outcome import Kept
    from eosin.core.nouns.sample import Origin, Sample, user_prompt
    from eosin.core.settings.curation.recipe import CurationRecipe
    from eosin.curate.engine.run import run_curation
    from eosin.curate.steps.base import Context

    prompt, asked = user_prompt("Describe this image.", 0), [0]

    def source() -> Iterator[Any]:
        for i, text in enumerate(captions(count)):
            origin = Origin(source=f"set{i % 3}", licence="CC0-1.0", article=f"PMC{100_000 + i // 5}")
            yield Kept(Sample(id=f"c{i}", messages=prompt, caption=text, origin=origin))

    def exam(against: Any) -> Iterator[Sample]:
        for i, text in enumerate(exam_texts(NUM_EXAM)):
            asked[0] += 1
            yield Sample(id=f"e{i}", messages=user_prompt(text, 0), answer="yes", origin=Origin(source="exam"))

    steps = [
        "filter",
        {"dedupe": {"near_image": False}},
        {"decontaminate": {"against": "exam", "near_images": False}},
        {"split": {"valid": 0.05, "test": 0.05}},
    ]
    told = {"data": {"source": "samples", "path": "made"}, "workers": workers, "steps": steps}
    recipe = CurationRecipe.model_validate(told)
    folder = Path(tempfile.mkdtemp(prefix="eosin-curate-"))
    try:
        began = time.monotonic()
        made = run_curation(recipe, folder / "out", source, Context(read_exam=exam, report=lambda line: None))
        wall = time.monotonic() - began
        ledger = json.loads((folder / "out/ledger.json").read_text("utf-8"))
        return {
            "wall_s": wall, "seconds": dict(made.manifest["seconds"]), "peak_gib": _peak() / 2**30, "exam": asked[0],
            "cpu_s": sum(sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)),
            "out": ledger["total"]["out"], "reasons": ledger["total"]["reasons"],
        }  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _peak() -> int:
    """The peak of this process, and that of its largest child beside it."""
    return peak_bytes() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _in_a_process(count: int, workers: int) -> Iterator[Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(count), "--workers", str(workers)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    name, steps = (
        f"{count:,} captions, {workers} workers",
        ", ".join(f"{k} {v:.0f}" for k, v in told["seconds"].items()),
    )
    yield case(f"{name}: clock", told["wall_s"], "s", f"seconds a step: {steps}")
    yield case(
        f"{name}: processor", told["cpu_s"], "s", f"{1e6 * told['cpu_s'] / count:.0f} us a caption, with the start"
    )
    yield case(f"{name}: memory", told["peak_gib"], "GiB", f"{told['exam']:,} questions protected")
    yield case(f"{name}: out", told["out"], "samples", str(told["reasons"]))


def near_texts(count: int, peer: Path | None) -> list[Any]:
    """The near-duplicate step alone: which texts go at a Jaccard of 0.8, and what it takes."""
    from eosin.curate.copies.choose import Edge, choose
    from eosin.curate.copies.texts import Bands, band_keys, bucket_pairs, jaccard, runs

    texts = [t for t in captions(count) if len(t) > 20]
    began = time.process_time()
    values, offsets = runs(texts, 3)
    pairs = bucket_pairs(band_keys(values, offsets, Bands.for_threshold(0.8)))
    sets = {int(i): np.unique(values[offsets[i] : offsets[i + 1]]) for i in np.unique(pairs)}
    likes = {(int(i), int(j)): jaccard(sets[int(i)], sets[int(j)]) for i, j in pairs}
    edges = [Edge(i, j, like, "near") for (i, j), like in likes.items() if like >= 0.8]
    gone = set(choose(edges, [0] * len(texts)))
    ours = time.process_time() - began
    told = case(f"near texts, {len(texts):,}: processor", ours, "s", f"{len(gone):,} go")
    if peer is None:
        return [told]
    took, theirs = _datasketch(texts, peer)
    both = len(gone & theirs)
    note = f"{len(gone):,} go; with datasketch {len(theirs):,}, {both:,} the same; ours alone {len(gone) - both}, "
    note += f"theirs alone {len(theirs) - both}"
    return [case(told["name"], ours, "s", note, took, took / ours)]


def _datasketch(texts: Sequence[str], peer: Path) -> tuple[float, set[int]]:
    """Seconds of the processor, and which texts go: those whose sketch is 0.8 alike to that of one that stays."""
    sys.path.insert(0, str(peer))
    from datasketch import MinHash, MinHashLSH

    began = time.process_time()
    index, held, gone = MinHashLSH(threshold=0.8, num_perm=128), {}, set()
    for i, text in enumerate(texts):
        words = text.casefold().split()
        sketch = MinHash(num_perm=128)
        sketch.update_batch([" ".join(words[k : k + 3]).encode() for k in range(max(1, len(words) - 2))])
        if any(sketch.jaccard(held[j]) >= 0.8 for j in index.query(sketch)):
            gone.add(i)
            continue
        index.insert(i, sketch)
        held[i] = sketch
    return time.process_time() - began, gone


def near_pictures(count: int, tiles: Path | None) -> list[Any]:
    """Planted copies among phantom tiles, and among real ones where a folder is named."""
    sets = [("phantom tiles", list(_phantom(count)))]
    if tiles is not None:
        files = sorted(p for p in tiles.rglob("*") if p.suffix.lower() in (".jpg", ".png", ".tif"))
        random.Random(5).shuffle(files)
        sets.append((tiles.name, [Image.open(p).convert("RGB") for p in files[:count]]))
    return [c for name, pictures in sets for c in _planted(name, pictures)]


def _phantom(count: int) -> Iterator[Image.Image]:
    from eosin.core.images import load_image
    from eosin.core.settings.data import PhantomData
    from eosin.sources.phantom import read_phantom

    made = read_phantom(PhantomData(train_cases=count, valid_cases=0, test_cases=1, tiles_per_case=1, tile_px=160), 3)
    yield from (load_image(s.images[0]) for s in made.kept[:count])


def _planted(name: str, pictures: Sequence[Image.Image]) -> Iterator[Any]:
    import pyarrow as pa

    from eosin.core.images import encode_png
    from eosin.core.nouns.sample import ImageBytes, Origin, Sample, user_prompt
    from eosin.curate.copies.pictures import Pictures, measure_pictures

    rng, kinds = random.Random(11), list(CHANGES)
    planted = [(i, kinds[n % len(kinds)]) for n, i in enumerate(range(0, len(pictures), 2))]
    shown = [*pictures, *(CHANGES[k](pictures[i], rng) for i, k in planted)]
    prompt, origin = user_prompt("q"), Origin(source="planted")
    samples = [Sample(id=str(i), images=(ImageBytes(data=encode_png(p)),), messages=prompt, origin=origin)
               for i, p in enumerate(shown)]  # fmt: skip
    began = time.process_time()
    held = Pictures([pa.table(measure_pictures(samples, crops=True))])
    found = {(i, j) for i, j, _ in held.verified(held.candidates(crops=True))}
    took = time.process_time() - began
    true = {(i, len(pictures) + n): k for n, (i, k) in enumerate(planted)}
    of = [*range(len(pictures)), *(i for i, _ in planted)]
    right = sum(of[i] == of[j] for i, j in found)
    blank = {p for p in true if min(_contrast(shown[i]) for i in p) < BLANK}  # set aside by `filter`, copies of nothing
    by_kind = {
        k: f"{sum(p in found for p in true if true[p] == k and p not in blank)}/"
        f"{sum(v == k and p not in blank for p, v in true.items())}"
        for k in kinds
    }
    size = f"{len(pictures):,} with {len(planted):,} planted, {len(blank):,} of these blank"
    showing = [p for p in true if p not in blank]
    recall = sum(p in found for p in showing) / len(showing)
    yield case(f"near pictures, {name}: recall", recall, "share", f"{size}; without the blank: {by_kind}")
    yield case(f"near pictures, {name}: recall, blank too", sum(p in found for p in true) / len(true), "share")
    yield case(
        f"near pictures, {name}: precision", right / max(1, len(found)), "share", f"{len(found) - right} false pairs"
    )
    yield case(f"near pictures, {name}: processor", took, "s", f"{1000 * took / len(shown):.1f} ms a picture")


def _contrast(image: Image.Image) -> float:
    return float(np.asarray(image.convert("L"), float).std())


def _crop(image: Image.Image, rng: random.Random) -> Image.Image:
    side = int(image.width * rng.uniform(0.6, 0.95))
    x, y = rng.randint(0, image.width - side), rng.randint(0, image.height - side)
    return image.crop((x, y, x + side, y + side))


def _turn(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.transpose(rng.choice(list(Image.Transpose)))


def _tilt(image: Image.Image, rng: random.Random) -> Image.Image:
    rim = int(image.width * 0.18)
    turned = image.rotate(rng.uniform(5, 40), Image.Resampling.BICUBIC)
    return turned.crop((rim, rim, image.width - rim, image.height - rim))


def _encode(image: Image.Image, rng: random.Random) -> Image.Image:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=rng.randint(25, 60))
    return Image.open(io.BytesIO(held.getvalue())).convert("RGB")


def _stain(image: Image.Image, rng: random.Random) -> Image.Image:
    density = -np.log((np.asarray(image, float) + 1) / 256)
    density = density * [rng.uniform(0.7, 1.35) for _ in range(3)] + rng.uniform(-0.03, 0.05)
    return Image.fromarray((256 * np.exp(-density) - 1).clip(0, 255).astype(np.uint8))


CHANGES = {
    "crop": _crop, "turn or flip": _turn, "tilt": _tilt, "encoding": _encode, "stain": _stain,
    "crop, stain, encoding": lambda image, rng: _encode(_stain(_crop(image, rng), rng), rng),
}  # fmt: skip


if __name__ == "__main__":
    main()
