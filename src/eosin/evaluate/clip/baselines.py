"""What a zero-shot exam can be passed with without words: baselines fitted on the labels of training samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eosin.core.images import RegionReader
from eosin.core.nouns.classes import Classes
from eosin.core.nouns.sample import Sample, make_choices, user_prompt
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.baselines import BaselineRunner
from eosin.evaluate.baselines.verdict import against_baselines

MOST_CLASSES = 26


def beside_zero_shot(
    train: Sequence[Sample], asked: Sequence[Sample], rows: Sequence[Mapping[str, Any]], labels: Sequence[str], *,
    seed: int = 0, read_region: RegionReader | None = None, tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Baselines of a zero-shot exam, each sample's label as the answer to one question with the classes as options.

    Args:
        train: samples with labels to fit on. asked: those of the exam.
        rows: what zero-shot said of them (`ZeroShot.rows`). labels: the classes.

    Returns:
        {"baselines": figures by name, "against_baselines": zero-shot against the best of them}; empty without two
        classes to learn, and with more than 26.
    """
    known = [s for s in train if s.label in labels and s.images]
    if len({s.label for s in known}) < 2 or len(labels) > MOST_CLASSES:
        return {}
    names = sorted(labels)
    settings = ExamSettings(
        baselines=["majority", "colour_histogram", "colour_forest", "colour_texture", "nearest_image"], seed=seed
    )
    questions = [_asked(s, names) for s in asked]
    found = BaselineRunner([_asked(s, names) for s in known], read_region=read_region, tell=tell).of(
        questions, settings
    )
    return {
        "baselines": found.figures,
        "against_baselines": against_baselines(rows, found, Classes.of(questions), settings),
    }


def _asked(sample: Sample, names: list[str]) -> Sample:
    """A sample as a closed question about its first picture."""
    return sample.model_copy(
        update={
            "images": sample.images[:1], "messages": user_prompt("Which class is it?"), "choices": make_choices(names),
            "answer": chr(ord("A") + names.index(str(sample.label))),
        }
    )  # fmt: skip
