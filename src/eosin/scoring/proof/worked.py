"""Replies written from gold, for `prove`: what a careful reader could have said, right and wrong."""

from __future__ import annotations

import re

from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Entity
from eosin.knowledge.linking.linker import Linker
from eosin.scoring.reading import quantities
from eosin.scoring.reading.events import SEEN_KINDS
from eosin.scoring.reading.item import ScoreItem
from eosin.scoring.terms.base import Resources, ScoreContext
from eosin.scoring.terms.entities import NOT_FINDINGS, gold_concept

_SPARE_FEATURES = ("nuclear atypia", "lymphocyte", "fibroblast", "desmoplasia", "oedema", "congestion", "calcification")
_RULED_OUT = (
    "Not {other} because of {feature}.",
    "{other} is excluded by {feature}.",
    "With {feature} present, {other} is unlikely.",
    "{other} does not fit {feature}.",
    "Given {feature}, {other} is ruled out.",
    "Since {feature} stands out, this is not {other}.",
)
_SPARE_ANSWERS = ("meningioma", "lipoma", "seminoma", "gastritis", "thymoma")


def lexicon_text(linker: Linker, limit: int = 2000) -> str:
    """Names of the lexicon in a row, for the dump."""
    return ", ".join(linker.labels()[:limit])


def wrong_answer(item: ScoreItem, resources: Resources) -> str:
    """A definite answer that is not the gold one: the next option, the other truth value, another number."""
    if item.choices:
        letters = list(item.choices)
        right = set(re.findall(r"[A-Z]", item.answer or ""))
        start = letters.index(item.answer) if item.answer in letters else 0
        order = [*letters[start + 1 :], *letters[: start + 1]]
        letter = next((c for c in order if c not in right), order[0])
        return f"{letter}. {item.choices[letter]}"
    gold = item.answer or ""
    truth = quantities.parse_yes_no(gold)
    if hasattr(truth, "value"):
        return "no" if truth.value else "yes"
    number = re.match(r"[+-]?\d+", gold.strip())
    if number:
        return str(int(number.group()) + 1) + gold.strip()[number.end() :]
    named = {m.concept for m in resources.links.link(gold)}
    return next(a for a in _SPARE_ANSWERS if a not in named and a not in gold.casefold())


def terse_reply(item: ScoreItem, grammar: Grammar) -> str:
    """The gold entities by name, and the gold answer; nothing else."""
    named = " ".join(_entity_sentence(e) for e in item.entities or ())
    if not named:
        named = " ".join(filter(None, (item.reference.findings, item.reference.think, f"This is {item.answer_text}.")))
    return _render(grammar, named, grammar.join_steps([named]), _gold_answer(item))


def worked_reply(item: ScoreItem, grammar: Grammar, resources: Resources) -> str:
    """A full reading that ends on the gold answer."""
    return _worked(item, grammar, resources, _gold_answer(item))


def honest_wrong_reply(item: ScoreItem, grammar: Grammar, resources: Resources) -> str:
    """The same full reading, ending on a wrong answer."""
    return _worked(item, grammar, resources, wrong_answer(item, resources))


def _gold_answer(item: ScoreItem) -> str:
    answer = item.answer or ""
    return f"{answer}. {item.choices[answer]}" if answer in item.choices else answer


def _worked(item: ScoreItem, grammar: Grammar, resources: Resources, answer: str) -> str:
    context = ScoreContext(item, grammar, resources)
    findings = [_entity_sentence(e) for e in usable_findings(context)]
    feature = _feature(context, _words(answer))
    if not findings:
        findings = [f"There is {name}." for name in _told(context) or [feature]]
    steps = list(findings)
    if answer:
        steps.append(f"The {feature} is typical of {_words(answer)}.")
    others = [text for letter, text in item.choices.items() if letter not in _letters(answer, item)]
    steps += [_RULED_OUT[i % len(_RULED_OUT)].format(other=t, feature=feature) for i, t in enumerate(others)]
    return _render(grammar, " ".join(findings), grammar.join_steps(steps), answer)


def _letters(answer: str, item: ScoreItem) -> set[str]:
    if re.fullmatch(r"[A-Z](?:, ?[A-Z])+", answer):
        return set(re.findall(r"[A-Z]", answer))
    return {answer[:1]} if answer[:1] in item.choices else set()


def _words(answer: str) -> str:
    return re.sub(r"^[A-Z]\. ", "", answer)


def usable_findings(context: ScoreContext) -> list[Entity]:
    """Gold entities that are findings: visible, and named neither by the question, its options nor the answer."""
    found = []
    for entity in context.item.entities or ():
        concept = gold_concept(entity, context.resources.links)
        hidden = entity.kind in NOT_FINDINGS or context.kind_of(concept) in NOT_FINDINGS
        if not hidden and concept not in context.asked_or_gold:
            found.append(entity)
    return found


def _told(context: ScoreContext) -> list[str]:
    """Labels of what the data's own reasoning sees, each concept once: the gold findings where there are no others."""
    found: dict[str, str] = {}
    for text in filter(None, (context.item.reference.findings, context.item.reference.think)):
        for m in context.mentions(text):
            if m.present and m.concept not in context.asked_or_gold and context.kind_of(m.concept) in SEEN_KINDS:
                found.setdefault(m.concept, m.label)
    return list(found.values())


def _feature(context: ScoreContext, answer: str) -> str:
    """Something seen that can serve as a reason: a present gold finding, else one that the data speaks of, else any.
    Unless it is gold it must not speak against the answer."""
    for entity in usable_findings(context):
        concept = gold_concept(entity, context.resources.links)
        if entity.polarity == "present" and context.kind_of(concept) in SEEN_KINDS:
            return entity.name
    for text in filter(None, (context.item.reference.findings, context.item.reference.think)):
        for m in context.mentions(text):
            free = m.present and m.concept not in context.asked_or_gold and context.kind_of(m.concept) in SEEN_KINDS
            if free and not _speaks_against(context, m.concept, answer):
                return text[m.start : m.end]
    links = context.resources.links
    taken = context.asked_or_gold | {gold_concept(e, links) for e in context.item.entities or ()}
    spare = {f: links.concept_of(f) or f for f in _SPARE_FEATURES}
    free_ones = [f for f, c in spare.items() if c not in taken]
    return next((f for f in free_ones if not _speaks_against(context, spare[f], answer)), free_ones[0])


def _speaks_against(context: ScoreContext, concept: str, answer: str) -> bool:
    """Whether the tables or the graph say that a finding speaks against a diagnosis that the answer names."""
    named = {m.concept for m in context.mentions(answer) if m.present}
    return any(context.resources.known.sign_of(concept, "present", c) < 0 for c in named)


def _entity_sentence(entity: Entity) -> str:
    return f"There is {entity.name}." if entity.polarity == "present" else f"There is no {entity.name}."


def _render(grammar: Grammar, findings: str, think: str, answer: str) -> str:
    blocks = dict.fromkeys(grammar.tags, "")
    if "think" in blocks:
        blocks["think"] = think
    if grammar.findings_tag is not None:
        blocks[grammar.findings_tag] = findings
    blocks["answer"] = answer
    return "\n".join(f"<{t}>{text}</{t}>" for t, text in blocks.items())
