"""What happens inside an RL step, by the class of the prompt: reward terms, form, answers, advantages, entropy, KL.

One row a step and class goes to by_class.jsonl. All replies that were scored count, not only those that are kept on
disk; the rewards have read each of them anyway, so the rows cost next to nothing and are always written.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from eosin.core.nouns.classes import Classes
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.reply import Grammar
from eosin.core.store import artifacts as store
from eosin.scoring.adapters.trl import OnBatch
from eosin.scoring.reading.item import ScoreItem
from eosin.scoring.reading.strict import read_strict
from eosin.scoring.sets.compose import Outcome

BY_CLASS = "by_class.jsonl"
NO_CLASS = "all prompts"  # where the answers form no classes
KINDS = ("right, form kept", "right, form broken", "wrong, form kept", "wrong, form broken")


@dataclass
class _Reply:
    """One scored reply.

    Attributes:
        said: the class that its answer block names, also where the form is broken; None where none can be read.
        place: its row in the batch; None where it is in no batch.
        advantage: None where it carries no loss.
        entropy, kl: means over its tokens, nats; None where it carries no loss, or where none was computed.
    """

    item: ScoreItem
    outcome: Outcome
    gold: str
    said: str | None
    is_right: bool
    is_parsed: bool
    place: int | None = None
    advantage: float | None = None
    entropy: float | None = None
    kl: float | None = None

    @property
    def kind(self) -> str:
        return f"{'right' if self.is_right else 'wrong'}, form {'kept' if self.is_parsed else 'broken'}"


@dataclass
class ClassDiary:
    """Takes in the replies of a generation, what became of them and what the loss saw, and writes them by class.

    A row names the optimiser step that its replies were drawn for (from 1), as rollouts.jsonl does. It is written when
    the loss has seen the last of them: within that step, or within the last of the steps that share one generation.
    As saves stand only between generations, a resumed stage writes the same rows.

    The class of a prompt is that of its gold answer (`core.nouns.classes`); where answers form no classes, all prompts
    are one. A group's advantages add up to 0, so what pushes a class up or down stands by *answer* and by *kind*, not
    by prompt.

    Attributes:
        step: tells how many steps the trainer has done.
        writes: False on every process but the first; the groups of that one stand for all.
        more: tells whether further parts of the same step are still to be scored (`rl.asking`); its rows wait for them.
    """

    path: Path
    stage: str
    num_generations: int
    classes: Classes
    grammar: Grammar
    step: Callable[[], int]
    writes: bool = True
    more: Callable[[], bool] = lambda: False
    _earlier: list[_Reply] = field(default_factory=list, init=False)
    _replies: list[_Reply] = field(default_factory=list, init=False)
    _unseen: set[int] = field(default_factory=set, init=False)
    _at: int = field(default=0, init=False)

    def __call__(self, items: list[ScoreItem], outcomes: list[Outcome]) -> None:
        """Take in scored completions, whole groups one after another."""
        self.close()
        self._replies += [self._read(item, outcome) for item, outcome in zip(items, outcomes, strict=True)]

    def _read(self, item: ScoreItem, outcome: Outcome) -> _Reply:
        answer = self.grammar.readable_blocks(item.reply).get("answer", "")
        reading = read_strict(answer, item.choices) if item.choices else _open(answer)
        text = None
        if isinstance(reading, Parsed):
            text = reading.value if isinstance(reading.value, str) else item.choices[reading.value.letter]
        said = None if text is None else self.classes.name(text)
        gold = self.classes.name(item.answer_text or "")
        parsed = isinstance(self.grammar.parse(item.reply), Parsed)
        return _Reply(item, outcome, gold, said, said is not None and said == gold, parsed)

    def decided(
        self, advantages: Sequence[float | None], in_loss: Sequence[bool], places: Sequence[int | None]
    ) -> None:
        """Say what became of all replies since the last call, in the order in which they were scored.

        Args:
            advantages: None where a reply is in no batch.
            in_loss: whether any of its tokens carries loss.
            places: its row in the batch.
        """
        if not len(self._replies) == len(advantages) == len(in_loss) == len(places):
            raise ValueError(f"{len(self._replies)} replies wait; told of {len(advantages)}")
        for reply, advantage, counts, place in zip(self._replies, advantages, in_loss, places, strict=True):
            reply.place = place
            reply.advantage = advantage if counts else None
        self._unseen = {r.place for r in self._replies if r.place is not None and r.advantage is not None}
        self._at = self.step() + 1
        if not self._unseen:
            self._write()

    def seen(self, places: Tensor, mask: Tensor, entropies: Tensor | None, kl: Tensor | None) -> None:
        """What the loss saw of some rows of the batch, on the way.

        Args:
            places: (B,) rows of the batch.
            mask: (B, T) tokens in the loss.
            entropies, kl: (B, T) nats a token; None where not computed.
        """
        if not self._unseen:
            return
        at = {r.place: r for r in self._replies}
        means = [None if x is None else _masked_means(x, mask) for x in (entropies, kl)]
        for i, place in enumerate(places.tolist()):
            if place in self._unseen:
                at[place].entropy, at[place].kl = (None if m is None else m[i] for m in means)
                self._unseen.discard(place)
        if not self._unseen:
            self._write()

    def close(self) -> None:
        """Write what the loss has not seen whole: a stage may end between the steps that share one generation."""
        if self._unseen:
            self._write()

    def _write(self) -> None:
        whole, self._earlier = [*self._earlier, *self._replies], []
        self._replies, self._unseen = [], set()
        if self.more():
            self._earlier = whole
            return
        by_class: dict[str, list[_Reply]] = defaultdict(list)
        for reply in whole:
            by_class[reply.gold if self.classes.labels else NO_CLASS].append(reply)
        if self.writes:
            rows = [self._row(name, by_class[name]) for name in sorted(by_class)]
            store.append_jsonl(self.path, [{"stage": self.stage, "step": self._at, **row} for row in rows])

    def _row(self, name: str, replies: list[_Reply]) -> dict[str, Any]:
        advantages = [r.advantage for r in replies if r.advantage is not None]
        return {
            "class": name,
            "num_prompts": len(replies) // self.num_generations,
            "num_replies": len(replies),
            "num_in_loss": len(advantages),
            "reward": _mean(r.outcome.total for r in replies),
            "terms": _of_terms(replies, _mean),
            "term_spread": self._term_spread(replies),
            "parse_rate": _share(r.is_parsed for r in replies),
            "right_rate": _share(r.is_right for r in replies),
            "length": _mean(r.item.num_tokens for r in replies),
            "advantage": _mean(advantages),
            "advantage_sum": sum(advantages),
            "answers": self._answers(replies),
            "unread": _share(r.said is None for r in replies),
            "kinds": {
                kind: _told(own) for kind in KINDS if (own := [r for r in replies if r.kind == kind])
            },
            "entropy": _mean(r.entropy for r in replies),
            "kl": _mean(r.kl for r in replies),
        }  # fmt: skip

    def _answers(self, replies: list[_Reply]) -> dict[str, dict[str, Any]]:
        """By what was answered: share of the replies, mean and sum of their advantages. {} without classes."""
        known = set(self.classes.labels)
        said: dict[str, list[_Reply]] = defaultdict(list)
        for reply in replies:
            if reply.said in known:
                said[str(reply.said)].append(reply)
        return {name: {"share": len(own) / len(replies), **_told(own)} for name, own in sorted(said.items())}

    def _term_spread(self, replies: list[_Reply]) -> dict[str, float | None]:
        """Mean over groups of the standard deviation (n - 1) of each term: which term ranks the replies of a group."""
        size = self.num_generations
        groups = [_of_terms(replies[i : i + size], _deviation) for i in range(0, len(replies), size)]
        return {name: _mean(g.get(name) for g in groups) for name in dict.fromkeys(k for g in groups for k in g)}


def _open(answer: str) -> Parsed[str] | Unparsed:
    return Parsed(answer) if answer else Unparsed("empty answer")


def _told(replies: Sequence[_Reply]) -> dict[str, Any]:
    """Number, reward and advantage of some replies."""
    advantages = [r.advantage for r in replies if r.advantage is not None]
    return {
        "n": len(replies),
        "num_in_loss": len(advantages),
        "reward": _mean(r.outcome.total for r in replies),
        "advantage": _mean(advantages),
        "advantage_sum": sum(advantages),
    }


def _of_terms(
    replies: Sequence[_Reply], figure: Callable[[Iterable[float | None]], float | None]
) -> dict[str, float | None]:
    names = dict.fromkeys(name for r in replies for name in r.outcome.terms)
    return {name: figure(r.outcome.terms.get(name) for r in replies) for name in names}


def _mean(values: Iterable[float | None]) -> float | None:
    found = [float(v) for v in values if v is not None]
    return statistics.fmean(found) if found else None


def _deviation(values: Iterable[float | None]) -> float | None:
    found = [v for v in values if v is not None]
    return statistics.stdev(found) if len(found) > 1 else None


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / len(found)


def _masked_means(values: Tensor, mask: Tensor) -> list[float]:
    weight = mask.to(values.dtype)
    means: list[float] = ((values * weight).sum(-1) / weight.sum(-1).clamp(min=1)).tolist()
    return means


def each_of(*listeners: OnBatch) -> OnBatch:
    """One listener to scored completions that tells all of these, in order."""

    def tell(items: list[ScoreItem], outcomes: list[Outcome]) -> None:
        for listener in listeners:
            listener(items, outcomes)

    return tell


def kl_to_start(now: Tensor, start: Tensor) -> Tensor:
    """The k3 estimator of KL(now || start) a token, as in the loss: exp(d) - d - 1 with d = log start - log now.

    Args:
        now, start: (B, T) log-probabilities of the drawn tokens, nats.
    """
    gap = start - now
    return gap.exp() - gap - 1
