"""How fast phantom tiles are made, against the floor that a newcomer's run needs.

usage: python benchmarks/phantom.py [--quick] [--json FILE]

There is no peer that makes such tiles; the peer here is the floor asked for: 10,000 tiles in 3 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from eosin.phantom import cases, render_many

FLOOR_PER_MINUTE = 10_000 / 3


def tiles_per_minute(num_tiles: int, workers: int) -> float:
    """Wall-clock rate of `render_many` with tiles of 224 px, processes started and warmed before."""
    specs = [(case, i) for case in cases(-(-num_tiles // 5), seed=1) for i in range(5)][:num_tiles]
    stream = render_many(specs, workers=workers)
    for _ in range(64):
        next(stream)
    start = time.perf_counter()
    rest = sum(1 for _ in stream)
    return 60 * rest / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="600 tiles instead of 3,000")
    parser.add_argument("--json", type=Path, help="write the cases there")
    options = parser.parse_args()
    num = 600 if options.quick else 3000
    rows: list[dict[str, Any]] = []
    for workers in (1, 2):
        ours = tiles_per_minute(num, workers)
        rows.append({
            "name": f"phantom tiles, {workers} process{'es' if workers > 1 else ''}", "ours": round(ours),
            "peer": round(FLOOR_PER_MINUTE), "unit": "tiles/min", "ratio": round(ours / FLOOR_PER_MINUTE, 2),
            "note": f"{num} tiles of 224 px; peer is the floor asked for (2 cores)",
        })  # fmt: skip
    print("| case | Eosin | peer | unit | ratio | note |\n|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['name']} | {row['ours']} | {row['peer']} | {row['unit']} | {row['ratio']} | {row['note']} |")
    if options.json:
        options.json.write_text(json.dumps({"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
