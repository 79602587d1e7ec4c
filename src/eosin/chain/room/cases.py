"""Which case each slide belongs to: from a table, or from samples that say it."""

from __future__ import annotations

from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import ImageFile, Sample, SlideBag, SlideRegion

COLUMNS = ("slide", "case")


def read_cases(path: Path) -> dict[str, str]:
    """Case by slide, from a csv with the columns slide and case, or from samples (an artifact, parquet, jsonl).

    Raises:
        EosinError: neither, or a slide of two cases.
    """
    if path.is_dir() or path.suffix.lower() in (".parquet", ".jsonl"):
        return _of_samples(path)
    from eosin.sources.table import read_cells

    header, rows = read_cells(path, wanted={c: c for c in COLUMNS})
    if not set(COLUMNS) <= set(header):
        raise EosinError("The table of cases has other columns.", expected="slide, case", found=", ".join(header),
                         where=path)  # fmt: skip
    at, to = (header.index(c) for c in COLUMNS)
    pairs = [(c[at].strip(), c[to].strip()) for _, c in rows if len(c) > max(at, to)]
    return _once([p for p in pairs if all(p)], path)


def _of_samples(path: Path) -> dict[str, str]:
    from eosin.core.formats import read_samples

    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not parts:
        raise EosinError("There are no samples here.", expected="*.parquet in an artifact's folder", where=path)
    samples = [s for part in parts for s in read_samples(part).kept]
    return _once([(name, s.origin.case or s.origin.patient or "") for s in samples for name in _slides_of(s)
                  if s.origin.case or s.origin.patient], path)  # fmt: skip


def _slides_of(sample: Sample) -> list[str]:
    """Names by which the slide of a sample may be found: as it states it, and the stems of its files."""
    names = [sample.origin.slide] if sample.origin.slide else []
    for ref in sample.images:
        if isinstance(ref, SlideBag) and ref.slide:
            names.append(Path(ref.slide).stem)
        elif isinstance(ref, SlideBag | SlideRegion | ImageFile):
            names.append(Path(ref.path).stem)
    return list(dict.fromkeys(names))


def _once(pairs: list[tuple[str, str]], path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for slide, case in pairs:
        if found.setdefault(slide, case) != case:
            raise EosinError("A slide belongs to two cases.", found=f"{slide}: {found[slide]}, {case}", where=path,
                             next_step="one line a slide")  # fmt: skip
    return found
