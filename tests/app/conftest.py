"""A folder of the app, its application, and somebody who asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from talim.app.application import create_app
from talim.app.workspace import Workspace


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    """An empty folder of the app."""
    return Workspace(tmp_path / "work")


@pytest.fixture
def client(work: Workspace) -> Iterator[TestClient]:
    """A client with the token, which sees a server error as an answer."""
    app: Any = create_app(work)
    headers = {"Authorization": f"Bearer {work.token}"}
    with TestClient(app, base_url="http://localhost", headers=headers, raise_server_exceptions=False) as made:
        yield made
