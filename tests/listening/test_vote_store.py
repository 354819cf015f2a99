"""The store: votes once and at once, frozen tests, deletion, exports, merging; SQLite, and PostgreSQL if told."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.listening_test_folder import protocol_of
from fixtures.stored_votes import CONSENT, ITEMS, PROMPTS, SOUNDS, Clock, at_once, begun, make_vote, open_store
from sqlalchemy import select

from talim.errors import TalimError
from talim.listening import database as t
from talim.listening.database import sqlite_url
from talim.listening.participant_store import RequestRejectedError
from talim.listening.vote_store import Vote


def test_vote_store_complete_session_stores_all_rows(url: str) -> None:
    store, protocol = open_store(url)
    created = store.invite(1)[0]
    assert store.find("wrong") is None
    store.begin(created["id"], CONSENT, protocol, ITEMS)
    while store.current(created["id"]):
        assert store.answer(created["id"], make_vote(store, created["id"]), at_once)
    listener = store.find(created["token"])
    assert listener
    assert (listener["turns"], listener["answered"]) == (8, 8)
    assert listener["finished_at"] is not None
    rows = store.rows()
    assert len(rows) == 16
    assert Counter(row["kind"] for row in rows) == {"normal": 12, "repeat": 2, "attention": 2}
    assert {row["site"] for row in rows} == {"lab"}
    assert [row["answer"] for row in rows[:2]] == [1, None]


def test_vote_repeated_is_stored_once_and_other_answer_rejected(url: str) -> None:
    store, protocol = open_store(url)
    listener = begun(store, protocol)
    vote = make_vote(store, listener)
    assert store.answer(listener, vote, at_once) is True
    assert store.answer(listener, vote, at_once) is False
    for change in ({"id": str(uuid.uuid4())}, {"answers": {"overall": -2, "melody": 0}}):
        with pytest.raises(RequestRejectedError, match="already stored"):
            store.answer(listener, vote.model_copy(update=change), at_once)
    assert len(store.rows()) == 2
    assert store.rows()[0]["answer"] == 1


def test_vote_id_of_other_listener_is_accepted(url: str) -> None:
    store, protocol = open_store(url)
    a_value, second = begun(store, protocol), begun(store, protocol)
    first = make_vote(store, a_value)
    store.answer(a_value, first, at_once)
    assert store.answer(second, make_vote(store, second).model_copy(update={"id": first.id}), at_once) is True


def test_vote_out_of_order_or_too_soon_is_rejected(url: str) -> None:
    clock = Clock()
    store, protocol = open_store(url, clock)
    listener = begun(store, protocol)
    unopened = Vote(id=str(uuid.uuid4()), position=0, answers={"overall": 1, "melody": 1}, listened_seconds=[])
    with pytest.raises(RequestRejectedError, match="played"):
        store.answer(listener, unopened, at_once)
    vote = make_vote(store, listener)
    with pytest.raises(RequestRejectedError, match="not the one"):
        store.answer(listener, vote.model_copy(update={"position": 3}), at_once)
    clock.now += 7
    with pytest.raises(RequestRejectedError, match="played"):
        store.answer(listener, vote, lambda _: 8.0)
    clock.now += 1
    store.current(listener, opening=True)  # a second look does not begin the time again
    assert store.answer(listener, vote, lambda _: 8.0)


def test_open_test_changed_after_first_vote_raises_error(url: str) -> None:
    store, protocol = open_store(url)
    listener = begun(store, protocol)
    changed = protocol_of(seed=9)
    store.open_test(changed, SOUNDS, PROMPTS, "lab")  # no vote yet: it may change, and all begin again
    assert store.current(listener) is None
    store.begin(listener, CONSENT, changed, ITEMS)
    store.answer(listener, make_vote(store, listener), at_once)
    store.open_test(changed, SOUNDS, PROMPTS, "lab")
    for second, content_hashes, site, sent in (
        (protocol, SOUNDS, "lab", "seed changed"),
        (changed, SOUNDS | {"item-01/linear": "xx"}, "lab", "the stimuli changed"),
        (changed, SOUNDS, "elsewhere", "--site changed"),
    ):
        with pytest.raises(TalimError, match=sent):
            store.open_test(second, content_hashes, PROMPTS, site)


def test_begin_beyond_stopping_rule_is_rejected(url: str) -> None:
    store, protocol = open_store(url, stopping={"listeners": 3, "per_group": {"expert": 1}})
    first = begun(store, protocol)
    store.begin(first, CONSENT, protocol, ITEMS)  # twice is once
    with pytest.raises(RequestRejectedError, match="all the listeners"):
        begun(store, protocol)
    for _ in range(2):
        begun(store, protocol, replace(CONSENT, group="general"))
    with pytest.raises(RequestRejectedError, match="all the listeners"):
        begun(store, protocol, replace(CONSENT, group="general"))
    assert store.current(first)  # who is in may finish


def test_delete_removes_listener_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "votes.db"
    store, protocol = open_store(sqlite_url(path))
    a_value, second = begun(store, protocol), begun(store, protocol)
    stored, gone = make_vote(store, a_value), make_vote(store, second)
    store.answer(a_value, stored, at_once)
    store.answer(second, gone, at_once)
    assert store.delete(second) is True
    assert store.delete(second) is None
    assert {row["listener"] for row in store.rows()} == {a_value}
    assert store.status()["deleted"] == 1
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert stored.id.encode() in left
    assert gone.id.encode() not in left
    assert second.encode() not in left


def test_invite_stores_no_tokens(tmp_path: Path) -> None:
    path = tmp_path / "votes.db"
    store, _ = open_store(sqlite_url(path))
    tokens = [created["token"] for created in store.invite(3)]
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not any(token.encode() in left for token in tokens)
    assert path.stat().st_mode & 0o077 == 0


def test_vote_concurrent_listeners_are_all_stored(url: str) -> None:
    store, protocol = open_store(url)
    created = store.invite(12)
    errors: list[Exception] = []

    def listen(listener: str) -> None:
        try:
            store.begin(listener, CONSENT, protocol, ITEMS)
            while store.current(listener):
                vote = make_vote(store, listener)
                store.answer(listener, vote, at_once)
                store.answer(listener, vote, at_once)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=listen, args=(m["id"],)) for m in created]
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


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE votes SET answers = '{\"zz\": 5}' WHERE position = 0",
        "UPDATE votes SET answers = '{\"zz\": 2}' WHERE position = 0",
        'UPDATE votes SET answers = \'{"overall": 100, "melody": 0}\' WHERE position = 0',
        'UPDATE votes SET answers = \'{"overall": 0.5, "melody": 0}\' WHERE position = 0',
        "UPDATE votes SET answers = 'no json' WHERE position = 0",
        "UPDATE votes SET answers = '{}' WHERE position = 0",
        "UPDATE votes SET listened_seconds = '[\"long\"]' WHERE position = 0",
        "UPDATE votes SET at = 'yesterday' WHERE position = 0",
        "UPDATE votes SET at = 9e999 WHERE position = 0",
        "UPDATE trials SET \"order\" = '[]' WHERE position = 0",
        "UPDATE trials SET kind = 'strange' WHERE position = 0",
    ],
)
def test_rows_pass_over_a_vote_that_cannot_be_read_and_name_it(tmp_path: Path, damage: str) -> None:
    store, protocol = open_store(sqlite_url(tmp_path / "votes.db"))
    listener = begun(store, protocol)
    for _ in range(2):
        store.answer(listener, make_vote(store, listener), at_once)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(damage)
    named: list[str] = []
    rows = store.rows(named.append)
    assert {row["position"] for row in rows} == {1}
    assert len(named) == 1
    assert f"listener {listener} on trial 0 cannot be read" in named[0]


def test_rows_pass_over_a_rating_that_cannot_be_read(tmp_path: Path) -> None:
    """A vote without an answer for each version in MUSHRA, as an earlier version could store it."""
    changes = {"kind": "mushra", "reference": "real", "aspects": [{"name": "overall"}]}
    store, protocol = open_store(sqlite_url(tmp_path / "votes.db"), trials={"per_listener": 2, "repeats": 0}, **changes)
    listener = begun(store, protocol)
    for place in range(2):
        vote = make_vote(store, listener)
        answers = {str(index): 50 for index in range(8)} if place else {"zz": 2}
        store.answer(listener, vote.model_copy(update={"answers": answers}), at_once)
    named: list[str] = []
    assert {row["position"] for row in store.rows(named.append)} == {1}
    assert "trial 0 cannot be read (KeyError: '0')" in named[0]
