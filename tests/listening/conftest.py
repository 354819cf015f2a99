"""A small listening test on disk, as a fixture: copied, because to measure loudness anew takes its time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from fixtures.listening_client import Person, client_of
from fixtures.listening_test_folder import protocol_values, write_test

from talim.listening import database, protocol, stimuli
from talim.listening.session import ListeningTestSession, open_test

Make = Callable[..., Path]
POSTGRES = os.environ.get("TALIM_TEST_POSTGRES")
SERVERS = [
    "sqlite",
    pytest.param(
        "postgres",
        marks=pytest.mark.skipif(not POSTGRES, reason="no TALIM_TEST_POSTGRES url: make test-postgres sets one"),
    ),
]


@pytest.fixture(scope="session")
def prepared_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test with its sounds made (read only by agreement)."""
    folder = write_test(tmp_path_factory.mktemp("tests") / "test")
    stimuli.prepare(folder, protocol.load(folder))
    return folder


@pytest.fixture
def make_test(tmp_path: Path, prepared_test: Path) -> Callable[..., Path]:
    """A copy of the prepared test; keyword arguments change the protocol."""

    def make(**changes: Any) -> Path:
        folder = tmp_path / "test"
        shutil.copytree(prepared_test, folder)
        text = yaml.safe_dump(protocol_values(**changes), sort_keys=False)
        (folder / "protocol.yaml").write_text(text, encoding="utf-8")
        return folder

    return make


@pytest.fixture
def test(make_test: Make) -> ListeningTestSession:
    """An opened pairwise test."""
    return open_test(make_test())


@pytest.fixture
def client(test: ListeningTestSession) -> Iterator[TestClient]:
    """A client of its server."""
    with client_of(test) as created:
        yield created


@pytest.fixture
def person(client: TestClient, test: ListeningTestSession) -> Person:
    """A listener who has begun."""
    return Person(client, test).begin()


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield database.sqlite_url(tmp_path / "votes.db")
        return
    assert POSTGRES
    yield POSTGRES
    database.metadata.drop_all(database.open_engine(POSTGRES))
