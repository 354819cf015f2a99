"""`talim listen`: addresses and names that are refused in a line, what is printed besides the links."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.listening_test_folder import write_test

from talim.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_test(tmp_path_factory.mktemp("listen") / "test")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(str(ended.value.code))


@pytest.mark.parametrize(
    "url",
    [
        *("http://[::1", "http://a b", "http://h:abc", "http://h:99999", "http://h:0", "http://", "http://user@h"),
        *(
            "http://h/path",
            "http://h#x",
            "http://[::g]",
            "ftp://h",
            "h",
            "",
            "http://h\n",
            "http://a..b",
            "http://\udcff",
        ),
    ],
)
def test_listen_malformed_url_exits_2_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert run("listen", tmp_path / "missing", "--no-serve", "--url", url) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--url" in message
    assert "https://listen.example.org" in message


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://[2001:db8::1]:8765", "http://[2001:db8::1]:8765"),
        ("https://listen.example.org/", "https://listen.example.org"),
        ("https://Listen.Example:8443", "https://listen.example:8443"),
        ("http://müzik.example", "http://xn--mzik-0ra.example"),
    ],
)
def test_listen_url_is_the_base_of_links(folder: Path, capsys: pytest.CaptureFixture[str], url: str, base: str) -> None:
    assert run("listen", folder, "--no-serve", "--invites", 1, "--url", url, "--json") == 0
    assert json.loads(capsys.readouterr().out)["links"][0].startswith(f"{base}/#")


@pytest.mark.parametrize("site", ["", "a\udce9", "a\nb", "x" * 81, " a"])
def test_listen_malformed_site_exits_2(folder: Path, capsys: pytest.CaptureFixture[str], site: str) -> None:
    assert run("listen", folder, "--no-serve", "--site", site) == 2
    assert "--site" in capsys.readouterr().err


@pytest.mark.parametrize("proxy", ["*", "", "proxy.example", "10.0.0.0/99"])
def test_listen_proxy_that_is_no_address_exits_2(folder: Path, capsys: pytest.CaptureFixture[str], proxy: str) -> None:
    assert run("listen", folder, "--no-serve", "--proxy", proxy) == 2
    assert "expected the proxy's address" in capsys.readouterr().err


def test_listen_host_that_is_no_name_exits_1_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("a" * 300, "\udcff"):
        assert run("listen", folder, "--host", host) == 1
        assert "choose another --host" in capsys.readouterr().err


def test_listen_tells_the_time_and_an_empty_contact(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("listen", folder, "--no-serve") == 0
    out, told = capsys.readouterr()
    assert out.splitlines()[-1] == f"next: talim listen {folder} serves the test; links open while it runs"
    parts = "(6 comparisons, 1 asked again, 1 attention check)"
    assert f"each listener: 8 pages {parts} with 2 questions each, about 6 minutes" in told
    assert "contact is empty" in told


@pytest.mark.parametrize("icc", ["0", "1e-320", "1e-300", "1e-12", "0.999999999", "0.9999999999999999"])
def test_listen_power_takes_any_correlation(capsys: pytest.CaptureFixture[str], icc: str) -> None:
    assert run("listen", "power", "--preference", ".8", "--icc", icc, "--json") == 0
    assert 4 < json.loads(capsys.readouterr().out)["listeners"] < 60


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--icc", "1"),
        ("--icc", "-1"),
        ("--icc", "nan"),
        ("--preference", "nan"),
        ("--preference", "0.5"),
        ("--preference", "inf"),
    ],
)
def test_listen_power_outside_its_range_exits_2(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    assert run("listen", "power", option, value) == 2
    assert capsys.readouterr().err.count("\n") == 1
