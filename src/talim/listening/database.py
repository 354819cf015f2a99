"""Database tables of a listening test, and an engine whose committed writes are durable."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import JSON, Column, Connection, Engine, Float, Integer, String, Table, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from talim.errors import TalimError, UsageError


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
    """An engine with the tables created. SQLite: write-ahead log, full synchronisation, foreign keys, 30 s lock
    timeout, deleted data overwritten. UsageError for an invalid URL, TalimError if the database cannot be opened.
    """
    try:
        engine = sql.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise UsageError(
            f"--database {_without_password(url)}: {error}; expected sqlite:///votes.db or "
            "postgresql+psycopg://USER@HOST/NAME"
        ) from None
    if engine.dialect.name == "sqlite":
        _harden_sqlite(engine)
    try:
        tables.create_all(engine)
    except Exception as error:  # every driver raises its own exceptions
        raise TalimError(
            f"the database {_without_password(url)} cannot be opened: {str(error).splitlines()[0]}"
        ) from None
    if engine.dialect.name == "sqlite" and engine.url.database:
        os.chmod(engine.url.database, 0o600)
    return engine


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def begin_immediate(engine: Engine) -> AbstractContextManager[Connection]:
    """A write transaction: takes the write lock at its beginning, and commits or rolls back as a whole."""
    return engine.execution_options(writes=True).begin()


def checkpoint_wal(engine: Engine) -> None:
    """Truncate SQLite's write-ahead log, which still contains deleted rows. Call outside of transactions."""
    if engine.dialect.name != "sqlite":
        return
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        raw.close()


def _harden_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below instead of by the driver
        pragmas = "journal_mode=WAL synchronous=FULL foreign_keys=ON busy_timeout=30000 secure_delete=ON"
        for pragma in pragmas.split():
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # Writers lock at once: two transactions that upgrade from a read lock would deadlock.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url
