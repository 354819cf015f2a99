"""The store: votes once and at once, frozen tests, deletion, exports, merging; SQLite, and PostgreSQL if told."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.listening_test_folder import protocol_of
from sqlalchemy import select

from talim.errors import TalimError, UsageError
from talim.listening import database as t
from talim.listening import export
from talim.listening import protocol as p
from talim.listening.database import sqlite_url
from talim.listening.vote_store import ConsentRecord, RequestRejectedError, Vote, VoteStore

ITEMS = ["item-01", "item-02"]
SOUNDS = {"item-01/linear": "ab", "item-02/linear": "cd"}
PROMPTS = {"item-01": "slow flute", "item-02": "fast drum"}
SAID = ConsentRecord("expert", 4, "en", "0" * 64)
POSTGRES = os.environ.get("TALIM_TEST_POSTGRES")
SERVERS = [
    "sqlite",
    pytest.param(
        "postgres",
        marks=pytest.mark.skipif(
            not POSTGRES, reason="no TALIM_TEST_POSTGRES url: make test-postgres sets one"
        ),
    ),
]


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "votes.db")
        return
    assert POSTGRES
    yield POSTGRES
    t.metadata.drop_all(t.open_engine(POSTGRES))


class Clock:
    """Seconds that pass only when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def open_store(url: str, clock: Clock | None = None, **changes: Any) -> tuple[VoteStore, p.Protocol]:
    store, protocol = VoteStore(url, clock or Clock()), protocol_of(**changes)
    store.open_test(protocol, SOUNDS, PROMPTS, "lab")
    return store, protocol


def begun(store: VoteStore, protocol: p.Protocol, said: ConsentRecord = SAID) -> str:
    listener = store.add_listeners(1)[0]["id"]
    store.begin(listener, said, protocol, ITEMS)
    return listener


def make_vote(store: VoteStore, listener: str, answer: int = 1) -> Vote:
    trial = store.current_trial(listener, opening=True)
    assert trial
    answers = {"overall": answer, "melody": None}
    return Vote(str(uuid.uuid4()), trial["position"], answers, [3.0, 4.0])


def test_a_whole_session(url: str) -> None:
    store, protocol = open_store(url)
    made = store.add_listeners(1)[0]
    assert store.listener("wrong") is None
    store.begin(made["id"], SAID, protocol, ITEMS)
    while store.current_trial(made["id"]):
        assert store.vote(made["id"], make_vote(store, made["id"]))
    listener = store.listener(made["token"])
    assert listener
    assert (listener["trials"], listener["answered"]) == (8, 8)
    assert listener["finished_at"] is not None
    rows = store.rows()
    assert len(rows) == 16
    assert Counter(row["kind"] for row in rows) == {"normal": 12, "repeat": 2, "attention": 2}
    assert {row["site"] for row in rows} == {"lab"}
    assert [row["answer"] for row in rows[:2]] == [1, None]


def test_the_same_vote_again_is_one_vote_and_another_is_refused(url: str) -> None:
    store, protocol = open_store(url)
    listener = begun(store, protocol)
    vote = make_vote(store, listener)
    assert store.vote(listener, vote) is True
    assert store.vote(listener, vote) is False
    for forged in (replace(vote, id=str(uuid.uuid4())), replace(vote, answers={"overall": -2, "melody": 0})):
        with pytest.raises(RequestRejectedError, match="already stored"):
            store.vote(listener, forged)
    assert len(store.rows()) == 2
    assert store.rows()[0]["answer"] == 1


def test_one_listeners_vote_id_is_free_for_another(url: str) -> None:
    store, protocol = open_store(url)
    one, other = begun(store, protocol), begun(store, protocol)
    first = make_vote(store, one)
    store.vote(one, first)
    assert store.vote(other, replace(make_vote(store, other), id=first.id)) is True


def test_trials_come_in_order_and_take_their_time(url: str) -> None:
    clock = Clock()
    store, protocol = open_store(url, clock)
    listener = begun(store, protocol)
    unopened = Vote(str(uuid.uuid4()), 0, {"overall": 1, "melody": 1}, [])
    with pytest.raises(RequestRejectedError, match="played"):
        store.vote(listener, unopened)
    vote = make_vote(store, listener)
    with pytest.raises(RequestRejectedError, match="not the one"):
        store.vote(listener, replace(vote, position=3))
    clock.now += 7
    with pytest.raises(RequestRejectedError, match="played"):
        store.vote(listener, vote, minimum_seconds=8)
    clock.now += 1
    store.current_trial(listener, opening=True)  # a second look does not begin the time again
    assert store.vote(listener, vote, minimum_seconds=8)


def test_the_first_vote_freezes_the_test(url: str) -> None:
    store, protocol = open_store(url)
    listener = begun(store, protocol)
    changed = protocol_of(seed=9)
    store.open_test(changed, SOUNDS, PROMPTS, "lab")  # no vote yet: it may change, and all begin again
    assert store.current_trial(listener) is None
    store.begin(listener, SAID, changed, ITEMS)
    store.vote(listener, make_vote(store, listener))
    store.open_test(changed, SOUNDS, PROMPTS, "lab")
    for other, sounds, site, said in (
        (protocol, SOUNDS, "lab", "seed changed"),
        (changed, SOUNDS | {"item-01/linear": "xx"}, "lab", "the stimuli changed"),
        (changed, SOUNDS, "elsewhere", "--site changed"),
    ):
        with pytest.raises(TalimError, match=said):
            store.open_test(other, sounds, PROMPTS, site)


def test_the_stopping_rule_closes_the_door(url: str) -> None:
    store, protocol = open_store(url, stopping={"listeners": 3, "per_group": {"expert": 1}})
    first = begun(store, protocol)
    store.begin(first, SAID, protocol, ITEMS)  # twice is once
    with pytest.raises(RequestRejectedError, match="all the listeners"):
        begun(store, protocol)
    for _ in range(2):
        begun(store, protocol, replace(SAID, group="general"))
    with pytest.raises(RequestRejectedError, match="all the listeners"):
        begun(store, protocol, replace(SAID, group="general"))
    assert store.current_trial(first)  # who is in may finish


def test_deletion_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "votes.db"
    store, protocol = open_store(sqlite_url(path))
    one, other = begun(store, protocol), begun(store, protocol)
    kept, gone = make_vote(store, one), make_vote(store, other)
    store.vote(one, kept)
    store.vote(other, gone)
    assert store.delete(other) is True
    assert store.delete(other) is False
    assert {row["listener"] for row in store.rows()} == {one}
    assert store.status()["deleted"] == 1
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert kept.id.encode() in left
    assert gone.id.encode() not in left
    assert other.encode() not in left


def test_tokens_are_not_in_the_database(tmp_path: Path) -> None:
    path = tmp_path / "votes.db"
    store, _ = open_store(sqlite_url(path))
    tokens = [made["token"] for made in store.add_listeners(3)]
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not any(token.encode() in left for token in tokens)
    assert path.stat().st_mode & 0o077 == 0


def test_sqlite_keeps_a_log_and_its_promises(tmp_path: Path) -> None:
    store, _ = open_store(sqlite_url(tmp_path / "votes.db"))
    with store.engine.connect() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert told == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 30000}
    with sqlite3.connect(tmp_path / "votes.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_many_at_once(url: str) -> None:
    store, protocol = open_store(url)
    made = store.add_listeners(12)
    errors: list[Exception] = []

    def listen(listener: str) -> None:
        try:
            store.begin(listener, SAID, protocol, ITEMS)
            while store.current_trial(listener):
                vote = make_vote(store, listener)
                store.vote(listener, vote)
                store.vote(listener, vote)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=listen, args=(m["id"],)) for m in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    counts = Counter(row["listener"] for row in store.rows())
    assert set(counts.values()) == {16}
    assert len(counts) == 12
    with store.engine.connect() as connection:
        numbers = [row.number for row in connection.execute(select(t.listeners.c.number))]
    assert sorted(numbers) == list(range(12))


def test_exports_say_the_same(url: str) -> None:
    store, protocol = open_store(url)
    listener = begun(store, protocol)
    store.vote(listener, make_vote(store, listener))
    rows = store.rows()
    table = list(csv.DictReader(io.StringIO(export.to_csv(rows))))
    assert [row["answer"] for row in table] == ["1", ""]
    assert table[0]["listener"] == listener
    assert export.to_jsonl(rows).count("\n") == 2
    assert export.to_csv([rows[0] | {"site": "=cmd()"}]).splitlines()[1].split(",")[1] == "'=cmd()"


def test_sites_merge_with_their_provenance(tmp_path: Path) -> None:
    rows = {}
    for site in ("delhi", "ankara"):
        store = VoteStore(sqlite_url(tmp_path / f"{site}.db"), Clock())
        protocol = protocol_of()
        store.open_test(protocol, SOUNDS, PROMPTS, site)
        listener = begun(store, protocol)
        store.vote(listener, make_vote(store, listener))
        rows[site] = store.rows()
    path = tmp_path / "ankara.jsonl"
    path.write_text(export.to_jsonl(rows["ankara"]), encoding="utf-8")
    merged = export.merge([("here", rows["delhi"]), (str(path), export.read(path)), ("again", rows["delhi"])])
    assert Counter(row["site"] for row in merged) == {"delhi": 2, "ankara": 2}
    with pytest.raises(TalimError, match="different tests"):
        export.merge([("here", rows["delhi"]), ("there", [rows["ankara"][0] | {"test": "other"}])])
    with pytest.raises(TalimError, match="answered differently"):
        export.merge([("here", rows["delhi"]), ("there", [rows["delhi"][0] | {"answer": -2}])])
    with pytest.raises(TalimError, match="lacks"):
        export.merge([("there", [{"test": "x"}])])


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected sqlite"):
        VoteStore("nonsense://x")
    with pytest.raises(TalimError, match="cannot be opened") as caught:
        VoteStore(sqlite_url(tmp_path / "no" / "such" / "votes.db"))
    assert "\n" not in str(caught.value)
