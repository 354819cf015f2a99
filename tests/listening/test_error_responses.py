"""Errors of an API are answered in one line, with nothing of what was sent."""

from __future__ import annotations

import logging

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from talim.listening.error_responses import add_error_handlers


class _ChildOfKnownError(ValueError):
    """Answered as its parent is."""


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (_ChildOfKnownError("secret"), 418, "known"),
        (HTTPException(429, "too_many", {"retry-after": "7"}), 429, "too_many"),
        (OSError(28, "No space left on device"), 503, "unavailable"),
    ],
)
def test_error_is_answered_by_its_type(
    error: Exception, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    api = FastAPI()
    add_error_handlers(api, logging.getLogger("talim.test"), {ValueError: lambda _: (418, {"reason": "known"})})

    @api.get("/fails/{value}")
    def fails(value: str) -> None:
        raise error

    with TestClient(api) as client:
        answer = client.get("/fails/secret")
        assert (answer.status_code, answer.json()) == (status, {"reason": reason})
        assert answer.headers.get("retry-after") == {429: "7", 503: "2"}.get(status)
        assert client.get("/nothing").json() == {"reason": "not_found"}
    logged = [record.message for record in caplog.records if record.name == "talim.test"]
    assert logged == ["GET /fails/{value} failed: [Errno 28] No space left on device"] * (status == 503)
