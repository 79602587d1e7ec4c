"""A reward is proved on data: gold earns the maximum, silence the minimum, and no known cheat pays.

For every sample these replies are scored: the gold reply, the empty reply, an honest wrong reply, and every cheat of
cheats.jsonl. The honest wrong reply is well formed, reads the gold findings truly, rules the other options out with a
reason, and ends on a wrong option; a cheat that earns more than it is a breach.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.scoring.proof.worked import honest_wrong_reply, lexicon_text, terse_reply, worked_reply, wrong_answer
from eosin.scoring.reading.item import ScoreItem, item_from_sample
from eosin.scoring.sets.compose import Outcome, RewardSet

TOLERANCE = 1e-6
DEFAULT_MAX_TOKENS = 2048
_TOKEN = re.compile(r"\w+|[^\w\s]")
_REPEAT = re.compile(r"\{repeat:(\d+):(.*?)\}")


@dataclass(frozen=True)
class Cheat:
    """A reply that tries to earn without reasoning. Templates use {gold}, {wrong}, {options}, ... (docs/scoring.md)."""

    name: str
    why: str
    blocks: Mapping[str, str] = field(default_factory=dict)
    raw: str | None = None


@dataclass
class Row:
    """One kind of reply over all samples."""

    name: str
    totals: list[float] = field(default_factory=list)
    unscored: dict[str, int] = field(default_factory=dict)
    terms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    breaches: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        if outcome.total is None:
            for reason in outcome.unscored.values():
                self.unscored[reason] = self.unscored.get(reason, 0) + 1
        else:
            self.totals.append(outcome.total)
        for name, value in outcome.terms.items():
            if value is not None:
                self.terms[name].append(value)

    def as_dict(self) -> dict[str, Any]:
        mean = sum(self.totals) / len(self.totals) if self.totals else None
        return {
            "reply": self.name, "n": len(self.totals), "mean": mean,
            "least": min(self.totals, default=None), "most": max(self.totals, default=None),
            "terms": {k: sum(v) / len(v) for k, v in self.terms.items()},
            "unscored": self.unscored, "breaches": len(self.breaches), "examples": self.breaches[:3],
        }  # fmt: skip


@dataclass(frozen=True)
class Proof:
    """The outcome of `prove`.

    Attributes:
        rows: gold, empty, honest wrong, then the cheats.
        known: breaches that the published reward is known to have, by cheat.
    """

    label: str
    rows: tuple[Row, ...]
    minimum: float
    maximum: float
    known: Mapping[str, str]

    @property
    def breaches(self) -> list[str]:
        """Breaches that the set's own description does not name."""
        return [b for row in self.rows if row.name not in self.known for b in row.breaches]

    @property
    def known_breaches(self) -> list[str]:
        return [b for row in self.rows if row.name in self.known for b in row.breaches]

    def as_dict(self) -> dict[str, Any]:
        return {
            "reward": self.label, "minimum": self.minimum, "maximum": self.maximum,
            "holds": not self.breaches, "num_breaches": len(self.breaches),
            "num_known_breaches": len(self.known_breaches), "rows": [r.as_dict() for r in self.rows],
        }  # fmt: skip


def read_cheats(path: Path | None = None) -> list[Cheat]:
    """The known cheats: the file that comes with Eosin, or another of the same form."""
    text = path.read_text("utf-8") if path else files("eosin.scoring").joinpath("cheats.jsonl").read_text("utf-8")
    cheats = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may stand in a string
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            blocks = {k: str(row[k]) for k in ("findings", "think", "answer") if k in row}
            cheats.append(Cheat(str(row["name"]), str(row.get("why", "")), blocks, row.get("raw")))
        except (ValueError, KeyError, TypeError) as exc:
            raise EosinError(
                "A cheat cannot be read.", expected='{"name", "think", "answer"} or {"name", "raw"}', found=str(exc),
                where=f"{path or 'cheats.jsonl'}:{number}",
            ) from None  # fmt: skip
    return cheats


def prove(
    rewards: RewardSet,
    samples: Iterable[Sample],
    *,
    grammar: Grammar | None = None,
    cheats: Sequence[Cheat] | None = None,
) -> Proof:
    """Score gold, empty, honest wrong and every cheat on every sample.

    Raises:
        EosinError: no sample with an answer, or none on which the gold reply could be scored.
    """
    shape = grammar or rewards.grammar
    known = read_cheats() if cheats is None else list(cheats)
    rows = {name: Row(name) for name in ("gold", "empty", "honest wrong", *(c.name for c in known))}
    dump = lexicon_text(rewards.resources.links)
    num = 0
    for sample in samples:
        if sample.answer is None:
            continue
        num += 1
        _prove_one(rewards, sample, shape, known, rows, dump)
    if not num or not rows["gold"].totals:
        raise EosinError(
            "Nothing could be proved.",
            expected="samples with an answer, and gold for every term",
            found=", ".join(f"{n} x {r}" for r, n in rows["gold"].unscored.items()) or "no sample with an answer",
        )
    return Proof(rewards.label, tuple(rows.values()), rewards.minimum, rewards.maximum, rewards.known_faults)


def _prove_one(
    rewards: RewardSet, sample: Sample, grammar: Grammar, cheats: Sequence[Cheat], rows: dict[str, Row], dump: str
) -> None:
    item = item_from_sample(sample, "")
    golds = _gold_replies(sample, item, grammar, rewards)
    fill = _fillings(item, grammar, rewards, dump)
    cheating = [render_cheat(c, grammar, fill) for c in cheats]
    replies = [*golds, "", honest_wrong_reply(item, grammar, rewards.resources), *cheating]
    outcomes = rewards.score_batch([_with_reply(item, r, rewards) for r in replies], grammar)
    gold = max(outcomes[: len(golds)], key=lambda o: float("-inf") if o.total is None else o.total)
    _judge(rows["gold"], gold, item.id, at_least=rewards.maximum)
    _judge(rows["empty"], outcomes[len(golds)], item.id, at_most=rewards.minimum)
    honest = outcomes[len(golds) + 1]
    _judge(rows["honest wrong"], honest, item.id)
    for cheat, outcome in zip(cheats, outcomes[len(golds) + 2 :], strict=True):
        _judge(rows[cheat.name], outcome, item.id, at_most=honest.total)


def _judge(row: Row, outcome: Outcome, id: str, *, at_least: float | None = None, at_most: float | None = None) -> None:
    row.add(outcome)
    if outcome.total is None:
        return
    if at_least is not None and outcome.total < at_least - TOLERANCE:
        row.breaches.append(f"{id}: {row.name} earns {outcome.total:.4f}, below the maximum {at_least:.4f}")
    if at_most is not None and outcome.total > at_most + TOLERANCE:
        bound = "the minimum" if row.name == "empty" else "the honest wrong reply's"
        row.breaches.append(f"{id}: {row.name} earns {outcome.total:.4f}, above {bound} {at_most:.4f}")


def _gold_replies(sample: Sample, item: ScoreItem, grammar: Grammar, rewards: RewardSet) -> list[str]:
    """The data's own gold reply, one that only names the gold entities, and one that is worked out in full."""
    return [gold_reply(sample, grammar), terse_reply(item, grammar), worked_reply(item, grammar, rewards.resources)]


def _with_reply(item: ScoreItem, reply: str, rewards: RewardSet) -> ScoreItem:
    """The item with a reply, whose tokens are counted as words and signs, as no tokenizer is at hand."""
    limit = rewards.resources.max_tokens or DEFAULT_MAX_TOKENS
    num_tokens = len(_TOKEN.findall(reply))
    return item.with_reply(reply, num_tokens=num_tokens, truncated=num_tokens > limit)


def _fillings(item: ScoreItem, grammar: Grammar, rewards: RewardSet, dump: str) -> dict[str, str]:
    gold = f"{item.answer}. {item.answer_text}" if item.answer in item.choices else item.answer or ""
    wrong = wrong_answer(item, rewards.resources)
    letters = list(item.choices) or ["A", "B", "C", "D"]
    options = [f"{k}. {v}" for k, v in item.choices.items()] or [f"{gold}.", f"{wrong}."]
    texts = list(item.choices.values()) or [gold, wrong]
    return {
        "gold": gold,
        "wrong": wrong,
        "question": item.question,
        "options": " ".join(options),
        "denied_options": " ".join(f"Not {t}." for t in texts),
        "letters": ", ".join(letters),
        "joined_letters": "".join(letters),
        "lexicon": dump,
        "denied_lexicon": "No " + dump.replace(", ", ". No "),
    }


def render_cheat(cheat: Cheat, grammar: Grammar, fill: Mapping[str, str]) -> str:
    """A cheat's reply for one sample. Without a findings block, its findings stand at the start of think."""

    def filled(template: str) -> str:
        text = _REPEAT.sub(lambda m: m.group(2) * int(m.group(1)), template)
        return re.sub(r"\{([a-z_]+)\}", lambda m: fill.get(m.group(1), m.group(0)), text)

    if cheat.raw is not None:
        return filled(cheat.raw)
    parts = {k: filled(v) for k, v in cheat.blocks.items()}
    texts = {t: parts.get(t, "") for t in grammar.tags}
    if grammar.findings_tag is not None:
        texts[grammar.findings_tag] = parts.get("findings", "")
    elif "think" in texts and parts.get("findings"):
        texts["think"] = f"{parts['findings']} {texts['think']}"
    return "\n".join(f"<{t}>{text}</{t}>" for t, text in texts.items())
