"""A reviewed brief's server, a reviewer, and a run of the tiny base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from fixtures.brief_folder import Reviewer, brief_of, opened_brief
from fixtures.listening_client import FREE

from talim.briefs.review_app import create_app
from talim.briefs.review_session import ReviewSession


@pytest.fixture
def opened(tmp_path: Path) -> ReviewSession:
    """Two designs with four candidates each."""
    return opened_brief(tmp_path / "jingle", brief_of())


@pytest.fixture
def client(opened: ReviewSession) -> Iterator[TestClient]:
    """A client that sees a server error as an answer."""
    app = create_app(opened, FREE)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as created:
        yield created


@pytest.fixture
def reviewer(client: TestClient, opened: ReviewSession) -> Reviewer:
    """A reviewer who has begun."""
    return Reviewer(client, opened).begin()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, corpus_folder: Path) -> Path:
    """A run of two steps on the tiny base (read only by agreement)."""
    from talim import recipe as recipes
    from talim.training.train import train

    values = {"base": str(tiny_base), "corpus": str(corpus_folder), "design": "linear@all:10%"}
    values |= {"training.steps": 2, "training.batch_size": 2, "training.precision": "fp32"}
    run = tmp_path_factory.mktemp("runs") / "linear"
    train(recipes.load((), values), run)
    return run
