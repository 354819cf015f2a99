"""The review server: a session by its API, and one attempt after another at what it must not allow."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fixtures.brief_folder import Clock, Reviewer, brief_of, opened_brief

from talim.briefs.review_app import create_app
from talim.briefs.review_session import ReviewSession
from talim.listening.middleware import RateLimits


def test_session_from_consent_to_last_review_stores_all_reviews(client: TestClient, opened: ReviewSession) -> None:
    reviewer = Reviewer(client, opened)
    result = reviewer.get("/api/session").json()
    assert (result["began"], result["candidates"], result["brief"]["prompt"]["en"]) == (False, 8, "slow flute")
    assert reviewer.post("/api/candidate").status_code == 403
    reviewer.begin()
    for index in range(8):
        turn = reviewer.post("/api/candidate").json()
        assert turn["position"] == index
        assert reviewer.get(f"/api/audio/{turn['audio']}").content[:4] == b"RIFF"
        verdict = ("accept", "edit", "reject")[index % 3]
        answer = reviewer.post("/api/reviews", reviewer.review_body(verdict))
        assert answer.json() == {"stored": True, "new": True}
    assert reviewer.post("/api/candidate").json() == {"done": True}
    assert reviewer.get("/api/session").json()["reviewed"] == 8
    rows = opened.store.rows()
    assert {row["candidate"] for row in rows} == set(opened.rows)
    assert all(row["seconds"] >= 10 for row in rows)


def test_candidate_orders_differ_between_reviewers(client: TestClient, opened: ReviewSession) -> None:
    orders = []
    for _ in range(3):
        first = Reviewer(client, opened).begin()
        order = []
        while (turn := opened.store.current(first.id)) is not None:
            order.append(turn["candidate"])
            assert first.post("/api/reviews", first.review_body()).status_code == 200
        orders.append(tuple(order))
    assert len(set(orders)) == 3


def test_responses_to_reviewers_do_not_reveal_contenders(reviewer: Reviewer) -> None:
    result = [reviewer.get("/api/session").text]
    for _ in range(8):
        turn = reviewer.post("/api/candidate")
        sound = reviewer.get(f"/api/audio/{turn.json()['audio']}")
        result += [turn.text, str(sound.headers), sound.content.decode("latin-1")]
        reviewer.post("/api/reviews", reviewer.review_body())
    forbidden = ["linear", "conv", "-001", "adapter", "AI-generated", "seed", "last-modified", "etag"]
    assert not [word for word in forbidden for text in result if word in text]


def test_candidate_lists_failed_checks(reviewer: Reviewer) -> None:
    failed = []
    for _ in range(8):
        failed.append(reviewer.post("/api/candidate").json()["failed"])
        reviewer.post("/api/reviews", reviewer.review_body())
    assert sorted(map(len, failed)) == [0] * 6 + [1] * 2
    assert max(failed, key=len) == [
        {
            "name": "tempo",
            "measured": {"en": "50 bpm", "ja": "毎分 50 拍"},
            "required": {"en": "90 bpm within 8 %, half or double", "ja": "毎分 90 拍（許容差 8％、半分または倍も可）"},
        }
    ]


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
def test_get_unknown_path_returns_404(reviewer: Reviewer, path: str) -> None:
    assert reviewer.get(path).status_code in (404, 405)


def test_get_audio_of_other_candidates_returns_404(reviewer: Reviewer) -> None:
    old = reviewer.post("/api/candidate").json()["audio"]
    reviewer.post("/api/reviews", reviewer.review_body())
    assert reviewer.get(f"/api/audio/{old}").status_code == 404


def test_request_with_missing_wrong_or_foreign_token_is_rejected(
    client: TestClient, opened: ReviewSession, reviewer: Reviewer
) -> None:
    sound = reviewer.post("/api/candidate").json()["audio"]
    second = Reviewer(client, opened).begin()
    assert second.get(f"/api/audio/{sound}").status_code == 404
    for header in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {reviewer.token}"}):
        for method, path in (("GET", "/api/session"), ("POST", "/api/candidate"), ("DELETE", "/api/session")):
            assert client.request(method, path, headers=header).status_code == 401
    assert opened.store.find(reviewer.token) is not None


def test_post_review_twice_stores_it_once_and_other_returns_409(reviewer: Reviewer, opened: ReviewSession) -> None:
    body = reviewer.review_body("reject")
    assert reviewer.post("/api/reviews", body).json()["new"] is True
    assert reviewer.post("/api/reviews", body).json()["new"] is False
    assert reviewer.post("/api/reviews", body | {"verdict": "accept"}).status_code == 409
    assert reviewer.post("/api/reviews", body | {"position": 1}).status_code == 409
    assert len(opened.store.rows()) == 1


def test_three_tabs_at_once_store_one_review_a_candidate(reviewer: Reviewer, opened: ReviewSession) -> None:
    def tab(_: int) -> list[tuple[int, bool]]:
        seen = []
        while "position" in (turn := reviewer.post("/api/candidate").json()):
            review = {"id": str(uuid.uuid4()), "position": turn["position"], "verdict": "accept", "reasons": []}
            answer = reviewer.post("/api/reviews", review | {"note": "", "listened_seconds": 2.0})
            seen.append((answer.status_code, answer.json().get("new", False)))
        return seen

    with ThreadPoolExecutor(3) as pool:
        seen = [row for tab_rows in pool.map(tab, range(3)) for row in tab_rows]
    assert Counter(seen)[200, True] == 8
    assert set(seen) <= {(200, True), (409, False)}
    assert sorted(row["candidate"] for row in opened.store.rows()) == sorted(opened.rows)


def test_post_review_of_other_position_returns_409(reviewer: Reviewer, opened: ReviewSession) -> None:
    answer = reviewer.post("/api/reviews", reviewer.review_body(position=5))
    assert (answer.status_code, answer.json()["reason"]) == (409, "not_current")
    assert opened.store.rows() == []


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
def test_post_malformed_review_returns_422(reviewer: Reviewer, opened: ReviewSession, change: dict[str, Any]) -> None:
    assert reviewer.post("/api/reviews", reviewer.review_body(**change)).status_code == 422
    assert opened.store.rows() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"id": NaN}'])
def test_post_without_json_body_returns_422(reviewer: Reviewer, body: bytes) -> None:
    headers = reviewer.headers | {"Content-Type": "application/json"}
    answer = reviewer.client.post("/api/reviews", headers=headers, content=body)
    assert answer.status_code in (400, 422)


def test_post_oversized_body_returns_413(reviewer: Reviewer) -> None:
    body = json.dumps(reviewer.review_body() | {"note": "x" * 20_000})
    headers = reviewer.headers | {"Content-Type": "application/json"}
    assert reviewer.client.post("/api/reviews", headers=headers, content=body).status_code == 413


@pytest.mark.parametrize(
    "sent", [{}, {"consent": False, "language": "en"}, {"consent": True, "language": "xx"}, {"consent": True}]
)
def test_begin_without_consent_returns_422(client: TestClient, opened: ReviewSession, sent: Any) -> None:
    assert Reviewer(client, opened).post("/api/begin", sent).status_code == 422


def test_post_review_before_minimum_listening_time_is_rejected(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "x", brief_of(minimum_seconds=1.5))
    opened.store._clock = lambda: 1000.0
    with TestClient(create_app(opened), base_url="http://localhost") as client:
        reviewer = Reviewer(client, opened).begin()
        short = reviewer.post("/api/reviews", reviewer.review_body(listened_seconds=1.0))
        assert (short.status_code, short.json()["reason"]) == (409, "not_listened")
        forged = reviewer.post("/api/reviews", reviewer.review_body(listened_seconds=2.0))
        assert (forged.status_code, forged.json()["reason"]) == (409, "too_soon")
        opened.store._clock = Clock()
        assert reviewer.post("/api/reviews", reviewer.review_body()).status_code == 200


def test_delete_session_removes_reviews_and_invalidates_token(reviewer: Reviewer, opened: ReviewSession) -> None:
    reviewer.post("/api/reviews", reviewer.review_body("edit", note="a telling note"))
    assert reviewer.client.delete("/api/session", headers=reviewer.headers).json() == {"deleted": True}
    assert reviewer.get("/api/session").status_code == 401
    assert opened.store.rows() == []
    assert opened.store.facts()["deleted"] == 1
    stored = b"".join(path.read_bytes() for path in opened.folder.glob("reviews.db*"))
    assert b"a telling note" not in stored


def test_review_server_has_security_middleware(opened: ReviewSession) -> None:
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
