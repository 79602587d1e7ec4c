"""Does the model look? Probes that take the image away, exchange it, or move the options.

Every probe asks items of the exam again, and is compared with the exam on the same items.

- blank: every image becomes a mid-grey image of its size. A model that looks falls to chance.
- noise: every image becomes noise of its size.
- swapped: the image of another sample, of another class and another case; the gold answer stays the asked
  item's. A model that looks is wrong, and its answer follows the image shown.
- wrong_organ: the same, with an image of another organ, where the samples name theirs.
- question_only: the images are taken out of the prompt. What is right now, the text gives away.
- options_shuffled: each option moves one place on, the last to the first place. A model that reads the
  options says the same words as before.
- cut_reasoning, corrupted_step, other_reasoning: the model's own reasoning is altered and given back, and it answers
  from there (`probes.reasoning`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.core.nouns.classes import Classes, normalised
from eosin.core.nouns.sample import Sample, make_choices
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.exam.evaluator import Evaluator, Instance
from eosin.evaluate.exam.items import choose_balanced, group_of
from eosin.evaluate.exam.scores import score_rows
from eosin.evaluate.probes.reasoning import REASONING_PROBES, reasoning_figures, reasoning_instances
from eosin.evaluate.statistics.intervals import Metric, paired_difference

LOOKING_PROBES = ("blank", "swapped")


def shift_options(sample: Sample) -> Sample:
    """The sample with every option one place on, the last one first. The answer keeps its text."""
    texts = [c.text for c in sample.choices]
    choices = make_choices([texts[-1], *texts[:-1]])
    answer = next(c.letter for c in choices if c.text == sample.answer_text)
    return sample.model_copy(update={"choices": choices, "answer": answer})


def swap_donors(
    samples: Sequence[Sample], classes: Classes, seed: int, kind_of: Callable[[Sample], str] | None = None
) -> list[int | None]:
    """For each sample, which sample's images it is shown instead.

    A seeded permutation, mended by exchanges, in which donor and item differ in class and in case and show
    equally many images. Where no exchange mends an item, a donor is drawn a second time; where there is
    none, None.

    Args:
        kind_of: what they differ in instead of their class.
    """
    told = [normalised(kind_of(s) if kind_of is not None else classes.gold(s)) for s in samples]
    kinds = np.unique(told, return_inverse=True)[1]
    cases = np.unique([group_of(s) for s in samples], return_inverse=True)[1]
    counts = np.asarray([len(s.images) for s in samples])

    def fits(a: NDArray[np.int64] | int, b: NDArray[np.int64] | int) -> NDArray[np.bool_]:
        fit = (kinds[a] != kinds[b]) & (cases[a] != cases[b]) & (counts[a] == counts[b])
        return np.atleast_1d(np.asarray(fit, dtype=bool))

    rng = np.random.default_rng(seed)
    everyone = np.arange(len(samples))
    donor = rng.permutation(len(samples))
    for i in np.flatnonzero(~fits(everyone, donor)):
        if fits(int(i), int(donor[i]))[0]:
            continue
        partners = np.flatnonzero(fits(int(i), donor) & fits(everyone, int(donor[i])))
        if partners.size:
            j = rng.choice(partners)
            donor[i], donor[j] = donor[j], donor[i]
    chosen: list[int | None] = []
    for i in everyone:
        if fits(int(i), int(donor[i]))[0]:
            chosen.append(int(donor[i]))
            continue
        able = np.flatnonzero(fits(int(i), everyone))
        chosen.append(int(rng.choice(able)) if able.size else None)
    return chosen


def probe_instances(name: str, samples: Sequence[Sample], classes: Classes, seed: int) -> list[Instance]:
    """The instances of a probe over the samples that it can be made for; none is a reason to skip the probe."""
    if name == "options_shuffled":
        return [Instance.plain(shift_options(s)) for s in samples if len(s.choices) > 1]
    pictured = [s for s in samples if s.images]
    if name == "blank" or name == "noise":
        return [Instance(s, s.images, "blank" if name == "blank" else "noise") for s in pictured]
    if name == "question_only":
        return [Instance(s, (), "nothing") for s in pictured]
    if name == "wrong_organ":
        pictured = [s for s in pictured if s.origin.organ]
        donors = swap_donors(pictured, classes, seed, lambda s: str(s.origin.organ)) if pictured else []
    else:
        donors = swap_donors(pictured, classes, seed) if pictured else []
    instances = []
    for sample, donor in zip(pictured, donors, strict=True):
        if donor is not None:
            shown = pictured[donor]
            facts = {"image_of": shown.id, "image_label": classes.gold(shown)}
            instances.append(Instance(sample, shown.images, "image", facts))
    return instances


_WHY_SKIPPED = {
    "options_shuffled": "no item has options to move",
    "swapped": "no item has a partner of another class and another case",
    "wrong_organ": "no two items name different organs",
    **dict.fromkeys(REASONING_PROBES, "no reply has reasoning that can be altered in this way"),
}


def run_probes(
    evaluator: Evaluator, samples: Sequence[Sample], normal: Mapping[str, Mapping[str, Any]], settings: ExamSettings
) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Run the probes that the settings name.

    Args:
        samples: items whose images the exam could use.
        normal: the exam's rows by id.

    Returns:
        Summary of each probe, its rows, and the reason of each probe that could not be run.
    """
    chosen = choose_balanced(samples, evaluator.classes.gold, settings.probe_samples, settings.seed)
    summaries: dict[str, dict[str, Any]] = {}
    rows_of: dict[str, list[dict[str, Any]]] = {}
    skipped: dict[str, str] = {}
    for name in settings.probes:
        if name in REASONING_PROBES:
            instances = reasoning_instances(name, chosen, normal, evaluator.grammar, settings.seed)
        else:
            instances = probe_instances(name, chosen, evaluator.classes, settings.seed)
        rows = [r for r in evaluator.run(f"probe-{name}", instances) if "set_aside" not in r]
        if not rows:
            skipped[name] = _WHY_SKIPPED.get(name, "no item has an image")
            continue
        rows_of[name] = rows
        summaries[name] = _summary(name, rows, normal, evaluator.classes, settings)
    return summaries, rows_of, skipped


def _summary(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    normal: Mapping[str, Mapping[str, Any]],
    classes: Classes,
    settings: ExamSettings,
) -> dict[str, Any]:
    before = [normal[r["id"]] for r in rows]
    summary = score_rows(rows, classes, settings)
    same_items = score_rows(before, classes, settings)
    metric: Metric = "balanced_accuracy" if classes.labels else "accuracy"
    difference, interval = paired_difference(
        [r["correct"] for r in before], [r["correct"] for r in rows], [r["group"] for r in rows],
        [r["label"] for r in rows], metric=metric, resamples=settings.bootstrap, seed=settings.seed,
    )  # fmt: skip
    summary["exam_on_same_items"] = {k: same_items[k] for k in ("accuracy", "balanced_accuracy", "n")}
    summary["exam_minus_probe"] = {
        "metric": metric, "difference": difference, "ci95": interval.pair, "reason": interval.reason,
        "warning": interval.warning,
    }  # fmt: skip
    if name in ("swapped", "wrong_organ"):
        summary.update(_follows(rows, classes))
    if name in REASONING_PROBES:
        summary.update(reasoning_figures(rows, before, settings))
    if name == "options_shuffled":
        same = [_same_words(a, b) for a, b in zip(before, rows, strict=True)]
        summary["consistency"] = sum(same) / len(same)
    return summary


def _follows(rows: Sequence[Mapping[str, Any]], classes: Classes) -> dict[str, Any]:
    """How often the answer is the class of the image shown, over items that offer this class."""
    able = [r for r in rows if not r["choices"] or r["image_label"] in {classes.name(t) for t in r["choices"].values()}]
    follows = sum(r["predicted_label"] == r["image_label"] for r in able)
    return {"follows_image": follows / len(able) if able else None, "follows_image_n": len(able)}


def _same_words(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether both replies parsed and give the same option text."""
    if before["parsed"] is None or after["parsed"] is None:
        return False
    first, second = before["choices"][before["parsed"]], after["choices"][after["parsed"]]
    return bool(normalised(first) == normalised(second))


def looks_at_image(probes: Mapping[str, Mapping[str, Any]]) -> tuple[bool | None, str]:
    """Whether the model was shown to look at the image, with the reason.

    True if the exam is better than the blank probe and than the swapped probe on the same items: each
    paired 95 % interval of the difference lies above 0. False if one does not. None if neither probe ran,
    or cases are too few.
    """
    ran = [p for p in LOOKING_PROBES if p in probes]
    if not ran:
        return None, "neither the blank nor the swapped probe ran"
    parts: list[str] = []
    verdicts: list[bool] = []
    for name in ran:
        gap = probes[name]["exam_minus_probe"]
        if gap["ci95"] is None:
            return None, f"{name}: {gap['reason']}"
        lo, hi = gap["ci95"]
        verdicts.append(lo > 0)
        words = "below the exam" if lo > 0 else "not shown to be below the exam"
        figures = f"{gap['metric']} difference {gap['difference']:.3f}, 95 % {lo:.3f} to {hi:.3f}"
        parts.append(f"{name}: {words} ({figures})")
    return all(verdicts), "; ".join(parts)
