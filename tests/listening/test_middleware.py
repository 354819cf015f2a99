"""What stands before the server: headers on every answer, host names, rates."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from fixtures.listening_client import Person, client_of

from talim.listening.middleware import RateLimits
from talim.listening.session import ListeningTestSession


@pytest.mark.parametrize(
    "path", ["/", "/organiser", "/static/listen.js", "/api/session", "/nothing", "/api/words/en"]
)
def test_every_answer_carries_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "set-cookie" not in headers
    assert "access-control-allow-origin" not in headers


def test_refusals_carry_the_headers_too(client: TestClient) -> None:
    assert "content-security-policy" in client.post("/api/votes", content=b"x" * 20_000).headers


def test_another_host_name_is_refused(client: TestClient) -> None:
    """A name of somebody else that was pointed at this machine (DNS rebinding)."""
    for host in ("evil.example", "localhost.evil.example", "evil.example:8765"):
        assert client.get("/", headers={"Host": host}).status_code == 421
    for host in ("localhost:1", "127.0.0.1:8765", "[::1]:8765"):
        assert client.get("/", headers={"Host": host}).status_code == 200


def test_no_other_site_may_ask(client: TestClient, person: Person) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = client.options("/api/votes", headers=asked)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_rates_are_limited_by_link(test: ListeningTestSession) -> None:
    with client_of(test, RateLimits(link_burst=5, link_per_second=0)) as client:
        person, other = Person(client, test), Person(client, test)
        assert [person.get("/api/session").status_code for _ in range(7)] == [200] * 5 + [429] * 2
        assert other.get("/api/session").status_code == 200


def test_guessing_links_is_limited(test: ListeningTestSession) -> None:
    with client_of(test, RateLimits(wrong_burst=3, wrong_per_second=0)) as client:
        guesses = [client.get("/api/session", headers={"Authorization": f"Bearer {i}"}) for i in range(5)]
        assert [answer.status_code for answer in guesses] == [401] * 3 + [429] * 2
        assert Person(client, test).get("/api/session").status_code == 200  # who has a link is not locked out


def test_pages_and_words_name_nothing_outside() -> None:
    static = Path(__file__).parents[2] / "src/talim/listening/static"
    for path in static.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert "http:" not in text.replace("http://www.w3.org", "")
        assert "https:" not in text
        assert "innerHTML" not in text
