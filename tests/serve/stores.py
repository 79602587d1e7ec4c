"""Stores that tests use: a SQLite file always, and a PostgreSQL that EOSIN_TEST_POSTGRES names, each test in a schema
of its own. The name's user may make schemas:

    pip install 'eosin[postgres]'
    EOSIN_TEST_POSTGRES=postgresql+psycopg://USER@HOST/NAME python -m pytest tests/serve/test_corrections.py
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine

POSTGRES = os.environ.get("EOSIN_TEST_POSTGRES", "")
KINDS = [
    "sqlite",
    pytest.param(
        "postgres", marks=pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL: EOSIN_TEST_POSTGRES names none")
    ),
]


@contextmanager
def place_of_store(kind: str, folder: Path) -> Iterator[str]:
    """Where an empty store of a kind is to be: a file's path, or a URL whose schema is removed at the end."""
    if kind == "sqlite":
        yield str(folder / "deeper" / "c.sqlite")
        return
    schema, engine = f"eosin_{uuid.uuid4().hex}", create_engine(POSTGRES)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create schema {schema}")
    try:
        yield f"{POSTGRES}{'&' if '?' in POSTGRES else '?'}options=-csearch_path%3D{schema}"
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"drop schema {schema} cascade")
        engine.dispose()
