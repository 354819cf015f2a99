"""Connections that send no request: closed in time, and no obstacle for those that do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from talim.listening import connection_limits, server

uvicorn = pytest.importorskip("uvicorn")
LIMIT, SECONDS = 6, 1.0


async def hello(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port() -> Iterator[int]:
    bound = server.bind("127.0.0.1", 0)
    config = uvicorn.Config(
        hello, log_level="error", lifespan="off", http=connection_limits.guarded_protocol(LIMIT, SECONDS)
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield bound.getsockname()[1]
    running.should_exit = True
    thread.join(10)


def connected(port: int, text: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=20)
    made.sendall(text)
    return made


def seconds_until_closed(made: socket.socket) -> float:
    start = time.monotonic()
    try:
        while made.recv(1000):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - start


@pytest.mark.parametrize(
    "unfinished",
    [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"],
    ids=["nothing", "half a header", "half a body"],
)
def test_unfinished_request_is_closed_after_the_deadline(port: int, unfinished: bytes) -> None:
    assert 0.5 * SECONDS < seconds_until_closed(connected(port, unfinished)) < 15 * SECONDS


def test_bytes_that_trickle_in_do_not_extend_the_deadline(port: int) -> None:
    made, start = connected(port, b"GET / HTTP/1.1\r\n"), time.monotonic()

    def trickle() -> None:
        while time.monotonic() < start + 30 * SECONDS:
            made.sendall(b"X-A: b\r\n")
            time.sleep(0.1)

    with pytest.raises(ConnectionError):
        trickle()


def test_more_half_open_connections_than_the_limit_leave_room_for_requests(port: int) -> None:
    held = [connected(port, b"GET / HTTP/1.1\r\nX-") for _ in range(5 * LIMIT)]
    for _ in range(3):
        asked = connected(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert asked.recv(1000).startswith(b"HTTP/1.1 200")
    assert seconds_until_closed(held[0]) < 5  # the oldest one has made room


def test_kept_alive_connection_answers_again(port: int) -> None:
    made = connected(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").makefile("rwb")
    for body in (b"abc", b""):
        answer = b""
        while not answer.endswith(b"ok"):
            answer += made.read(1)
        assert answer.startswith(b"HTTP/1.1 200")
        time.sleep(0.3 * SECONDS)
        made.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        made.flush()


@pytest.mark.parametrize("open_files", [64, 256, 1024, 4096, 1_000_000])
def test_connection_limit_leaves_files_for_the_rest(open_files: int) -> None:
    limit, most_at_once = connection_limits.connection_limit(open_files), connection_limits.backlog(open_files)
    assert 8 <= limit <= 1000
    assert limit + 3 * most_at_once < open_files
    assert connection_limits.connection_limit(256) >= 64


def test_raised_file_limit_is_what_the_process_may_open() -> None:
    resource = pytest.importorskip("resource")
    assert connection_limits.raised_file_limit() <= max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
