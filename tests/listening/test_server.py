"""The door to listening tests: drafting, planning, links, addresses, and what the commands print."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fixtures.japanese_block import foreign_words
from fixtures.listening_client import ABOUT
from fixtures.listening_test_folder import protocol_of
from fixtures.simulated_votes import simulated

from talim.cli import main
from talim.errors import TalimError, UsageError
from talim.listening import database, server
from talim.listening import protocol as p
from talim.listening.app import LOOPBACK
from talim.listening.export import to_jsonl
from talim.listening.middleware import host_name
from talim.listening.sample_size import PowerTarget, listeners_needed
from talim.listening.session import open_test

Make = Callable[..., Path]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(str(ended.value.code))


def test_listen_no_serve_prints_links_as_json(make_test: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_test()
    assert run("listen", folder, "--no-serve", "--invites", 3, "--url", "https://listen.example", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert len(set(result["links"])) == 3
    assert all(link.startswith("https://listen.example/#") for link in result["links"])
    assert result["organiser"].startswith("https://listen.example/organiser#")


def test_listen_folder_of_runs_drafts_protocol(make_test: Make, capsys: pytest.CaptureFixture[str]) -> None:
    runs = make_test() / "runs"
    assert run("listen", runs, "--no-serve") == 0
    assert "drafted" in capsys.readouterr().err
    assert p.load(runs / "listening").names == ["conv", "linear", "untrained", "real"]


def test_listen_power_prints_listeners_needed(make_test: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_test(trials={"per_listener": 24})
    assert run("listen", "power", folder, "--preference", 0.65, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["votes_per_listener_and_pair"] == 4
    assert 20 < result["listeners"] < 45
    assert run("listen", "power", folder, "--language", "ja") == 0
    assert "の選好率を" in capsys.readouterr().out
    assert run("listen", "power", folder, "--preference", 0.4) == 2
    assert "between 0.5 and 1" in capsys.readouterr().err


def test_plan_listeners_fewer_trials_than_pairs_needs_more(make_test: Make) -> None:
    folder = make_test(trials={"per_listener": 3, "repeats": 0})
    result = server.plan_listeners(folder, 0.7)
    assert result["listeners"] == 2 * listeners_needed(PowerTarget(0.7, votes=1))["listeners"]
    assert foreign_words(result["sentence_translated"]["ja"]) == []


def test_ratings_merge_prints_summary(make_test: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_test()
    rows = simulated(protocol_of(), {"linear": 1, "conv": 0, "untrained": -2, "real": 2}, 8)
    (tmp_path / "site.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    assert run("ratings", folder, "--merge", tmp_path / "site.jsonl") == 0
    assert "8 of 8 listeners included" in capsys.readouterr().out
    assert run("ratings", folder, "--merge", tmp_path / "site.jsonl", "--language", "ja") == 0
    assert "回答した8人のうち8人を集計しました。\nページ（日本語の欄があります）：" in capsys.readouterr().out
    assert run("ratings", folder) == 1
    assert "no votes yet" in capsys.readouterr().err


def test_allowed_hosts_default_is_loopback() -> None:
    assert server.allowed_hosts("127.0.0.1", None) == LOOPBACK
    assert server.allowed_hosts("0.0.0.0", None) is None
    assert server.allowed_hosts("127.0.0.1", "https://listen.example") == LOOPBACK | {"listen.example"}
    assert server.is_loopback("localhost")
    assert server.is_loopback("::1")
    assert not server.is_loopback("192.168.1.4")
    assert not server.is_loopback("localhost.evil.example")


def test_base_url_malformed_url_raises_usage_error() -> None:
    assert server.base_url("::1", 80, None) == "http://[::1]:80"
    for wrong in ("listen.example", "ftp://x", "https://x/path", "https://x?q"):
        with pytest.raises(UsageError, match="--url"):
            server.base_url("127.0.0.1", 1, wrong)


def test_bind_used_port_and_missing_folder_raise_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TalimError, match="choose another"):
            server.bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(TalimError, match="no such folder"):
        server.prepare_session(tmp_path / "x", None, "here", print)


def test_bind_lets_a_browser_wait_for_the_server() -> None:
    with server.bind("127.0.0.1", 0) as bound, socket.create_connection(bound.getsockname(), timeout=10):
        pass  # not refused


def test_require_packages_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(TalimError, match=r"needs uvicorn; .* type: pip install"):
        server.require_packages()


def test_base_url_of_all_interfaces_is_an_address_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in server.EVERYWHERE:
        start = server.base_url(host, 8765, None)
        assert "0.0.0.0" not in start
        assert "[::]" not in start
        assert start.endswith(":8765")
    monkeypatch.setattr(server, "lan_address", lambda: "192.168.1.20")
    assert server.base_url("0.0.0.0", 8765, None) == "http://192.168.1.20:8765"
    assert server.base_url("0.0.0.0", 8765, "https://listen.example") == "https://listen.example"


def test_lan_address_can_be_bound_here() -> None:
    with server.bind(server.lan_address(), 0) as bound:
        assert bound.getsockname()[1] > 0


def test_lan_address_without_a_network_is_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "socket", unreachable)
    assert server.lan_address() == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "url", "proxy", "words", "absent"),
    [
        ("127.0.0.1", None, None, "on this computer only", "https"),
        ("0.0.0.0", None, None, "without https", "only"),
        ("127.0.0.1", "https://x.example", "127.0.0.1", "Ctrl-C ends the server", "directly"),
        ("127.0.0.1", "https://x.example", None, "--proxy ADDRESS", "directly"),
        (
            "0.0.0.0",
            "https://x.example",
            "127.0.0.1",
            "can also be reached directly, past https://x.example",
            "--proxy",
        ),
    ],
)
def test_network_notes_say_who_can_reach_the_server(
    monkeypatch: pytest.MonkeyPatch, host: str, url: str | None, proxy: str | None, words: str, absent: str
) -> None:
    monkeypatch.setattr(server, "lan_address", lambda: "192.168.1.20")
    notes = server.network_notes(host, 8765, url, proxy)
    assert words in " ".join(notes)
    assert absent not in " ".join(notes[:-1])
    assert "leave this window open" in notes[-1]


def test_listeners_guide_exists() -> None:
    assert (Path(__file__).parents[2] / server.LISTENERS_GUIDE).is_file()


def test_allowed_hosts_of_an_ipv6_url_holds_its_own_host() -> None:
    hosts = server.allowed_hosts("127.0.0.1", "http://[2001:db8:0::1]:8765")
    assert hosts is not None
    assert host_name("[2001:DB8::1]:8765") in hosts


def test_storage_notes_warn_of_a_network_folder(make_test: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_test(make_test()).store
    monkeypatch.setattr(database, "network_file_system", lambda _path: None)
    assert server.storage_notes(store) == []
    monkeypatch.setattr(database, "network_file_system", lambda _path: "nfs4")
    assert "network folder (nfs4)" in server.storage_notes(store)[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_stopped_server_leaves_all_votes_in_one_private_file(make_test: Make, number: signal.Signals) -> None:
    """A terminal that is closed, a service that is stopped, Ctrl-C: no log is left beside the database."""
    folder = make_test()
    command = [sys.executable, "-m", "talim", "listen", str(folder), "--port", "0", "--invites", "1"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    links = [started.stdout.readline().split()[-1] for _ in range(2)]
    start, token = links[1].split("/#")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=start, headers=headers, timeout=60, transport=httpx.HTTPTransport(retries=5)) as client:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                assert client.post("/api/begin", json=ABOUT).status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.1)
        trial = client.post("/api/trial").json()
        vote = {"id": str(uuid.uuid4()), "position": trial["position"], "answers": {"overall": 1, "melody": 0}}
        assert client.post("/api/votes", json=vote | {"listened_seconds": [2.0, 2.0]}).status_code == 200
    started.send_signal(number)
    _, told = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "everything that was answered is saved" in told.splitlines()[-1]
    assert "Traceback" not in told
    assert [path.name for path in folder.glob("votes.db*")] == ["votes.db"]
    assert (folder / "votes.db").stat().st_mode & 0o077 == 0
    with sqlite3.connect(folder / "votes.db") as votes:
        assert votes.execute("SELECT count(*) FROM votes").fetchone() == (1,)
