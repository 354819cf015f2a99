"""`talim listen`: open a test, say the links, serve it."""

from __future__ import annotations

import importlib.util
import ipaddress
import socket
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
    """TalimError that names what is not installed."""
    if missing := [name for name in _PACKAGES if not _installed(name)]:
        raise TalimError(f"a listening test needs {', '.join(missing)}; type: pip install 'talim[servers]'")


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that was blocked by setting it to None
        return False


def prepare_session(
    folder: Path, database: str | None, site: str, say: Callable[[str], None]
) -> ListeningTestSession:
    """The test in FOLDER (or FOLDER/listening), drafted from FOLDER's runs if there is none yet."""
    require_packages()
    from talim.listening.session import open_test

    if not folder.is_dir():
        raise TalimError(f"{folder}: no such folder; give a run, a folder of runs, or a test's folder")
    place = protocol_folder(folder)
    if not (place / FILE).is_file():
        write_draft(folder)
        say(f"{place / FILE}: drafted; read it, for the first vote freezes it")
    test = open_test(place, database, site)
    for note in test.material.notes:
        say(note)
    counted = f"{len(test.protocol.conditions)} conditions, {len(test.material.items)} items"
    say(f"test {test.digest}: {counted}, {test.protocol.kind}")
    return test


def base_url(host: str, port: int, url: str | None) -> str:
    """What the links begin with: the public address if one is given, else host and port."""
    if url is None:
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise UsageError(f"--url {url}: expected an address such as https://listen.example.org")
    return f"{parts.scheme}://{parts.netloc}"


def allowed_hosts(host: str, url: str | None) -> frozenset[str] | None:
    """The names the server answers to: loopback's, the public address's; any where it listens to all."""
    from talim.listening.app import LOOPBACK

    if url is not None:
        return LOOPBACK | {str(urlsplit(url).hostname)}
    if is_loopback(host):
        return LOOPBACK
    return None if host in ("0.0.0.0", "::") else frozenset({host.lower(), f"[{host}]"}) | LOOPBACK


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, so that the links can be told before the server runs; port 0 takes a free one."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except OSError as error:
        raise TalimError(
            f"{host}:{port} cannot be served ({error.strerror or error}); choose another --host or --port"
        ) from None
    return bound


def serve(application: Any, bound: socket.socket, behind_proxy: bool) -> None:
    """Serve until stopped. No access log: nobody's visits are written down."""
    import uvicorn

    settings: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": behind_proxy,
        "timeout_keep_alive": 10,
        "h11_max_incomplete_event_size": 16_384,
        "lifespan": "off",
        "ws": "none",
    }
    server = uvicorn.Server(uvicorn.Config(application, **settings))
    server.run(sockets=[bound])


def listener_links(base: str, made: list[dict[str, str]]) -> list[str]:
    """Listeners' links; the secret stands behind the #, which browsers send to nobody."""
    return [f"{base}/#{one['token']}" for one in made]


def plan_listeners(folder: Path, preference: float, clustering: float = 0.1) -> dict[str, Any]:
    """How many listeners the test in FOLDER needs to see a preference between two of its conditions.

    A listener's votes on one pair are the trials per listener divided by the number of pairs.
    """
    from talim.listening import protocol, sample_size

    place = protocol_folder(folder)
    if not (place / FILE).is_file():
        write_draft(folder)
    chosen = protocol.load(place)
    votes = chosen.trials.per_listener / len(chosen.pairs) if chosen.kind == "pairwise" else 1
    found = sample_size.listeners_needed(
        sample_size.PowerTarget(preference, max(1, round(votes)), clustering)
    )
    per_pair = f"{found['votes_per_listener_and_pair']} votes each on a pair"
    sentence = (
        f"{found['listeners']} listeners with {per_pair} see a preference of {preference:.0%} "
        f"in {found['power']:.0%} of such tests (5 % level, clustering {clustering:g})"
    )
    if votes < 1:
        share = chosen.trials.per_listener / len(chosen.pairs)
        found["listeners"] = int(-(-found["listeners"] // share))
        sentence = (
            f"{found['listeners']} listeners: each hears only {chosen.trials.per_listener} of "
            f"{len(chosen.pairs)} pairs, and a preference of {preference:.0%} is to be seen on each"
        )
    return found | {"sentence": sentence}
