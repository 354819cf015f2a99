"""The database engine: durable SQLite settings, errors."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from fixtures.stored_votes import at_once, begun, make_vote, open_store
from sqlalchemy import Connection, event

from talim.errors import TalimError, UsageError
from talim.listening.database import StorageError, network_file_system, sqlite_url
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


def test_sqlite_files_are_private_from_the_first_start_and_when_they_were_not(tmp_path: Path) -> None:
    path = tmp_path / "votes.db"
    previous = os.umask(0o022)
    try:
        for _ in range(2):
            store, _ = open_store(sqlite_url(path))
            files = sorted(tmp_path.glob("votes.db*"))
            assert [file.name for file in files] == ["votes.db", "votes.db-shm", "votes.db-wal"]
            assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
            for file in files:
                file.chmod(0o644)  # as an earlier version left them; the second round opens them again
    finally:
        os.umask(previous)
    store.close()


def test_copy_of_the_one_file_holds_every_vote_while_the_store_is_open(tmp_path: Path) -> None:
    store, protocol = open_store(sqlite_url(tmp_path / "votes.db"))
    listener = begun(store, protocol)
    for count in (1, 2, 3):
        store.answer(listener, make_vote(store, listener), at_once)
        shutil.copy(tmp_path / "votes.db", tmp_path / "copy.db")
        with sqlite3.connect(tmp_path / "copy.db") as copy:
            assert copy.execute("SELECT count(*) FROM votes").fetchone() == (count,)


def test_full_disk_is_a_storage_error_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    store, protocol = open_store(sqlite_url(tmp_path / "votes.db"))
    listener = begun(store, protocol)
    store.answer(listener, make_vote(store, listener), at_once)

    @event.listens_for(store.engine, "begin")
    def _full(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite keeps to the present size

    def fill() -> None:
        for _ in range(20):
            store.invite(500)

    with pytest.raises(StorageError, match=r"votes.db: cannot be used now \(database or disk is full\)") as caught:
        fill()
    assert "\n" not in str(caught.value)
    assert len(store.rows()) == 2


def test_damaged_file_is_a_storage_error(tmp_path: Path) -> None:
    store, _ = open_store(sqlite_url(tmp_path / "votes.db"))
    store.close()
    whole = (tmp_path / "votes.db").read_bytes()
    (tmp_path / "votes.db").write_bytes(whole[:4096] + b"x" * (len(whole) - 4096))
    with pytest.raises(TalimError, match="cannot be"):
        VoteStore(sqlite_url(tmp_path / "votes.db")).rows()


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("srv/share/test/votes.db", "nfs4"),
        ("srv/share/local/votes.db", None),
        ("srv/my share/votes.db", "cifs"),
        ("srv/remote/votes.db", "fuse.sshfs"),
        ("srv/votes.db", None),
    ],
)
def test_network_file_system_is_that_of_the_innermost_mount(tmp_path: Path, place: str, kind: str | None) -> None:
    mounts, root = tmp_path / "mounts", tmp_path.resolve()
    lines = [("/", "ext4"), (f"{root}/srv/share", "nfs4"), (f"{root}/srv/share/local", "ext4")]
    lines += [(f"{root}/srv/my\\040share", "cifs"), (f"{root}/srv/remote", "fuse.sshfs")]
    mounts.write_text("".join(f"source {point} {name} rw 0 0\n" for point, name in lines), encoding="utf-8")
    assert network_file_system(root / place, mounts) == kind
    assert network_file_system(root / place, tmp_path / "none") is None
