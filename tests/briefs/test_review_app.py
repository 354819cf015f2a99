"""The review server: a session by its API, and one attempt after another at what it must not allow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from fastapi.testclient import TestClient
from fixtures.brief_folder import Clock, Reviewer, brief_of, opened_brief

from talim.atomic_io import read_jsonl, write_jsonl
from talim.briefs.review_app import create_app
from talim.briefs.review_session import ReviewSession
from talim.listening.middleware import RateLimits


def test_a_session_from_consent_to_the_end(client: TestClient, opened: ReviewSession) -> None:
    reviewer = Reviewer(client, opened)
    told = reviewer.get("/api/session").json()
    assert (told["began"], told["candidates"], told["brief"]["prompt"]) == (False, 8, "slow flute")
    assert reviewer.post("/api/candidate").status_code == 403
    reviewer.begin()
    for place in range(8):
        turn = reviewer.post("/api/candidate").json()
        assert turn["position"] == place
        assert reviewer.get(f"/api/audio/{turn['audio']}").content[:4] == b"RIFF"
        verdict = ("accept", "edit", "reject")[place % 3]
        answer = reviewer.post("/api/reviews", reviewer.review_body(verdict))
        assert answer.json() == {"stored": True, "new": True}
    assert reviewer.post("/api/candidate").json() == {"done": True}
    assert reviewer.get("/api/session").json()["reviewed"] == 8
    rows = opened.reviews.rows()
    assert {row["candidate"] for row in rows} == set(opened.rows)
    assert all(row["seconds"] >= 10 for row in rows)


def test_orders_differ_between_reviewers(client: TestClient, opened: ReviewSession) -> None:
    orders = []
    for _ in range(3):
        one = Reviewer(client, opened).begin()
        order = []
        while (turn := opened.reviews.current(one.id)) is not None:
            order.append(turn["candidate"])
            assert one.post("/api/reviews", one.review_body()).status_code == 200
        orders.append(tuple(order))
    assert len(set(orders)) == 3


def test_nothing_a_reviewer_is_told_betrays_the_design(reviewer: Reviewer) -> None:
    told = [reviewer.get("/api/session").text]
    for _ in range(8):
        turn = reviewer.post("/api/candidate")
        sound = reviewer.get(f"/api/audio/{turn.json()['audio']}")
        told += [turn.text, str(sound.headers), sound.content.decode("latin-1")]
        reviewer.post("/api/reviews", reviewer.review_body())
    forbidden = ["linear", "conv", "-001", "adapter", "AI-generated", "seed", "last-modified", "etag"]
    assert not [word for word in forbidden for text in told if word in text]


def test_a_failed_check_is_told(reviewer: Reviewer) -> None:
    failed = []
    for _ in range(8):
        failed.append(reviewer.post("/api/candidate").json()["failed"])
        reviewer.post("/api/reviews", reviewer.review_body())
    assert sorted(map(len, failed)) == [0] * 6 + [1] * 2
    assert max(failed, key=len) == [{"name": "tempo", "measured": "50", "required": "90"}]


def test_a_loop_is_heard_twice(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "loop", brief_of(loop=True))
    samples, rate_hz = soundfile.read(io.BytesIO(opened.wav("linear-001")))
    assert len(samples) == 4 * rate_hz
    assert (samples[: 2 * rate_hz] == samples[2 * rate_hz :]).all()


@pytest.mark.parametrize(
    "path",
    [
        "/api/audio/linear-001",
        "/api/audio/linear-001.flac",
        "/api/audio/..%2f..%2fkeys.json",
        "/api/audio/../../keys.json",
        "/keys.json",
        "/reviews.db",
        "/candidates/linear-001.flac",
        "/static/../keys.json",
        "/static/review.html",
        "/openapi.json",
        "/docs",
        "/api/organiser/status",
        "/api/trial",
    ],
)
def test_other_files_are_not_served(reviewer: Reviewer, path: str) -> None:
    assert reviewer.get(path).status_code in (404, 405)


def test_only_the_current_candidate_can_be_heard(reviewer: Reviewer) -> None:
    old = reviewer.post("/api/candidate").json()["audio"]
    reviewer.post("/api/reviews", reviewer.review_body())
    assert reviewer.get(f"/api/audio/{old}").status_code == 404


def test_no_wrong_and_anothers_link(client: TestClient, opened: ReviewSession, reviewer: Reviewer) -> None:
    sound = reviewer.post("/api/candidate").json()["audio"]
    other = Reviewer(client, opened).begin()
    assert other.get(f"/api/audio/{sound}").status_code == 404
    for header in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {reviewer.token}"}):
        for method, path in (("GET", "/api/session"), ("POST", "/api/candidate"), ("DELETE", "/api/session")):
            assert client.request(method, path, headers=header).status_code == 401
    assert opened.reviews.reviewer(reviewer.token) is not None


def test_a_replayed_review_counts_once_and_another_is_refused(
    reviewer: Reviewer, opened: ReviewSession
) -> None:
    body = reviewer.review_body("reject")
    assert reviewer.post("/api/reviews", body).json()["new"] is True
    assert reviewer.post("/api/reviews", body).json()["new"] is False
    assert reviewer.post("/api/reviews", body | {"verdict": "accept"}).status_code == 409
    assert reviewer.post("/api/reviews", body | {"position": 1}).status_code == 409
    assert len(opened.reviews.rows()) == 1


def test_a_review_of_another_candidate_is_refused(reviewer: Reviewer, opened: ReviewSession) -> None:
    answer = reviewer.post("/api/reviews", reviewer.review_body(position=5))
    assert (answer.status_code, answer.json()["reason"]) == (409, "not_current")
    assert opened.reviews.rows() == []


@pytest.mark.parametrize(
    "change",
    [
        {"id": "1"},
        {"id": "x" * 36},
        {"position": -1},
        {"position": "0"},
        {"verdict": "maybe"},
        {"verdict": None},
        {"reasons": ["no such reason"]},
        {"reasons": ["sound", "sound"]},
        {"reasons": ["sound"] * 30},
        {"note": "x" * 501},
        {"note": "\x00"},
        {"listened_seconds": -1},
        {"listened_seconds": "much"},
        {"more": 1},
        {"verdict": "reject", "reasons": [], "note": "  "},
    ],
    ids=str,
)
def test_a_malformed_review_is_refused(
    reviewer: Reviewer, opened: ReviewSession, change: dict[str, Any]
) -> None:
    assert reviewer.post("/api/reviews", reviewer.review_body(**change)).status_code == 422
    assert opened.reviews.rows() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"id": NaN}'])
def test_a_body_that_is_none_is_refused(reviewer: Reviewer, body: bytes) -> None:
    headers = reviewer.headers | {"Content-Type": "application/json"}
    answer = reviewer.client.post("/api/reviews", headers=headers, content=body)
    assert answer.status_code in (400, 422)


def test_an_oversized_body_is_refused(reviewer: Reviewer) -> None:
    body = json.dumps(reviewer.review_body() | {"note": "x" * 20_000})
    headers = reviewer.headers | {"Content-Type": "application/json"}
    assert reviewer.client.post("/api/reviews", headers=headers, content=body).status_code == 413


@pytest.mark.parametrize(
    "said",
    [{}, {"consent": False, "language": "en"}, {"consent": True, "language": "xx"}, {"consent": True}],
)
def test_no_beginning_without_consent(client: TestClient, opened: ReviewSession, said: Any) -> None:
    assert Reviewer(client, opened).post("/api/begin", said).status_code == 422


def test_a_review_before_the_piece_can_have_been_heard(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "x", brief_of(minimum_seconds=1.5))
    opened.reviews._clock = lambda: 1000.0
    with TestClient(create_app(opened), base_url="http://localhost") as client:
        reviewer = Reviewer(client, opened).begin()
        short = reviewer.post("/api/reviews", reviewer.review_body(listened_seconds=1.0))
        assert (short.status_code, short.json()["reason"]) == (409, "not_listened")
        forged = reviewer.post("/api/reviews", reviewer.review_body(listened_seconds=2.0))
        assert (forged.status_code, forged.json()["reason"]) == (409, "too_soon")
        opened.reviews._clock = Clock()
        assert reviewer.post("/api/reviews", reviewer.review_body()).status_code == 200


def test_a_reviewer_deletes_everything_and_the_link_ends(reviewer: Reviewer, opened: ReviewSession) -> None:
    reviewer.post("/api/reviews", reviewer.review_body("edit", note="a telling note"))
    assert reviewer.client.delete("/api/session", headers=reviewer.headers).json() == {"deleted": True}
    assert reviewer.get("/api/session").status_code == 401
    assert opened.reviews.rows() == []
    assert opened.reviews.facts()["deleted"] == 1
    kept = b"".join(path.read_bytes() for path in opened.folder.glob("reviews.db*"))
    assert b"a telling note" not in kept


def test_the_guard_stands_before_reviews_too(opened: ReviewSession) -> None:
    with TestClient(
        create_app(opened, RateLimits(link_burst=3, link_per_second=0.01)), base_url="http://localhost"
    ) as client:
        reviewer = Reviewer(client, opened)
        codes = [reviewer.get("/api/session").status_code for _ in range(6)]
        assert 429 in codes
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_changed_sounds_after_the_first_review_are_refused(reviewer: Reviewer, opened: ReviewSession) -> None:
    from talim.briefs.review_session import open_brief
    from talim.errors import TalimError

    assert open_brief(opened.folder, opened.brief).brief_hash == opened.brief_hash
    reviewer.post("/api/reviews", reviewer.review_body())
    with pytest.raises(TalimError, match=r"frozen since its first review, but decision_rule.* changed"):
        open_brief(opened.folder, brief_of(decision_rule={"acceptance_at_least": 0.1}))
    rows = read_jsonl(opened.folder / "candidates.jsonl")
    write_jsonl(opened.folder / "candidates.jsonl", rows[:-1])
    with pytest.raises(TalimError, match="but the candidates changed"):
        open_brief(opened.folder, opened.brief)
