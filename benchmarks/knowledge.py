"""The knowledge graph at the size of PrimeKG, against networkx, and at the size of the real ontologies.

    python benchmarks/knowledge.py [--quick] [--json FILE] [--kg FILE] [--ontologies FOLDER] [--work FOLDER]

The graph is generated: the numbers of nodes of each type and of edges of each relation are those of the PrimeKG paper
(Chandak et al., Scientific Data 2023), endpoints are drawn with a heavy tail, so that there are hubs. `--kg` takes the
real kg.csv in its place. --quick makes a graph of one twentieth. The linker's cases stand in knowledge_linker.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.reasoning.paths import paths

NODES = {
    "biological_process": (28642, "GO"), "gene/protein": (27671, "NCBI"), "disease": (17080, "MONDO"),
    "effect/phenotype": (15311, "HPO"), "anatomy": (14035, "UBERON"), "molecular_function": (11169, "GO"),
    "drug": (7957, "DrugBank"), "cellular_component": (4176, "GO"), "pathway": (2516, "REACTOME"),
    "exposure": (818, "CTD"),
}  # fmt: skip
EDGES = {
    "anatomy_protein_present": ("anatomy", "gene/protein", 3036406), "drug_drug": ("drug", "drug", 2672628),
    "protein_protein": ("gene/protein", "gene/protein", 642150),
    "disease_phenotype_positive": ("disease", "effect/phenotype", 300634),
    "bioprocess_protein": ("biological_process", "gene/protein", 289610),
    "cellcomp_protein": ("cellular_component", "gene/protein", 166804),
    "disease_protein": ("disease", "gene/protein", 160822), "molfunc_protein": ("molecular_function",
    "gene/protein", 139060),
    "drug_effect": ("drug", "effect/phenotype", 129568),
    "bioprocess_bioprocess": ("biological_process", "biological_process", 105772),
    "pathway_protein": ("pathway", "gene/protein", 85292), "disease_disease": ("disease", "disease", 64388),
    "contraindication": ("drug", "disease", 61350), "drug_protein": ("drug", "gene/protein", 51306),
    "anatomy_protein_absent": ("anatomy", "gene/protein", 39774),
    "phenotype_phenotype": ("effect/phenotype", "effect/phenotype", 37472), "anatomy_anatomy": ("anatomy",
    "anatomy", 28064),
    "molfunc_molfunc": ("molecular_function", "molecular_function", 27148), "indication": ("drug", "disease", 18776),
    "cellcomp_cellcomp": ("cellular_component", "cellular_component", 9690),
    "phenotype_protein": ("effect/phenotype", "gene/protein", 6660), "off-label use": ("drug", "disease", 5136),
    "pathway_pathway": ("pathway", "pathway", 5070), "exposure_disease": ("exposure", "disease", 4608),
    "exposure_exposure": ("exposure", "exposure", 4140), "exposure_bioprocess": ("exposure",
    "biological_process", 3250),
    "exposure_protein": ("exposure", "gene/protein", 2424),
    "disease_phenotype_negative": ("disease", "effect/phenotype", 2386),
    "exposure_molfunc": ("exposure", "molecular_function", 90), "exposure_cellcomp": ("exposure",
    "cellular_component", 20),
}  # fmt: skip
TAIL = 0.55
"""Exponent of the popularity of the nodes of a type by rank."""
NEEDED = {
    "primekg build": 600.0,
    "primekg path": 50.0,
    "primekg memory": 4096.0,
    "ontologies build": 60.0,
    "open": 500.0,
}


def _draw(rng: np.random.Generator, num: int, size: int) -> NDArray[np.int64]:
    """Node numbers with a heavy tail."""
    weights = np.arange(1, num + 1, dtype=np.float64) ** -TAIL
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size)).clip(0, num - 1)


def _pairs(rng: np.random.Generator, nums: tuple[int, int], wanted: int, same: bool) -> NDArray[np.int64]:
    """Distinct pairs (wanted, 2); within one type without loops and in one direction."""
    keys: NDArray[np.int64] = np.zeros(0, np.int64)
    while len(keys) < wanted:
        size = 2 * (wanted - len(keys)) + 1000
        s, o = _draw(rng, nums[0], size), _draw(rng, nums[1], size)
        if same:
            s, o = np.minimum(s, o), np.maximum(s, o)
            s, o = s[s != o], o[s != o]
        keys = np.unique(np.concatenate([keys, s * nums[1] + o]))
    keys = rng.permutation(keys)[:wanted]
    return np.stack([keys // nums[1], keys % nums[1]], axis=1)


def write_kg(path: Path, scale: float = 1.0, seed: int = 0) -> tuple[int, int]:
    """Write a csv in PrimeKG's form. Gives the numbers of nodes and of directed edges (rows)."""
    rng = np.random.default_rng(seed)
    begin, total, columns = {}, 0, {"id": [], "type": [], "name": [], "source": []}
    for kind, (num, source) in NODES.items():
        num = max(10, round(num * scale))
        begin[kind] = (total, num)
        total += num
        columns["id"] += [f"R-HSA-{i}" if source == "REACTOME" else f"DB{i:05d}" if source == "DrugBank" else
                          str(i + 7 * total if source == "GO" else i + 1) for i in range(num)]  # fmt: skip
        columns["type"] += [kind] * num
        columns["name"] += [f"{kind.split('/')[-1].replace('_', ' ')} number {i}" for i in range(num)]
        columns["source"] += [source] * num
    arrays = {k: pa.array(v) for k, v in columns.items()}
    arrays["index"] = pa.array([str(i) for i in range(total)])
    rows = 0
    schema = None
    writer = None
    for relation, (a, b, wanted) in EDGES.items():
        first, second = begin[a], begin[b]
        most = first[1] * second[1] // 4
        pairs = _pairs(rng, (first[1], second[1]), min(max(1, round(wanted * scale / 2)), most), a == b)
        s, o = pairs[:, 0] + first[0], pairs[:, 1] + second[0]
        x, y = pa.array(np.concatenate([s, o])), pa.array(np.concatenate([o, s]))
        named = {"relation": pa.array([relation]).take(pa.array(np.zeros(len(x), np.int8)))}
        named["display_relation"] = named["relation"]
        for side, taken in (("x", x), ("y", y)):
            named |= {f"{side}_{c}": arrays[c].take(taken) for c in ("index", "id", "type", "name", "source")}
        table = pa.table(named)
        schema = schema or table.schema
        writer = writer or pacsv.CSVWriter(path, schema)
        writer.write_table(table)
        rows += table.num_rows
    assert writer is not None
    writer.close()
    return total, rows


def in_process(code: str, *arguments: str) -> dict[str, Any]:
    """Run code in a fresh interpreter with its memory and time of its own; it prints one line of JSON."""
    folders = os.pathsep.join((str(Path(__file__).parent.resolve()), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": folders})  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


BUILD = """
import json, sys, time
from pathlib import Path
from eosin.knowledge.graph.build import build_graph
from eosin.knowledge.sources import parse_spec
from peak import peak_bytes
start = time.perf_counter()
graph = build_graph(Path(sys.argv[1]), [parse_spec(s) for s in sys.argv[2:]], keep_going=True).graph
print(json.dumps({"seconds": time.perf_counter() - start, "concepts": len(graph), "names": graph.num_names,
                  "relations": graph.num_relations,
                  "peak_mib": peak_bytes() / 2**20}))
"""
OPEN = """
import json, sys, time
from pathlib import Path
import psutil
from eosin.knowledge.graph.graph import Graph
before = psutil.Process().memory_info().rss
start = time.perf_counter()
graph = Graph.open(Path(sys.argv[1]))
first = next(graph.ids())
concept, relations = graph.concept(first), graph.relations(first, "both")
ms = 1000 * (time.perf_counter() - start)
print(json.dumps({"ms": ms, "mib": (psutil.Process().memory_info().rss - before) / 2**20}))
"""


def case(name: str, ours: float, peer: float | None, unit: str, note: str, *, lower: bool = True) -> dict[str, Any]:
    """A row of the result. Ratio above 1 means that Eosin is better than the peer or the limit."""
    ratio = None if not peer or not ours else round(peer / ours if lower else ours / peer, 2)
    return {"name": name, "ours": round(ours, 3), "peer": None if peer is None else round(peer, 3), "unit": unit,
            "ratio": ratio, "note": note}  # fmt: skip


def cases_scale(folder: Path, kg: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Build, open and path queries at PrimeKG's size."""
    if kg is None:
        kg = folder / "kg.csv"
        nodes, rows = write_kg(kg, 0.05 if quick else 1.0)
        print(f"generated {nodes:,} nodes, {rows:,} directed edges, {kg.stat().st_size / 2**20:.0f} MiB", flush=True)
    built = in_process(BUILD, str(folder / "kg"), f"primekg:{kg}")
    size = f"{built['concepts']:,} concepts, {built['relations']:,} relations"
    opened = in_process(OPEN, str(folder / "kg"))
    found = [
        case(
            "PrimeKG size: build",
            built["seconds"],
            NEEDED["primekg build"],
            "s",
            f"{size}; peer is the limit asked for",
        ),
        case(
            "PrimeKG size: peak memory of the build",
            built["peak_mib"],
            NEEDED["primekg memory"],
            "MiB",
            "peer is the limit",
        ),
        case(
            "PrimeKG size: open and first look-up",
            opened["ms"],
            NEEDED["open"],
            "ms",
            f"{opened['mib']:.0f} MiB more memory",
        ),
    ]
    return found + cases_paths(Graph.open(folder / "kg"), "PrimeKG size", 60 if quick else 200, 0 if quick else 5)


def _queries(graph: Graph, num: int, kinds: tuple[str, str]) -> list[tuple[str, str]]:
    """Pairs of concepts that take part in at least one relation."""
    rng = np.random.default_rng(1)
    busy = graph.degrees() > 0
    pools = [np.flatnonzero(graph.of_type(k) & busy) for k in kinds]
    return [(graph.id_at(int(rng.choice(pools[0]))), graph.id_at(int(rng.choice(pools[1])))) for _ in range(num)]


def cases_paths(graph: Graph, name: str, num: int, num_peer: int) -> list[dict[str, Any]]:
    """One query of three paths between a finding and a diagnosis; networkx's all shortest paths on the same pairs."""
    queries = _queries(graph, num, ("finding", "diagnosis"))
    times, found = [], 0
    paths(graph, *queries[0])
    for a, b in queries:
        start = time.perf_counter()
        found += bool(paths(graph, a, b))
        times.append(1000 * (time.perf_counter() - start))
    times.sort()
    note = f"{num} pairs, {found} with a path; 95th percentile {times[int(0.95 * num)]:.0f}, slowest {times[-1]:.0f} ms"
    memory = psutil.Process().memory_info().rss / 2**20
    rows = [case(f"{name}: 3 weighted paths, median", statistics.median(times), NEEDED["primekg path"], "ms",
                 f"{note}; peer is the limit; {memory:.0f} MiB in this process")]  # fmt: skip
    for peer, milliseconds, note in _networkx(graph, queries[:num_peer]) if num_peer else []:
        rows.append(case(f"{name}: paths against {peer}", statistics.median(times), milliseconds, "ms", note))
    return rows


def _networkx(graph: Graph, queries: Sequence[tuple[str, str]]) -> list[tuple[str, float, str]]:
    """Median times of networkx on the same pairs in this process, unweighted: the first three of all shortest paths,
    and one shortest path by search from both ends."""
    try:
        import networkx as nx
    except ImportError:
        return []
    start = time.perf_counter()
    before = psutil.Process().memory_info().rss
    other = nx.Graph()
    other.add_nodes_from(range(len(graph)))
    edges = [graph.columns.array("edges", c).tolist() for c in ("subject", "object")]
    other.add_edges_from(zip(*edges, strict=True))
    loading = time.perf_counter() - start
    memory = (psutil.Process().memory_info().rss - before) / 2**20
    pairs = [(graph.index(a), graph.index(b)) for a, b in queries]
    found = []
    for name, query in (
        ("all_shortest_paths, first 3", lambda a, b: list(islice(nx.all_shortest_paths(other, a, b), 3))),
        ("bidirectional_shortest_path, 1 path", lambda a, b: nx.bidirectional_shortest_path(other, a, b)),
    ):
        times = []
        for a, b in pairs:
            start = time.perf_counter()
            with contextlib.suppress(nx.NetworkXNoPath):
                query(a, b)
            times.append(1000 * (time.perf_counter() - start))
        note = f"networkx {nx.__version__}, unweighted, no hub limit, {len(pairs)} pairs; loading takes {loading:.0f} s"
        found.append((name, statistics.median(times), f"{note} and {memory:.0f} MiB"))
    return found


ONTOLOGIES = (
    "obo:doid/doid_NCIthesaurus_subset.obo", "obo:doid/DO_cancer_slim.obo",
    "oncotree:oncotree/oncotree_2025_10_03.json",
    "tsv:doid/HumanDO.tsv", "tsv:doid/NCIinDO.tsv", "tsv:doid/facets.tsv.gz", "tsv:doid/DO-subClassOf-anonymous.tsv",
    "obo:uberon/uberon_efo-slim.obo", "tsv:cl/cl_synonyms.tsv", "tsv:cl/cl_edges.tsv", "tsv:cl/cl_xrefs.tsv",
    "tsv:cl/cl_basic-report.tsv", "obo:cl/general_cell_types_upper_slim.obo", "obo:cl/kidney_upper_slim.obo",
    "obo:cl/blood_and_immune_upper_slim.obo", "obo:hpath/hpath.obo", "obo:mpath/mpath.obo", "owl:fbbi/fbbi.owl",
    "pathoml:pathoml/PathoML.owl",
)  # fmt: skip


def cases_ontologies(folder: Path, ontologies: Path) -> list[dict[str, Any]]:
    """Build and open with the real ontologies."""
    specs = [f"{s.split(':')[0]}:{ontologies / s.split(':')[1]}" for s in ONTOLOGIES]
    built = in_process(BUILD, str(folder / "ontologies"), *specs)
    opened = in_process(OPEN, str(folder / "ontologies"))
    size = f"{built['concepts']:,} concepts, {built['names']:,} names, {built['relations']:,} relations"
    rows = [
        case(
            "real ontologies: build",
            built["seconds"],
            NEEDED["ontologies build"],
            "s",
            f"{size}; peer is the limit asked for",
        ),
        case("real ontologies: peak memory of the build", built["peak_mib"], 500.0, "MiB", "peer is the limit"),
        case(
            "real ontologies: open and first look-up",
            opened["ms"],
            NEEDED["open"],
            "ms",
            f"{opened['mib']:.0f} MiB more memory",
        ),
    ]
    return rows + cases_paths(Graph.open(folder / "ontologies"), "real ontologies", 200, 200)


def cases_linker(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """The linker's cases, from benchmarks/knowledge_linker.py, on the graph of the real ontologies if there is one."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        from knowledge_linker import cases
    except ImportError:
        return []
    graph = Graph.open(folder / "ontologies") if (folder / "ontologies").exists() else None
    found: list[dict[str, Any]] = cases(graph, quick)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a graph of one twentieth, and no networkx on it")
    parser.add_argument("--json", type=Path, help="write the cases there")
    parser.add_argument("--kg", type=Path, help="the real kg.csv")
    parser.add_argument(
        "--ontologies", type=Path, help="folder of the real ontologies, or EOSIN_SHARED_DATA/ontologies"
    )
    parser.add_argument("--work", type=Path, help="keep the files in this new folder")
    parser.add_argument("--only", choices=["scale", "ontologies", "linker"], help="one part alone")
    options = parser.parse_args()
    shared = os.environ.get("EOSIN_SHARED_DATA")
    ontologies = options.ontologies or (Path(shared) / "ontologies" if shared else None)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "ontologies": lambda: cases_ontologies(folder, ontologies) if ontologies else [],
            "linker": lambda: cases_linker(folder, options.quick),
            "scale": lambda: cases_scale(folder, options.kg, options.quick),
        }
        for name, part in parts.items():
            if options.only in (None, name):
                rows += part()
    print("| case | Eosin | peer | unit | ratio | note |\n|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['name']} | {row['ours']} | {row['peer']} | {row['unit']} | {row['ratio']} | {row['note']} |")
    if options.json:
        options.json.write_text(json.dumps({"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
