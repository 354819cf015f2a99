"""`talim app` as a process: the address it prints, the folder it takes, and how it ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fixtures.app_command import running_command

from talim.app.launch import serve_app
from talim.app.workspace import Workspace
from talim.errors import UsageError


def test_app_prints_its_address_and_ends_with_ctrl_c_also_while_a_piece_plays(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "talim", "app", str(tmp_path / "work"), "--port", "0", "--no-browser"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    start, _, token = started.stdout.readline().split()[-1].partition("/#")
    with httpx.Client(base_url=start, transport=httpx.HTTPTransport(retries=5)) as client:
        assert client.get("/api/job", headers={"Authorization": f"Bearer {token}"}).json() == {"job": None}
        assert client.get("/api/job").status_code == 401
        (part := (work := Workspace(tmp_path / "work")).folder / ".music-1.flac.1a2b3c4d.part").write_bytes(b"sound")
        playing = client.stream("GET", work.address(part))
        with running_command(work, "make", ["--out", "music-1.flac"]), playing as answer:
            started.send_signal(signal.SIGINT)
            assert answer.read() == b"sound"
            _, said = started.communicate(timeout=240)
    assert started.returncode == 130
    assert "the address opens on this computer only" in said
    assert "Traceback" not in said
    assert "Exception" not in said


@pytest.mark.parametrize("name", ["song.wav", "file"])
def test_serve_app_of_a_folder_of_recordings_or_a_file_says_what_to_give(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    folder = tmp_path if name == "song.wav" else tmp_path / name
    with pytest.raises(UsageError, match="give"):
        serve_app(folder, "127.0.0.1", 0, False)


def test_token_of_a_folder_stays_and_is_the_owners_alone(tmp_path: Path) -> None:
    first = Workspace(tmp_path / "work")
    (first.folder / "music-1.flac").touch()  # a piece that was made there is no recording to begin with
    assert len(first.token) >= 32
    assert Workspace(tmp_path / "work").token == first.token
    assert stat.S_IMODE(os.stat(first.own / "token").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(first.own).st_mode) == 0o700
