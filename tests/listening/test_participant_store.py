"""What stores of votes and of reviews share: checks in the transaction, changed tests, clocks, deletion, closing."""

from __future__ import annotations

import functools
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from fixtures.listening_test_folder import protocol_of
from fixtures.stored_votes import CONSENT, ITEMS, PROMPTS, SOUNDS, Clock, at_once, begun, make_vote, open_store

from talim.listening import database, participant_store
from talim.listening.database import sqlite_url
from talim.listening.participant_store import RequestRejectedError
from talim.listening.vote_store import VoteStore

IMPATIENT = functools.partial(database.checkpoint_wal, patience_seconds=0.2)  # of two seconds


def on_disk(folder: Path, needle: str) -> int:
    return sum(path.read_bytes().count(needle.encode()) for path in folder.glob("votes.db*"))


def test_answer_check_gets_the_turn_that_is_answered_and_can_reject_it(url: str) -> None:
    store, protocol = open_store(url)
    listener = begun(store, protocol)
    seen: list[int] = []

    def reject(turn: dict[str, Any]) -> float:
        seen.append(turn["position"])
        raise RequestRejectedError("malformed", "no", 422)

    vote = make_vote(store, listener)
    early = vote.model_copy(update={"position": 1, "answers": {"zz": 5}})
    with pytest.raises(RequestRejectedError, match="not the one"):
        store.answer(listener, early, reject)  # checked only once its turn has come
    with pytest.raises(RequestRejectedError, match="no"):
        store.answer(listener, vote, reject)
    assert seen == [0]
    assert store.rows() == []
    assert store.facts()["frozen_at"] is None


def test_test_changed_by_another_process_rejects_begin_trial_and_vote(url: str) -> None:
    store, protocol = open_store(url)
    listener, invited = begun(store, protocol), store.invite(1)[0]["id"]
    vote = make_vote(store, listener)
    other = VoteStore(url)
    other.open_test(protocol_of(aspects=[{"name": "rhythm"}]), SOUNDS, PROMPTS, "lab")
    for attempt in (
        lambda: store.begin(invited, CONSENT, protocol, ITEMS),
        lambda: store.current(listener, opening=True),
        lambda: store.current(listener),
        lambda: store.answer(listener, vote, at_once),
    ):
        with pytest.raises(RequestRejectedError, match="was changed; restart") as refused:
            attempt()
        assert (refused.value.reason, refused.value.status) == ("changed", 409)
    assert other.rows() == []
    assert other.facts()["frozen_at"] is None


def test_clock_set_back_begins_the_time_of_a_turn_anew(tmp_path: Path) -> None:
    clock = Clock()
    store, protocol = open_store(sqlite_url(tmp_path / "votes.db"), clock)
    listener = begun(store, protocol)
    vote = make_vote(store, listener)
    clock.now -= 3600
    with pytest.raises(RequestRejectedError, match="played"):
        store.answer(listener, vote, lambda _: 8.0)
    clock.now += 8
    assert store.answer(listener, vote, lambda _: 8.0)  # without asking for the page again
    make_vote(store, listener)
    clock.now -= 3600
    vote = make_vote(store, listener)  # the page asks again
    clock.now += 8
    assert store.answer(listener, vote, lambda _: 8.0)


def test_delete_while_another_program_reads_is_confirmed_when_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participant_store, "_ERASE_AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(participant_store, "checkpoint_wal", IMPATIENT)
    store, protocol = open_store(sqlite_url(tmp_path / "votes.db"))
    listener = begun(store, protocol)
    vote = make_vote(store, listener)
    store.answer(listener, vote, at_once)
    reader = sqlite3.connect(tmp_path / "votes.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM votes").fetchall()
    assert store.delete(listener) is False
    assert store.rows() == []
    assert on_disk(tmp_path, vote.id) > 0
    reader.execute("COMMIT")
    reader.close()
    end = time.monotonic() + 20
    while on_disk(tmp_path, vote.id) or on_disk(tmp_path, listener):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert store.delete(listener) is None


def test_close_leaves_everything_in_the_database_file_and_tells_if_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participant_store, "checkpoint_wal", IMPATIENT)
    store, protocol = open_store(sqlite_url(tmp_path / "votes.db"))
    listener = begun(store, protocol)
    store.answer(listener, make_vote(store, listener), at_once)
    reader = sqlite3.connect(tmp_path / "votes.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM votes").fetchall()
    store.answer(listener, make_vote(store, listener), at_once)
    assert store.close() is False
    reader.execute("COMMIT")
    reader.close()
    assert store.close() is True
    assert not (tmp_path / "votes.db-wal").exists()
