"""Entity F1 of the findings and reasoning that a reply states, beside the score of its answer.

Signed concepts ("no necrosis" is the absence of necrosis) are found by the linker of the knowledge room and compared
with the gold entities of the sample, exactly and one to one: precision = |P n G| / |P|, recall = |P n G| / |G|,
F1 = 2 |P n G| / (|P| + |G|). What the question, its options or the answer name does not count (scoring.entities). A
reply that breaks the grammar, or names nothing, has 0 in all three, and the figures of an exam are means over every
item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eosin.core.nouns.outcome import Scored, Unparsed
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.statistics.mean_intervals import mean_interval
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.terms.base import Resources, ScoreContext
from eosin.scoring.terms.entities import EntitiesTerm

_TERM = EntitiesTerm(gold="entities", both_empty="unscored", beta=0.0)
Row = Mapping[str, Any]


def entity_row(reply: str, sample: Sample, grammar: Grammar, resources: Resources | None = None) -> dict[str, Any]:
    """Columns of a graded row: entity_matched, entity_predicted, entity_gold (counts) and entity_f1.

    Nothing where the sample has no gold finding that a slide can show. entity_gold is None where the reply is not read.
    """
    if not sample.entities:
        return {}
    context = ScoreContext(item_from_sample(sample, reply), grammar, resources or Resources())
    scored = _TERM.score(context)
    if not isinstance(scored, Scored):
        return {}
    events = scored.events
    if isinstance(context.parsed, Unparsed) or "num_gold" not in events:  # or too long to be a reading
        return {"entity_f1": 0.0, "entity_matched": 0, "entity_predicted": 0, "entity_gold": None}
    matched, missed = events["matched"], events["missed"]
    assert isinstance(matched, list) and isinstance(missed, list)
    predicted, gold = int(str(events["num_predicted"])), int(str(events["num_gold"]))
    return {
        "entity_f1": 2 * len(matched) / (predicted + gold),
        "entity_matched": len(matched),
        "entity_predicted": predicted,
        "entity_gold": gold,
    }


def entity_figures(rows: Sequence[Row], settings: ExamSettings) -> dict[str, Any] | None:
    """Mean F1 with its interval over clusters, mean precision and mean recall, all over the same items. None without
    gold."""
    scored = [r for r in rows if "entity_f1" in r]
    if not scored:
        return None
    mean, interval = mean_interval(
        [r["entity_f1"] for r in scored], [r["group"] for r in scored], resamples=settings.bootstrap,
        seed=settings.seed,
    )  # fmt: skip
    return {
        "f1": mean,
        "ci95": interval.pair,
        "precision": sum(_share(r, "entity_predicted") for r in scored) / len(scored),
        "recall": sum(_share(r, "entity_gold") for r in scored) / len(scored),
        "n": len(scored),
    }


def _share(row: Row, of: str) -> float:
    """Share of an item's named or gold findings that match; 0 where there is none, as in its F1."""
    return row["entity_matched"] / row[of] if row[of] else 0.0
