"""Cells of tables: how long one of a csv may be, and those of a spreadsheet's first sheet.

Python keeps the bound of a csv's cells once for the whole process, and other packages move it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eosin.core.extras import need


@contextmanager
def cells_up_to(chars: int) -> Iterator[None]:
    """Within the block a cell of more than so many characters is a `csv.Error`; afterwards the bound is as before."""
    before = csv.field_size_limit(chars)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def first_sheet(path: Path) -> list[list[Any]]:
    """All cells of the first sheet of an xlsx file, a list a row. What openpyxl throws at a damaged file goes on."""
    openpyxl = need("openpyxl", "exams")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    table = [list(r) for r in book.worksheets[0].iter_rows(values_only=True)]
    book.close()
    return table
