"""Preparing and serving a listening test: packages, addresses, links, sample size."""

from __future__ import annotations

import importlib.util
import ipaddress
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from talim.errors import TalimError, UsageError
from talim.listening.draft_protocol import protocol_folder, write_draft
from talim.listening.protocol import FILE

if TYPE_CHECKING:
    from talim.listening.session import ListeningTestSession

_PACKAGES = ("fastapi", "uvicorn", "sqlalchemy")


def require_packages() -> None:
    """TalimError that names missing packages."""
    if missing := [name for name in _PACKAGES if not _installed(name)]:
        raise TalimError(f"a listening test needs {', '.join(missing)}; type: pip install 'talim[servers]'")


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # sys.modules holds None for a blocked module
        return False


def prepare_session(folder: Path, database: str | None, site: str, log: Callable[[str], None]) -> ListeningTestSession:
    """Open the test in FOLDER or FOLDER/listening, drafting its protocol from FOLDER's runs if there is none.

    Notes for the organiser go to `log`. TalimError for a missing folder or package.
    """
    require_packages()
    from talim.listening.session import open_test

    if not folder.is_dir():
        raise TalimError(f"{folder}: no such folder; give a run, a folder of runs, or a test's folder")
    test_folder = protocol_folder(folder)
    if not (test_folder / FILE).is_file():
        write_draft(folder)
        log(f"{test_folder / FILE}: drafted; check it, the first vote freezes it")
    test = open_test(test_folder, database, site)
    for note in test.stimuli.notes:
        log(note)
    counts = f"{len(test.protocol.conditions)} conditions, {len(test.stimuli.items)} items"
    log(f"test {test.test_hash}: {counts}, {test.protocol.kind}")
    return test


def base_url(host: str, port: int, url: str | None) -> str:
    """Base of the links: the public address `url` if given, else host and port. UsageError for a malformed `url`."""
    if url is None:
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise UsageError(f"--url {url}: expected an address such as https://listen.example.org")
    return f"{parts.scheme}://{parts.netloc}"


def allowed_hosts(host: str, url: str | None) -> frozenset[str] | None:
    """Accepted host names: those of the loopback interface and of `url`; None (any) if all interfaces are served."""
    from talim.listening.app import LOOPBACK

    if url is not None:
        return LOOPBACK | {str(urlsplit(url).hostname)}
    if is_loopback(host):
        return LOOPBACK
    return None if host in ("0.0.0.0", "::") else frozenset({host.lower(), f"[{host}]"}) | LOOPBACK


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A bound socket, so that links can be printed before the server runs; port 0 takes a free one. TalimError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise TalimError(
            f"{host}:{port} cannot be served ({error.strerror or error}); choose another --host or --port"
        ) from None
    return bound


def serve(application: Any, bound: socket.socket, host: str, url: str | None) -> None:
    """Serve until interrupted, without an access log; warns if other machines can reach `host` without https."""
    import uvicorn

    sys.stdout.flush()
    if not is_loopback(host) and url is None:
        print("this address can be reached from other machines, without https; see --url", file=sys.stderr)
    settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", "ws": "none"}
    settings |= {"server_header": False, "proxy_headers": url is not None}
    settings |= {"timeout_keep_alive": 10, "h11_max_incomplete_event_size": 16_384}
    uvicorn.Server(uvicorn.Config(application, **settings)).run(sockets=[bound])


def listener_links(base: str, invites: list[dict[str, str]]) -> list[str]:
    """The links of invites; the token is in the URL fragment, which browsers do not send."""
    return [f"{base}/#{invite['token']}" for invite in invites]


def plan_listeners(folder: Path | None, preference: float, icc: float = 0.1) -> dict[str, Any]:
    """Number of listeners needed to detect a preference rate between two conditions of the test in FOLDER.

    Votes of a listener on one pair are the trials per listener divided by the number of pairs; 4 without a folder.
    """
    from talim.listening import protocol, sample_size

    votes, trials, pairs = 4.0, 0, 0
    if folder is not None:
        test_folder = protocol_folder(folder)
        if not (test_folder / FILE).is_file():
            write_draft(folder)
        test = protocol.load(test_folder)
        trials, pairs = test.trials.per_listener, len(test.pairs)
        votes = trials / pairs if test.kind == "pairwise" else 1.0
    result = sample_size.listeners_needed(sample_size.PowerTarget(preference, max(1, round(votes)), icc))
    sentence = (
        f"{result['listeners']} listeners with {result['votes_per_listener_and_pair']} votes each on a pair detect a "
        f"preference rate of {preference:.0%} in {result['power']:.0%} of such tests (5 % level, intraclass "
        f"correlation {icc:g})"
    )
    if votes < 1:
        result["listeners"] = int(-(-result["listeners"] // votes))
        sentence = (
            f"{result['listeners']} listeners: each compares only {trials} of {pairs} pairs, and a preference rate of "
            f"{preference:.0%} is to be detected for each pair"
        )
    return result | {"sentence": sentence}
