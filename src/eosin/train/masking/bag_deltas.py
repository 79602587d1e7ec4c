"""What a model loses when a cluster of patches is taken out, measured with the model itself.

delta[c] = R(reply to the whole bag) - R(reply to the bag without cluster c), R the entity reward of a greedy reply
(PathReasoner-R1, arXiv 2601.21617): Eosin's hardened one, or the published soft Dice, whose names are alike as far as
a sentence encoder finds them so, and without one as far as their letters are (trigrams). Which findings a reply names
is read in the hardened way with either, because a substring knows no negation. Replies are kept on disk batch by batch,
by slide, cluster, question and checkpoint: a measurement that was cut off goes on, and nothing is asked twice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, Engine, Request
from eosin.scoring import load_rewards
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.resources.encoder import SentenceEncoder
from eosin.scoring.sets.compose import RewardSet
from eosin.scoring.sets.named import PUBLISHED_ENTITIES
from eosin.train.masking.bag_clusters import I64

WHOLE = -1
"""Stands for the whole bag where clusters are numbered."""


def entity_spec(reward: Literal["hardened", "published"]) -> dict[str, Any]:
    """The entity term as a recipe's reward would say it."""
    return PUBLISHED_ENTITIES if reward == "published" else {"name": "entities"}


@dataclass(frozen=True)
class Question:
    """One slide to measure.

    Attributes:
        sample: a question about the slide.
        slide: its name.
        load: reads its bag; not held here, so that many large slides can be measured.
        digest: of the bag.
        labels: (N,) cluster of every patch.
        clusters: those that may be taken out.
    """

    sample: Sample
    slide: str
    load: Callable[[], PatchBag] = field(repr=False)
    digest: str
    labels: I64 = field(repr=False)
    clusters: tuple[int, ...]

    def shown(self, cluster: int) -> PatchBag:
        """The bag without a cluster; the whole bag for WHOLE."""
        bag = self.load()
        return bag if cluster == WHOLE else bag.take(self.labels != cluster)

    def num_shown(self, cluster: int) -> int:
        """Patches that are left."""
        return int((self.labels != cluster).sum())


@dataclass(frozen=True)
class Delta:
    """What was measured on one slide.

    Attributes:
        whole: entity reward with the whole bag.
        matched: names of gold entities that were found with it, "no X" for absent ones, as the entity term writes them.
        losses: cluster -> whole minus the reward without it.
        lost: cluster -> those of `matched` that were not found without it.
    """

    whole: float
    matched: tuple[str, ...]
    losses: dict[int, float]
    lost: dict[int, tuple[str, ...]]


@dataclass
class Measurement:
    """The constant parts of a measurement.

    Attributes:
        engine: makes what answers, when the first reply is asked for.
        checkpoint: digest of the weights that are asked.
        rows_file: a JSON line a reply.
        reward: what delta is measured by. encoder: what the published reward compares names with; None: their letters.
        say: prints a line; the cost is said before the first batch and after it.
    """

    engine: Callable[[], Engine]
    checkpoint: str
    grammar: Grammar
    decoding: Decoding
    rows_file: Path
    instruction: bool = True
    reward: Literal["hardened", "published"] = "hardened"
    encoder: SentenceEncoder | None = None
    say: Callable[[str], None] = print
    counts: dict[str, float] = field(default_factory=dict)

    def run(self, questions: Sequence[Question], *, ask: bool = True) -> list[Delta | None]:
        """The deltas of every slide; None where the reward could not be given or, without `ask`, is not known yet."""
        rows = {r["key"]: r for r in store.read_jsonl(self.rows_file)}
        wanted = [(q, c, self._key(q, c)) for q in questions for c in (WHOLE, *q.clusters)]
        todo = [w for w in wanted if w[2] not in rows] if ask else []
        self.counts = {"num_slides": len(questions), "num_replies": len(wanted), "num_asked": len(todo)}
        if todo:
            self.say(
                f"pseudo-bags: {len(questions)} slides x (whole + clusters) = {len(wanted)} replies of up to "
                f"{self.decoding.max_new_tokens} tokens; {len(wanted) - len(todo)} on disk, {len(todo)} to generate"
            )
            for row in self._generate(todo):
                rows[row["key"]] = row
        return [self._delta(q, rows) for q in questions]

    def _generate(self, todo: Sequence[tuple[Question, int, str]]) -> Iterator[dict[str, Any]]:
        size, begun = self.decoding.batch_size, time.perf_counter()
        rewards, engine = self._rewards(), self.engine()
        for start in range(0, len(todo), size):
            batch = todo[start : start + size]
            requests = [self._request(q, c, key) for q, c, key in batch]
            replies = list(engine.generate(requests, self.decoding))
            rows = [
                _row(q, c, key, r.text, r.num_tokens, r.truncated, rewards)
                for (q, c, key), r in zip(batch, replies, strict=True)
            ]
            store.append_jsonl(self.rows_file, rows)
            yield from rows
            seconds = time.perf_counter() - begun
            if start == 0 and len(todo) > size:
                minutes = seconds * (len(todo) - size) / size / 60
                self.say(f"pseudo-bags: the first {len(batch)} replies took {seconds:.1f} s; "
                         f"about {minutes:.1f} min for the other {len(todo) - size}")  # fmt: skip
        self.counts["seconds"] = round(time.perf_counter() - begun, 2)

    def _rewards(self) -> tuple[RewardSet, RewardSet]:
        """What delta is measured by, and what findings are read by."""
        read = load_rewards([entity_spec("hardened")], self.grammar)
        if self.reward == "hardened":
            return read, read
        tools: dict[str, Any] = (
            {} if self.encoder is None else {"encode": self.encoder, "encode_name": self.encoder.label}
        )
        return load_rewards([entity_spec(self.reward)], self.grammar, **tools), read

    def _request(self, question: Question, cluster: int, key: str) -> Request:
        messages = prompt_messages(question.sample, self.grammar, instruction=self.instruction)
        return Request(key, messages, (question.shown(cluster),))

    def _key(self, question: Question, cluster: int) -> str:
        """By slide, cluster, checkpoint, and whatever else the reply depends on."""
        messages = prompt_messages(question.sample, self.grammar, instruction=self.instruction)
        parts = [
            self.checkpoint, question.digest, str(cluster),
            "" if cluster == WHOLE else hashlib.sha256((question.labels == cluster).tobytes()).hexdigest(),
            "|".join(m.text for m in messages), str(self.decoding.max_new_tokens), self.grammar.name,
            *([] if self.reward == "hardened" else [self.reward]),
            *([] if self.encoder is None else [self.encoder.label]),
        ]  # fmt: skip
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]

    def _delta(self, question: Question, rows: Mapping[str, dict[str, Any]]) -> Delta | None:
        whole = rows.get(self._key(question, WHOLE))
        if whole is None or whole["reward"] is None:
            return None
        losses, lost = {}, {}
        for cluster in question.clusters:
            row = rows.get(self._key(question, cluster))
            if row is None or row["reward"] is None:
                return None
            losses[cluster] = whole["reward"] - row["reward"]
            lost[cluster] = tuple(n for n in whole["matched"] if n not in row["matched"])
        return Delta(whole["reward"], tuple(whole["matched"]), losses, lost)


def _row(
    question: Question, cluster: int, key: str, reply: str, num_tokens: int | None, truncated: bool,
    rewards: tuple[RewardSet, RewardSet],
) -> dict[str, Any]:  # fmt: skip
    item = item_from_sample(question.sample, reply, num_tokens, truncated)
    outcome = rewards[0].score(item)
    read = outcome if rewards[1] is rewards[0] else rewards[1].score(item)
    return {
        "key": key, "slide": question.slide, "sample_id": question.sample.id, "cluster": cluster,
        "num_patches": question.num_shown(cluster), "reward": outcome.total,
        "matched": read.events.get("entities", {}).get("matched", []), "num_tokens": num_tokens,
        "truncated": truncated, "reply": reply,
    }  # fmt: skip
