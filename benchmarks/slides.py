"""Tissue, tiles and reading against tiatoolbox and a plain OpenSlide loop; tissue against the truth of phantom slides.

    python benchmarks/slides.py [--quick] [--json FILE] [--slide FILE ...] [--peer-python PYTHON]

The peer tiatoolbox is run with `--peer-python`, the interpreter of an environment that has it (its requirements differ
from ours); without it only the plain loop is compared. Every contender is a process of its own on the same two cores,
in turn, the best of the rounds counts. The work of each: find tissue, lay the grid of 256 px at 0.5 µm, read every
tissue tile. Ours decides which tiles; the others read the same ones, so that speed does not depend on taste.
Ratio above 1: Eosin is better.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peak import peak_bytes

SIDE_PX, MPP = 256, 0.5
ROOT = Path(__file__).resolve().parents[1]

TIA = """
import json, sys, time, hashlib, warnings
warnings.simplefilter('ignore')
import numpy as np
from tiatoolbox.wsicore.wsireader import WSIReader
from tiatoolbox.tools.patchextraction import get_patch_extractor
from tiatoolbox.tools.tissuemask import OtsuTissueMasker
job = json.loads(sys.argv[1])
begun = time.perf_counter()
reader = WSIReader.open(job['slide'], mpp=(job['mpp_level0'],) * 2, power=20)
thumb = reader.slide_thumbnail(resolution=8.0, units='mpp')
OtsuTissueMasker().fit_transform([thumb])
coords = np.array(job['coords'])
extractor = get_patch_extractor('point', input_img=reader, locations_list=coords + (job['px'] - 1) // 2,
                                patch_size=(job['px'], job['px']), resolution=job['mpp'], units='mpp')
digests = []
for patch in extractor:
    digests.append(patch if job['keep'] else None)
seconds = time.perf_counter() - begun
if job['keep']:
    np.save(job['keep'], np.stack(digests))
from peak import peak_bytes
print(json.dumps({'seconds': seconds, 'tiles': len(coords), 'peak_mb': peak_bytes() / 2**20}))
"""


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """Tissue, grid and every tile, by Eosin."""
    from eosin.slides.open.slide import open_slide
    from eosin.slides.tiles.grid import TileGrid, tile_grid
    from eosin.slides.tiles.reading import read_tiles
    from eosin.slides.tissue.segmentation import tissue_mask

    for package in ("cv2", "openslide", "tifffile"):  # imports are not timed, of no contender
        __import__(package)
    _ = __import__("imagecodecs").jpeg8_decode
    begun = time.perf_counter()
    with open_slide(job["slide"]) as slide:
        tissue = tissue_mask(slide)
        found = time.perf_counter() - begun
        tiles = tile_grid(slide, tissue, TileGrid(tile_px=SIDE_PX, mpp=MPP, min_tissue=0.5))
        kept = []
        for _, tile in read_tiles(slide, tiles, workers=2):
            if job["keep"]:
                kept.append(tile)
        seconds = time.perf_counter() - begun
    _keep(job, kept)
    return {"seconds": seconds, "tissue_s": found, "tiles": len(tiles), "coords": tiles.coords_level0.tolist(),
            "side": tiles.side_level0, "mpp": tiles.mpp, "mpp_level0": tiles.mpp_level0,
            "peak_mb": peak_bytes() / 2**20}  # fmt: skip


def plain(job: dict[str, Any]) -> dict[str, Any]:
    """The same tiles by a loop over OpenSlide's read_region, and an Otsu threshold on its thumbnail."""
    import numpy as np
    import openslide

    begun = time.perf_counter()
    slide = openslide.OpenSlide(job["slide"])
    level = slide.level_count - 1
    low = slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB")
    saturation = np.asarray(low.convert("HSV"))[..., 1]
    counts = np.bincount(saturation.ravel(), minlength=256)
    weight = np.cumsum(counts)
    mean = np.cumsum(counts * np.arange(256))
    with np.errstate(all="ignore"):
        between = (mean[-1] * weight - mean * weight[-1]) ** 2 / (weight * (weight[-1] - weight))
    _ = saturation > np.nanargmax(between)
    kept = []
    for x, y in job["coords"]:
        tile = np.asarray(slide.read_region((x, y), 0, (job["side"], job["side"])).convert("RGB"))
        if job["keep"]:
            kept.append(tile)
    seconds = time.perf_counter() - begun
    _keep(job, kept)
    return {"seconds": seconds, "tiles": len(job["coords"]), "peak_mb": peak_bytes() / 2**20}


def _keep(job: dict[str, Any], tiles: list[Any]) -> None:
    if job["keep"]:
        import numpy as np

        np.save(job["keep"], np.stack(tiles))


def run(who: str, job: dict[str, Any], peer_python: str | None) -> dict[str, Any]:
    """One contender in a process of its own; what it printed last."""
    folders = os.pathsep.join((str(ROOT / "src"), str(ROOT / "benchmarks")))
    environment = {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "2"}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "job.json"
        place.write_text(json.dumps(job))
        if who == "tiatoolbox":
            script = TIA.replace("json.loads(sys.argv[1])", "json.load(open(sys.argv[1]))")
            command = [str(peer_python), "-c", script, str(place)]
        else:
            command = [sys.executable, __file__, "--child", who, str(place)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def speed(slide: Path, rounds: int, peer_python: str | None) -> list[dict[str, Any]]:
    """Tiles a second of each contender on one slide, in turn, and whether the pixels are the same."""
    first = run("ours", {"slide": str(slide), "keep": None}, None)
    job = {"slide": str(slide), "coords": first["coords"], "side": first["side"], "mpp": first["mpp"],
           "mpp_level0": first["mpp_level0"], "px": SIDE_PX,
           "keep": None}  # fmt: skip
    peers = ["plain", *(["tiatoolbox"] if peer_python else [])]
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for who in ("ours", *peers):
            result = run(who, job, peer_python)
            if who not in best or result["seconds"] < best[who]["seconds"]:
                best[who] = result
    mine = best["ours"]["tiles"] / best["ours"]["seconds"]
    cases = []
    for who in peers:
        theirs = best[who]["tiles"] / best[who]["seconds"]
        our = best["ours"]
        note = (f"{our['tiles']} tiles; tissue {our['tissue_s']:.2f} s of {our['seconds']:.2f} s; peak "
                f"{our['peak_mb']:.0f}, peer {best[who]['peak_mb']:.0f} MB; ")  # fmt: skip
        note += difference(job, who, peer_python)
        name = f"tissue + tiles + read, {slide.stem}, against {who}"
        cases.append(case(name, mine, theirs, "tiles/s", mine / theirs, note))
    return cases


def difference(job: dict[str, Any], who: str, peer_python: str | None, most: int = 200) -> str:
    """How far the pixels of some tiles are apart."""
    import numpy as np

    some = job["coords"][:: max(1, len(job["coords"]) // most)]
    with tempfile.TemporaryDirectory() as folder:
        theirs = Path(folder) / "theirs.npy"
        run(who, {**job, "coords": some, "keep": str(theirs)}, peer_python)
        from eosin.core.nouns.units import BoxLevel0
        from eosin.slides.open.slide import open_slide

        with open_slide(job["slide"]) as slide:
            mine = np.stack([
                slide.read(BoxLevel0(x0=x, y0=y, x1=x + job["side"], y1=y + job["side"]), out_px=(SIDE_PX, SIDE_PX))
                for x, y in some
            ])  # fmt: skip
        off = np.abs(mine.astype(np.int16) - np.load(theirs))
    return "identical pixels" if not off.any() else f"pixels differ by {off.mean():.3f} of 255 on average"


def tissue_cases(num: int, size_px: int) -> list[dict[str, Any]]:
    """Intersection over union with the truth of phantom slides, each with some artefacts."""
    from eosin.phantom.slides.slide import write_slide
    from eosin.slides.open.slide import open_slide
    from eosin.slides.tissue.segmentation import tissue_mask

    sets = [("pen", "dust"), ("fat", "tears"), ("faint",), ("border", "bubble"), (),
            ("pen", "fat", "faint", "border", "tears", "bubble", "dust")]  # fmt: skip
    scores: list[tuple[float, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num):
            place = Path(folder) / f"{number}.tiff"
            names = sets[(number + number // 6) % 6]
            _, truth, _ = write_slide(place, case_number=number, seed=77, size_px=size_px, artefacts=names)
            with open_slide(place) as slide:
                found = tissue_mask(slide)
            scores.append((iou(found.mask, truth, slide.size_px), "+".join(names) or "clean"))
            print(f"  case {number}: IoU {scores[-1][0]:.3f}  {scores[-1][1]}", flush=True)
            place.unlink()
    values = [s for s, _ in scores]
    worst = min(scores)
    mean = sum(values) / len(values)
    note = f"{num} phantom slides of {size_px} px"
    return [case("tissue IoU, mean", mean, 0.95, "IoU", mean / 0.95, note + "; peer: the goal"),
            case("tissue IoU, worst", worst[0], 0.9, "IoU", worst[0] / 0.9, note + f"; with {worst[1]}")]  # fmt: skip


def iou(mask: Any, truth: Path, size_px: tuple[int, int]) -> float:
    """Intersection over union of a mask and the class Tissue of a GeoJSON file."""
    import numpy as np
    from PIL import Image, ImageDraw

    from eosin.slides.annotations.geojson_read import read_geojson

    height, width = mask.shape
    image = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(image)
    for shape in read_geojson(truth).kept:
        for rings in shape.parts if shape.kind == "Tissue" else []:
            for number, ring in enumerate(rings):
                places = [(x * 2 * width / size_px[0] - 0.5, y * 2 * height / size_px[1] - 0.5) for x, y in ring]
                draw.polygon(places, fill=0 if number else 255)
    right = np.asarray(image.reduce(2)) > 127
    return float((mask & right).sum() / (mask | right).sum())


def case(name: str, mine: float, theirs: float, unit: str, ratio: float, note: str) -> dict[str, Any]:
    """One line of the table."""
    return {"name": name, "ours": round(mine, 3), "peer": round(theirs, 3), "unit": unit, "ratio": round(ratio, 2),
            "note": note}  # fmt: skip


def phantom(size_px: int, folder: Path) -> Path:
    """A phantom slide, made once and kept in `folder`."""
    from eosin.phantom.slides.slide import write_slide

    place = folder / f"phantom-{size_px}.tiff"
    if not place.exists():
        begun = time.perf_counter()
        write_slide(place, case_number=2, size_px=size_px)
        print(f"  phantom slide of {size_px} px: {time.perf_counter() - begun:.0f} s", flush=True)
    return place


def main() -> None:
    """Run all, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller phantom slides, one round")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--slide", type=Path, action="append", default=[], help="further slides")
    parser.add_argument("--sizes", type=int, nargs="*", help="sides of the phantom slides; default 20000 40000")
    parser.add_argument("--peer-python", help="interpreter of an environment with tiatoolbox")
    parser.add_argument("--folder", type=Path, help="where phantom slides are kept; default: a temporary one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("speed", "tissue"))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        job = json.loads(Path(options.child[1]).read_text(encoding="utf-8"))
        print(json.dumps({"ours": ours, "plain": plain}[options.child[0]](job)))
        return
    sys.path.insert(0, str(ROOT / "src"))
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.only != "tissue":
            sizes = options.sizes if options.sizes is not None else [6000] if options.quick else [20_000, 40_000]
            for slide in [*options.slide, *(phantom(s, folder) for s in sizes)]:
                cases += speed(slide, 1 if options.quick else options.rounds, options.peer_python)
        if options.only != "speed":
            cases += tissue_cases(*((6, 4096) if options.quick else (18, 10_000)))
    for row in cases:
        print(f"{row['name']:<64} {row['ours']:>9} {row['peer']:>9} {row['unit']:<8} {row['ratio']:>6}x  {row['note']}")
    if options.json:
        options.json.write_text(json.dumps({"cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
