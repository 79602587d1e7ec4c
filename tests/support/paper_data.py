"""Small data in the papers' own formats, with pictures whose answer is their colour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.toys import NAMES, toy_image

SETS = ("PubMed", "EduContent", "Atlas")


def pathmmu_file(folder: Path, num: int = 60, per_image: int = 2) -> Path:
    """data.json as PathMMU has it, with pictures in images/; several questions about one picture."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    data: dict[str, dict[str, list[dict[str, Any]]]] = {s: {"val": [], "test": []} for s in SETS}
    for i in range(num):
        picture = i // per_image
        label = picture % 3
        name = f"{picture:04}.png"
        toy_image(label, rng).save(folder / "images" / name)
        order = list(rng.permutation(3))
        options = [f"{'ABC'[k]}) {NAMES[o]}" for k, o in enumerate(order)]
        colour = NAMES[label].split()[0]
        row = {
            "No": i, "img": name, "question": f"Which tissue is shown in field {i % per_image + 1}?",
            "options": options, "answer": options[order.index(label)],
            "explanation": f"The field is {colour}. Its colour is even. This fits {NAMES[label]}.",
        }  # fmt: skip
        data[SETS[i % 3]]["val" if i % 5 == 0 else "test"].append(row)
    path = folder / "data.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def patho_files(folder: Path, num: int = 24) -> tuple[Path, Path, Path]:
    """Pairs of picture and caption, chains of thought, and multiple-choice questions, as ShareGPT JSON has them."""
    rng = np.random.default_rng(1)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    files: dict[str, list[dict[str, Any]]] = {"pairs": [], "cot": [], "questions": []}
    for kind, letter in (("pairs", "p"), ("cot", "c"), ("questions", "q")):
        for i in range(num):
            label, name = i % 3, f"pictures/{letter}{i:03}.png"
            toy_image(label, rng).save(folder / name)
            row: dict[str, Any] = {"id": f"{letter}-{i}", "image": name}
            if i >= num - 6 and kind == "questions":
                row["split"] = "test"
            row["conversations"] = _turns(kind, label)
            if kind == "pairs":
                row["caption"] = f"A field of {NAMES[label]}."
            files[kind].append(row)
    for kind, rows in files.items():
        (folder / f"{kind}.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder / "pairs.json", folder / "cot.json", folder / "questions.json"


def _turns(kind: str, label: int) -> list[dict[str, str]]:
    if kind == "pairs":
        return [{"from": "human", "value": "<image>\nDescribe this image."}]
    options = "\n".join(f"{'ABC'[k]}. {n}" for k, n in enumerate(NAMES))
    think = f"<think>The field is {NAMES[label].split()[0]}. This fits {NAMES[label]}.</think>" if kind == "cot" else ""
    reply = f"{think}<answer>{'ABC'[label]}</answer>" if think else "ABC"[label]
    question = {"from": "human", "value": f"<image>\nWhich tissue is it?\n{options}"}
    return [question, {"from": "gpt", "value": reply}]
