"""Fit the small classifier of figures on pictures made by code, and say how well it does on others.

    python benchmarks/figure_kinds.py [--quick] [--json FILE] [--write] [--tiles FOLDER]

--write replaces the weights in the package. --tiles is a folder of real H&E tiles (one subfolder a class), to see how
much of them is told as histology.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from eosin.documents.kinds.classify import WEIGHTS, kinds_of, measures
from eosin.phantom.documents.kinds import MAKERS, picture_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tiles", type=Path)
    parser.add_argument("--num", type=int, default=250, help="pictures of each kind that it is fitted on")
    asked = parser.parse_args()
    num = 40 if asked.quick else asked.num
    kinds = list(MAKERS)
    X, y = _made(kinds, num, seed=0)
    mean, scale = X.mean(0), X.std(0) + 1e-6
    model = LogisticRegression(C=0.3, max_iter=3000).fit(((X - mean) / scale).clip(-5, 5), y)
    if asked.write:
        told = {
            "kinds": list(model.classes_),
            "W": model.coef_.round(4).tolist(),
            "b": model.intercept_.round(4).tolist(),
            "mean": mean.round(5).tolist(),
            "scale": scale.round(5).tolist(),
        }
        WEIGHTS.write_text(json.dumps(told) + "\n", encoding="utf-8")
    cases = list(_results(kinds, num // 2))
    if asked.tiles:
        cases += list(_real(asked.tiles))
    for case in cases:
        print(f"{case['name']:<32} {case['ours']:.3f}  {case['note']}")
    if asked.json:
        asked.json.write_text(json.dumps({"cases": cases}, indent=1))


def _made(kinds: list[str], num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 91])
    rows = [(measures(picture_of(k, rng)), k) for k in kinds for _ in range(num)]
    return np.array([r[0] for r in rows]), np.array([r[1] for r in rows])


def _results(kinds: list[str], num: int) -> list[dict[str, object]]:
    """Recall of each kind on pictures of another seed."""
    rng = np.random.default_rng([1, 91])
    cases, right = [], 0
    for kind in kinds:
        found = [k.name for k in kinds_of([picture_of(kind, rng) for _ in range(num)])]
        share = found.count(kind) / num
        right += found.count(kind)
        others = {k: found.count(k) for k in set(found) if k != kind}
        cases.append({"name": kind, "ours": share, "peer": None, "unit": "recall", "ratio": None,
                      "note": f"n {num}; taken for {others}" if others else f"n {num}"})  # fmt: skip
    cases.append({"name": "all", "ours": right / (num * len(kinds)), "peer": 1 / len(kinds), "unit": "accuracy",
                  "ratio": right / num, "note": "peer: chance"})  # fmt: skip
    return cases


def _real(folder: Path) -> list[dict[str, object]]:
    """Real tiles of H&E, class by class: how many are told as H&E, as histology at all, and as blank glass."""
    cases = []
    for place in sorted(p for p in folder.iterdir() if p.is_dir()):
        files = sorted(place.iterdir())[::10][:60]
        found = [k.name for k in kinds_of([Image.open(f).convert("RGB") for f in files])]
        he = found.count("histology H&E") / len(found)
        any_ = sum(k.startswith("histology") for k in found) / len(found)
        note = f"n {len(found)}; any histology {any_:.3f}, blank {found.count('blank') / len(found):.3f}"
        cases.append(
            {"name": f"real {place.name}", "ours": he, "peer": None, "unit": "share", "ratio": None, "note": note}
        )
    return cases


if __name__ == "__main__":
    main()
