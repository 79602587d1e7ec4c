"""Speed and quality of the linker: megabytes of report text a second on one core, memory, and hand-annotated sentences.

    python benchmarks/knowledge_linker.py [--graph FOLDER] [--quick] [--quality] [--json FILE]

Without a graph Eosin's own tables are linked. Peers look for the same names in the same text, in the same process,
where they are installed: spaCy's PhraseMatcher (lower case), gilda's annotator (with a grounder of our names, on a
twentieth of the text) and an Aho-Corasick automaton (pyahocorasick, no word boundaries). None of them reads negation,
doubt or scope, and none folds spelling and plural. `benchmarks/knowledge.py` runs these too.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking import words
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.quality import measure, sentences

FLOOR_MB_PER_S = 1.0
MAX_MB = 500.0


def reports(num_chars: int, seed: int = 0) -> list[str]:
    """Made-up reports of about 1,300 characters, from the annotated sentences, with headings and line breaks."""
    rng = random.Random(seed)
    texts = [s.text for s in sentences()]
    made: list[str] = []
    total = 0
    while total < num_chars:
        body = " ".join(rng.choice(texts) for _ in range(25))
        text = f"Clinical history: {rng.choice(texts)}\nMicroscopy: {body}\nDiagnosis: {rng.choice(texts)}\n"
        made.append(text)
        total += len(text)
    return made


def cases(graph: Graph | None, quick: bool) -> list[dict[str, Any]]:
    """Cases in the form of all benchmarks: name, ours, peer, unit, ratio (above 1: Eosin is better), note."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    started = time.process_time()
    linker = Linker.of(graph) if graph is not None else Linker.builtin()
    built = time.process_time() - started
    grown = (process.memory_info().rss - before) / 1e6
    texts = reports(100_000 if quick else 1_000_000)
    repeats = 1 if quick else 3
    mb = sum(len(t.encode()) for t in texts) / 1e6
    num = sum(len(linker.link(t)) for t in texts)
    ours = mb / timed(lambda: [linker.link(t) for t in texts], linker, repeats)
    note = f"{len(linker):,} names; {num:,} mentions in {mb:.2f} MB; peer is the floor asked for"
    found = [
        case("linking report text", ours, FLOOR_MB_PER_S, "MB/s", note),
        case("linker made", built, None, "s", f"{len(linker):,} names"),
        case("memory of the linker", grown, MAX_MB, "MB", "peer is the ceiling asked for, for the whole process"),
        *peers(linker, graph, texts, ours, repeats),
    ]
    return found + quality(linker)


def timed(function: Callable[[], object], linker: Linker, repeats: int) -> float:
    """Seconds of processor time of the fastest of several runs. Remembered texts are forgotten before each."""
    best = float("inf")
    for _ in range(repeats):
        words.clear_cache()
        linker.clear_cache()
        started = time.process_time()
        function()
        best = min(best, time.process_time() - started)
    return best


def case(name: str, ours: float, peer: float | None, unit: str, note: str) -> dict[str, Any]:
    better_high = unit in ("MB/s", "share")
    ratio = None if peer is None else (ours / peer if better_high else peer / max(ours, 1e-9))
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "note": note}


def peers(linker: Linker, graph: Graph | None, texts: Sequence[str], ours: float, repeats: int) -> list[dict[str, Any]]:
    """The peers that are installed."""
    names = sorted({n.casefold() for n in all_names(graph) if len(n) > 2})
    found = []
    for name, make, part in (
        ("spaCy PhraseMatcher", phrase_matcher, 1), ("gilda annotate", gilda_annotate, 20),
        ("Aho-Corasick automaton", automaton, 1),
    ):  # fmt: skip
        look = make(names)
        if look is not None:
            some = texts[: max(1, len(texts) // part)]
            mb = sum(len(t.encode()) for t in some) / 1e6
            num = sum(look(t) for t in some)
            speed = mb / timed(lambda look=look, some=some: [look(t) for t in some], linker, repeats)
            note = f"{len(names):,} names; {num:,} hits in {mb:.2f} MB"
            found.append(case(f"linking against {name}", ours, speed, "MB/s", note))
    return found


def all_names(graph: Graph | None) -> list[str]:
    graph = graph or Graph.builtin()
    return [text for text, _, _ in graph.names()]


def phrase_matcher(names: Sequence[str]) -> Callable[[str], int] | None:
    """Tokenizing and matching by spaCy, or None where it is not installed."""
    try:
        import spacy
        from spacy.matcher import PhraseMatcher
    except ImportError:
        return None
    nlp = spacy.blank("en")
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    matcher.add("name", list(nlp.tokenizer.pipe(names)))
    return lambda text: len(matcher(nlp.make_doc(text)))


def gilda_annotate(names: Sequence[str]) -> Callable[[str], int] | None:
    """gilda's tokenizing, matching and scoring over a grounder of these names, or None where it is not installed."""
    try:
        from gilda.grounder import Grounder
        from gilda.ner import annotate
        from gilda.process import normalize
        from gilda.term import Term
    except ImportError:
        return None
    folded = ((str(i), n, normalize(n)) for i, n in enumerate(names))
    grounder = Grounder([Term(f, n, "DOID", i, n, "name", "eosin") for i, n, f in folded if f.strip()])
    return lambda text: len(annotate(text, grounder=grounder, context_text=""))  # its models of context are a download


def automaton(names: Sequence[str]) -> Callable[[str], int] | None:
    """pyahocorasick over lower-case text, or None where it is not installed."""
    try:
        import ahocorasick
    except ImportError:
        return None
    made = ahocorasick.Automaton()
    for name in names:
        made.add_word(name, name)
    made.make_automaton()
    return lambda text: sum(1 for _ in made.iter(text.casefold()))


def quality(linker: Linker) -> list[dict[str, Any]]:
    """The figures of the annotated sentences, beside the 0.95 that was asked for."""
    measured = measure(linker)
    found = []
    for part, tally in measured.parts.items():
        figures = {"span F1": tally.f1} | {f"{n} accuracy": tally.share(n) for n in ("concept", "polarity")}
        note = f"{tally.gold} mentions; the peer is what was asked for"
        found += [case(f"{name}, {part} part", v, 0.95, "share", note) for name, v in figures.items()]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, help="a graph folder; else Eosin's tables alone")
    parser.add_argument("--quick", action="store_true", help="a tenth of the text, one repeat")
    parser.add_argument("--quality", action="store_true", help="only the annotated sentences, with every miss")
    parser.add_argument("--json", type=Path, help="write the cases here")
    args = parser.parse_args()
    graph = Graph.open(args.graph) if args.graph else None
    if args.quality:
        print("\n".join(measure(Linker.of(graph) if graph else Linker.builtin()).lines()))
        return
    found = cases(graph, args.quick)
    print(f"{'case':<38} {'ours':>10} {'peer':>10} {'ratio':>7}  unit")
    for row in found:
        peer = "-" if row["peer"] is None else f"{row['peer']:,.3f}"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['name']:<38} {row['ours']:>10,.3f} {peer:>10} {ratio:>7}  {row['unit']}; {row['note']}")
    if args.json:
        args.json.write_text(json.dumps({"cases": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
