"""Tokens of clients, and `talim serve` as a process: a piece over HTTP, then Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile

from talim.errors import TalimError, UsageError
from talim.generation.sources import GenerationSource
from talim.progress import Progress
from talim.serving.server import Address, read_tokens, serve_generation


def test_read_tokens_makes_a_file_that_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "tokens.txt"
    made = read_tokens(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*made] == ["client-1"]
    assert len(made["client-1"]) >= 32
    assert read_tokens(path) == made


def test_read_tokens_of_several_clients(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(f"# who may ask\nstudio {'a' * 20}\n\nsite {'b' * 20}\n")
    assert read_tokens(path) == {"studio": "a" * 20, "site": "b" * 20}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no token"),
        ("studio short", "line 1: expected NAME TOKEN"),
        ("studio", "line 1: expected NAME TOKEN"),
        (f"a {'x' * 20}\na {'y' * 20}", "line 2: this name or token is there twice"),
        (f"a {'x' * 20}\nb {'x' * 20}", "line 2: this name or token is there twice"),
    ],
)
def test_read_tokens_of_a_wrong_file_raises(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "tokens.txt").write_text(text)
    with pytest.raises(UsageError, match=words):
        read_tokens(tmp_path / "tokens.txt")


def test_serve_generation_of_a_base_that_does_not_load_leaves_no_file_of_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise TalimError("no such base")

    def serve(tokens: Path) -> None:
        source, address = GenerationSource(base="nano-musicgen"), Address(socket.socket(), "127.0.0.1", None, None)
        with address.bound:
            serve_generation(source, address, tokens, 60.0, "cpu", Progress(), lambda _: None)

    monkeypatch.setattr("talim.generation.sources.load_source", fails)
    with pytest.raises(TalimError, match="no such base"):
        serve(tmp_path / "talim-tokens.txt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "tokens.txt").write_text("studio short")
    with pytest.raises(UsageError, match="expected NAME TOKEN"):  # before the base is loaded
        serve(tmp_path / "tokens.txt")


@pytest.mark.slow
def test_serve_makes_a_piece_over_http_and_ends_with_ctrl_c(tiny_base: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "talim", "serve", "--base", str(tiny_base), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    started = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert started.stdout is not None
    base_url = started.stdout.readline().split()[2].rstrip(":")
    token = (tmp_path / "talim-tokens.txt").read_text().split()[1]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(
        base_url=base_url, headers=headers, timeout=60, transport=httpx.HTTPTransport(retries=5)
    ) as client:
        asked = client.post("/v1/generations", json={"prompt": "flute", "seconds": 1, "seed": 2}).json()
        end = time.monotonic() + 120
        while (status := client.get(f"/v1/generations/{asked['id']}").json())["status"] in ("waiting", "running"):
            assert time.monotonic() < end
            time.sleep(0.05)
        sound = client.get(status["audio"])
        assert soundfile.info(io.BytesIO(sound.content)).duration == pytest.approx(1, abs=0.05)
        client.post("/v1/generations", json={"prompt": "flute", "seconds": 60})  # given up by Ctrl-C
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=120)
    assert started.returncode == 130, said
    assert "Traceback" not in said
    assert list(tmp_path.glob("talim-serve-*")) == []
