"""A csv or tsv file with one image a row. Delimiter and byte order mark are found out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.formats.cells import cells_up_to
from eosin.core.nouns.outcome import Dropped
from eosin.core.settings.data import TableData
from eosin.core.store.names import inside_any
from eosin.sources.card import Collection
from eosin.sources.files import OUTSIDE, is_missing, outside_detail
from eosin.sources.labelled import STEP, LabelledImage, collect, nearest

MAX_CELL_CHARS = 10_000_000
MAX_MENDED = 1000
"""Lines with a quotation mark too many of one table that the lines below are read again for."""
_DELIMITERS = (",", ";", "\t", "|")


def read_table(settings: TableData) -> Collection:
    """Samples of a table.

    Raises:
        EosinError: the table is missing, empty, in another encoding, or has other columns than the recipe.
    """
    root = Path(settings.root).expanduser()
    path = root / settings.manifest
    if not path.exists() and Path(settings.manifest).exists():
        path = Path(settings.manifest)
    wanted = _wanted_columns(settings)
    header, rows = read_cells(path, encoding=settings.encoding, delimiter=settings.delimiter, wanted=wanted)
    _check_columns(header, wanted, path)
    images: list[LabelledImage] = []
    dropped: list[Dropped] = []
    for number, cells in rows:
        made = _image(header, cells, f"{path.name}:{number}", root, settings)
        if isinstance(made, Dropped):
            dropped.append(made)
        else:
            images.append(made)
    if not images and dropped:
        raise EosinError(
            "No row of this table could be used.",
            found=f"{len(dropped)} rows; the first: {dropped[0].reason}; {dropped[0].detail}",
            where=path,
        )  # fmt: skip
    return collect(images, dropped, settings)


def _wanted_columns(settings: TableData) -> dict[str, str]:
    """Recipe field -> column that it names."""
    wanted = {"image_column": settings.image_column, "label_column": settings.label_column}
    if settings.group_column is not None:
        wanted["group_column"] = settings.group_column
    if settings.split_column is not None:
        wanted["split_column"] = settings.split_column
    return wanted | {f"extra_columns[{i}]": c for i, c in enumerate(settings.extra_columns)}


def _check_columns(header: Sequence[str], wanted: dict[str, str], path: Path) -> None:
    missing = {key: column for key, column in wanted.items() if column not in header}
    if not missing:
        return
    lines = []
    for key, column in missing.items():
        near = nearest(column, header)
        lines.append(f"data.{key}: {near or '<one of the columns above>'}")
    raise EosinError(
        f"The table has no column {', '.join(repr(c) for c in missing.values())}.",
        expected=", ".join(wanted.values()),
        found=", ".join(header),
        where=path,
        next_step="set in the recipe: " + "; ".join(lines),
    )


def read_cells(
    path: Path,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    wanted: dict[str, str] | None = None,
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows of a csv or tsv file; each row with its line number.

    Args:
        encoding: None means UTF-8, or what a byte order mark says.
        delimiter: None means comma, semicolon, tab or bar, whichever fits the header best.

    Raises:
        EosinError: missing, empty, wrong encoding, or two columns of one name.
    """
    text = _decode(path, encoding)
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:  # a line that Excel writes
        delimiter, text = delimiter or first.strip()[4], rest
    if not text.strip():
        raise EosinError("The table is empty.", expected="a header line and rows", where=path)
    lines = list(io.StringIO(text, newline=""))
    try:
        with cells_up_to(MAX_CELL_CHARS):
            delimiter = delimiter or _find_delimiter(text, set((wanted or {}).values()))
            reader = csv.reader(lines, delimiter=delimiter)
            header = [name.strip() for name in next(reader)]
            begun = reader.line_num
            rows = _rows(lines[begun:], begun, delimiter, len(header))
    except csv.Error as exc:
        raise EosinError(
            "The table cannot be read.", expected=f"cells of at most {MAX_CELL_CHARS:,} letters", found=str(exc),
            where=path,
            next_step="look for a quotation mark that is not closed",
        ) from None  # fmt: skip
    twice = sorted({name for name in header if header.count(name) > 1 and name})
    if twice:
        raise EosinError("Two columns have the same name.", found=", ".join(twice), where=path)
    if not rows:
        raise EosinError("The table has a header but no rows.", found=", ".join(header), where=path)
    return header, rows


def _rows(lines: list[str], before: int, delimiter: str, width: int) -> list[tuple[int, list[str]]]:
    """Rows with the number of their last line. A row that runs over several lines and has not the table's width, or
    whose marks do not close before a delimiter, has a quotation mark too many in its first line: that line becomes one
    cell, and the lines below it are rows again.

    Args:
        before: lines of the file above these.
    """
    rows: list[tuple[int, list[str]]] = []
    at = mended = 0
    while at < len(lines):
        reader = csv.reader(lines[at:], delimiter=delimiter)
        last = 0
        for cells in reader:
            own = lines[at + last : at + reader.line_num]
            if len(own) > 1 and mended < MAX_MENDED and (len(cells) != width or not _is_strict(own, delimiter)):
                rows.append((before + at + last + 1, [lines[at + last].strip()]))
                at, mended = at + last + 1, mended + 1
                break
            last = reader.line_num
            if any(c.strip() for c in cells):
                rows.append((before + at + last, cells))
        else:
            break
    return rows


def _is_strict(lines: list[str], delimiter: str) -> bool:
    """Whether lines are one row in which a closing quotation mark stands before a delimiter or the end."""
    try:
        return len(list(csv.reader(lines, delimiter=delimiter, strict=True))) == 1
    except csv.Error:
        return False


def _decode(path: Path, encoding: str | None) -> str:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise EosinError(
            "There is no such table.", where=path, next_step="set data.root and data.manifest in the recipe"
        ) from None
    except (OSError, ValueError) as exc:
        raise EosinError("The table cannot be opened.", found=str(exc), where=path) from None
    if encoding is None:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except LookupError:
        raise EosinError("There is no such encoding.", found=encoding, where="data.encoding") from None
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise EosinError(
            f"The table is not in the encoding {encoding.removesuffix('-sig')}.",
            found=f"byte 0x{data[exc.start]:02x} in line {line}",
            where=path,
            next_step="set data.encoding, for example cp1252 (Excel in Western Europe), or save the table as CSV UTF-8",
        ) from None
    except (UnicodeError, ValueError) as exc:
        raise EosinError(f"The table is not in the encoding {encoding}.", found=str(exc)[:160], where=path) from None


def _find_delimiter(text: str, wanted: set[str]) -> str:
    def fit(delimiter: str) -> tuple[int, int]:
        names = [n.strip() for n in next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))]
        return len(wanted & set(names)), len(names)

    return max(_DELIMITERS, key=fit)


def row_of(header: Sequence[str], cells: Sequence[str], place: str) -> dict[str, str] | Dropped:
    """The cells of a line by column, without blanks around them; Dropped where they are not as many as the columns."""
    if len(cells) == 1 < len(header) and cells[0].count('"') % 2:
        return Dropped(place, "quotation mark not closed", cells[0][:120], STEP)
    if len(cells) != len(header):
        return Dropped(place, "wrong number of cells", f"{len(cells)} cells, {len(header)} columns", STEP)
    return {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def _image(
    header: Sequence[str], cells: Sequence[str], place: str, root: Path, settings: TableData
) -> LabelledImage | Dropped:
    row = row_of(header, cells, place)
    if isinstance(row, Dropped):
        return row
    file, label = row[settings.image_column], row[settings.label_column]
    if not file:
        return Dropped(place, "no image path", "", STEP)
    name = f"{settings.name}/{file}"
    if not label:
        return Dropped(name, "no label", place, STEP)
    units: dict[str, str] = {}
    if settings.group_column is not None:
        if is_missing(row[settings.group_column]):
            return Dropped(
                name, "no group", f"{place}: {settings.group_column} is {row[settings.group_column]!r}", STEP
            )
        units[settings.group_kind] = row[settings.group_column]
    path = _resolve(root, file, settings.image_folders)
    if path is None:
        return Dropped(name, OUTSIDE, outside_detail(file), STEP)
    return LabelledImage(
        name=file,
        path=path,
        label=label,
        units=units,
        split=row[settings.split_column] if settings.split_column else None,
        columns=row,
        extra={c: row[c] for c in settings.extra_columns},
    )


def _resolve(root: Path, file: str, folders: Sequence[str]) -> Path | None:
    """The file of a row, or None where it lies outside of the data."""
    path = inside_any(root, file, folders)
    if "\\" in file and (path is None or not path.exists()):  # a table written on Windows
        return inside_any(root, file.replace("\\", "/"), folders)
    return path
