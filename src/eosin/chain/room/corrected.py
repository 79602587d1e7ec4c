"""Signed corrections as a source of a run: never of a slide that is examined, each with the run's weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.prompt import REJECTED
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.core.settings.curation.corrections import CorrectionsSettings

WEIGHT = "weight"
"""Key of `Sample.extra`: how often a training sample is shown for once of another."""
STEP = "corrections"


@dataclass(frozen=True)
class Corrected:
    """What corrections give a run. `facts` stand in the data card, and in the report."""

    samples: list[Sample]
    dropped: tuple[Dropped, ...]
    facts: dict[str, Any]


def read_corrections(settings: CorrectionsSettings, samples: Sequence[Sample]) -> Corrected:
    """Samples of the signed corrections for the train split.

    What is of a slide in the run's valid or test split, or of another slide of such a case, is set aside, and so is
    what shows a file that is gone.

    Raises:
        EosinError: no store, or no signed correction in it.
    """
    from eosin.serve.corrections.samples import samples_of
    from eosin.serve.corrections.store import CorrectionStore, without_password

    if "://" not in settings.path and not Path(settings.path).is_file():
        raise EosinError("There is no store of corrections.", where=settings.path,
                         next_step="corrections are made in the page of: eosin serve RUN")  # fmt: skip
    store = CorrectionStore(settings.path)
    try:
        found = samples_of(store, settings.readers)
        versions = store.signed(settings.readers)
    finally:
        store.close()
    asked = [s for s in samples if s.split in ("valid", "test")]
    examined, cases = _slides_of(asked), {c for s in asked for c in (s.origin.case, s.origin.patient) if c}
    kept: list[Sample] = []
    dropped = list(found.dropped)
    for sample in found.kept:
        if why := _unfit(sample, examined, cases):
            dropped.append(Dropped(sample.id, why, str(sample.origin.slide or ""), STEP))
        else:
            kept.append(sample.model_copy(update={"extra": {**sample.extra, WEIGHT: settings.weight}}))
    if not kept:
        reasons = dict(Counter(d.reason for d in dropped))
        raise EosinError(
            "No correction can be learned from.", found=f"{len(versions)} signed; set aside: {reasons}",
            where=without_password(settings.path), next_step="sign corrections of training slides, or leave them out",
        )  # fmt: skip
    return Corrected(kept, tuple(dropped), {
        "n": len(kept), "pairs": sum(REJECTED in s.extra for s in kept), "weight": settings.weight,
        "readers": dict(Counter(str(s.extra["reader"]) for s in kept)), "set_aside": len(dropped),
        "reasons": dict(Counter(d.reason for d in dropped)),
    })  # fmt: skip


def _unfit(sample: Sample, examined: set[str], cases: set[str]) -> str | None:
    if examined & _slides_of([sample]):
        return "a slide of the valid or test split"
    if sample.origin.case in cases:
        return "a case of the valid or test split"
    if not all(Path(getattr(ref, "path", "")).is_file() for ref in sample.images):
        return "the slide or its features are gone"
    return None


def _slides_of(samples: Sequence[Sample]) -> set[str]:
    """What tells slides apart: names that samples state, and stems of their files."""
    from eosin.serve.corrections.samples import slide_of

    found = {s.origin.slide for s in samples if s.origin.slide}
    found |= {slide_of(ref) for s in samples for ref in s.images if getattr(ref, "path", None)}
    found |= {Path(ref.path).stem for s in samples for ref in s.images if isinstance(ref, SlideBag)}
    return {str(name) for name in found}


def told(facts: Mapping[str, Any]) -> str:
    """The corrections of a run in one sentence, for its report."""
    who = ", ".join(f"{name} {n}" for name, n in facts["readers"].items())
    text = f"{facts['n']} corrected readings ({who}), {facts['pairs']} of them with the reply that was put right"
    aside = "; ".join(f"{n} {reason}" for reason, n in facts["reasons"].items())
    return f"{text}; each shown {facts['weight']:g} times" + (f"; set aside: {aside}" if aside else "")
