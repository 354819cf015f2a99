"""Fifty listeners at once while the server is killed and started again, twice: no acknowledged vote is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from talim.listening.session import open_test

Make = Callable[..., Path]
LISTENERS, TRIALS = 50, 5
POSTGRES = os.environ.get("TALIM_TEST_POSTGRES")


class Crowd:
    """Listeners who go on asking until they are answered, and remember what was acknowledged."""

    def __init__(self, start: str, tokens: list[str]) -> None:
        self.start = start
        self.acknowledged: list[tuple[str, str]] = []
        self.errors: list[str] = []
        self.threads = [threading.Thread(target=self._listen, args=(token,), daemon=True) for token in tokens]

    def _handle_signal(self, client: httpx.Client, path: str, body: Any = None) -> Any:
        for _ in range(600):
            try:
                answer = client.post(path, json=body)
                if answer.status_code == 200:
                    return answer.json()
                if answer.status_code not in (429, 503):
                    self.errors.append(f"{path}: {answer.status_code} {answer.text}")
                    return None
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        self.errors.append(f"{path}: no answer")
        return None

    def _listen(self, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=self.start, headers=headers, timeout=30) as client:
            about = {"consent": True, "group": "general", "familiarity": 2, "language": "ja"}
            self._handle_signal(client, "/api/begin", about)
            while (trial := self._handle_signal(client, "/api/trial")) and not trial["done"]:
                vote = {
                    "id": str(uuid.uuid4()),
                    "position": trial["position"],
                    "answers": {"overall": 1, "melody": -1},
                    "listened_seconds": [2.0, 2.0],
                }
                if self._handle_signal(client, "/api/votes", vote) is None:
                    return
                self.acknowledged.append((token, vote["id"]))


def start_server(folder: Path, port: int, database: str | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "talim", "listen", str(folder), "--port", str(port)]
    command += ["--database", database] if database else []
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "it took too long"
        time.sleep(0.02)


DATABASES = [None, pytest.param(POSTGRES, marks=pytest.mark.skipif(not POSTGRES, reason="no TALIM_TEST_POSTGRES url"))]


@pytest.mark.slow
@pytest.mark.parametrize("database", DATABASES, ids=["sqlite", "postgres"])
def test_kill_server_keeps_all_acknowledged_votes(make_test: Make, database: str | None) -> None:
    trials = {"per_listener": TRIALS, "repeats": 0, "attention": 0, "minimum_seconds": 0}
    folder = make_test(trials=trials, stopping={"listeners": LISTENERS})
    opened, port = open_test(folder, database), free_port()
    created = opened.store.invite(LISTENERS)
    who = {first["token"]: first["id"] for first in created}
    crowd = Crowd(f"http://127.0.0.1:{port}", list(who))
    server = start_server(folder, port, database)
    try:
        for thread in crowd.threads:
            thread.start()
        for fraction in (0.25, 0.6):
            wait_for(lambda fraction=fraction: len(crowd.acknowledged) > fraction * LISTENERS * TRIALS)
            server.send_signal(signal.SIGKILL)
            server.wait()
            server = start_server(folder, port, database)
        for thread in crowd.threads:
            thread.join(240)
        assert crowd.errors == []
        assert len(crowd.acknowledged) == LISTENERS * TRIALS
        rows = opened.store.rows()
        stored = Counter((row["listener"], row["position"]) for row in rows)
        assert len(stored) == LISTENERS * TRIALS
        assert set(stored.values()) == {2}  # one row for each of the two aspects: none twice
        with opened.store.engine.connect() as connection:
            votes = connection.exec_driver_sql("SELECT listener, id FROM votes").all()
        assert {tuple(vote) for vote in votes} == {(who[token], vote) for token, vote in crowd.acknowledged}
    finally:
        server.kill()
        server.wait()
