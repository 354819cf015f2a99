"""Preparing and serving a listening test: packages, addresses, links, sample size."""

from __future__ import annotations

import importlib.util
import ipaddress
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted
from talim.interrupts import Interrupted
from talim.listening.draft_protocol import protocol_folder, write_draft
from talim.listening.protocol import FILE
from talim.path_suggestions import did_you_mean

if TYPE_CHECKING:
    import uvicorn

    from talim.listening.participant_store import ParticipantStore
    from talim.listening.protocol import Protocol
    from talim.listening.session import ListeningTestSession

LISTENERS_GUIDE = "docs/guides/listeners-at-home.md"
EVERYWHERE = ("0.0.0.0", "::")  # all interfaces of the machine
INSTALL = "pip install '.[servers]'"
_PACKAGES = ("fastapi", "uvicorn", "sqlalchemy")


def require_packages() -> None:
    """TalimError that names missing packages."""
    if missing := [name for name in _PACKAGES if not _installed(name)]:
        raise TalimError(
            f"serving tests and reviews needs {', '.join(missing)}; in the folder of talim's source type: {INSTALL}"
        )


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
        wrong = "is a file" if folder.exists() else f"no such folder{did_you_mean(folder)}"
        raise TalimError(f"{folder}: {wrong}; give a run, a folder of runs, or a test's folder")
    test_folder = protocol_folder(folder)
    if not (test_folder / FILE).is_file():
        write_draft(folder)
        log(f"{test_folder / FILE}: drafted; check it, the first vote freezes it")
    test = open_test(test_folder, database, checked_site(site))
    for note in test.stimuli.notes:
        log(note)
    test.store.rows(log)
    conditions = format_counted(len(test.protocol.conditions), "condition")
    items = format_counted(len(test.stimuli.items), "item")
    log(f"test {test.test_hash}: {conditions}, {items}, {test.protocol.kind}")
    log(f"each listener: {listener_time(test.protocol)}; fewer trials.per_listener or aspects make it shorter")
    different = test.protocol.comparisons(len(test.stimuli.items))
    if test.protocol.trials.per_listener > different:
        log(
            f"note: there are only {format_counted(different, 'different comparison')}, so each listener is asked some "
            f"of them several times; trials.per_listener: {different} asks each once"
        )
    if not test.protocol.contact:
        log(f"{test_folder / FILE}: contact is empty, so listeners see nobody to ask; the first vote freezes it")
    return test


def listener_time(protocol: Protocol) -> str:
    """What a listener is asked for, such as "25 pages (20 comparisons, 3 asked again, 2 attention checks) with 6
    questions each, about 28 minutes".
    """
    pages, questions = format_counted(protocol.trials.total, "page"), format_counted(protocol.questions, "question")
    parts = [format_counted(protocol.trials.per_listener, "comparison")]
    parts += [f"{protocol.trials.repeats} asked again"] * bool(protocol.trials.repeats)
    parts += [format_counted(protocol.trials.attention, "attention check")] * bool(protocol.trials.attention)
    return f"{pages} ({', '.join(parts)}) with {questions} each, about {format_counted(protocol.minutes, 'minute')}"


def base_url(host: str, port: int, url: str | None) -> str:
    """Base of the links: the public address `url` if given, else one that opens `host` and `port`: where all
    interfaces are served, this machine's address in its network. UsageError for a malformed `url`.
    """
    if url is not None:
        return _public_address(url)[0]
    host = lan_address() if host in EVERYWHERE else host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def lan_address() -> str:
    """This machine's address in its network, IPv4 if it has one; 127.0.0.1 without a network. Sends nothing."""
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))  # of a datagram socket: chooses the interface, sends no packet
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return "127.0.0.1"


def _public_address(url: str) -> tuple[str, str]:
    """(base of links, name in the Host header) of a public address; UsageError unless it is a plain http address."""
    from talim.listening.middleware import host_name

    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        name = host_name(f"[{host}]" if ":" in host else host.encode("idna").decode())
        plain = parts.scheme in ("http", "https") and port != 0 and "@" not in parts.netloc
        plain = plain and not (parts.path.strip("/") or parts.query or parts.fragment)
    except ValueError:  # UnicodeError is one too
        name, plain, port, parts = None, False, None, None
    if name is None or not plain or parts is None or url != url.strip() or not url.isprintable():
        raise UsageError(f"--url {url!r}: expected an address such as https://listen.example.org")
    return f"{parts.scheme}://{name}" + (f":{port}" if port else ""), name


def allowed_hosts(host: str, url: str | None) -> frozenset[str] | None:
    """Accepted host names: those of the loopback interface and of `url`; None (any) if all interfaces are served."""
    from talim.listening.app import LOOPBACK
    from talim.listening.middleware import host_name

    if url is not None:
        return LOOPBACK | {_public_address(url)[1]}
    if is_loopback(host):
        return LOOPBACK
    return None if host in EVERYWHERE else LOOPBACK | {host_name(f"[{host}]" if ":" in host else host) or host}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A socket for links that are printed before the server runs; port 0 takes a free one. TalimError.

    It listens: a browser that opens a link at once waits for the server instead of being refused.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()
    except (OSError, UnicodeError) as error:  # UnicodeError: no host name at all
        reason = getattr(error, "strerror", None) or error
        raise TalimError(f"{host}:{port} cannot be served ({reason}); choose another --host or --port") from None
    return bound


def serve(
    application: Any,
    bound: socket.socket,
    host: str,
    url: str | None,
    store: ParticipantStore,
    proxy: str | None = None,
) -> None:
    """Serve until interrupted, then close the store; raises Interrupted at the end. Says first who can reach it."""
    notes = [*network_notes(host, bound.getsockname()[1], url, proxy), *storage_notes(store)]
    try:
        run_server(application, bound, notes, proxy)
    finally:
        if not store.close():
            print(
                "deleted answers are still in the write-ahead log, as another program has the database open: end that "
                "program, then start and end this server once more",
                file=sys.stderr,
            )
    raise Interrupted("the server has ended; everything that was answered is saved, and the same command serves on")


def run_server(
    application: Any,
    bound: socket.socket,
    notes: list[str],
    proxy: str | None = None,
    ending: threading.Event | None = None,
) -> None:
    """Print the notes, then answer requests until interrupted, without an access log.

    `proxy` is the address whose X-Forwarded-For header is believed. `ending` is set at the end, before the requests
    that are being answered are waited for.
    """
    import uvicorn

    from talim.listening import connection_limits
    from talim.listening.server_log import install_log

    sys.stdout.flush()
    for note in notes:
        print(note, file=sys.stderr, flush=True)
    open_files = connection_limits.raised_file_limit()
    limit = connection_limits.connection_limit(open_files)
    settings: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none"}
    settings |= {"server_header": False, "proxy_headers": proxy is not None, "forwarded_allow_ips": proxy or "none"}
    settings |= {"http": connection_limits.guarded_protocol(limit), "limit_concurrency": limit + 1}
    settings |= {
        "timeout_keep_alive": 10,
        "timeout_graceful_shutdown": 5,
        "backlog": connection_limits.backlog(open_files),
    }

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if ending is not None:
                ending.set()
            await super().shutdown(sockets)

    server = Server(uvicorn.Config(application, h11_max_incomplete_event_size=16_384, **settings))
    install_log()
    with suppress(KeyboardInterrupt), _hangup_ends(server):
        server.run(sockets=[bound])


@contextmanager
def _hangup_ends(server: uvicorn.Server) -> Iterator[None]:
    """A closed terminal ends the server as Ctrl-C does, after the requests that are being answered."""
    hangup = getattr(signal, "SIGHUP", None)
    in_main = threading.current_thread() is threading.main_thread()
    if hangup is None or not in_main or signal.getsignal(hangup) is signal.SIG_IGN:
        yield  # nohup keeps serving
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    previous = signal.signal(hangup, end)
    try:
        yield
    finally:
        signal.signal(hangup, previous)


def network_notes(host: str, port: int, url: str | None, proxy: str | None) -> list[str]:
    """Who can open the links, what is unsafe about that, and how to end the server."""
    notes = []
    if is_loopback(host) and url is None:
        notes.append(f"these links open on this computer only; for listeners elsewhere see {LISTENERS_GUIDE}")
    elif url is None:
        notes.append(f"every computer in this network can open these links, without https; see {LISTENERS_GUIDE}")
        if host in EVERYWHERE and is_loopback(lan_address()):
            notes.append("this computer has no network address now: links to 127.0.0.1 open here only")
    elif not is_loopback(host):
        notes.append(
            f"port {port} of this computer can also be reached directly, past {url} and its https; unless the proxy "
            "runs on another computer, leave --host out"
        )
    if url is not None and proxy is None:
        notes.append("all requests count as coming from the proxy; --proxy ADDRESS believes its X-Forwarded-For header")
    return [*notes, "leave this window open while people answer; Ctrl-C ends the server, and answers are kept"]


def invite_notes(store: ParticipantStore, links: list[str], who: str) -> list[str]:
    """Where no link was made now, whether there are any; `who` opens them ("reviewer")."""
    if links:
        return []
    if not (count := store.invited()):
        return [f"nobody can answer yet: end this with Ctrl-C, and give --invites with the number of {who}s"]
    have = format_counted(count, f"{who} link")
    return [f"{have} made before {'is' if count == 1 else 'are'} valid, but not stored: --invites makes new ones"]


def storage_notes(store: ParticipantStore) -> list[str]:
    """A warning if SQLite's file lies on a network folder."""
    from talim.listening.database import database_file, network_file_system

    path = database_file(store.engine)
    kind = network_file_system(path) if path else None
    if kind is None:
        return []
    return [
        f"{path} lies on a network folder ({kind}), where SQLite can lock up or be damaged; copy the folder to a disk "
        "of this computer, or use --database postgresql+psycopg://USER@HOST/NAME"
    ]


def checked_proxy(proxy: str | None) -> str | None:
    """The proxy's IP address or network; UsageError for anything else, such as * (which believes everybody)."""
    try:
        return None if proxy is None else str(ipaddress.ip_network(proxy, strict=False))
    except ValueError:
        raise UsageError(f"--proxy {proxy!r}: expected the proxy's address, such as 127.0.0.1") from None


def checked_site(site: str) -> str:
    """The name of a site; UsageError unless it is 1 to 80 printable characters."""
    if not 1 <= len(site) <= 80 or not site.isprintable() or site != site.strip():
        raise UsageError(f"--site {site!r}: expected 1 to 80 printable characters, such as delhi")
    return site


def listener_links(base: str, invites: list[dict[str, str]]) -> list[str]:
    """The links of invites; the token is in the URL fragment, which browsers do not send."""
    return [f"{base}/#{invite['token']}" for invite in invites]


def plan_listeners(folder: Path | None, preference: float, icc: float = 0.1) -> dict[str, Any]:
    """Number of listeners needed to detect a preference rate between two conditions of the test in FOLDER.

    Votes of a listener on one pair are the trials per listener divided by the number of pairs; 4 without a folder.
    """
    from talim.html.languages import to_fields
    from talim.listening import protocol, sample_size
    from talim.reporting.catalogue import counted, in_languages

    votes, trials, pairs = 4.0, 0, 0
    if folder is not None:
        test_folder = protocol_folder(folder)
        if not (test_folder / FILE).is_file():
            write_draft(folder)
        test = protocol.load(test_folder)
        trials, pairs = test.trials.per_listener, len(test.pairs)
        votes = trials / pairs if test.kind == "pairwise" else 1.0
    result = sample_size.listeners_needed(sample_size.PowerTarget(preference, max(1, round(votes)), icc))
    if votes < 1:
        result["listeners"] = int(-(-result["listeners"] // votes))
        about = {"trials": trials, "pairs": counted(pairs, "pair")}
    else:
        each = counted(result["votes_per_listener_and_pair"], "vote")
        about = {"votes": each, "power": f"{result['power']:.0%}", "icc": f"{icc:g}"}
    about |= {"listeners": counted(result["listeners"], "listener"), "preference": f"{preference:.0%}"}
    return result | to_fields("sentence", in_languages(f"listening_power{'_of_pairs' * (votes < 1)}", **about))
