"""Database tables of a listening test, and an engine whose committed writes are durable."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import JSON, Column, Connection, Engine, Float, Integer, String, Table, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InternalError, NoSuchModuleError, OperationalError

from talim.errors import TalimError, UsageError

_BUSY_MILLISECONDS = 10_000
_NETWORK_KINDS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "drvfs", "afs", "ceph", "lustre", "gfs2", "ocfs2", "vboxsf"}
)


def binding_table(name: str, tables: sql.MetaData, *columns: Column[Any]) -> Table:
    """A table with one row: what the database belongs to, when it was frozen, how many participants were deleted."""
    return Table(
        name,
        tables,
        Column("id", Integer, primary_key=True),
        Column("hash", String(16), nullable=False),
        Column("content", JSON, nullable=False),
        Column("frozen_at", Float),  # time of the first answer; all times are seconds since 1970, UTC
        Column("deleted", Integer, nullable=False, default=0),
        *columns,
    )


def participants_table(name: str, tables: sql.MetaData, *columns: sql.schema.SchemaItem) -> Table:
    """A table of invited people; the columns of who has not begun are empty."""
    return Table(
        name,
        tables,
        Column("id", String(16), primary_key=True),
        Column("token_hash", String(64), nullable=False, unique=True),
        Column("language", String(12)),
        Column("consent_hash", String(64)),
        Column("began_at", Float),
        *columns,
    )


metadata = sql.MetaData()
test = binding_table(  # content: the hashed part of the protocol
    "test", metadata, Column("site", String(80), nullable=False), Column("prompts", JSON, nullable=False)
)
listeners = participants_table(
    "listeners",
    metadata,
    Column("label", String(80), nullable=False, default=""),
    Column("group", String(40)),
    Column("number", Integer),  # index into the balanced sequence, within the group
    Column("familiarity", Integer),
    Column("finished_at", Float),
    sql.UniqueConstraint("group", "number"),
)
trials = Table(
    "trials",
    metadata,
    Column("listener", String(16), sql.ForeignKey("listeners.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", String(12), nullable=False),
    Column("item", String(80), nullable=False),
    Column("order", JSON, nullable=False),  # conditions in the order of sides or rows
    Column("aspect", String(40)),
    Column("opened_at", Float),
)
votes = Table(
    "votes",
    metadata,
    Column("listener", String(16), primary_key=True),
    Column("id", String(36), primary_key=True),  # from the client: a vote sent twice is stored once
    Column("position", Integer, nullable=False),
    Column("answers", JSON, nullable=False),
    Column("listened_seconds", JSON, nullable=False),
    Column("at", Float, nullable=False),
    sql.UniqueConstraint("listener", "position"),
    sql.ForeignKeyConstraint(["listener", "position"], ["trials.listener", "trials.position"], ondelete="CASCADE"),
)


def open_engine(url: str, tables: sql.MetaData = metadata) -> Engine:
    """An engine with the tables created. SQLite: files readable by their owner only, write-ahead log, full
    synchronisation, foreign keys, 10 s lock timeout, deleted data overwritten. UsageError for an invalid URL,
    TalimError if the database cannot be opened.
    """
    try:
        engine = sql.create_engine(url, pool_pre_ping=not url.startswith("sqlite"), json_deserializer=_lenient_json)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise UsageError(
            f"--database {_without_password(url)}: {error}; expected sqlite:///votes.db or "
            "postgresql+psycopg://USER@HOST/NAME"
        ) from None
    if engine.dialect.name == "sqlite":
        _harden_sqlite(engine)
    try:
        if path := database_file(engine):
            _make_private(path)
        tables.create_all(engine)
    except Exception as error:  # every driver raises its own exceptions
        raise TalimError(
            f"the database {_without_password(url)} cannot be opened: {str(error).splitlines()[0]}"
        ) from None
    return engine


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def database_file(engine: Engine) -> Path | None:
    """The file of an SQLite database; None in memory, for an SQLite URI, and for a server."""
    name = engine.url.database or ""
    is_file = engine.dialect.name == "sqlite" and name not in ("", ":memory:") and not name.startswith("file:")
    return Path(name) if is_file else None


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The type of the network file system (nfs, cifs, fuse.sshfs, ...) that holds `path`; None on a local disk, and
    where `mounts`, the kernel's table, is missing. SQLite's locks and shared memory do not work over a network.
    """
    with suppress(OSError):
        points = [line.split()[1:3] for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
        where = path.resolve()
        around = [(Path(p.replace("\\040", " ")), kind) for p, kind in points]
        around = [(point, kind) for point, kind in around if where.is_relative_to(point)]
        # Of several on one point the last one mounted is the one that is seen.
        kind = max(enumerate(around), key=lambda row: (len(row[1][0].parts), row[0]))[1][1] if around else ""
        if kind in _NETWORK_KINDS or kind.startswith("fuse."):
            return kind
    return None


class StorageError(TalimError):
    """The database could not be read or written: a full disk, a lock, a damaged file, a server that is away."""


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that commits or rolls back as a whole. StorageError if the database cannot be used."""
    try:
        with engine.begin() as connection:
            yield connection
    except (OperationalError, InternalError) as error:
        raise _storage_error(engine, error) from error
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # a constraint or a type: a fault of the program
            raise
        raise _storage_error(engine, error) from error


def begin_immediate(engine: Engine) -> AbstractContextManager[Connection]:
    """A write transaction: takes the write lock at its beginning. StorageError if the database cannot be used."""
    return transaction(engine.execution_options(writes=True))


def _storage_error(engine: Engine, error: DBAPIError) -> StorageError:
    place = database_file(engine) or engine.url.render_as_string(hide_password=True)
    return StorageError(
        f"{place}: cannot be used now ({str(error.orig).splitlines()[0]}); check the free space, that no other program "
        "holds it, and that the file is whole"
    )


def checkpoint_wal(engine: Engine, patience_seconds: float = 2.0) -> bool:
    """Move SQLite's write-ahead log, which still contains deleted rows, into the database and truncate it.

    False if another program that reads the database prevented it for `patience_seconds`. Call outside of transactions.
    """
    if engine.dialect.name != "sqlite":
        return True
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("PRAGMA busy_timeout=100")
        end = time.monotonic() + patience_seconds
        while True:
            try:
                busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.Error:  # a lock, or no space to move it to
                busy = True
            if not busy or time.monotonic() >= end:
                return not busy
            time.sleep(0.05)
    finally:
        raw.cursor().execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
        raw.close()


def _harden_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below instead of by the driver
        pragmas = f"busy_timeout={_BUSY_MILLISECONDS} journal_mode=WAL synchronous=FULL foreign_keys=ON"
        # After each commit the log is moved into the database, so that the one file holds every vote.
        for pragma in f"{pragmas} secure_delete=ON wal_autocheckpoint=1".split():
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # Writers lock at once: two transactions that upgrade from a read lock would deadlock.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_private(path: Path) -> None:
    """Create the file for its owner only before SQLite does: its log and shared memory take over its mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.chmod(f"{path}{ending}", 0o600)


def _lenient_json(text: str) -> Any:
    """A JSON cell; None for a damaged one, so that the other rows can still be read."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url
