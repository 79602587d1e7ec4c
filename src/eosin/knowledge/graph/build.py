"""Build a graph folder from sources: read, merge, check, write. Whole or not at all; nothing is ever overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import write_text_atomic, writing
from eosin.knowledge.graph.assemble import Assembled, assemble
from eosin.knowledge.graph.columns import KIND
from eosin.knowledge.graph.concepts import Refusal
from eosin.knowledge.graph.drafts import Drafts
from eosin.knowledge.graph.faults import fault_error, place_of, sources_of
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.graph.vocabulary import Vocabulary, builtin_vocabulary
from eosin.knowledge.sources import SourceSpec, reader_of

SHOWN_FAULTS = 8
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """What a build made.

    Attributes:
        graph: the graph, opened from its folder.
        refusals: what was not taken over, as in `refused.jsonl`; very many rows alike are one entry with their number.
    """

    path: Path
    graph: Graph
    refusals: Sequence[Refusal]


def build_graph(
    out: Path,
    specs: Sequence[SourceSpec],
    *,
    keep_going: bool = False,
    tables: bool = True,
    by_reference: bool = True,
    vocabulary: Vocabulary | None = None,
    progress: Progress | None = None,
) -> Built:
    """Build a graph folder.

    Args:
        out: where it shall stand; nothing may be there.
        specs: the sources, the most trusted first: of merged concepts the first source gives id and label.
        keep_going: keep the good part of faulty sources, and list what was refused.
        tables: add the built-in tables of markers, stains and grading systems.
        by_reference: let cross-references join concepts; else they become relations `close_match`.
        vocabulary: relations to use in place of the built-in ones.
        progress: called with one line as each step begins.

    Raises:
        EosinError: nothing to build from, an unreadable file, or a fault in a source without `keep_going`.
    """
    tell = progress or (lambda line: None)
    if not specs and not tables:
        raise EosinError("A knowledge graph needs at least one source.", next_step="--source obo:FILE")
    if out.exists():
        raise EosinError("There is something at this place already, and Eosin never overwrites.", where=out,
                         next_step="choose another OUT, or move the old folder away")  # fmt: skip
    drafts = Drafts(vocabulary or builtin_vocabulary())
    chosen = _with_tables(specs, tables)
    for spec in chosen:
        tell(f"reading {spec.kind} {spec.path.name if spec.path else '(built in)'}")
        drafts.take(spec.name, reader_of(spec))
    tell("merging and checking")
    assembled = assemble(drafts, lambda: sources_of(chosen, drafts), by_reference=by_reference)
    refusals = drafts.refusals.all()
    faults = [r for r in refusals if r.fault]
    if faults and not keep_going:
        raise fault_error(faults, chosen)
    if not assembled.columns.tables["concepts"].num_rows:
        raise EosinError("The sources hold no concept.", where=", ".join(str(s.path) for s in chosen if s.path))
    tell("writing")
    _write(out, assembled, refusals, chosen)
    return Built(out, Graph.open(out), tuple(refusals))


def _with_tables(specs: Sequence[SourceSpec], tables: bool) -> list[SourceSpec]:
    """All sources with unique names; the built-in tables last, so that an ontology's concept keeps its own id."""
    chosen = [*specs, *([SourceSpec("tables", None, "eosin tables")] if tables else [])]
    seen: dict[str, int] = {}
    unique = []
    for spec in chosen:
        num = seen[spec.name] = seen.get(spec.name, 0) + 1
        unique.append(spec if num == 1 else replace(spec, name=f"{spec.name} ({num})"))
    return unique


def _write(out: Path, assembled: Assembled, refusals: Sequence[Refusal], specs: Sequence[SourceSpec]) -> None:
    facts = assembled.columns.facts
    with writing(out, KIND, record={"sources": [s["name"] for s in facts["sources"]]}) as writer:
        assembled.columns.write(writer.dir)
        rows = [{"file": place_of(r, specs), "reason": r.reason, "detail": r.detail, "source": r.source, "line": r.line,
                 "fault": r.fault, "num": r.num} for r in refusals]  # fmt: skip
        _write_jsonl(writer.dir / "refused.jsonl", rows)
        _write_jsonl(writer.dir / "merges.jsonl", [vars(m) for m in assembled.merges])
        writer.counts.update(facts["counts"])
        writer.facts["graph"] = facts


def _write_jsonl(path: Path, rows: Iterable[object]) -> None:
    write_text_atomic(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
