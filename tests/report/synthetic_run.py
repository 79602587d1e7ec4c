"""A small run directory as the chain leaves it, with made-up figures. Only for the tests of the report."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFilter

from eosin.core.formats.parquet import write_parquet
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt
from eosin.core.store import artifacts as store

LABELS = ("normal mucosa", "tubular adenoma", "cribriform adenocarcinoma", "lymphoid aggregate", "muscle", "necrosis")
QUESTION = "Which diagnosis fits this tile best?"
STEPS = {"pretrain": 120, "sft": 400, "rl": 90}


def tile(label: str, seed: int, side: int = 112) -> bytes:
    """A pink picture with purple dots, whose pattern depends on the label. PNG bytes."""
    rng = np.random.default_rng([LABELS.index(label), seed])
    base = np.clip(rng.normal([232, 178, 205], 7, (side, side, 3)), 0, 255).astype("uint8")
    image = Image.fromarray(base).filter(ImageFilter.GaussianBlur(1.5))
    draw = ImageDraw.Draw(image)
    for _ in range(4 + 4 * LABELS.index(label)):
        x, y = rng.uniform(10, side - 10, 2)
        for angle in np.linspace(0, 2 * math.pi, 7 + LABELS.index(label)):
            cx, cy, r = x + 9 * math.cos(angle), y + 9 * math.sin(angle), rng.uniform(1.5, 3)
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(92, 62, 140))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_samples(split: str, num_cases: int, per_case: int = 2) -> list[Sample]:
    """Closed questions over all labels, one label a case."""
    samples = []
    for case in range(num_cases):
        label = LABELS[case % len(LABELS)]
        for i in range(per_case):
            shift = (case + i) % len(LABELS)
            options = LABELS[shift:] + LABELS[:shift]
            samples.append(
                Sample(
                    id=f"{split}-{case:03d}-{i}",
                    images=(ImageBytes(data=tile(label, 10 * case + i)),),
                    messages=user_prompt(QUESTION),
                    choices=make_choices(options),
                    answer="ABCDEF"[options.index(label)],
                    reasoning=(f"The tile shows the pattern of {label}.", "No other pattern fits."),
                    label=label,
                    origin=Origin(source="phantom", licence="Apache-2.0", case=f"{split}-{case:03d}"),
                    split=split,
                )
            )
    return samples


def reply_of(letter: str, text: str) -> str:
    """A reply that obeys the grammar."""
    return (
        f"<think>Crowded glands with elongated nuclei; 42 nuclei, 3 mitoses. The architecture points to {text}."
        f"</think>\n<answer>{letter}. {text}</answer>"
    )


def predict(samples: Sequence[Sample], accuracy: float, seed: int, unparsed: float = 0.004) -> list[dict[str, Any]]:
    """Rows of predictions.jsonl with about this share of right answers."""
    rng = np.random.default_rng(seed)
    rows = []
    for sample in samples:
        choices = {c.letter: c.text for c in sample.choices}
        letter = str(sample.answer)
        if rng.random() >= accuracy:
            letter = str(rng.choice([c for c in choices if c != sample.answer]))
        broken = rng.random() < unparsed
        reply = reply_of(letter, choices[letter])
        rows.append(
            {
                "id": sample.id, "group": sample.origin.group, "label": sample.label, "question": sample.question,
                "choices": choices, "answer": sample.answer,
                "reply": reply.replace("</answer>", "") if broken else reply,
                "parsed": None if broken else letter, "unparsed_reason": "<answer> not closed" if broken else None,
                "tolerant": letter, "correct": not broken and letter == sample.answer,
                "tolerant_correct": letter == sample.answer, "num_tokens": 37, "truncated": broken,
                "predicted_label": None if broken else choices[letter],
            }
        )  # fmt: skip
    return rows


def scores(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of an exam that follow from its rows; the interval is a plain normal one."""
    n = len(rows)
    p = sum(r["correct"] for r in rows) / n
    half = 1.96 * math.sqrt(max(p * (1 - p), 0.01) / n)
    per_label = {
        x: [r["correct"] for r in rows if r["label"] == x] for x in LABELS if any(r["label"] == x for r in rows)
    }
    recall = {x: sum(v) / len(v) for x, v in per_label.items()}
    ends = [max(0.0, p - half), min(1.0, p + half)]
    said = {x: Counter(r["predicted_label"] for r in rows if r["label"] == x) for x in LABELS}
    return {
        "accuracy": p, "balanced_accuracy": sum(recall.values()) / len(recall), "n": n, "ci95": ends,
        "balanced_ci95": ends, "cluster": "case", "num_clusters": len({r["group"] for r in rows}),
        "unparsed_rate": sum(r["parsed"] is None for r in rows) / n,
        "truncated_rate": sum(r["truncated"] for r in rows) / n,
        "tolerant_accuracy": sum(r["tolerant_correct"] for r in rows) / n,
        "unparsed_reasons": {"<answer> not closed": sum(r["parsed"] is None for r in rows)},
        "labels": list(LABELS), "confusion": [[said[x][y] for y in (*LABELS, None)] for x in LABELS],
        "recall": recall, "chance": 1 / 6, "seed": 0, "sampled": None,
    }  # fmt: skip


def write_exam(root: Path, stage: str, samples: Sequence[Sample], accuracy: float, seed: int) -> dict[str, Any]:
    """One exam with its probes; returns its summary."""
    rows = predict(samples, accuracy, seed)
    summary = scores(rows)
    summary["probes"] = {}
    for i, probe in enumerate(("blank", "swapped", "question_only")):
        found = scores(predict(samples, 1 / 6, 100 * seed + i))
        summary["probes"][probe] = {k: found[k] for k in ("accuracy", "balanced_accuracy", "n", "ci95")}
    with store.writing(root / "evals" / stage / "heldout", "eval") as writer:
        store.append_jsonl(writer.dir / "predictions.jsonl", rows)
        store.write_json(writer.dir / "summary.json", summary)
    return summary


def metrics(stage: str) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl: falling loss, rising reward."""
    rng = np.random.default_rng(len(stage))
    rows: list[dict[str, Any]] = []
    for step in range(1, STEPS[stage] + 1):
        done = step / STEPS[stage]
        row: dict[str, Any] = {"stage": stage, "step": step, "seconds": 0.4 * step, "learning_rate": 3e-4 * (1 - done)}
        if stage == "rl":
            accuracy = min(1.0, 0.7 + 0.25 * done + rng.normal(0, 0.04))
            row |= {
                "loss": 0.002 * rng.normal(), "reward": 0.9 * accuracy + 0.1, "reward/accuracy": accuracy,
                "reward/format": min(1.0, 0.97 + 0.03 * done), "reward_std": 0.3 - 0.15 * done,
                "frac_zero_std": 0.2 + 0.2 * done, "kl": 0.01 * done, "entropy": 0.5 - 0.2 * done,
                "completion_length": 40 - 4 * done + rng.normal(), "truncated_rate": 0.01 * (1 - done),
                "completion_length_max": 72.0, "unparsed_rate": 0.03 * (1 - done), "group_std": 0.2 - 0.1 * done,
                "reward/accuracy/unscored": 0.0, "reward/format/unscored": 0.02, "groups_kept": 4.0,
                "groups_dropped": 1.0 + done, "generation_batches": 1.25, "clip_low": 0.001, "clip_high": 0.002 * done,
                "tokens_per_second": 400 + 30 * rng.normal(), "share_generate": 0.4, "share_rewards": 0.02,
                "share_loss": 0.58, "prompts_seen": 5 * step,
            }  # fmt: skip
            if step % 30 == 0:
                row |= {"valid_accuracy": accuracy, "valid_n": 24, "valid_unparsed": 0.0, "valid_seconds": 0.02 * step}
        else:
            row["loss"] = 3 * math.exp(-3 * done) + 0.4 + rng.normal(0, 0.05)
            if step % 40 == 0:
                row = {k: row[k] for k in ("stage", "step", "seconds")} | {"eval_loss": 3 * math.exp(-3 * done) + 0.45}
        rows.append(row)
    return rows


def rollouts(samples: Sequence[Sample], group_size: int = 4) -> list[dict[str, Any]]:
    """Groups of sampled replies with their terms and advantages."""
    rows: list[dict[str, Any]] = []
    for number, step in enumerate((1, 20, 40, 60, 80)):
        sample = samples[number]
        choices = {c.letter: c.text for c in sample.choices}
        letters = [sample.answer, "A", "B", sample.answer][:group_size]
        rewards = [1.0 if x == sample.answer else 0.1 for x in letters]
        mean, std = float(np.mean(rewards)), float(np.std(rewards, ddof=1))
        for letter, reward in zip(letters, rewards, strict=True):
            rows.append(
                {
                    "stage": "rl", "step": step, "sample_id": sample.id, "group": number, "question": sample.question,
                    "reply": reply_of(str(letter), choices[str(letter)]), "reward": reward,
                    "terms": {"accuracy": float(letter == sample.answer), "format": 1.0, "process": None},
                    "unscored": {"process": "judge did not reply"}, "num_tokens": 37, "truncated": False,
                    "advantage": (reward - mean) / (std + 1e-4),
                }
            )  # fmt: skip
    return rows


def write_stage(root: Path, name: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """One stage of training with checkpoint, metrics and, for RL, rollouts; returns its stage.json."""
    here = root / "stages" / name
    here.mkdir(parents=True)
    with store.writing(here / "checkpoint", "checkpoint") as writer:
        (writer.dir / "model.safetensors").write_bytes(b"none")
    store.append_jsonl(here / "metrics.jsonl", metrics(name))
    times = {"data": 2.5, "compute": 61.0}
    facts: dict[str, Any] = {}
    if name == "rl":
        store.append_jsonl(here / "rollouts.jsonl", rollouts(samples))
        times |= {"generate": 48.0, "rewards": 0.6}
        facts = {
            "algorithm": "DAPO+{beta=0.01}", "short_batches": 2,
            "rewards": {"label": "accuracy+format", "terms": [{"name": "accuracy"}, {"name": "format"}]},
            "checks": {"round_trip": {"largest_difference": 3.8e-6, "tolerance": 1e-3, "passed": True}},
        }  # fmt: skip
    info = {
        "name": name, "kind": name, "seconds": sum(times.values()) + 8, "peak_rss_gib": 2.41,
        "num_steps": STEPS[name], "num_trainable": 3_100_000, "num_parameters": 4_250_000, "step_time": times,
        "settings": {"learning_rate": 3e-4, "batch_size": 32, "epochs": 1.0, "freeze": ["vision"]},
        "inherited": {"batch_size": 32},
        **facts,
    }  # fmt: skip
    store.write_json(here / "stage.json", info)
    return info


def write_samples(root: Path, splits: dict[str, list[Sample]]) -> None:
    """The samples artifact with its card."""
    with store.writing(root / "samples", "samples") as writer:
        for name, samples in splits.items():
            write_parquet(samples, writer.dir / f"{name}.parquet")
        card = {
            "name": "Phantom H&E", "licence": "Apache-2.0",
            "counts": {**{k: len(v) for k, v in splits.items()}, "dropped": 3},
            "drop_reasons": {"image truncated or damaged": 2, "image file missing": 1}, "labels": list(LABELS),
            "split_unit": "case", "groups": {k: len({s.origin.group for s in v}) for k, v in splits.items()},
        }  # fmt: skip
        store.write_json(writer.dir / "card.json", card)


def write_recipe(root: Path, stages: Sequence[str]) -> dict[str, Any]:
    """recipe.yaml and provenance.json."""
    recipe = {
        "name": "demo", "description": "Phantom tiles from nothing to reinforcement learning.", "seed": 0,
        "data": {"source": "phantom", "train_cases": 24}, "grammar": "think/answer",
        "stages": {s: {"kind": s, "learning_rate": 3e-4} for s in stages},
        "exams": {"heldout": {"split": "test"}}, "report": {"gallery": 12},
    }  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    origin = [
        {"field": "seed", "value": 0, "from": "default"},
        {"field": "data.train_cases", "value": 24, "from": "command line"},
        *({"field": f"stages.{s}.learning_rate", "value": 3e-4, "from": "recipe"} for s in stages),
    ]
    (root / "provenance.json").write_text(json.dumps(origin), encoding="utf-8")
    return recipe


def write_run(root: Path, accuracy: dict[str, float] | None = None, num_cases: int = 60) -> Path:
    """A whole run: samples, three stages, four exams, baselines, summary."""
    accuracy = accuracy or {"base": 0.0, "pretrain": 0.1, "sft": 0.86, "rl": 0.92}
    splits = {
        "train": make_samples("train", 12),
        "valid": make_samples("valid", 6),
        "test": make_samples("test", num_cases),
    }
    write_recipe(root, [s for s in accuracy if s != "base"])
    write_samples(root, splits)
    stages = []
    for seed, (name, share) in enumerate(accuracy.items(), 1):
        info = {"name": name} if name == "base" else write_stage(root, name, splits["train"])
        exam = write_exam(root, name, splits["test"], share, seed)
        stages.append({**info, "checkpoint": f"stages/{name}/checkpoint", "exams": {"heldout": exam}})
    baselines = {"heldout": {}}
    for name, share in (("majority", 1 / 6), ("colour_histogram", 0.41)):
        found = scores(predict(splits["test"], share, 77))
        baselines["heldout"][name] = {k: found[k] for k in ("accuracy", "balanced_accuracy", "n", "ci95")}
    store.write_json(root / "baselines.json", baselines)
    summary = {
        "recipe": "demo", "state": "complete", "stages": stages, "baselines": baselines,
        "record": {
            "created": "2026-01-02T03:04:05+00:00", "code": {"commit": "0" * 40, "dirty": False}, "seed": 0,
            "packages": {"eosin": "0.1.0", "numpy": "2.0"}, "hardware": {"cores": 2, "memory_gib": 16.0},
        },
    }  # fmt: skip
    store.write_json(root / "summary.json", summary)
    return root
