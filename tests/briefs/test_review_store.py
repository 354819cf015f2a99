"""The reviews' store: once, in any order of threads, on SQLite and, where there is one, on PostgreSQL."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fixtures.brief_folder import Clock, brief_of
from fixtures.stored_votes import at_once

from talim.briefs.review_store import Review, ReviewStore, metadata
from talim.errors import TalimError
from talim.listening.database import sqlite_url
from talim.listening.participant_store import RequestRejectedError

POSTGRES = os.environ.get("TALIM_TEST_POSTGRES")
SOUNDS = {f"linear-{number:03d}": f"{number:064d}" for number in range(1, 7)}


@pytest.fixture(params=["sqlite", "postgres"])
def reviews(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReviewStore]:
    """A store with a brief of six candidates."""
    if request.param == "postgres" and not POSTGRES:
        pytest.skip("no TALIM_TEST_POSTGRES url")
    url = f"sqlite:///{tmp_path / 'reviews.db'}" if request.param == "sqlite" else str(POSTGRES)
    created = ReviewStore(url, Clock())
    created.open_brief(brief_of(), SOUNDS)
    yield created
    metadata.drop_all(created.engine)


def begun(reviews: ReviewStore) -> str:
    """A reviewer who has begun."""
    who = reviews.invite(1)[0]["id"]
    reviews.begin(who, "en", "0" * 64, 0)
    return who


def accepted(position: int) -> Review:
    return Review(id=str(uuid.uuid4()), position=position, verdict="accept", reasons=[], listened_seconds=1.0)


def go_through(reviews: ReviewStore, who: str) -> list[str]:
    """All candidates, each review sent twice; the ids that were acknowledged as new."""
    new = []
    while (turn := reviews.current(who, opening=True)) is not None:
        sent = accepted(turn["position"])
        new += [sent.id] * (reviews.answer(who, sent, at_once) + reviews.answer(who, sent, at_once))
    return new


def test_review_concurrent_reviewers_are_all_stored_once(reviews: ReviewStore) -> None:
    people = [begun(reviews) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        new = list(pool.map(lambda who: go_through(reviews, who), people))
    assert [len(set(ids)) for ids in new] == [len(SOUNDS)] * 6 == [len(ids) for ids in new]
    rows = reviews.rows()
    assert set(Counter((row["reviewer"], row["candidate"]) for row in rows).values()) == {1}
    assert len(rows) == 6 * len(SOUNDS)
    assert reviews.facts()["frozen_at"] == pytest.approx(min(row["at"] for row in rows), abs=100)


def test_begin_twice_has_no_effect_and_assigns_all_candidates(reviews: ReviewStore) -> None:
    who = begun(reviews)
    first = reviews.current(who)
    reviews.begin(who, "ja", "1" * 64, 7)
    assert reviews.current(who) == first
    assert first is not None
    assert first["candidate"] in SOUNDS


def test_review_before_opening_is_rejected(reviews: ReviewStore) -> None:
    who = begun(reviews)
    with pytest.raises(RequestRejectedError, match="can have been played"):
        reviews.answer(who, accepted(0), at_once)


def test_open_brief_changed_before_first_review_resets_reviewers(reviews: ReviewStore) -> None:
    who = begun(reviews)
    reviews.open_brief(brief_of(candidates=6), SOUNDS)
    assert reviews.current(who) is None
    reviews.begin(who, "en", "0" * 64, 0)
    go_through(reviews, who)
    with pytest.raises(TalimError, match="but candidates changed"):
        reviews.open_brief(brief_of(candidates=7), SOUNDS)
    assert len(reviews.rows()) == 6


def test_delete_removes_reviewer_and_no_token_is_stored(reviews: ReviewStore) -> None:
    created = reviews.invite(2)
    existing = reviews.find(created[0]["token"])
    assert existing is not None
    assert created[0]["token"] not in str(existing)
    assert reviews.find("nonsense") is None
    reviews.begin(created[0]["id"], "en", "0" * 64, 0)
    go_through(reviews, created[0]["id"])
    assert reviews.delete(created[0]["id"])
    assert not reviews.delete(created[0]["id"])
    assert reviews.rows() == []
    assert reviews.find(created[0]["token"]) is None
    assert reviews.facts()["deleted"] == 1


@pytest.mark.parametrize(
    "damage",
    ["reasons = 'no json'", "verdict = 'perhaps'", "listened_seconds = 'long'", "at = 'now'", "opened_at = NULL"],
)
def test_rows_pass_over_a_review_that_cannot_be_read_and_name_it(tmp_path: Path, damage: str) -> None:
    store = ReviewStore(sqlite_url(tmp_path / "reviews.db"))
    store.open_brief(brief_of(), SOUNDS)
    who = begun(store)
    go_through(store, who)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE turns SET {damage} WHERE position = 0")
    named: list[str] = []
    assert len(store.rows(named.append)) == len(SOUNDS) - 1
    assert len(named) == 1
    assert f"by {who} cannot be read" in named[0]
