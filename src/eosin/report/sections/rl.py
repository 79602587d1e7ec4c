"""Stages of reinforcement learning in figures: what was sampled, what was kept, what the checks at start measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from eosin.report.drawing.class_curves import class_curves
from eosin.report.drawing.curves import wants_curves, with_train_seconds
from eosin.report.drawing.numbers import count, duration, figure, num, percent, plural
from eosin.report.records.load import Run, StageRun
from eosin.report.sections.judge import agreement_rows, judge_facts, unscored_facts
from eosin.report.sections.replies import clipped

# Logged name -> what it is called, and whether it is a share.
FIGURES: dict[str, tuple[str, bool]] = {
    "reward": ("reward, mean", False),
    "group_std": ("standard deviation of reward within a group", False),
    "reward_std": ("standard deviation of reward in the batch", False),
    "frac_zero_std": ("groups without variance", True),
    "groups_kept": ("groups with variance in the batch of a step", False),
    "groups_dropped": ("groups replaced in a step", False),
    "generation_batches": ("batches generated for a step", False),
    "entropy": ("entropy, nats per token", False),
    "kl": ("KL to the starting policy, nats per token", False),
    "clip_low": ("ratios clipped at the lower bound", True),
    "clip_high": ("ratios clipped at the upper bound", True),
    "gradient_noise_share": ("share of the gradient's squared norm that is noise", True),
    "noise_scale": ("simple noise scale, prompts", False),
    "truncated_rate": ("truncated completions", True),
    "unparsed_rate": ("unparsed completions", True),
    "completion_length": ("length of a completion, tokens", False),
    "tokens_per_second": ("tokens generated a second", False),
    "share_generate": ("share of a step in generation", True),
    "share_rewards": ("share of a step in rewards", True),
    "share_judge": ("share of a step in waiting for the judge", True),
    "unscored_rate": ("completions without a reward", True),
    "share_loss": ("share of a step in loss and update", True),
    "valid_accuracy": ("held-out accuracy, greedy", True),
}
_NOT_NUMBERS = 200  # characters of a check's words that are shown


def rl_sections(run: Run) -> list[dict[str, Any]]:
    """For each stage of reinforcement learning that has logged anything: facts, table of figures, checks."""
    stages = [s for s in run.stages if s.kind == "rl" and (s.metrics or s.info.get("checks"))]
    return [_section(run, s, i) for i, s in enumerate(stages)]


def _section(run: Run, stage: StageRun, place: int) -> dict[str, Any]:
    rewards = stage.info.get("rewards")
    label = rewards.get("label") if isinstance(rewards, Mapping) else None
    return {
        "name": stage.name,
        "algorithm": str(stage.info.get("algorithm") or "not recorded"),
        "start": run.start_of(stage.name),
        "rewards": str(label) if label else "not recorded",
        "facts": list(_facts(stage)),
        "figures": figures_table(stage.metrics, term_names_of(stage)),
        "checks": list(checks(stage)),
        "by_class": _by_class(run, stage, place),
        "agreement": agreement_rows(_under(stage.info.get("base_rates"), "judge_and_rules")),
    }


def _by_class(run: Run, stage: StageRun, place: int) -> list[Markup]:
    if not wants_curves(run.recipe):
        return []
    return [Markup(svg) for svg in class_curves(stage.by_class, stage.name, f"class{place}")]


def _under(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, Mapping) else None


def term_names_of(stage: StageRun) -> tuple[str, ...]:
    """Names of the reward terms, as stage.json has them, of all sources; () where it does not say."""
    return tuple(dict.fromkeys(_terms_in(stage.info.get("rewards"))))


def _terms_in(rewards: Any) -> Iterator[str]:
    if not isinstance(rewards, Mapping):
        return
    for key in ("terms", "penalties"):
        terms = rewards.get(key)
        for term in terms if isinstance(terms, list) else []:
            if isinstance(term, Mapping) and "name" in term:
                yield str(term["name"])
    sources = rewards.get("sources")
    for one in sources.values() if isinstance(sources, Mapping) else []:
        yield from _terms_in(one)


def _facts(stage: StageRun) -> Iterator[tuple[str, str]]:
    seen, dropped = prompts_seen(stage), _total(stage, "groups_dropped")
    if seen is not None:
        told = f"{count(seen)}"
        if dropped:
            told += f", of which {plural(round(dropped), 'group')} ({percent(dropped / seen, 0)}) had no variance"
            told += " and gave way to fresh prompts"
        yield "prompts seen", told
    seconds = train_seconds(stage)
    if seconds is not None:
        yield "time in training", duration(seconds)
    speed = _mean(stage, "tokens_per_second")
    if speed is not None:
        yield "tokens generated a second", figure(round(speed, 1))
    kept = stage.info.get("keep")
    if isinstance(kept, Mapping) and kept.get("verdict"):
        yield "what was kept", str(kept["verdict"])
    told = noise_sentence(stage)
    if told:
        yield "noise of the gradient", told
    changed = stage.info.get("rewards_changed")
    if isinstance(changed, list) and changed:
        yield "reward not as published or as it comes", "; ".join(clipped(c, 200) for c in changed)
    judge = stage.info.get("judge")
    yield from judge_facts(judge, judge if isinstance(judge, Mapping) else None)
    yield from unscored_facts(stage.info.get("unscored"))
    short = num(stage.info.get("short_batches"))
    if short:
        yield "batches used short of full groups", f"{count(short)}: the limit of generation batches was reached"


def _column(stage: StageRun, name: str) -> list[float]:
    return [v for v in (num(r.get(name)) for r in stage.metrics) if v is not None]


def _mean(stage: StageRun, name: str) -> float | None:
    values = _column(stage, name)
    return float(np.mean(values)) if values else None


def _total(stage: StageRun, name: str) -> float | None:
    """Sum over all optimiser steps: a logged row is the mean over the steps since the row before."""
    total, before, found = 0.0, 0.0, False
    for row in sorted(stage.metrics, key=lambda r: num(r.get("step")) or 0.0):
        value, step = num(row.get(name)), num(row.get("step"))
        if value is not None and step is not None and step > before:
            total, before, found = total + value * (step - before), step, True
    return total if found else None


def prompts_seen(stage: StageRun) -> float | None:
    """Prompts that a stage has seen: as logged, else from its settings (samples of all optimiser steps)."""
    logged = _column(stage, "prompts_seen")
    if logged:
        return max(logged)
    settings, steps = stage.info.get("settings"), num(stage.info.get("num_steps"))
    if not isinstance(settings, Mapping) or steps is None:
        return None
    batch = (num(settings.get("batch_size")) or 0.0) * (num(settings.get("gradient_accumulation")) or 1.0)
    group = num(settings.get("num_generations")) or 1.0 if stage.kind == "rl" else 1.0
    return steps * batch / group if batch else None


def noise_sentence(stage: StageRun) -> str:
    """The noise scale over all measurements of a stage (sum of tr(S) over sum of |G|^2), in words; "" without any."""
    rows = [r for r in stage.metrics if num(r.get("gradient_noise")) is not None]
    noise, signal = (sum(num(r.get(k)) or 0.0 for r in rows) for k in ("gradient_noise", "gradient_signal"))
    if not rows:
        return ""
    found = stage.info.get("settings")
    settings = found if isinstance(found, Mapping) else {}
    group, batch = num(settings.get("num_generations")), num(settings.get("batch_size"))
    tail = f" ({plural(len(rows), 'measurement')}" + (
        f"; a step takes {count(batch / group)})" if group and batch else ")"
    )
    if signal <= 0:
        return f"no gradient is seen above the noise{tail}"
    return f"simple noise scale {figure(round(noise / signal, 1))} prompts{tail}"


def train_seconds(stage: StageRun) -> float | None:
    """Seconds in training, without loading, saving at the end and held-out questions; None where not logged."""
    rows = [with_train_seconds(r) for r in stage.metrics]
    asked = max(_column(stage, "valid_seconds"), default=0.0)
    seconds = [v for v in (num(r.get("seconds")) for r in rows) if v is not None]
    return max(0.0, max(seconds) - asked) if seconds else None


def figures_table(rows: Sequence[Mapping[str, Any]], terms: Sequence[str] = ()) -> list[dict[str, str]]:
    """First and last fifth of the stage (means), lowest and highest, for every figure that was logged."""
    names = dict(FIGURES)
    for term in terms:
        names[f"reward/{term}"] = (f"reward term {term}", False)
        names[f"reward/{term}/unscored"] = (f"completions without a score of {term}", True)
    for key in dict.fromkeys(k for row in rows for k in row if k.startswith("reward_of/")):
        names[key] = (f"reward of the source {key.removeprefix('reward_of/')}", False)
    ordered = ["reward", *(k for k in names if k.startswith(("reward/", "reward_of/"))), *FIGURES]
    table = []
    for name in dict.fromkeys(ordered):
        values = [v for v in (num(r.get(name)) for r in rows) if v is not None]
        if not values or (name.endswith("/unscored") and not any(values)):
            continue
        words, is_share = names[name]
        fifth = max(1, len(values) // 5)
        shown = [float(np.mean(values[:fifth])), float(np.mean(values[-fifth:])), min(values), max(values)]
        cells = [percent(v) if is_share else _short(v) for v in shown]
        table.append({"name": words, **dict(zip(("first", "last", "low", "high"), cells, strict=True))})
    return table


def _short(value: float) -> str:
    return figure(round(value, 1)) if abs(value) >= 100 else figure(value)


def checks(stage: StageRun) -> Iterator[dict[str, Any]]:
    """What was measured before the first step, as stage.json has it under `checks`."""
    extra = stage.info.get("extra")
    found = stage.info.get("checks") or (extra.get("checks") if isinstance(extra, Mapping) else None)
    if not isinstance(found, Mapping):
        return
    for name, value in found.items():
        figures = value if isinstance(value, Mapping) else {"value": value}
        yield {
            "name": str(name).replace("_", " "),
            "figures": [(str(k).replace("_", " "), _of_check(v)) for k, v in figures.items()],
        }


def _of_check(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    number = num(value)
    if number is not None:
        return count(number) if number == int(number) and abs(number) >= 1 else f"{number:.3g}"
    return str(value)[:_NOT_NUMBERS]


def collapse_of(stage: StageRun) -> str:
    """What collapse.json says, in words; "" without one."""
    found = stage.info.get("collapse")
    if not isinstance(found, Mapping):
        return ""
    seen = found.get("seen")
    told = "; ".join(map(str, seen)) if isinstance(seen, list) else "not recorded"
    good = found.get("last_good")
    steps = num(found.get("last_good_step")) or 0
    last = f"stages/{stage.name}/{good}, after {plural(round(steps), 'step')}" if steps else "the one it started from"
    return f"{told}, in every step from {found.get('since')} to {found.get('step')}. Last good checkpoint: {last}"
