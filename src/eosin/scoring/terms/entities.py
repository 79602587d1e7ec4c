"""Entity overlap of a reply with the gold entities: as PathReasoner-R1 publishes it, and hardened.

Published (arXiv 2601.21617): P = entities found in findings and think, G = gold,
    I = |P n G| + beta * sum over p in P - G of max over g in G of sim(p, g),   reward = min(1, 2 I / (|P| + |G|)).
With beta 0 this is the hard Dice. One gold entity may be matched many times, so long lists are paid for.

Hardened: concepts with polarity; I is the weight of the best one-to-one assignment, where an equal concept weighs 1
and a similar one beta * sim if sim >= floor; what is both stated and denied matches nothing;
reward = min(2 I / (|P| + |G|), I / |P|). An entity that matches no free gold entity can then only lower the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from eosin.core.nouns.outcome import Scored, Unscored
from eosin.core.nouns.sample import Entity
from eosin.knowledge.linking.linker import Linker, Signed
from eosin.scoring.reading.text import MAX_BLOCK_CHARS
from eosin.scoring.terms.base import NoGold, Resources, ScoreContext, Term, register

Similarity = Callable[[str, str], float]
BothEmpty = Literal["zero", "one", "unscored"]
NOT_FINDINGS = frozenset({"context", "stage", "margin", "node", "class"})
"""Kinds that no slide can show, and the class label, which is the answer and no finding."""


def dice_hard(predicted: Collection[str], gold: Collection[str]) -> float | None:
    """2 |P n G| / (|P| + |G|) over sets; None where both are empty."""
    p, g = set(predicted), set(gold)
    return 2 * len(p & g) / (len(p) + len(g)) if p or g else None


def dice_published(
    predicted: Collection[str], gold: Collection[str], similarity: Similarity, *, beta: float = 0.5
) -> float | None:
    """PathReasoner-R1's soft Dice, exactly as published. None where both sets are empty."""
    p, g = set(predicted), set(gold)
    if not p and not g:
        return None
    soft = sum(max((similarity(a, b) for b in g), default=0.0) for a in p - g)
    return min(1.0, 2 * (len(p & g) + beta * soft) / (len(p) + len(g)))


def dice_hardened(
    predicted: Collection[Signed],
    gold: Collection[Signed],
    similarity: Similarity,
    *,
    beta: float = 0.5,
    floor: float = 0.8,
) -> float | None:
    """Signed one-to-one soft Dice with a floor and a precision cap. None where both sets are empty.

    What is stated and denied in one reply matches nothing, and counts in |P| both times.
    """
    p, g = set(predicted), set(gold)
    if not p and not g:
        return None
    if not p or not g:
        return 0.0
    twice = both_ways(p, g)
    exact = (p & g) - twice
    total = len(exact) + beta * _best_assignment(sorted(p - exact - twice), sorted(g - exact), similarity, floor)
    return min(2 * total / (len(p) + len(g)), total / len(p))


def both_ways(predicted: Collection[Signed], gold: Collection[Signed]) -> set[Signed]:
    """What a reply says of concepts that it both states and denies. Where the gold does so too (one finding here and
    absent there), it is no contradiction."""
    p, g = set(predicted), set(gold)

    def opposite(s: Signed) -> Signed:
        return s[0], "absent" if s[1] == "present" else "present"

    return {s for s in p if opposite(s) in p and not {s, opposite(s)} <= g}


def _best_assignment(p: Sequence[Signed], g: Sequence[Signed], similarity: Similarity, floor: float) -> float:
    """Largest sum of similarities of a one-to-one assignment; pairs below the floor or of other polarity weigh 0."""
    if not p or not g:
        return 0.0
    weights = np.array([[_pair(a, b, similarity, floor) for b in g] for a in p])
    if not weights.any():
        return 0.0
    rows, columns = linear_sum_assignment(weights, maximize=True)
    return float(weights[rows, columns].sum())


def _pair(a: Signed, b: Signed, similarity: Similarity, floor: float) -> float:
    if a[1] != b[1]:
        return 0.0
    value = similarity(a[0], b[0])
    return value if value >= floor else 0.0


@lru_cache(maxsize=100_000)
def _trigrams(name: str) -> frozenset[str]:
    padded = f"  {name.casefold()} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


def trigram_similarity(a: str, b: str) -> float:
    """Dice of the letter trigrams of two names, 0..1. Used where no encoder is injected."""
    x, y = _trigrams(a), _trigrams(b)
    return 2 * len(x & y) / (len(x) + len(y)) if x or y else 1.0


def encoder_similarity(encode: Callable[[Sequence[str]], Any], names: Sequence[str]) -> Similarity:
    """Cosine similarity of names by a sentence encoder, worked out once for all `names`."""
    index = {n: i for i, n in enumerate(dict.fromkeys(names))}
    if not index:
        return lambda a, b: float(a == b)
    vectors = np.asarray(encode(list(index)), dtype=np.float64)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return lambda a, b: float(np.clip(vectors[index[a]] @ vectors[index[b]], 0.0, 1.0))


def gold_concept(entity: Entity, linker: Linker) -> str:
    """The concept of a gold entity: by its name in the lexicon, else its own concept id, else its name."""
    return linker.concept_of(entity.name) or entity.concept or entity.name.casefold()


def gold_concepts(entities: Sequence[Entity], linker: Linker, *, visible_only: bool) -> frozenset[Signed]:
    """Gold entities as signed concepts."""
    found = set()
    for entity in entities:
        concept = gold_concept(entity, linker)
        if visible_only and (entity.kind in NOT_FINDINGS or linker.type_of(concept) in NOT_FINDINGS):
            continue
        found.add((concept, entity.polarity))
    return frozenset(found)


def substring_names(text: str, linker: Linker, more: Collection[str] = ()) -> frozenset[str]:
    """Names that stand anywhere in the text, as the released code of PathReasoner-R1 looks: preferred names of
    the lexicon and `more`, in lower case."""
    folded = text.casefold()
    names = {n.casefold() for n in linker.labels()} | {n.casefold() for n in more}
    return frozenset(n for n in names if n in folded)


@register
class EntitiesTerm(Term):
    """Entities of the findings and think blocks against gold.

    Attributes:
        rule: "hardened", or PathReasoner-R1's "soft" or "hard" Dice.
        linking: "words" (longest match, boundaries, synonyms, negation), or "substring" as in the released code: P is
            every name of the lexicon that stands in the blocks, also inside a longer name. G is the data's entities as
            they are named, and nothing more.
        beta: weight of similar entities (published 0.5).
        floor: similarity below which two names have nothing in common (hardened only).
        both_empty: where neither gold nor reply names an entity: released code "zero", paper's formula undefined.
        gold: "entities" of the data; "reference" links the gold texts; "auto" the first that exists, where an
            answer alone counts as no reference text; "any" also links the answer alone.
        findings_only: leave out what no slide can show (nodes, margins, stage), the class label, and whatever the
            question, its options or the gold answer name: repeating the question earns nothing, and the answer is
            the accuracy term's business. Names of options in a reply are then no false findings either.
    """

    name = "entities"
    rule: Literal["hardened", "soft", "hard"] = "hardened"
    linking: Literal["words", "substring"] = "words"
    beta: float = 0.5
    floor: float = 0.8
    both_empty: BothEmpty = "one"
    gold: Literal["entities", "reference", "auto", "any"] = "auto"
    findings_only: bool = True

    def uses_encoder(self, resources: Resources) -> bool:
        return self.rule != "hard" and resources.encode is not None

    def score(self, context: ScoreContext) -> Scored | Unscored:
        gold = self._gold(context)
        if gold is None:
            return NoGold("no gold entities")
        if reason := context.unreadable(context.grammar.findings_tag, "think"):
            return Scored(0.0, {"unparsed": reason})
        blocks = [context.findings, context.block("think")]
        if max(map(len, blocks)) > MAX_BLOCK_CHARS:
            return Scored(0.0, {"reason": "too long to be a reading"})
        predicted = frozenset(s for text in blocks for s in self._linked(context, text))
        if self.findings_only:
            predicted = frozenset(s for s in predicted if s[0] not in context.asked_or_gold)
        value = self._value(context, predicted, gold)
        if value is None:
            if self.both_empty == "unscored":
                return Unscored("no entity in gold or reply")
            value = 1.0 if self.both_empty == "one" and context.block("think") else 0.0
        wrong = both_ways(predicted, gold) if self.rule == "hardened" else set()
        return Scored(value, _events(predicted, gold, wrong, context.resources))

    def _gold(self, context: ScoreContext) -> frozenset[Signed] | None:
        """Gold as signed concepts; None where the data has none that this term could use."""
        item = context.item
        if self.gold != "reference" and item.entities is not None:
            found = self._annotated(context, item.entities)
            return None if item.entities and not found else found
        if self.gold == "entities":
            return None
        texts = [t for t in (item.reference.findings, item.reference.think) if t]
        if texts or self.gold == "any":
            texts.append(item.answer_text or "")
        found = self._linked(context, "\n".join(texts))
        if self.findings_only:
            found = frozenset(s for s in found if self._is_finding(context, s[0]))
        return found or None

    def _annotated(self, context: ScoreContext, entities: Sequence[Entity]) -> frozenset[Signed]:
        if self.linking == "substring":
            return frozenset((e.name.casefold(), "present") for e in entities)
        found = gold_concepts(entities, context.resources.links, visible_only=self.findings_only)
        if self.findings_only:
            found = frozenset(s for s in found if self._is_finding(context, s[0]))
        return found

    @staticmethod
    def _is_finding(context: ScoreContext, concept: str) -> bool:
        return concept not in context.asked_or_gold and context.kind_of(concept) not in NOT_FINDINGS

    def _linked(self, context: ScoreContext, text: str) -> frozenset[Signed]:
        if self.linking == "substring":
            names = [e.name for e in context.item.entities or ()]
            return frozenset((c, "present") for c in substring_names(text, context.resources.links, names))
        return frozenset(m.signed for m in context.mentions(text) if m.scope == "patient")

    def _value(self, context: ScoreContext, predicted: frozenset[Signed], gold: frozenset[Signed]) -> float | None:
        if self.rule == "hardened":
            similar = self._similarity(context, [c for c, _ in predicted | gold])
            return dice_hardened(predicted, gold, similar, beta=self.beta, floor=self.floor)
        p, g = {c for c, _ in predicted}, {c for c, _ in gold}
        if self.rule == "hard":
            return dice_hard(p, g)
        return dice_published(p, g, self._similarity(context, [*p, *g]), beta=self.beta)

    def _similarity(self, context: ScoreContext, concepts: Sequence[str]) -> Similarity:
        linker, resources = context.resources.links, context.resources
        if resources.encode is None:
            return lambda a, b: trigram_similarity(linker.label_of(a), linker.label_of(b))
        names = {c: linker.label_of(c) for c in concepts}
        by_name = encoder_similarity(resources.encode, list(names.values()))
        return lambda a, b: by_name(names[a], names[b])

    def described(self, resources: Resources) -> dict[str, Any]:
        return super().described(resources) | {
            "similarity": "trigrams" if resources.encode is None else resources.encode_name
        }


def _events(
    predicted: frozenset[Signed], gold: frozenset[Signed], both: Collection[Signed], resources: Resources
) -> dict[str, object]:
    right = (predicted & gold) - set(both)

    def names(signed: Collection[Signed]) -> list[str]:
        return sorted(("" if s == "present" else "no ") + resources.links.label_of(c) for c, s in signed)[:50]

    return {
        "matched": names(right),
        "missed": names(gold - right),
        "extra": names(predicted - right),
        "num_predicted": len(predicted),
        "num_gold": len(gold),
        "similarity": "trigrams" if resources.encode is None else resources.encode_name,
    }
