"""What stands before the server: headers on every answer, host names, rates."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from fixtures.listening_client import Person, client_of

from talim.listening.app import create_app
from talim.listening.middleware import RateLimits, host_name
from talim.listening.session import ListeningTestSession


@pytest.mark.parametrize("path", ["/", "/organiser", "/static/listen.js", "/api/session", "/nothing", "/api/words/en"])
def test_response_has_security_headers(client: TestClient, path: str) -> None:
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


def test_error_response_has_security_headers(client: TestClient) -> None:
    assert "content-security-policy" in client.post("/api/votes", content=b"x" * 20_000).headers


def test_request_for_other_host_returns_421(client: TestClient) -> None:
    """A name of somebody else that was pointed at this machine (DNS rebinding)."""
    for host in ("evil.example", "localhost.evil.example", "evil.example:8765"):
        assert client.get("/", headers={"Host": host}).status_code == 421
    for host in ("localhost:1", "127.0.0.1:8765", "[::1]:8765"):
        assert client.get("/", headers={"Host": host}).status_code == 200


def test_cross_origin_request_gets_no_cors_headers(client: TestClient, person: Person) -> None:
    arguments = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = client.options("/api/votes", headers=arguments)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_requests_over_link_rate_return_429(test: ListeningTestSession) -> None:
    with client_of(test, RateLimits(link_burst=5, link_per_second=0)) as client:
        person, second = Person(client, test), Person(client, test)
        assert [person.get("/api/session").status_code for _ in range(7)] == [200] * 5 + [429] * 2
        assert second.get("/api/session").status_code == 200


def test_invalid_links_over_rate_return_429(test: ListeningTestSession) -> None:
    with client_of(test, RateLimits(wrong_burst=3, wrong_per_second=0)) as client:
        guesses = [client.get("/api/session", headers={"Authorization": f"Bearer {i}"}) for i in range(5)]
        assert [answer.status_code for answer in guesses] == [401] * 3 + [429] * 2
        assert Person(client, test).get("/api/session").status_code == 200  # who has a link is not locked out


def test_static_files_contain_no_external_urls() -> None:
    static = Path(__file__).parents[2] / "src/talim/listening/static"
    for path in static.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert "http:" not in text.replace("http://www.w3.org", "")
        assert "https:" not in text
        assert "innerHTML" not in text


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8765", "localhost"),
        ("LOCALHOST", "localhost"),
        ("127.0.0.1:", "127.0.0.1"),
        ("[::1]:8765", "[::1]"),
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        *[(wrong, None) for wrong in ("[::1]evil", "[::1", "[::1]:80@evil", "localhost:80@evil", "a@localhost", "")],
        *[
            (wrong, None)
            for wrong in ("localhost:80:80", "localhost:999999", "local host", "[::g]", "localhost/x", "[]")
        ],
    ],
)
def test_host_name_is_exactly_a_name_with_an_optional_port(host: str, name: str | None) -> None:
    assert host_name(host) == name


def test_hosts_with_more_than_a_name_are_refused(client: TestClient, test: ListeningTestSession) -> None:
    for host in ("[::1]evil", "localhost:80@evil"):
        assert client.get("/", headers={"Host": host}).status_code == 421
    with TestClient(create_app(test, hosts=None), base_url="http://any.example") as open_to_all:
        assert open_to_all.get("/").status_code == 200
        assert open_to_all.get("/", headers={"Host": "localhost:80@evil"}).status_code == 421


def test_spellings_of_one_link_share_its_rate(test: ListeningTestSession) -> None:
    with client_of(test, RateLimits(link_burst=5, link_per_second=0)) as client:
        token = Person(client, test).token
        spellings = [
            f"{word}{' ' * (1 + n)}{token}" for n in range(3) for word in ("Bearer", "bearer", "BEARER", "bEaReR")
        ]
        answers = [client.get("/api/session", headers={"Authorization": each}).status_code for each in spellings]
        assert answers == [200] * 5 + [429] * 7


def test_known_link_answers_from_an_address_over_its_rate(test: ListeningTestSession) -> None:
    with client_of(test, RateLimits(address_burst=5, address_per_second=0)) as client:
        person = Person(client, test)
        assert person.get("/api/session").status_code == 200
        assert [client.get("/").status_code for _ in range(6)] == [200] * 4 + [429] * 2
        assert person.get("/api/session").status_code == 200


def test_forwarded_address_is_not_believed(test: ListeningTestSession) -> None:
    with client_of(test, RateLimits(wrong_burst=3, wrong_per_second=0)) as client:
        heads = [{"Authorization": f"Bearer {i}", "X-Forwarded-For": f"10.0.0.{i}"} for i in range(5)]
        guesses = [client.get("/api/session", headers=head).status_code for head in heads]
        assert guesses == [401] * 3 + [429] * 2
