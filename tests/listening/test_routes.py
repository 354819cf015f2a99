"""Whatever is sent to any route of the API's own description, the server never fails: schemathesis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fixtures.brief_folder import brief_of, opened_brief
from fixtures.listening_test_folder import write_test
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from talim.briefs.review_app import create_app as review_app
from talim.listening.app import create_app
from talim.listening.middleware import RateLimits
from talim.listening.session import open_test
from talim.listening.vote_store import ConsentRecord

FREE = RateLimits(link_burst=1e9, address_burst=1e9, wrong_burst=1e9)
SAID = ConsentRecord("general", 2, "en", "0" * 64)


def statuses(guarded: Any, token_of: Callable[[int], str]) -> list[int]:
    """The answers to generated requests for every route, with the tokens of the places 0 to 3."""
    schema: Any = schemathesis.openapi.from_dict(guarded.app.openapi())
    schema.app = guarded
    seen: list[int] = []

    def try_it(operation: Any) -> None:
        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(), place=st.integers(0, 3))
        def once(case: Any, place: int) -> None:
            answer = case.call(headers={**dict(case.headers or {}), "Authorization": f"Bearer {token_of(place)}"})
            case.validate_response(answer, checks=[not_a_server_error])
            assert "content-security-policy" in {name.lower() for name in answer.headers}
            seen.append(answer.status_code)

        once()

    for operation in schema.get_all_operations():
        try_it(operation.ok())
    return seen


@pytest.mark.slow
def test_review_api_any_request_has_no_server_error(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "brief", brief_of(candidates=1))

    def token_of(place: int) -> str:
        reviewer = opened.store.invite(1)[0]
        if place:
            opened.store.begin(reviewer["id"], "en", "0" * 64, 0)
        return reviewer["token"] if place < 3 else "nobody"

    seen = statuses(review_app(opened, FREE, hosts=None), token_of)
    assert len(seen) >= 60
    assert {200, 401, 404, 422} <= set(seen)


@pytest.mark.slow
def test_listening_api_any_request_has_no_server_error(tmp_path: Path) -> None:
    opened = open_test(write_test(tmp_path / "test", stopping={"listeners": None}))

    def token_of(place: int) -> str:
        listener = opened.store.invite(1)[0]
        if place % 2:
            opened.store.begin(listener["id"], SAID, opened.protocol, opened.stimuli.items)
        return [opened.organiser_token, "nobody", "", listener["token"]][place]

    seen = statuses(create_app(opened, FREE, hosts=None), token_of)
    assert len(seen) >= 100
    assert {200, 401, 404, 422} <= set(seen)
