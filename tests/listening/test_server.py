"""The door to listening tests: drafting, planning, links, addresses, and what the commands print."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.listening_test_folder import protocol_of
from fixtures.simulated_votes import simulated

from talim.cli import main
from talim.errors import TalimError, UsageError
from talim.listening import protocol as p
from talim.listening import server
from talim.listening.app import LOOPBACK
from talim.listening.export import to_jsonl
from talim.listening.sample_size import PowerTarget, listeners_needed

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
    assert run("listen", "power", folder, "--preference", 0.4) == 2
    assert "between 0.5 and 1" in capsys.readouterr().err


def test_plan_listeners_fewer_trials_than_pairs_needs_more(make_test: Make) -> None:
    folder = make_test(trials={"per_listener": 3, "repeats": 0})
    result = server.plan_listeners(folder, 0.7)
    assert result["listeners"] == 2 * listeners_needed(PowerTarget(0.7, votes=1))["listeners"]


def test_ratings_merge_prints_summary(make_test: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_test()
    rows = simulated(protocol_of(), {"linear": 1, "conv": 0, "untrained": -2, "real": 2}, 8)
    (tmp_path / "site.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    assert run("ratings", folder, "--merge", tmp_path / "site.jsonl") == 0
    assert "8 of 8 listeners included" in capsys.readouterr().out
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


def test_require_packages_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(TalimError, match=r"needs uvicorn; .* type: pip install"):
        server.require_packages()
