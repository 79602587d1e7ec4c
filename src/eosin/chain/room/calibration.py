"""From the option probabilities of an exam to a calibrated confidence, and to when the server abstains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store
from eosin.evaluate.statistics.calibration import risk_coverage

NAME = "options.jsonl"
MIN_ITEMS = 20


class Calibration:
    """Isotonic regression (Zadrozny and Elkan 2002) of "right" on the probability of the chosen option.

    It abstains below the lowest confidence from which on at most `max_risk` of the exam's answers were wrong. The
    exam's items and the slides asked about must be alike for this to mean anything.

    Args:
        probabilities, is_correct: of the exam's closed questions (N,).
        name: where they come from.
    """

    def __init__(self, probabilities: list[float], is_correct: list[bool], max_risk: float, name: str) -> None:
        from sklearn.isotonic import IsotonicRegression

        if len(probabilities) < MIN_ITEMS:
            raise EosinError("Too few answers to calibrate on.", expected=f"{MIN_ITEMS} or more closed questions",
                             found=str(len(probabilities)), where=name)  # fmt: skip
        self._fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(probabilities, is_correct)
        values = np.asarray(self._fit.predict(probabilities), dtype=float)
        self.name, self.max_risk, self.num = name, max_risk, len(values)
        self.threshold, self.coverage = _threshold(values, is_correct, max_risk)

    def of(self, probability: float) -> dict[str, Any]:
        """Confidence of one answer, and whether the server abstains from it."""
        value = float(self._fit.predict([probability])[0])
        return {
            "value": round(value, 4), "abstains": self.threshold is None or value < self.threshold,
            "threshold": self.threshold, "max_risk": self.max_risk, "coverage": self.coverage,
            "from": f"{self.name}, {self.num} answers",
        }  # fmt: skip


def _threshold(values: np.ndarray, is_correct: list[bool], max_risk: float) -> tuple[float | None, float]:
    """The lowest confidence whose answers and all surer ones are wrong in at most `max_risk`, and their share; None
    where even the surest are wrong more often."""
    levels = sorted(set(values.tolist()), reverse=True)
    best: tuple[float | None, float] = (None, 0.0)
    for level, (coverage, risk) in zip(levels, risk_coverage(values, is_correct), strict=True):
        if risk <= max_risk:
            best = (level, coverage)
    return best


def read_calibration(exam: Path, max_risk: float) -> Calibration:
    """The calibration of an exam that was held with --option-probabilities.

    Raises:
        EosinError: there are no option probabilities, or too few.
    """
    path = exam / NAME if exam.is_dir() else exam
    if not path.is_file():
        raise EosinError("This exam holds no probabilities of options.", expected=NAME, where=exam,
                         next_step="eosin evaluate CHECKPOINT SAMPLES --option-probabilities --out FOLDER")  # fmt: skip
    rows = store.read_jsonl(path)
    try:
        pairs = [(float(r["probabilities"][r["chosen"]]), bool(r["correct"])) for r in rows]
    except (KeyError, TypeError, ValueError) as exc:
        raise EosinError("This is no file of option probabilities.", found=f"{type(exc).__name__}: {exc}",
                         where=path) from exc  # fmt: skip
    return Calibration([p for p, _ in pairs], [c for _, c in pairs], max_risk, exam.name)
