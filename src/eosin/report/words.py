"""The result in words, and the warnings. Every sentence is made from figures of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eosin.report.drawing.numbers import (
    count,
    duration,
    figure,
    num,
    pair,
    percent,
    percent_with_interval,
    plural,
    points_with_interval,
)
from eosin.report.records.load import BASE, ExamRun, Run, StageRun
from eosin.report.records.splits import leaks
from eosin.report.records.stats import Change, chance_level, lower_end, paired_change
from eosin.report.sections.baselines import baseline_verdict, baseline_words
from eosin.report.sections.rl import collapse_of

KINDS = {
    "warmup": "warm-up of the tower by classification",
    "pretrain": "continued pretraining on image-caption pairs",
    "sft": "supervised fine-tuning on reasoning chains",
    "rl": "reinforcement learning on sampled replies",
    "clip": "contrastive training of an image and a text tower",
}
PROBES = {
    "blank": ("Blank image", "the image is replaced by a blank one"),
    "swapped": ("Swapped image", "the image of a case of another class; the right answer stays that of the question"),
    "question_only": ("Question only", "no image at all"),
    "options_shuffled": ("Options shuffled", "the same image, the options in another order"),
    "noise": ("Noise image", "the image is replaced by noise"),
    "wrong_organ": (
        "Another organ",
        "the image of another organ; the right answer stays that of the question",
    ),
    "cut_reasoning": ("Reasoning cut short", "the reply's own reasoning, its first half only, given back"),
    "corrupted_step": ("A step corrupted", "the reply's own reasoning, naming another option, given back"),
    "other_reasoning": ("Another item's reasoning", "the reasoning of another item, given as the model's own"),
}
NOT_BLIND = ("options_shuffled", "cut_reasoning", "corrupted_step", "other_reasoning")
"""Probes that show the image: accuracy above chance is nothing to warn of."""
MAX_UNPARSED, MAX_TRUNCATED, MAX_STARVED, MAX_FLAT_GROUPS = 0.01, 0.05, 0.2, 0.5
MIN_QUESTIONS, MIN_CLUSTERS = 100, 20


def stage_title(name: str) -> str:
    """How a checkpoint is called in tables and charts."""
    return "before training" if name == BASE else f"after {name}"


def chance_of(exam: ExamRun) -> float | None:
    """Accuracy of blind guessing in an exam, as the exam recorded it or from its options."""
    recorded = num(exam.summary.get("chance"))
    return recorded if recorded is not None else chance_level(exam.rows, _labels(exam))


def _labels(exam: ExamRun) -> list[Any]:
    labels = exam.summary.get("labels")
    return labels if isinstance(labels, list) else []


def what_was_trained(run: Run) -> str:
    """One sentence on the stages that ran."""
    done = [s for s in run.stages if s.state == "complete"]
    if not done:
        return "No stage of training is complete."
    told = []
    for stage in done:
        steps = num(stage.info.get("num_steps"))
        facts = ([plural(round(steps), "step")] if steps is not None else []) + (
            [duration(stage.info["seconds"])] if num(stage.info.get("seconds")) is not None else []
        )
        facts = [str(stage.info["algorithm"]), *facts] if stage.info.get("algorithm") else facts
        words = KINDS.get(stage.kind, stage.kind)
        told.append(f"{stage.name} ({', '.join([words, *facts])})")
    return f"{plural(len(done), 'stage')} of training ran: {'; '.join(told)}."


def accuracy_sentences(run: Run, exam: str) -> list[str]:
    """Accuracy before and after each stage, the paired change of the last, and the baselines."""
    runs = run.of_exam(exam)
    if not runs:
        return []
    last = runs[-1]
    steps = [
        f"{percent_with_interval(e.summary.get('accuracy'), e.summary.get('ci95'))} {stage_title(e.stage)}"
        for e in runs
    ]
    sentences = [f"Accuracy in the exam \u201c{exam}\u201d ({_size(last)}): {', '.join(steps)}."]
    balanced = num(last.summary.get("balanced_accuracy"))
    if balanced is not None:
        shown = percent_with_interval(balanced, last.summary.get("balanced_ci95"))
        sentences.append(f"Balanced accuracy {stage_title(last.stage)}: {shown}.")
    sentences += [_change_sentence(run, last)] if change_of(run, last) else []
    sentences += _baseline_sentence(run, last)
    return sentences


def _size(exam: ExamRun) -> str:
    n, clusters = num(exam.summary.get("n")), num(exam.summary.get("num_clusters"))
    size = "size not recorded" if n is None else plural(round(n), "question")
    unit = str(exam.summary.get("cluster") or "case")
    return size if clusters is None else f"{size} of {plural(round(clusters), unit)}"


def change_of(run: Run, exam: ExamRun) -> Change | None:
    """Paired change of an exam against the checkpoint that its stage started from."""
    before = run.exam_before(exam)
    return None if before is None else paired_change(before.rows, exam.rows)


def entity_change_of(run: Run, exam: ExamRun) -> Change | None:
    """Paired change of entity F1 against the checkpoint that the stage started from; None without gold entities."""
    before = run.exam_before(exam)
    return None if before is None else paired_change(before.rows, exam.rows, column="entity_f1")


def _change_sentence(run: Run, exam: ExamRun) -> str:
    change, before = change_of(run, exam), run.exam_before(exam)
    assert change is not None and before is not None
    verdict = "a gain" if change.is_better else "a loss" if change.is_worse else "no clear difference"
    shown = points_with_interval(change.difference, (change.lo, change.hi))
    return f"Change from {before.stage} to {exam.stage}, in points on the same questions: {shown}, {verdict}."


def _baseline_sentence(run: Run, exam: ExamRun) -> list[str]:
    baselines = _baselines(run, exam.name)
    told = [baseline_words(name, b) for name, b in baselines.items()]
    chance = chance_of(exam)
    told += [f"chance {percent(chance)}"] if chance is not None else []
    parts = [] if baselines else ["No baseline was recorded for this exam."]
    parts += [f"For comparison: {', '.join(told)}."] if told else []
    return [" ".join(parts)] if parts else []


def _baselines(run: Run, exam: str) -> dict[str, Mapping[str, Any]]:
    return {k: v for k, v in run.baselines.get(exam, {}).items() if isinstance(v, Mapping)}


def probe_figures(exam: ExamRun) -> dict[str, dict[str, Any]]:
    """Probes of an exam; a probe that was recorded as a bare accuracy becomes an object."""
    found = exam.summary.get("probes")
    if not isinstance(found, Mapping):
        return {}
    probes: dict[str, dict[str, Any]] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            probes[str(name)] = dict(value)
        elif num(value) is not None:
            probes[str(name)] = {"accuracy": value, "n": exam.summary.get("n")}
    return probes


def blind_level(run: Run, exam: ExamRun) -> float | None:
    """The best that a blind guesser can do: the higher of chance and the majority class."""
    majority = num(_baselines(run, exam.name).get("majority", {}).get("accuracy"))
    levels = [v for v in (chance_of(exam), majority) if v is not None]
    return max(levels, default=None)


def probe_sentence(run: Run, exam: ExamRun) -> str:
    """Whether the model looks at the image, from the probes."""
    probes = probe_figures(exam)
    level = blind_level(run, exam)
    told = [
        f"{PROBES.get(k, (k, ''))[0].lower()} {percent_with_interval(v.get('accuracy'), v.get('ci95'))}"
        for k, v in probes.items()
    ]
    if not told:
        return "Whether the model looks at the image is not known: no probe was run."
    verdict = _verdict(exam, [probes[k] for k in ("blank", "question_only") if k in probes], level)
    verdict += _paired_verdict(exam)
    return f"Does the model look at the image? Accuracy with {', '.join(told)}. {verdict}"


def _verdict(exam: ExamRun, blind: list[dict[str, Any]], level: float | None) -> str:
    """What the probes without an image say. "Come from the image" needs intervals that do not overlap."""
    if level is None or not blind:
        return "No level of blind guessing is known to compare with."
    if any(is_above(p, level) for p in blind):
        return f"Part of the accuracy does not come from the image: blind guessing gives {percent(level)}."
    floor = lower_end(exam.summary) or 0.0
    tops = [(pair(p.get("ci95")) or (0.0, num(p.get("accuracy")) or 0.0))[1] for p in blind]
    told = f"Without the image the model is not above blind guessing ({percent(level)})"
    if floor > max(*tops, level):
        return f"{told}, with it beyond both intervals: its answers come from the image."
    return f"{told}, and with it not beyond the intervals: it is not shown that its answers come from the image."


def _paired_verdict(exam: ExamRun) -> str:
    """What the exam found by comparing each question with its own blank and swapped version."""
    looks = exam.summary.get("looks_at_image")
    if not isinstance(looks, bool):
        return ""
    found = "is better than" if looks else "is not shown to be better than"
    return f" Question by question, the exam {found} the probes without the right image."


def is_above(exam: Mapping[str, Any], level: float | None) -> bool:
    """Whether an accuracy is above a level beyond its 95 % interval."""
    floor = lower_end(exam)
    return floor is not None and level is not None and floor > level + 1e-9


def form_sentence(exam: ExamRun) -> str:
    """How many replies could not be read, and how many hit the length cap."""
    unparsed, truncated = (num(exam.summary.get(k)) for k in ("unparsed_rate", "truncated_rate"))
    if unparsed is None:
        return "The rate of unparsed replies was not recorded."
    tail = "" if truncated is None else f"; {percent(truncated)} hit the length cap"
    return f"{percent(unparsed)} of the replies did not obey the reply grammar and count as wrong{tail}."


def result(run: Run) -> list[str]:
    """The short result, a sentence or two a line. Whether the model beats its baselines comes first."""
    last = run.result_exam
    verdict = "" if last is None else baseline_verdict(last.summary)
    sentences = [*([verdict] if verdict else []), what_was_trained(run)]
    if last is None:
        return [*sentences, "No exam is on disk, so nothing is known about accuracy."]
    return [*sentences, *accuracy_sentences(run, last.name), probe_sentence(run, last), form_sentence(last)]


def warnings(run: Run) -> list[str]:
    """Everything that is off, in words."""
    found: list[str] = []
    if run.state != "complete":
        found.append(f"This run is {run.state}: what is shown below is what was on disk when the page was made.")
    found += leaks(run.splits)
    for stage in run.stages:
        found += _stage_warnings(stage)
    for exam in run.exams:
        found += _change_warning(run, exam)
    for name in run.exam_names:
        if runs := run.of_exam(name):
            found += _exam_warnings(run, runs[-1])
    return found


def _stage_warnings(stage: StageRun) -> list[str]:
    if stage.state == "failed":
        why = f": {stage.info['error']}" if stage.info.get("error") else ""
        return [f"Stage {stage.name} failed{why}."]
    if stage.state == "collapsed":
        return [f"Stage {stage.name} was stopped because its policy had collapsed: {collapse_of(stage)}."]
    if stage.state == "unfinished":
        return [f"Stage {stage.name} was started but has no whole checkpoint."]
    if stage.state == "planned":
        return [f"Stage {stage.name} is in the recipe but has not run."]
    found = []
    shares = step_shares(stage)
    if shares.get("data", 0) >= MAX_STARVED:
        found.append(f"Data takes {percent(shares['data'], 0)} of the step in {stage.name}: it holds training back.")
    flat = [v for v in (num(r.get("frac_zero_std")) for r in stage.metrics) if v is not None]
    if flat and sum(flat) / len(flat) > MAX_FLAT_GROUPS and not _replaces_groups(stage):
        found.append(
            f"In {stage.name}, {percent(sum(flat) / len(flat), 0)} of the groups had no spread of reward "
            "and taught nothing."
        )
    return found + _overfit_warning(stage)


def _replaces_groups(stage: StageRun) -> bool:
    """Whether groups without variance gave way to fresh prompts (dynamic sampling)."""
    return any(num(r.get("groups_dropped")) for r in stage.metrics)


def _overfit_warning(stage: StageRun) -> list[str]:
    losses = [v for v in (num(r.get("eval_loss")) for r in stage.metrics) if v is not None]
    if len(losses) >= 3 and losses[-1] > 1.05 * min(losses) > 0:
        return [
            f"In {stage.name} the loss on validation samples rose again from {figure(min(losses))} "
            f"to {figure(losses[-1])}: the stage overfits."
        ]
    return []


def _change_warning(run: Run, exam: ExamRun) -> list[str]:
    change, before = change_of(run, exam), run.exam_before(exam)
    if change is not None and before is not None:
        if not change.is_worse:
            return []
        size = f"{points_with_interval(change.difference, (change.lo, change.hi))} points"
    else:
        now, then = pair(exam.summary.get("ci95")), pair(before.summary.get("ci95")) if before else None
        if now is None or then is None or now[1] >= then[0]:
            return []
        size = "the intervals do not overlap"
    after = before.stage if before else BASE
    return [f"{exam.stage} is worse than {after} in the exam \u201c{exam.name}\u201d: {size}."]


def _exam_warnings(run: Run, exam: ExamRun) -> list[str]:
    where = f"{stage_title(exam.stage)}, exam \u201c{exam.name}\u201d"
    found = []
    level = blind_level(run, exam)
    for name, probe in probe_figures(exam).items():
        if name in ("blank", "question_only", "swapped") and is_above(probe, level):
            shown = percent_with_interval(probe.get("accuracy"), probe.get("ci95"))
            found.append(
                f"{PROBES[name][0]}: accuracy {shown} is above blind guessing ({percent(level)}) {where}. "
                "The questions give something away."
            )
    for key, limit, words in (
        ("unparsed_rate", MAX_UNPARSED, "of the replies did not obey the reply grammar"),
        ("truncated_rate", MAX_TRUNCATED, "of the replies hit the length cap"),
    ):
        value = num(exam.summary.get(key))
        if value is not None and value > limit:
            found.append(f"{percent(value)} {words} {where}.")
    aside = num(exam.summary.get("num_set_aside"))
    if aside:
        found.append(f"{plural(round(aside), 'item')} without a usable image were set aside {where}.")
    n, clusters = num(exam.summary.get("n")), num(exam.summary.get("num_clusters"))
    if n is not None and n < MIN_QUESTIONS:
        found.append(f"The exam \u201c{exam.name}\u201d is small: {plural(round(n), 'question')}.")
    elif isinstance(exam.summary.get("interval_warning"), str):
        found.append(f"The interval {where}: {exam.summary['interval_warning']}.")
    elif clusters is not None and clusters < MIN_CLUSTERS:
        unit = str(exam.summary.get("cluster") or "case")
        found.append(
            f"The exam \u201c{exam.name}\u201d has {plural(round(clusters), unit)} only: "
            "an interval from so few is rough."
        )
    if run.split_of(exam.name) == "train":
        found.append(f"The exam \u201c{exam.name}\u201d uses training samples: it says nothing about new images.")
    return found


def step_shares(stage: StageRun) -> dict[str, float]:
    """Share of each part in the time of a step; {} where it was not measured."""
    times = stage.info.get("step_time")
    if not isinstance(times, Mapping):
        return {}
    seconds = {str(k): v for k, v in ((k, num(t)) for k, t in times.items()) if v is not None and v >= 0}
    total = sum(seconds.values())
    return {k: v / total for k, v in seconds.items()} if total > 0 else {}


def starve_sentence(run: Run) -> str:
    """Whether data starves the step, stage by stage."""
    shares = {s.name: step_shares(s) for s in run.stages}
    known = {k: v["data"] for k, v in shares.items() if "data" in v}
    if not known:
        return "No stage recorded how the time of a step is split."
    told = ", ".join(f"{percent(v)} in {k}" for k, v in known.items())
    worst = max(known, key=lambda k: known[k])
    if known[worst] < 0.1:
        verdict = "Data does not starve the step."
    elif known[worst] < MAX_STARVED:
        verdict = f"Data costs some time in {worst}, but does not starve the step."
    else:
        verdict = f"Data starves the step in {worst}: raise num_workers or image_cache_gib of that stage."
    return f"Reading and preparing data takes {told}. {verdict}"


def split_rule(run: Run) -> str:
    """By what unit the splits are made, and whether the files on disk keep to it."""
    unit = str(run.card.get("split_unit") or "")
    if not unit:
        return "The unit by which the splits are made was not recorded."
    if leaks(run.splits):
        return f"Splits are meant to be made by {unit}, but some stand in two of them: see the warnings."
    if len([s for s in run.splits if s.groups]) < 2:
        return f"Splits are made by {unit}, as the card says; it could not be checked here."
    return f"Splits are made by {unit}: no {unit} stands in two of them (checked in the files)."


def counted(card: Mapping[str, Any], sizes: Mapping[str, Any]) -> str:
    """Sizes of the splits, and how many samples were dropped, in one sentence."""
    told = [
        f"{count(sizes[k])} {w}"
        for k, w in (("train", "for training"), ("valid", "for validation"), ("test", "held out"))
        if num(sizes.get(k)) is not None
    ]
    if not told:
        return "The sizes of the splits were not recorded."
    counts = card.get("counts")
    dropped = num(counts.get("dropped")) if isinstance(counts, Mapping) else None
    told += [] if dropped is None else [f"{count(dropped)} dropped"]
    return f"Samples: {', '.join(told)}."
