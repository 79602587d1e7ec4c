"""Speed of the scoring room: all rule terms, entity linking against two peers, and growth with length.

    python benchmarks/scoring.py [--quick] [--json FILE]

One process, one thread. The peers look for the same 100,000 names: a plain substring scan, and an Aho-Corasick
automaton without word boundaries (pyahocorasick, if it is installed). Both lack boundaries, longest match, spelling,
negation and doubt; `note` says how many of their hits lie inside other words.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eosin.core.nouns.sample import Entity
from eosin.knowledge.graph.concepts import Concept
from eosin.knowledge.linking import tables, words
from eosin.knowledge.linking.linker import Linker
from eosin.scoring import Reference, ScoreItem, load_rewards
from eosin.scoring.reading.events import option_linker
from eosin.scoring.reading.linking import named

NUM_NAMES = 100_000
TERMS = ["format", "accuracy", "entities", "process", "checklist", "semantic", "length", "repetition", "language"]
SYLLABLES = (
    "ba", "ce", "di", "fo", "gu", "ha", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "we", "xi", "yo", "zu",
    "adeno", "myo", "cyt", "plas", "fibr", "oma", "itis", "osis",
)  # fmt: skip
PATTERNS = (
    "The section shows {0} with {1}.", "There is no {0}, but {1} is prominent.", "{0} and {1} are absent.",
    "Not {2} because of {0}.", "{2} is excluded by {1}.", "{0} is typical of {3}.", "The stroma is loose and pale.",
    "At low power the architecture is preserved, and the cells are regular.", "Possible {1} at the margin.",
)  # fmt: skip


def lexicon(num: int, seed: int = 0) -> list[Concept]:
    """The built-in concepts and made-up names of one to four words up to `num` names."""
    rng = random.Random(seed)
    made_up = sorted({"".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(30_000)})
    concepts = list(tables.concepts())
    names = {n for c in concepts for n in names_of(c)}
    made = []
    while len(names) < num:
        name = " ".join(rng.choices(made_up, k=rng.choice((1, 2, 2, 3, 3, 4))))
        if name not in names:
            names.add(name)
            made.append(named(name, (name,), rng.choice(("finding", "cell", "diagnosis"))))
    return concepts + made


def names_of(concept: Concept) -> list[str]:
    """All names of a concept, the preferred one first."""
    return [concept.label, *(s.text for s in concept.synonyms)]


def items(concepts: Sequence[Concept], num: int, seed: int = 1) -> list[ScoreItem]:
    """Replies of some 120 words with findings, negation, elimination and an answer; some broken ones among them."""
    rng = random.Random(seed)
    findings = [c.label for c in concepts if c.type in ("finding", "cell")]
    diagnoses = [c.label for c in concepts if c.type == "diagnosis"]
    made = []
    for i in range(num):
        options = rng.sample(diagnoses, 4)
        named = rng.sample(findings, 8)
        lines = [
            rng.choice(PATTERNS).format(rng.choice(named), rng.choice(named), rng.choice(options), options[0])
            for _ in range(13)
        ]
        reply = f"<think>{' '.join(lines)}</think>\n<answer>{'ABCD'[rng.randrange(4)]}</answer>"
        made.append(
            ScoreItem(
                id=str(i), reply=reply if i % 20 else reply[:-9], question="Which diagnosis fits this image?",
                choices=dict(zip("ABCD", options, strict=True)), answer="A",
                reference=Reference(answer=options[0]), num_tokens=160,
                entities=tuple(Entity(name=n) for n in named[:4]),
            )
        )  # fmt: skip
    return made


def timed(function: Callable[[], Any], repeats: int, linker: Linker) -> float:
    """Seconds of processor time of the fastest of several runs, so that a busy machine does not count. What was
    remembered of texts, options and names is forgotten before each."""
    best = float("inf")
    for _ in range(repeats):
        linker.clear_cache()
        words.clear_cache()
        option_linker.cache_clear()
        started = time.process_time()
        function()
        best = min(best, time.process_time() - started)
    return best


def case(name: str, ours: float, peer: float | None, unit: str, note: str) -> dict[str, Any]:
    ratio = None if peer is None else (ours / peer if not unit.startswith("us") else peer / ours)
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "note": note}


def rule_terms(linker: Linker, scored: list[ScoreItem], repeats: int) -> dict[str, Any]:
    rewards = load_rewards(list(TERMS), linker=linker, max_tokens=512)
    seconds = timed(lambda: rewards.score_batch(scored), repeats, linker)
    long = sum(len(i.reply.split()) for i in scored) / len(scored)
    note = f"{len(scored)} replies of {long:.0f} words; peer is the floor asked for"
    return case(f"all {len(TERMS)} rule terms", len(scored) / seconds * 60, 20_000.0, "replies/min", note)


def linking(linker: Linker, concepts: list[Concept], scored: list[ScoreItem], repeats: int) -> list[dict[str, Any]]:
    texts = [i.reply for i in scored]
    names = sorted({n.casefold() for c in concepts for n in names_of(c)})
    ours = len(texts) / timed(lambda: [linker.link(t) for t in texts], repeats, linker) * 60
    few = texts[: max(2, len(texts) // 200)]
    scan = len(few) / timed(lambda: [[n for n in names if n in t] for t in (x.casefold() for x in few)], 1, linker) * 60
    found = [case("linking against substring scan", ours, scan, "replies/min", inside_words(texts[:20], names))]
    automaton = aho_corasick(names)
    if automaton is not None:
        peer = len(texts) / timed(lambda: [list(automaton.iter(t.casefold())) for t in texts], repeats, linker) * 60
        note = "the automaton is in C and has neither boundaries nor negation"
        found.append(case("linking against Aho-Corasick", ours, peer, "replies/min", note))
    return found


def aho_corasick(names: list[str]) -> Any:
    """An automaton of the names, or None where pyahocorasick is not installed."""
    try:
        import ahocorasick  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    automaton = ahocorasick.Automaton()
    for name in names:
        automaton.add_word(name, name)
    automaton.make_automaton()
    return automaton


def inside_words(texts: list[str], names: list[str]) -> str:
    """How many hits of a scan without boundaries lie inside another word."""
    hits = false = 0
    for text in (t.casefold() for t in texts):
        for name in names:
            at = text.find(name)
            if at >= 0:
                hits += 1
                end = at + len(name)
                false += text[at - 1 : at].isalnum() or text[end : end + 1].isalnum()
    return f"{false} of {hits} hits of the scan lie inside another word"


def growth(linker: Linker, scored: list[ScoreItem], repeats: int) -> list[dict[str, Any]]:
    """Microseconds a thousand characters at three lengths; the peer is the shortest."""
    base = " ".join(i.reply for i in scored)
    found = []
    first = None
    for size in (10_000, 100_000, 1_000_000):
        text = (base * (size // len(base) + 1))[:size]
        us = timed(lambda text=text: linker.link(text), repeats, linker) * 1e9 / size
        first = us if first is None else first
        found.append(case(f"linking, {size:,} characters", us, first, "us/1000 chars", "peer: the same at 10,000"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer names, replies and repeats")
    parser.add_argument("--json", type=Path, help="write the cases here")
    args = parser.parse_args()
    num_names, num_items, repeats = (10_000, 200, 1) if args.quick else (NUM_NAMES, 2000, 3)
    concepts = lexicon(num_names)
    started = time.perf_counter()
    linker = Linker.of(concepts)
    indexed = time.perf_counter() - started
    scored = items(concepts, num_items)
    found = [rule_terms(linker, scored, repeats), *linking(linker, concepts, scored, repeats)]
    found += growth(linker, scored, repeats)
    print(f"lexicon of {len(linker):,} names, indexed in {indexed:.2f} s; one thread\n")
    print(f"{'case':<34} {'ours':>12} {'peer':>12} {'ratio':>8}  unit")
    for row in found:
        peer = "-" if row["peer"] is None else f"{row['peer']:,.1f}"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['name']:<34} {row['ours']:>12,.1f} {peer:>12} {ratio:>8}  {row['unit']}; {row['note']}")
    if args.json:
        args.json.write_text(json.dumps({"cases": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
