"""Exams of made-up models on disk, as `eosin evaluate` writes them: each looks at the image, and is wrong at a rate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from eosin.core.images import encode_png
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.engines.base import MockEngine, Request
from eosin.evaluate.exam.entry import evaluate_samples

TEXTS = ("normal mucosa", "adenoma", "carcinoma")
ORGANS = ("colon", "stomach", "lung")


def made_samples(num: int) -> list[Sample]:
    """Tiles of three grey levels in cases of two."""
    samples = []
    for i in range(num):
        label = (i // 2) % 3
        pixels = np.full((24, 24, 3), 60 + 70 * label, np.uint8)
        pixels[:2, :2] = (i % 256, i // 256, 7)
        turned = [TEXTS[(k + i) % 3] for k in range(3)]
        samples.append(
            Sample(
                id=f"q{i}",
                images=(ImageBytes(data=encode_png(Image.fromarray(pixels))),),
                messages=user_prompt("What does this <tile> show?"),
                choices=make_choices(turned),
                answer="ABC"[turned.index(TEXTS[label])],
                label=TEXTS[label],
                origin=Origin(source="made", case=f"c{i // 2}", organ=ORGANS[(i // 2) % 4 % 3], stain="H&E"),
                extra={"subset": "first" if i % 3 else "second"},
            )
        )
    return samples


def made_exam(out: Path, model: str, samples: list[Sample], wrong: float, *, file: str, sampled: int = 0) -> Path:
    """An exam of a model that is wrong on a share of the questions, each time it is asked."""
    rng = np.random.default_rng(sum(map(ord, model)))
    texts = {s.id: {c.text: c.letter for c in s.choices} for s in samples}

    def reply(request: Request) -> str:
        pixels = np.asarray(request.images[0]) if request.images else np.zeros((24, 24, 3))
        seen = int(np.clip((pixels[12, 12, 0] - 25) // 70, 0, 2))
        said = TEXTS[int(rng.integers(3))] if rng.random() < wrong else TEXTS[seen]
        return f"<think>I see a level.</think><answer>{texts[request.id][said]}. {said}</answer>"

    engine = MockEngine(reply)
    engine.name = f"mock:{model}"
    settings = ExamSettings(bootstrap=200, probes=["blank", "swapped"], num_sampled=sampled, baselines="none")
    samples_file = out.parent / f"{file}.jsonl"
    samples_file.write_text("".join(s.model_dump_json() + "\n" for s in samples))
    record = {"checkpoint": model, "samples": str(samples_file)}
    evaluate_samples(engine, samples, Grammar.of("think/answer"), out, settings=settings, record=record)
    return out


def logged_exam(out: Path, model: str, num: int, seed: int) -> Path:
    """An exam of many questions, written as a log only: no model is asked."""
    rng = np.random.default_rng(seed)
    right = rng.random(num) < 0.5 + 0.03 * seed
    with store.writing(out, "eval", record={"checkpoint": model, "samples": "many.jsonl"}) as writer:
        with (writer.dir / "predictions.jsonl").open("w") as handle:
            for i in range(num):
                gold = TEXTS[i % 3]
                row = {
                    "id": f"q{i}", "group": f"case:{i // 3}", "label": gold, "question": f"What is tile {i}?",
                    "predicted_label": gold if right[i] else TEXTS[(i + 1) % 3], "answer": "ABC"[i % 3],
                    "choices": dict(zip("ABC", TEXTS, strict=True)), "reply": "<think>seen</think>" * 20,
                    "parsed": "A", "unparsed_reason": None, "tolerant": "A", "correct": bool(right[i]),
                    "tolerant_correct": bool(right[i]), "num_tokens": 60, "truncated": False,
                    "organ": ORGANS[i % 3], "subset": f"part {i % 7}",
                }  # fmt: skip
                handle.write(json.dumps(row) + "\n")
        summary = {"labels": list(TEXTS), "engine": f"mock:{model}", "num_set_aside": 0, "chance": 1 / 3, "probes": {}}
        store.write_json(writer.dir / "summary.json", summary)
    return out
