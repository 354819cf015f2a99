"""The database engine: durable SQLite settings, errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from fixtures.stored_votes import open_store

from talim.errors import TalimError, UsageError
from talim.listening.database import sqlite_url
from talim.listening.vote_store import VoteStore


def test_open_engine_sqlite_sets_durable_pragmas(tmp_path: Path) -> None:
    store, _ = open_store(sqlite_url(tmp_path / "votes.db"))
    with store.engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 10000}
    with sqlite3.connect(tmp_path / "votes.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_open_engine_invalid_database_raises_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected sqlite"):
        VoteStore("nonsense://x")
    with pytest.raises(TalimError, match="cannot be opened") as caught:
        VoteStore(sqlite_url(tmp_path / "no" / "such" / "votes.db"))
    assert "\n" not in str(caught.value)
