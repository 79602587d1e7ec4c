"""`eosin knowledge`: build a graph from ontologies, look into it, link text, find paths, check a reasoning trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from eosin.knowledge.graph.concepts import Concept
    from eosin.knowledge.graph.graph import Graph
    from eosin.knowledge.linking.linker import Linker
    from eosin.knowledge.sources import SourceSpec

app = typer.Typer(
    help="Ontologies in; linked, signed entities and evidence paths out. Research use only.", no_args_is_help=True
)
GraphOption = Annotated[
    Path | None,
    typer.Option("--graph", "-g", envvar="EOSIN_GRAPH", help="A graph folder. Default: Eosin's own tables alone."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines instead of text.")]


@app.command()
def build(
    out: Annotated[Path, typer.Argument(help="A new folder for the graph.")],
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            "-s",
            help="KIND:FILE, repeatable, the most trusted first. Kinds: obo, owl, obographs, "
            "oncotree, primekg, tsv, kgx, sssom, pathoml, umls.",
        ),
    ] = None,
    keep_going: Annotated[bool, typer.Option(help="Keep the good part of faulty files; list the rest.")] = False,
    without_tables: Annotated[
        bool, typer.Option(help="Leave out Eosin's own tables of findings, markers, stains and grades.")
    ] = False,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Merge by equal id and declared exact match, not by cross-reference.")
    ] = False,
    licence: Annotated[
        list[str] | None, typer.Option(help="FILENAME=LICENCE, where neither the file nor a SOURCE.txt says it.")
    ] = None,
    relations: Annotated[
        Path | None, typer.Option(help="A vocabulary of relations in place of the built-in one.")
    ] = None,
) -> None:
    """Build a graph folder. It appears when it is whole; nothing is overwritten.

    Example: eosin knowledge build out/graph --source obo:doid.obo --source oncotree:oncotree.json
    """
    from eosin.knowledge.graph.build import build_graph
    from eosin.knowledge.graph.vocabulary import read_vocabulary
    from eosin.knowledge.sources import parse_spec

    console = _console(stderr=True)
    specs = _with_licences([parse_spec(s) for s in source or []], licence or [])
    vocabulary = read_vocabulary(_text_of(relations), relations) if relations else None
    built = build_graph(
        out, specs, keep_going=keep_going, tables=not without_tables, by_reference=not exact_only,
        vocabulary=vocabulary, progress=lambda line: console.print(f"[dim]{line}[/dim]"),
    )  # fmt: skip
    counts = built.graph.record["counts"]
    console.print(
        f"{counts['concepts']:,} concepts, {counts['names']:,} names, {counts['relations']:,} relations in {out}; "
        f"{counts['merged']:,} ids merged, {counts['set aside']:,} set aside"
    )
    if counts["refused"]:
        console.print(f"[yellow]refused for a fault: {counts['refused']:,}[/yellow]; see {out / 'refused.jsonl'}")


def _with_licences(specs: list[SourceSpec], licences: list[str]) -> list[SourceSpec]:
    from dataclasses import replace

    from eosin.core.errors import EosinError

    found = dict(text.partition("=")[::2] for text in licences)
    unknown = [name for name in found if name not in {s.name for s in specs}]
    if unknown:
        raise EosinError(
            "A licence names no source.", expected=", ".join(s.name for s in specs), found=", ".join(unknown)
        )
    return [replace(s, licence=found.get(s.name, s.licence)) for s in specs]


@app.command()
def stats(
    graph: Annotated[
        Path | None, typer.Argument(envvar="EOSIN_GRAPH", help="A graph folder. Default: Eosin's own tables alone.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print what a graph holds: sources with version, licence and counts, types, relations, and what was refused.

    Example: eosin knowledge stats out/graph
    """
    from collections import Counter

    opened = _open(graph)
    types = Counter(opened.types_column().to_pylist())
    codes = Counter(opened.columns.array("edges", "predicate").tolist())
    relations = {opened.predicates[c]: n for c, n in codes.most_common()}
    reasons: Counter[tuple[str, bool]] = Counter()
    for row in _jsonl(graph / "refused.jsonl") if graph else []:
        reasons[row["reason"], row["fault"]] += row.get("num", 1)
    if json:
        _print_json({**opened.record, "types": dict(types.most_common()), "relation kinds": relations,
                     "refused": {r: n for (r, fault), n in reasons.most_common() if fault},
                     "set aside": {r: n for (r, fault), n in reasons.most_common() if not fault}})  # fmt: skip
        return
    _print_stats(opened, dict(types.most_common()), relations, dict(reasons.most_common()))


def _print_stats(
    graph: Graph, types: dict[str, int], relations: dict[str, int], reasons: dict[tuple[str, bool], int]
) -> None:
    console = _console()
    counts = graph.record["counts"]
    console.print(", ".join(f"{n:,} {name}" for name, n in counts.items()))
    columns = ("concepts", "names", "relations", "set aside", "refused")
    rows = [["source", "version", "licence", *columns]]
    for s in graph.sources:
        numbers = [f"{s.counts.get(c, 0):,}" for c in columns]
        rows.append([s.name, s.version.rsplit("/releases/", 1)[-1], s.licence or "not stated", *numbers])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [c.ljust(w) if k < 3 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))]
        console.print("  ".join(cells).rstrip(), markup=False)
    console.print("types:     " + ", ".join(f"{t} {n:,}" for t, n in types.items()))
    known = {p: n for p, n in relations.items() if ":" not in p}
    others = sum(relations.values()) - sum(known.values())
    more = f", others by their CURIE {others:,}" if others else ""
    console.print("relations: " + ", ".join(f"{p} {n:,}" for p, n in known.items()) + more)
    for title, fault in (("refused:   ", True), ("set aside: ", False)):
        shown = [f"{reason} {n:,}" for (reason, f), n in reasons.items() if f is fault]
        if shown:
            console.print(title + ", ".join(shown))


@app.command()
def show(
    term: Annotated[str, typer.Argument(help="An id or a name; a part of a name lists what fits.")],
    graph: GraphOption = None,
    limit: Annotated[int, typer.Option(help="Relations and hits shown at most.")] = 20,
    json: JsonOption = False,
) -> None:
    """Print a concept: names, definition, cross-references, relations. A part of a name lists the concepts that fit.

    Example: eosin knowledge show "signet ring cell carcinoma" --graph out/graph
    """
    from eosin.core.errors import EosinError

    opened = _open(graph)
    hits = opened.search(term, limit)
    if not hits:
        raise EosinError("No concept bears this name.", found=term, next_step="try a part of the name")
    exact = [h for h in hits if h.how in ("id", "exact")]
    console = _console()
    if not exact:
        for hit in hits:
            line = f"{hit.concept.id}  {hit.concept.label}  ({hit.concept.type})"
            found = "" if hit.name == hit.concept.label else f"  by {hit.name}"
            _print_json({**_concept_row(hit.concept), "found": hit.name}) if json else console.print(line + found)
        return
    for hit in exact:
        if json:
            rows = [vars(r) for r in opened.relations(hit.concept.id, "both")]
            _print_json({**_concept_row(hit.concept), "aliases": opened.aliases(hit.concept.id), "relations": rows})
        else:
            _print_concept(console, opened, hit.concept, limit)


def _concept_row(concept: Concept) -> dict[str, Any]:
    synonyms = [{"text": s.text, "scope": s.scope} for s in concept.synonyms]
    return {**vars(concept), "synonyms": synonyms, "xrefs": list(concept.xrefs)}


def _print_concept(console: Console, graph: Graph, concept: Concept, limit: int) -> None:
    from eosin.knowledge.reasoning.paths import Step, step_sentence

    console.print(f"[bold]{concept.label}[/bold]  {concept.id}  {concept.type}  from {concept.source}", markup=True)
    if concept.definition:
        console.print(f"  {concept.definition}", markup=False)
    for scope in ("exact", "narrow", "broad", "related"):
        texts = [s.text for s in concept.synonyms if s.scope == scope]
        if texts:
            more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
            console.print(f"  {scope}: {'; '.join(texts[:limit])}{more}", markup=False)
    aliases = graph.aliases(concept.id)
    if aliases:
        console.print(f"  merged ids: {', '.join(aliases)}", markup=False)
    if concept.xrefs:
        console.print(f"  elsewhere: {', '.join(concept.xrefs)}", markup=False)
    relations = graph.relations(concept.id, "both")
    weights = graph.vocabulary
    relations.sort(key=lambda r: (-abs(weights[r.predicate].sign), -weights[r.predicate].weight))
    for r in relations[:limit]:
        sentence = step_sentence(Step(r, r.subject == concept.id), graph)
        where = f"{r.source}; {r.evidence}" if r.evidence else r.source
        console.print(f"  - {sentence}  ({where})", markup=False)
    if len(relations) > limit:
        console.print(f"  ... {len(relations) - limit} more relations; --limit shows them", markup=False)


@app.command()
def paths(
    a: Annotated[str, typer.Argument(help="Id or name of a concept.")],
    b: Annotated[str, typer.Argument(help="Id or name of another.")],
    graph: GraphOption = None,
    k: Annotated[int, typer.Option("-k", help="How many paths.")] = 3,
    hops: Annotated[int, typer.Option(help="The longest path, in steps.")] = 4,
    hub_limit: Annotated[
        int, typer.Option(help="No path passes through a concept with more relations; 0: no limit.")
    ] = 2000,
    json: JsonOption = False,
) -> None:
    """Print the paths of evidence between two concepts, the strongest first.

    Example: eosin knowledge paths CK20 "colorectal adenocarcinoma" --graph out/graph
    """
    from eosin.knowledge.reasoning.paths import paths as find_paths

    opened = _open(graph)
    ids = [_resolve(opened, t) for t in (a, b)]
    found = find_paths(opened, ids[0], ids[1], k, max_hops=hops, hub_limit=hub_limit or None)
    console = _console()
    for path in found:
        if json:
            steps = [{**vars(s.relation), "forward": s.forward} for s in path.steps]
            _print_json({"cost": path.cost, "sign": path.sign, "sentence": path.sentence(opened), "steps": steps})
        else:
            console.print(f"{path.cost:6.2f}  {path.sentence(opened)}", markup=False)
    if not found:
        names = " and ".join(opened.label_of(i) for i in ids)
        _console(stderr=True).print(
            f"no path of at most {hops} steps between {names}; --hops or --hub-limit widen the search"
        )


@app.command()
def contrast(
    a: Annotated[str, typer.Argument(help="Id or name of a diagnosis.")],
    b: Annotated[str, typer.Argument(help="Id or name of another.")],
    graph: GraphOption = None,
    json: JsonOption = False,
) -> None:
    """Print the differential: what speaks for one diagnosis and against the other.

    Example: eosin knowledge contrast "malignant mesothelioma" "lung adenocarcinoma"
    """
    from eosin.knowledge.reasoning.differential import contrast as compare

    opened = _open(graph)
    found = compare(opened, _resolve(opened, a), _resolve(opened, b))
    if json:

        def rows(part: Any) -> list[dict[str, Any]]:
            return [{"concept": d.concept, "label": opened.label_of(d.concept), "score": d.score} for d in part]

        _print_json({"a": found.a, "b": found.b, "for_a": rows(found.for_a), "for_b": rows(found.for_b),
                     "shared": rows(found.shared), "common": found.common, "sites": found.sites})  # fmt: skip
        return
    console = _console()
    lines = found.lines(opened)
    for line in lines or ["The graph says nothing that tells them apart."]:
        console.print(line, markup=False)


@app.command()
def link(
    file: Annotated[Path | None, typer.Argument(help="A text file; - or nothing reads standard input.")] = None,
    graph: GraphOption = None,
    types: Annotated[str | None, typer.Option(help="Semantic types to look for, divided by commas.")] = None,
    json: JsonOption = False,
) -> None:
    """Link each line of a text: coloured text, or with --json one line of JSON each.

    Example: echo "No necrosis; CK7+, cannot exclude carcinoma" | eosin knowledge link
    """
    from eosin.knowledge.linking.linker import coloured, to_json

    linker = _linker(graph, [t.strip() for t in types.split(",")] if types else None)
    console = _console()
    for line in _lines(file):
        mentions = linker.link(line)
        if json:
            print(to_json(line, mentions))
        else:
            console.print(coloured(line, mentions))


@app.command()
def check(
    trace: Annotated[
        Path | None, typer.Argument(help="A text file with a reasoning trace; - or nothing: standard input.")
    ] = None,
    graph: GraphOption = None,
    sees: Annotated[str, typer.Option(help="What the image is: he_tile, he_slide or ihc.")] = "he_tile",
    context: Annotated[str, typer.Option(help="Clinical text that the reasoner was given.")] = "",
    strict: Annotated[bool, typer.Option(help="End with status 1 where something is flagged.")] = False,
    json: JsonOption = False,
) -> None:
    """Check a reasoning trace against the graph: what is supported, contradicted, unknown, or not visible.

    Example: eosin knowledge check trace.txt --graph out/graph --sees he_slide
    """
    from eosin.knowledge.reasoning.check import check as check_trace

    text = "\n".join(_lines(trace))
    report = check_trace(text, _open(graph), _linker(graph, None), sees=sees, context=context)
    if json:
        _print_json(report.record())
    else:
        _console().print(report.text(), markup=False)
    if strict and report.flags:
        raise typer.Exit(1)


@app.command()
def quality(graph: GraphOption = None, json: JsonOption = False) -> None:
    """Measure the linker on the sentences that were annotated for it, and list every miss.

    Example: eosin knowledge quality
    """
    from eosin.knowledge.linking.quality import measure

    found = measure(_linker(graph, None))
    if json:
        _print_json(found.record())
        return
    console = _console()
    for line in found.lines():
        console.print(line, markup=False)


# --- helpers ----------------------------------------------------------------------------------------------------------
def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def _print_json(row: Any) -> None:
    import json

    print(json.dumps(row, ensure_ascii=False))


def _open(path: Path | None) -> Graph:
    """The graph of a folder, or that of the built-in tables."""
    from eosin.knowledge.graph.graph import Graph

    return Graph.open(path) if path else Graph.builtin()


def _linker(path: Path | None, types: list[str] | None) -> Linker:
    from eosin.core.errors import EosinError
    from eosin.knowledge.graph.concepts import TYPES
    from eosin.knowledge.linking.linker import Linker

    unknown = [t for t in types or [] if t not in TYPES]
    if unknown:
        raise EosinError("There is no such semantic type.", expected=", ".join(TYPES), found=", ".join(unknown))
    if path is None and types is None:
        return Linker.builtin()
    graph = _open(path)
    return Linker.of(graph, types=types, with_tables=any(s.kind == "tables" for s in graph.sources))


def _resolve(graph: Graph, text: str) -> str:
    """The id of a concept from its id or its name.

    Raises:
        EosinError: no such name, or a name of several concepts.
    """
    from eosin.core.errors import EosinError

    if text in graph:
        return graph.canonical(text)
    found = graph.find(text)
    if len(found) == 1:
        return found[0]
    labelled = [c for c in found if graph.label_of(c).casefold() == text.casefold()]
    if len(labelled) == 1:
        return labelled[0]
    near = found or [h.concept.id for h in graph.search(text, 6)]
    raise EosinError(
        "Several concepts bear this name." if found else "No concept bears this name.",
        found=text,
        expected="one of: " + "; ".join(f"{c} ({graph.label_of(c)})" for c in near[:6]) if near else None,
        next_step="give the id, or look with `eosin knowledge show`",
    )


def _text_of(path: Path) -> str:
    from eosin.core.errors import EosinError

    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise EosinError("This file cannot be read as UTF-8 text.", found=str(exc), where=path) from None


def _lines(path: Path | None) -> Iterator[str]:
    """Lines of a file or of standard input, without line ends."""
    if path is not None and str(path) != "-":
        yield from _text_of(path).split("\n")
        return
    for line in sys.stdin:
        yield line.rstrip("\r\n")


def _jsonl(path: Path) -> list[dict[str, Any]]:
    from eosin.core.store.artifacts import read_jsonl

    return read_jsonl(path)
