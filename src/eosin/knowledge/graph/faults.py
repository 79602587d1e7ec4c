"""The sources of a graph as it records them, and the error that names what is wrong with their rows."""

from __future__ import annotations

from collections.abc import Sequence

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import sha256_file
from eosin.knowledge.graph.concepts import Refusal, Source
from eosin.knowledge.graph.drafts import Drafts
from eosin.knowledge.sources import SourceSpec, licence_near

SHOWN_FAULTS = 8


def sources_of(specs: Sequence[SourceSpec], drafts: Drafts) -> list[Source]:
    """The record of every source, when the counts are final."""
    found = []
    for spec, header, counts in zip(specs, drafts.headers, drafts.counts, strict=True):
        licence = spec.licence or header.licence or (licence_near(spec.path) if spec.path else "")
        digest = sha256_file(spec.path) if spec.path else ""
        path = str(spec.path.name) if spec.path else ""
        version = spec.version or header.version
        found.append(Source(spec.name, spec.kind, path, version, licence, digest, dict(sorted(counts.items()))))
    return found


def place_of(fault: Refusal, specs: Sequence[SourceSpec]) -> str:
    path = next((s.path for s in specs if s.name == fault.source and s.path), None)
    place = str(path) if path else fault.source
    return f"{place}:{fault.line}" if fault.line else place


def fault_error(faults: Sequence[Refusal], specs: Sequence[SourceSpec]) -> EosinError:
    """All faults in one message: the first ones with file and line, then the number of the others."""
    lines = [f"  {place_of(f, specs)}: {f.reason}: {f.detail}" for f in faults[:SHOWN_FAULTS]]
    more = len(faults) - len(lines)
    count = f"{len(faults)} fault" + ("s" if len(faults) != 1 else "")
    text = "\n".join(
        [f"The sources have {count}; no graph was built.", *lines, *([f"  and {more} more"] if more else [])]
    )
    return EosinError(
        text, where=place_of(faults[0], specs),
        next_step="mend the files, or give --keep-going to keep the good part and list the rest in refused.jsonl",
    )  # fmt: skip
