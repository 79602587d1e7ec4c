"""Readings and corrections in SQLite (write-ahead log) or PostgreSQL. Rows are added, never changed or removed."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from eosin.core.errors import EosinError
from eosin.serve.corrections.body import Correction

SCHEMA = 1
_TRIES = 50
_FIRST_TRIES = 5
_meta = MetaData()
_about = Table("about", _meta, Column("name", String(32), primary_key=True), Column("value", Text, nullable=False))
_readings = Table(
    "readings", _meta, Column("id", String(32), primary_key=True), Column("slide", String(16), nullable=False),
    Column("created", Float, nullable=False), Column("body", Text, nullable=False),
    Column("image", Text, nullable=False),
)  # fmt: skip
_corrections = Table(
    "corrections", _meta, Column("key", String(64), primary_key=True),
    Column("reading", String(32), ForeignKey("readings.id"), nullable=False, index=True),
    Column("reader", String(16), nullable=False), Column("version", Integer, nullable=False),
    Column("created", Float, nullable=False), Column("digest", String(64), nullable=False),
    Column("body", Text, nullable=False), UniqueConstraint("reading", "reader", "version"),
)  # fmt: skip


class OtherContentError(Exception):
    """A key that was used for another correction."""


class StoreAwayError(EosinError):
    """The database gave no answer: it is stopped, full, or out of reach. What was sent to it can be sent again."""


@dataclass(frozen=True)
class Version:
    """A correction as it is kept. `version` counts from 1 for each reader of a reading."""

    reading: str
    version: int
    created: float
    correction: Correction

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"reading": self.reading, "version": self.version, "created": self.created,
                **self.correction.model_dump(mode="json")}  # fmt: skip


class CorrectionStore:
    """Keeps readings and corrections. Safe over threads and processes.

    Args:
        where: a path of a SQLite file, or a URL as SQLAlchemy takes it (postgresql+psycopg://...).

    Raises:
        EosinError: it cannot be opened, or was written by a later Eosin.
    """

    def __init__(self, where: str | Path) -> None:
        self.where = str(where)
        url = self.where if "://" in self.where else f"sqlite:///{Path(self.where).absolute()}"
        try:
            if url.startswith("sqlite:///") and "://" not in self.where:
                Path(self.where).absolute().parent.mkdir(parents=True, exist_ok=True)
            self._engine = create_engine(url, pool_pre_ping=True)  # a database may have been restarted meanwhile
            self._writer = self._engine.execution_options(writes=True)
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _careful)
                event.listen(self._engine, "begin", _write_at_once)
            self._prepare()
        except (SQLAlchemyError, OSError, ImportError, ValueError) as exc:
            raise EosinError(
                "The store of corrections cannot be opened.",
                found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}",
                expected="a path of a SQLite file, or a URL such as postgresql+psycopg://USER@HOST/NAME",
                where=self.plain_where,
                next_step="pip install 'eosin[postgres]'" if isinstance(exc, ImportError) else None,
            ) from exc  # fmt: skip

    @property
    def plain_where(self) -> str:
        return without_password(self.where)

    def _prepare(self) -> None:
        for attempt in range(_FIRST_TRIES):
            try:
                self._prepare_once()
                return
            except (IntegrityError, OperationalError, ProgrammingError):  # another process makes the tables just now
                if attempt == _FIRST_TRIES - 1:
                    raise
                time.sleep(0.05 * (attempt + 1))

    def _prepare_once(self) -> None:
        _meta.create_all(self._engine)
        with self._writer.begin() as connection:
            told = connection.execute(select(_about.c.value).where(_about.c.name == "schema")).scalar()
            if told is None:
                connection.execute(insert(_about).values(name="schema", value=str(SCHEMA)))
        if told is not None and int(told) > SCHEMA:
            raise EosinError("These corrections were written by a later Eosin.", expected=f"schema {SCHEMA}",
                             found=str(told), where=self.plain_where)  # fmt: skip

    @property
    def engine(self) -> Engine:
        return self._engine

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    @contextmanager
    def _connected(self, writes: bool = False) -> Iterator[Connection]:
        """A connection; what is written is on the disk when this ends.

        Raises:
            StoreAwayError: no answer. IntegrityError, and a locked file, are the caller's to handle.
        """
        try:
            opened: AbstractContextManager[Connection] = self._writer.begin() if writes else self._engine.connect()
            with opened as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as exc:
            if "locked" in str(exc.orig):
                raise
            raise StoreAwayError(
                "The store of corrections does not answer.", where=self.plain_where, expected="a database that runs",
                found=type(exc.orig).__name__, next_step="start it, and send the same again: nothing is kept twice",
            ) from exc  # fmt: skip

    def secret(self) -> bytes:
        """What the order of models in a blinded study is drawn with: made once, of 32 random bytes."""
        wanted = select(_about.c.value).where(_about.c.name == "blinding")
        with self._connected() as connection:
            told = connection.execute(wanted).scalar()
        if told is None:
            try:
                with self._connected(writes=True) as connection:
                    connection.execute(insert(_about).values(name="blinding", value=secrets.token_hex(32)))
            except IntegrityError:  # another process was quicker
                pass
            with self._connected() as connection:
                told = connection.execute(wanted).scalar_one()
        return bytes.fromhex(told)

    # ---- readings ------------------------------------------------------------------------------------------------

    def add_reading(self, reading: dict[str, Any], image: str) -> None:
        """Keep a finished reading. `image`: its reference as JSON, "" where no sample can name it."""
        row = {"id": reading["id"], "slide": reading["slide"], "created": reading["created"],
               "body": json.dumps(reading, ensure_ascii=False), "image": image}  # fmt: skip
        with self._connected(writes=True) as connection:
            connection.execute(insert(_readings).values(row))

    def reading(self, id: str) -> dict[str, Any] | None:
        """A reading, or None."""
        with self._connected() as connection:
            body = connection.execute(select(_readings.c.body).where(_readings.c.id == id)).scalar()
        return None if body is None else dict(json.loads(body))

    def image(self, id: str) -> str:
        """The reference of what a reading shows, as JSON; "" where there is none."""
        with self._connected() as connection:
            return str(connection.execute(select(_readings.c.image).where(_readings.c.id == id)).scalar() or "")

    def readings(self, slide: str | None = None, limit: int = 100_000) -> list[dict[str, Any]]:
        """Readings, the newest first."""
        wanted = select(_readings.c.body).order_by(_readings.c.created.desc(), _readings.c.id).limit(limit)
        if slide is not None:
            wanted = wanted.where(_readings.c.slide == slide)
        with self._connected() as connection:
            return [json.loads(b) for b in connection.execute(wanted).scalars()]

    # ---- corrections ---------------------------------------------------------------------------------------------

    def add(self, reading: str, correction: Correction) -> Version:
        """Keep a correction as the reader's next version; one whose key is here already is given back as it is.

        When this returns, the row is on the disk.

        Raises:
            OtherContentError: the key stands for another content, or for another reading.
            EosinError: no such reading. StoreAwayError: the database gives no answer.
        """
        for attempt in range(_TRIES):
            try:
                return self._add(reading, correction)
            except IntegrityError:  # another process took this version, or this key, between look and write
                time.sleep(0.002 * attempt)
            except OperationalError as exc:
                if "locked" not in str(exc):
                    raise
                time.sleep(0.01 * attempt)
        raise EosinError("The store is too busy.", next_step="send the correction again, with the same key")

    def _add(self, reading: str, correction: Correction) -> Version:
        with self._connected(writes=True) as connection:
            before = connection.execute(select(_corrections).where(_corrections.c.key == correction.key)).first()
            if before is not None:
                if before.digest != correction.digest() or before.reading != reading:
                    raise OtherContentError
                return _version(before)
            if connection.execute(select(_readings.c.id).where(_readings.c.id == reading)).first() is None:
                raise EosinError("There is no such reading.")
            last = connection.execute(
                select(func.max(_corrections.c.version)).where(
                    _corrections.c.reading == reading, _corrections.c.reader == correction.reader
                )
            ).scalar()
            made = Version(reading, int(last or 0) + 1, time.time(), correction)
            connection.execute(insert(_corrections).values(
                key=correction.key, reading=reading, reader=correction.reader, version=made.version,
                created=made.created, digest=correction.digest(), body=correction.model_dump_json(),
            ))  # fmt: skip
        return made

    def versions(self, reading: str | None = None, reader: str | None = None) -> list[Version]:
        """Every version that was kept, by reading, reader and number."""
        c = _corrections.c
        wanted = select(_corrections).order_by(c.reading, c.reader, c.version)
        if reading is not None:
            wanted = wanted.where(c.reading == reading)
        if reader is not None:
            wanted = wanted.where(c.reader == reader)
        with self._connected() as connection:
            return [_version(row) for row in connection.execute(wanted)]

    def signed(self, readers: Sequence[str] | None = None) -> list[Version]:
        """The last signed version of each reader of each reading."""
        last = {
            (v.reading, v.correction.reader): v
            for v in self.versions()
            if v.correction.is_signed and (readers is None or v.correction.reader in readers)
        }
        return list(last.values())


def without_password(where: str) -> str:
    """A store's path, or its URL without user, password and options."""
    scheme, is_url, rest = where.partition("://")
    if not is_url:
        return where
    rest = rest.partition("?")[0]
    return f"{scheme}://...@{rest.rpartition('@')[2]}" if "@" in rest else f"{scheme}://{rest}"


def _version(row: Any) -> Version:
    return Version(row.reading, row.version, row.created, Correction.model_validate_json(row.body))


def _careful(connection: Any, _: Any) -> None:
    """Write-ahead log, every commit on the disk before it is confirmed, and patience with other writers."""
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    for line in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {line}")
    cursor.close()


def _write_at_once(connection: Any) -> None:
    """Who will write takes the writer's place at the beginning: what is looked up is still so when it is written."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
