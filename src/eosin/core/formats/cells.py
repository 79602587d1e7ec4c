"""How long a cell of a csv may be. Python keeps that bound once for the whole process, and other packages move it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cells_up_to(chars: int) -> Iterator[None]:
    """Within the block a cell of more than so many characters is a `csv.Error`; afterwards the bound is as before."""
    before = csv.field_size_limit(chars)
    try:
        yield
    finally:
        csv.field_size_limit(before)
