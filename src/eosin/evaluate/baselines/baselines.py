"""What an exam can be passed with, without a language model: fitted on the train split, asked the exam's items.

Which baselines there are, which of them an exam gets, and the running of them; docs/baselines.md says how to read them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eosin.core.draw import subset
from eosin.core.images import RegionReader
from eosin.core.nouns.classes import Classes
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.cache import Cache
from eosin.evaluate.baselines.features import Features
from eosin.evaluate.baselines.linear import chosen_penalty, fixed_penalty, forest
from eosin.evaluate.baselines.nearest import nearest_caption, nearest_image
from eosin.evaluate.baselines.problem import NotPossibleError, Problem, Result, Said, answer_by_kind, result_of
from eosin.evaluate.baselines.text import majority, text_only
from eosin.evaluate.exam.items import check_samples

Tell = Callable[[str], None]
_SECONDS_BETWEEN = 10.0
_WITH_TEXTURE = {"colour_texture", "nearest_image", "nearest_caption"}


def _attention(problem: Problem, features: Features) -> Said:
    from eosin.evaluate.baselines.attention import attention_mil

    return answer_by_kind(problem, features.patches, attention_mil)


@dataclass(frozen=True)
class Baseline:
    """One baseline: what it sees ("text", "pictures", "slides", "images": both), and how it answers."""

    sees: str
    answer: Callable[[Problem, Features], Said]


BASELINES: dict[str, Baseline] = {
    "majority": Baseline("text", lambda p, f: majority(p)),
    "text_only": Baseline("text", lambda p, f: text_only(p)),
    "colour_histogram": Baseline("pictures", lambda p, f: answer_by_kind(p, f.colour, fixed_penalty)),
    "colour_forest": Baseline("pictures", lambda p, f: answer_by_kind(p, f.colour, forest)),
    "colour_texture": Baseline("pictures", lambda p, f: answer_by_kind(p, f.texture, chosen_penalty)),
    "mean_features": Baseline("slides", lambda p, f: answer_by_kind(p, f.mean, chosen_penalty)),
    "feature_extremes": Baseline("slides", lambda p, f: answer_by_kind(p, f.extremes, chosen_penalty)),
    "attention_mil": Baseline("slides", _attention),
    "nearest_image": Baseline("images", nearest_image),
    "nearest_caption": Baseline("images", nearest_caption),
}
_ABSENT = {
    "pictures": "the exam shows no pictures: slides that are shown as patch features have no pixels",
    "slides": "the exam shows no slides as patch features",
    "images": "the exam shows no images",
}


@dataclass
class Results:
    """What the baselines of one exam came to: figures by name, and by name whether each item was right."""

    figures: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: dict[str, Mapping[str, bool]] = field(default_factory=dict)


def wanted(asked: Sequence[Sample], train: Sequence[Sample], settings: ExamSettings) -> list[str]:
    """Names of the baselines that an exam gets: those that its settings name; with "auto" all that fit its items."""
    if settings.baselines == "none":
        return []
    if settings.baselines != "auto":
        return list(settings.baselines)
    shown = _shown(asked)
    names = [n for n, b in BASELINES.items() if b.sees in shown]
    return [n for n in names if n != "nearest_caption" or any(s.caption for s in train)]


def _shown(asked: Sequence[Sample]) -> set[str]:
    refs = [isinstance(ref, SlideBag) for s in asked for ref in s.images]
    shown = {"text"} | ({"images"} if refs else set())
    return shown | ({"slides"} if any(refs) else set()) | ({"pictures"} if not all(refs) else set())


class BaselineRunner:
    """Baselines of the exams of one run. Pictures are read once, and what is in the cache is not computed again.

    Args:
        train: samples to fit on; those without an answer are left out.
        valid: samples that attention MIL stops early on.
        cache: folder of what was computed; None keeps nothing.
        tell: is given a line as each baseline is done, and now and then while images are read.
    """

    def __init__(
        self, train: Sequence[Sample], valid: Sequence[Sample] = (), *, read_region: RegionReader | None = None,
        cache: Path | None = None, tell: Tell | None = None,
    ) -> None:  # fmt: skip
        self._train = [s for s in train if s.answer is not None and s.answer.strip()]
        self._valid = [s for s in valid if s.answer is not None and s.answer.strip()]
        self._read_region = read_region
        self._cache = Cache(cache)
        self._tell = tell
        self._features: Features | None = None
        self._texture = False
        self._told = time.monotonic()

    def of(self, test: Sequence[Sample], settings: ExamSettings) -> Results:
        """The baselines on the items that the exam with these settings asks.

        Args:
            test: the exam's samples, as given to `run_exam`.
        """
        check_samples(test)
        asked = subset(test, settings.max_samples, settings.seed)
        train = subset(self._train, settings.baseline_train, settings.seed)
        valid = [] if settings.split == "valid" else subset(self._valid, settings.baseline_train, settings.seed)
        results = Results()
        names = wanted(asked, train, settings)
        why = _why_none(train, settings)
        key = "" if why or not names else self._cache.key(train, valid, asked, settings)
        self._texture = not _WITH_TEXTURE.isdisjoint(names)
        for name in names:
            found = None if why else self._cache.read(name, key)
            if found is None:
                found = _none(why) if why else self._compute(name, train, valid, asked, settings)
                if not why:
                    self._cache.write(name, key, found)
            results.figures[name] = found.figures
            if found.rows:
                results.rows[name] = found.rows
        return results

    def _compute(
        self, name: str, train: list[Sample], valid: list[Sample], asked: list[Sample], settings: ExamSettings
    ) -> Result:
        started = time.perf_counter()
        features = self._of_all(train, valid, asked, settings.seed)
        usable = [s for s in asked if features.usable(s)]
        problem = Problem(train, valid, asked, usable, Classes.of(asked), settings)
        try:
            if BASELINES[name].sees not in _shown(asked):
                raise NotPossibleError(_ABSENT[BASELINES[name].sees])
            found = result_of(BASELINES[name].answer(problem, features), problem)
        except NotPossibleError as exc:
            found = _none(str(exc))
        self._say(f"baseline {name}: {_in_words(found.figures)}, {time.perf_counter() - started:.1f} s")
        return found

    def _of_all(self, train: list[Sample], valid: list[Sample], asked: list[Sample], seed: int) -> Features:
        if self._features is None:
            slides = {ref.path for s in (*train, *valid, *asked) for ref in s.images if isinstance(ref, SlideBag)}
            self._features = Features(self._read_region, num_slides=len(slides), seed=seed, progress=self._reading)
        self._features.with_texture |= self._texture
        return self._features

    def _reading(self, num: int) -> None:
        if time.monotonic() - self._told > _SECONDS_BETWEEN:
            self._say(f"baselines: {num} images or slides read")

    def _say(self, line: str) -> None:
        self._told = time.monotonic()
        if self._tell is not None:
            self._tell(line)


def _why_none(train: Sequence[Sample], settings: ExamSettings) -> str:
    if settings.split == "train":
        return "the exam asks the samples that a baseline would be fitted on"
    return "" if train else "no training samples with an answer"


def _none(reason: str) -> Result:
    return Result({"n": 0, "reason": reason})


def _in_words(figures: Mapping[str, Any]) -> str:
    if not figures["n"]:
        return f"none ({figures['reason']})"
    balanced = figures["balanced_accuracy"] is not None
    share = figures["balanced_accuracy" if balanced else "accuracy"]
    ends = figures["balanced_ci95" if balanced else "ci95"]
    shown = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""
    return f"{'balanced ' if balanced else ''}accuracy {share:.3f}{shown}, n {figures['n']}"


def run_baselines(
    train: Sequence[Sample],
    test: Sequence[Sample],
    settings: ExamSettings,
    *,
    valid: Sequence[Sample] = (),
    read_region: RegionReader | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Figures of the baselines of one exam by name; see `BaselineRunner`.

    Returns:
        Figures as in an exam's summary with "num_train" and "num_set_aside" (items whose images cannot be used), or
        {"n": 0, "reason": why there are none}.
    """
    return BaselineRunner(train, valid, read_region=read_region).of(test, settings).figures
