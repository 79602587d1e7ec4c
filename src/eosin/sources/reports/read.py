"""Free-text reports: a table of slide id and report, as TCGA's are kept, or a folder of text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.formats.rows import Outcome, make_sample, unique
from eosin.core.nouns.outcome import Dropped, filtered
from eosin.core.nouns.sample import user_prompt
from eosin.core.settings.data import ReportsData
from eosin.sources.card import Card, Collection
from eosin.sources.files import is_missing
from eosin.sources.slide_bags import units_of
from eosin.sources.table import read_cells, row_of

STEP = "source"
MAX_CHARS = 100_000
QUESTION = "Which diagnosis does this slide show?"
_SLIDE = ("slide", "slide_id", "case", "case_id", "barcode", "filename", "patient_filename", "id", "patient_id")
_REPORT = ("report", "text", "report_text", "path_report", "content")


def read_reports(settings: ReportsData) -> Collection:
    """Samples of reports, without a picture and without an answer yet: the step `ground` makes questions of them.

    Raises:
        EosinError: nothing is there, the table cannot be read, or no report can be used.
    """
    path = Path(settings.path).expanduser()
    if not path.exists():
        raise EosinError(
            "There are no reports at this place.", expected="a table, or a folder of .txt files", where=path
        )
    rows = _of_folder(path, settings) if path.is_dir() else _of_table(path, settings)
    made = filtered(unique(rows))
    if not made.kept:
        raise EosinError("No report could be used.", found=str(made.reasons()), where=path)
    card = Card(name=settings.name, title=settings.title, licence=settings.licence, citation=settings.citation,
                homepage=settings.homepage, split_unit="patient")  # fmt: skip
    return Collection(card=card.counted(made.kept), samples=made)


def _of_folder(path: Path, settings: ReportsData) -> Iterator[Outcome]:
    for file in sorted(path.glob("*.txt")):
        if file.name.upper() in ("SOURCE.TXT", "LICENSE.TXT", "README.TXT"):
            continue
        try:
            text = file.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            yield Dropped(f"{settings.name}/{file.stem}", "report cannot be read", str(exc)[:120], STEP)
            continue
        yield _sample(file.stem, text, settings)


def _of_table(path: Path, settings: ReportsData) -> Iterator[Outcome]:
    header, rows = read_cells(path, encoding=settings.encoding, delimiter=settings.delimiter)
    slide = _column(header, settings.slide_column, _SLIDE, "slide_column", path)
    report = _column(header, settings.report_column, _REPORT, "report_column", path)
    for number, cells in rows:
        row = row_of(header, cells, f"{path.name}:{number}")
        if isinstance(row, Dropped):
            yield row
        elif is_missing(row[slide]):
            yield Dropped(f"{path.name}:{number}", "no slide id", "", STEP)
        else:
            yield _sample(row[slide], row[report], settings)


def _column(header: list[str], told: str | None, usual: tuple[str, ...], name: str, path: Path) -> str:
    """The column of that name, in the recipe's words or in one of the usual ones."""
    if told is not None and told in header:
        return told
    folded = {h.casefold(): h for h in header}
    found = None if told is not None else next((folded[u] for u in usual if u in folded), None)
    if found is None:
        raise EosinError("The table of reports has other columns.", expected=told or ", ".join(usual),
                         found=", ".join(header), where=path, next_step=f"set data.{name}")  # fmt: skip
    return found


def _sample(slide: str, report: str, settings: ReportsData) -> Outcome:
    id = f"{settings.name}/{slide}"
    if is_missing(report):
        return Dropped(id, "empty report", "", STEP)
    if len(report) > MAX_CHARS:
        return Dropped(id, "report too long", f"{len(report):,} characters, at most {MAX_CHARS:,}", STEP)
    return make_sample({
        "id": id, "messages": user_prompt(QUESTION, 0), "extra": {"report": report},
        "origin": {"source": settings.name, "licence": settings.licence, **units_of(slide),
                   "modality": "histology", "stain": "H&E", "organ": settings.organ},
    }, id)  # fmt: skip
