"""RL set: closed questions drawn by weight within organs and kinds (Patho-R1 draws its 10,000 so)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.writing import RlSetStep
from eosin.core.store.artifacts import read_object, write_json
from eosin.curate.questions.balance import limits_of, quotas
from eosin.curate.questions.making import draw_of
from eosin.curate.steps.base import Inputs, Step

STATE = "drawn.json"


class DrawRlSet(Step[RlSetStep]):
    """Strata are counted, quotas shared out by weight, and each stratum's smallest draws taken."""

    def measure(self, samples: Sequence[Sample]) -> pa.Table:
        """Stratum (null where a sample is not drawn at all) and draw of each sample."""
        return pa.table({
            "stratum": pa.array([self._stratum(s) for s in samples], pa.string()),
            "draw": pa.array([self._draw(s) for s in samples], pa.float64()),
        })  # fmt: skip

    def decide(self, inputs: Inputs) -> None:
        draws: dict[str, list[float]] = defaultdict(list)
        for table in inputs.measured():
            for stratum, draw in zip(table["stratum"].to_pylist(), table["draw"].to_pylist(), strict=True):
                if stratum is not None:
                    draws[stratum].append(draw)
        counts = {name: len(own) for name, own in sorted(draws.items())}
        weights = {name: self._weight(name) for name in counts}
        taken = quotas(counts, self.settings.size, weights, self.settings.temperature)
        write_json(self.state / STATE, {"limits": limits_of(draws, taken), "counts": counts, "taken": taken})

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[Kept[Sample] | Dropped]:
        limits = read_object(self.state / STATE)["limits"]
        return [self._judge(s, limits) for s in samples]

    def _judge(self, sample: Sample, limits: dict[str, float]) -> Kept[Sample] | Dropped:
        if (sample.split or "train") not in self.settings.splits:
            return Kept(sample)
        stratum = self._stratum(sample)
        if stratum is None:
            return Dropped(sample.id, "no closed question with an answer", "")
        if self._draw(sample) < limits.get(stratum, 0.0):
            return Kept(sample)
        return Dropped(sample.id, "not drawn", stratum)

    def _draw(self, sample: Sample) -> float:
        return draw_of(self.context.seed, "rl", sample.id)

    def _stratum(self, sample: Sample) -> str | None:
        if (sample.split or "train") not in self.settings.splits or not sample.choices or sample.answer is None:
            return None
        asked = sample.extra.get("question")
        kind = asked.get("kind") if isinstance(asked, dict) else asked
        told = {"organ": sample.origin.organ, "kind": kind, "source": sample.origin.source, "label": sample.label}
        return "/".join(str(told[b] or "unknown") for b in self.settings.by)

    def _weight(self, stratum: str) -> float:
        weights = self.settings.weights
        if stratum in weights:
            return weights[stratum]
        found = 1.0
        for part in stratum.split("/"):
            found *= weights.get(part, 1.0)
        return found

    def facts(self) -> dict[str, Any]:
        """Strata, how many each had, and how many were drawn."""
        if not (self.state / STATE).is_file():
            return {}
        told = read_object(self.state / STATE)
        return {"strata": told["counts"], "drawn": told["taken"]}
