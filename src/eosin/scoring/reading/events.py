"""What a reply's reasoning does, found by rules, each with the words that show it. The gold answer plays no part."""

from __future__ import annotations

import functools
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from eosin.core.nouns.outcome import Parsed
from eosin.knowledge.linking.linker import Linker, Mention, Signed
from eosin.knowledge.linking.words import words_of
from eosin.scoring.reading.linking import named
from eosin.scoring.reading.text import MAX_BLOCK_CHARS
from eosin.scoring.terms.base import ScoreContext, once
from eosin.scoring.terms.entities import dice_hardened, gold_concepts, trigram_similarity
from eosin.scoring.terms.shape import repeated_share

SEEN_KINDS = frozenset({"finding", "cell", "tissue", "stain", "marker"})
MAX_CONCEPTS = 40
"""A block that names more different concepts is a list, not a reading."""
COPY_SHARE = 0.5
"""A think block of which this share of 5-word runs stands in the question counts as a copy of it."""

_KNOWLEDGE = re.compile(
    r"\b(?:characteristic|typical|typically|hallmark|pathognomonic|diagnostic of|defined (?:by|as)|criteri(?:a|on)"
    r"|classically|by definition|consistent with|associated with|indicates?|seen in|features? of|WHO|known to"
    r"|feature of|suggests?|favou?rs?|supports?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Event:
    """One event of the checklist. `evidence` are the reply's own words. An open question has no options to rule
    out, so that event does not apply there and is not missing."""

    happened: bool
    evidence: str = ""
    applies: bool = True


@dataclass(frozen=True)
class Checklist:
    """The six events of PathVLM-R1's process reward (arXiv 2504.09258)."""

    image_features: Event
    elimination: Event
    knowledge: Event
    definition_error: Event
    contradiction: Event
    outdated: Event

    def missing(self) -> list[str]:
        """Names of the parts of reasoning that are not there."""
        return [n for n in ("image_features", "elimination", "knowledge") if self._misses(n)]

    def _misses(self, name: str) -> bool:
        event: Event = getattr(self, name)
        return event.applies and not event.happened

    def errors(self) -> list[str]:
        """Names of the kinds of error that are there."""
        return [n for n in ("definition_error", "contradiction", "outdated") if getattr(self, n).happened]

    def as_events(self) -> dict[str, object]:
        return {
            name: {"happened": event.happened, "evidence": event.evidence[:200]} for name, event in vars(self).items()
        }


@functools.lru_cache(maxsize=4096)
def option_linker(choices: tuple[tuple[str, str], ...]) -> Linker:
    """A linker whose concepts are the letters of the options, named by their text or as "option B"."""
    return Linker.of(
        (named(a, (text, f"option {a}", f"choice {a}", f"answer {a}"), "option") for a, text in choices),
        as_written=True,
    )


@once
def option_mentions(context: ScoreContext) -> tuple[Mention, ...]:
    """Options named in the think block, with polarity."""
    if not context.item.choices:
        return ()
    return option_linker(tuple(context.item.choices.items())).link(context.block("think"))


@once
def answered(context: ScoreContext) -> str | None:
    """The letter that the reply itself gives."""
    if "answer" not in context.blocks:
        return None
    answer = context.reading(context.block("answer"))
    return answer.value.letter if isinstance(answer, Parsed) else None


@once
def rule_checklist(context: ScoreContext) -> Checklist:
    """The six events by rules. `definition_error` is seen only where the data has gold findings."""
    return Checklist(
        image_features=_features(context),
        elimination=_elimination(context),
        knowledge=_knowledge(context),
        definition_error=_against_findings(context),
        contradiction=_contradiction(context),
        outdated=_outdated(context),
    )


@once
def copied_share(context: ScoreContext) -> float:
    """Share of the think block's 5-word runs that stand in the question or its options."""
    words = words_of(context.block("think"))
    asked = words_of("\n".join([context.item.question, *context.item.choices.values()]))
    runs = list(zip(*(words[i:] for i in range(5)), strict=False))
    known = set(zip(*(asked[i:] for i in range(5)), strict=False))
    if not runs:
        return 1.0 if words and set(words) <= set(asked) else 0.0
    return sum(r in known for r in runs) / len(runs)


@once
def no_reasoning(context: ScoreContext) -> str | None:
    """Why the reply cannot count as a reading: it does not parse, or think is empty, copied, or a list of names."""
    if reason := context.unreadable("think"):
        return reason
    think = context.block("think")
    if not any(c.isalnum() for c in think):
        return "empty think"
    if max(len(think), len(context.findings)) > MAX_BLOCK_CHARS:
        return "too long to be a reading"
    if copied_share(context) > COPY_SHARE:
        return "think copies the question"
    if repeated_share(think) > COPY_SHARE:
        return "think repeats itself"
    if any(len({m.concept for m in context.mentions(t)}) > MAX_CONCEPTS for t in (think, context.findings)):
        return "a list of names"
    return None


@once
def eliminated(context: ScoreContext) -> dict[str, str]:
    """Options other than the answered one that the think block rules out, each with the sentence that says why.

    A bare "not A" is no reason: the sentence must name something that is no option.
    """
    think, own = context.block("think"), answered(context)
    found: dict[str, str] = {}
    reasons = _reason_places(context)
    for mention in option_mentions(context):
        if mention.present or mention.concept == own or mention.concept in found:
            continue
        start, end = _sentence_bounds(think, mention.start)
        if bisect_left(reasons, start) < bisect_left(reasons, end):
            found[mention.concept] = think[start:end].strip()
    return found


@once
def gold_findings(context: ScoreContext) -> frozenset[Signed]:
    """Gold entities that are findings: no diagnosis, no class, nothing that question, options or answer name."""
    gold = [e for e in context.item.entities or () if e.kind != "diagnosis"]
    named = gold_concepts(gold, context.resources.links, visible_only=True)
    return frozenset(
        s for s in named if s[0] not in context.asked_or_gold and context.kind_of(s[0]) not in ("diagnosis", "class")
    )


def grounding(context: ScoreContext) -> float | None:
    """Hardened Dice of the findings block (the think block where the grammar has none) with the gold findings.

    Entities of kind diagnosis are no findings. None where there is nothing to compare with.
    """
    linker = context.resources.links
    wanted = gold_findings(context)
    if not wanted:
        return None
    known = {c for c, _ in wanted}
    claims = {
        m.signed
        for m in context.mentions(context.findings or context.block("think"))
        if m.concept not in context.asked_or_gold and (m.concept in known or context.kind_of(m.concept) in SEEN_KINDS)
    }

    def similar(a: str, b: str) -> float:
        return trigram_similarity(linker.label_of(a), linker.label_of(b))

    return dice_hardened(claims, wanted, similar)


@once
def found_against(context: ScoreContext) -> list[str]:
    """Findings that the reply states for certain and that speak against its own diagnosis by the tables or the graph.
    Gold findings are left out: where the data itself holds them true, they can be no fault of the reply."""
    answer = context.item.choices.get(answered(context) or "", context.block("answer"))
    diagnoses = {m.concept for m in context.mentions(answer) if m.present and context.kind_of(m.concept) == "diagnosis"}
    if len(diagnoses) != 1:
        return []
    diagnosis = diagnoses.pop()
    gold = {c for c, _ in gold_concepts(context.item.entities or (), context.resources.links, visible_only=False)}
    facts = context.resources.known
    found = []
    for text in (context.findings, context.block("think")):
        for m in context.mentions(text):
            if m.scope != "patient" or m.possible or m.type not in SEEN_KINDS:
                continue
            free = m.concept not in gold and m.concept not in context.asked_or_answered
            if free and facts.sign_of(m.concept, m.polarity, diagnosis) < 0:
                found.append(m.label if m.present else f"no {m.label}")
    return list(dict.fromkeys(found))[:10]


_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
MAX_SENTENCE_CHARS = 2000


@functools.lru_cache(maxsize=32)
def _sentence_ends(text: str) -> list[int]:
    """Where the sentences of a text end. Several events ask for the same block, so the last few are remembered."""
    return [m.end() for m in _SENTENCE_END.finditer(text)]


def _sentence_bounds(text: str, position: int) -> tuple[int, int]:
    """Start and end of the sentence around a place; at most MAX_SENTENCE_CHARS to either side are looked at."""
    ends = _sentence_ends(text)
    low, high = max(0, position - MAX_SENTENCE_CHARS), min(len(text), position + MAX_SENTENCE_CHARS)
    k = bisect_right(ends, position)
    is_begun = text[max(0, position - 1) : position] in (".", "!", "?", ";")
    start = position if is_begun else max(low, ends[k - 1] if k else 0)
    return start, min(high, ends[k]) if k < len(ends) else high


def _sentence_at(text: str, position: int) -> str:
    start, end = _sentence_bounds(text, position)
    return text[start:end].strip()


def _reason_places(context: ScoreContext) -> list[int]:
    """Where the think block names something that is no option, in order."""
    taken = sorted((o.start, o.end) for o in option_mentions(context))
    starts = [s for s, _ in taken]
    places = []
    for m in context.mentions(context.block("think")):
        before = bisect_left(starts, m.end) - 1
        if before < 0 or taken[before][1] <= m.start:
            places.append(m.start)
    return places


def _features(context: ScoreContext) -> Event:
    """A sentence that names something seen which neither the question nor an option names."""
    for text in (context.findings, context.block("think")):
        for m in context.mentions(text):
            if m.concept not in context.asked_or_answered and context.kind_of(m.concept) in SEEN_KINDS:
                return Event(True, _sentence_at(text, m.start))
    return Event(False)


def _elimination(context: ScoreContext) -> Event:
    if len(context.item.choices) < 2:
        return Event(False, applies=False)
    for sentence in eliminated(context).values():
        return Event(True, sentence)
    return Event(False)


def _knowledge(context: ScoreContext) -> Event:
    think = context.block("think")
    starts = [m.start for m in context.mentions(think)]
    for match in _KNOWLEDGE.finditer(think):
        start, end = _sentence_bounds(think, match.start())
        if bisect_left(starts, start) < bisect_left(starts, end):
            return Event(True, think[start:end].strip())
    return Event(False)


def _against_findings(context: ScoreContext) -> Event:
    """A finding stated with the opposite polarity of the gold finding. The diagnosis itself is no finding, or the
    checklist would know the answer."""
    gold = dict(gold_findings(context))
    for text in (context.findings, context.block("think")):
        for m in context.mentions(text):
            if not m.possible and m.concept in gold and gold[m.concept] != m.signed[1]:
                return Event(True, _sentence_at(text, m.start))
    return Event(False)


def _contradiction(context: ScoreContext) -> Event:
    """The think block rules out the option it answers, ends on another one, or denies what the findings state."""
    own, think = answered(context), context.block("think")
    named = [m for m in option_mentions(context) if not m.possible]
    if own is not None:
        last_own = next((m for m in reversed(named) if m.concept == own), None)
        if last_own is not None and not last_own.present:
            return Event(True, _sentence_at(think, last_own.start))
        stated = [m for m in named if m.present]
        final = next((m for m in reversed(stated) if _CONCLUDES.search(_sentence_at(think, m.start))), None)
        if final is not None and final.concept != own:
            return Event(True, _sentence_at(think, final.start))
    stated_findings = {m.concept: m.present for m in context.mentions(context.findings) if not m.possible}
    for m in context.mentions(think):
        if not m.possible and stated_findings.get(m.concept, m.present) != m.present:
            return Event(True, _sentence_at(think, m.start))
    return Event(False)


_CONCLUDES = re.compile(
    r"\b(?:answer|therefore|thus|hence|conclu\w+|so the|diagnosis is|consistent with|best fits?|fits best"
    r"|most likely)\b",
    re.IGNORECASE,
)


def _outdated(context: ScoreContext) -> Event:
    think = context.block("think")
    for m in context.mentions(think):
        if context.kind_of(m.concept) == "outdated" and m.concept not in context.asked:
            return Event(True, _sentence_at(think, m.start))
    return Event(False)
