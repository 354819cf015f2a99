"""HTTP connections that cannot be held open by sending nothing: deadlines, and room for whoever does send."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 20.0  # for header and body together, from the first byte or the connection's beginning
RESPONSE_SECONDS = 300.0  # for reading an answer: a stimulus has about a megabyte
_OTHER_FILES = 64  # open files that are no connections: database, log, shared libraries
_MOST_CONNECTIONS = 1000


def backlog(open_files: int) -> int:
    """The number of connections that wait in the kernel, and the most that are accepted at once."""
    return max(8, min(128, open_files // 8))


def connection_limit(open_files: int) -> int:
    """The number of connections that a process may hold that may have `open_files` open.

    Up to three rounds of connections are accepted before the first one of them can be closed.
    """
    return max(8, min(_MOST_CONNECTIONS, open_files - 3 * backlog(open_files) - _OTHER_FILES))


def raised_file_limit() -> int:
    """The number of files that this process may have open, after raising it as far as the system allows."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 8192
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS refuses more than its own limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return 4096 if soft == resource.RLIM_INFINITY else soft


class GuardedProtocol(H11Protocol):
    """Closes connections that send no whole request in time; when there are too many, the one that waits longest
    for its request makes room.
    """

    limit: ClassVar[int] = _MOST_CONNECTIONS
    request_seconds: ClassVar[float] = REQUEST_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._receiving_since: float | None = None  # time of the loop; None while a request is being answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]
        self._receive()
        if len(self.connections) > self.limit:
            idle = [c for c in self.connections if isinstance(c, GuardedProtocol) and c._receiving_since is not None]
            min(idle, key=lambda c: c._receiving_since or 0.0, default=self).abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            self._receiving_since = None
            self._arm(RESPONSE_SECONDS)
        elif self._receiving_since is None:
            self._receive()

    def on_response_complete(self) -> None:
        self._receive()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arm(None)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close at once, without waiting for a client that reads nothing."""
        self.connections.discard(self)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _receive(self) -> None:
        self._receiving_since = self.loop.time()
        self._arm(self.request_seconds)

    def _arm(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.abort)


def guarded_protocol(limit: int, request_seconds: float = REQUEST_SECONDS) -> type[GuardedProtocol]:
    """The protocol for a server that holds at most `limit` connections and waits `request_seconds` for a request."""
    return type("LimitedProtocol", (GuardedProtocol,), {"limit": limit, "request_seconds": request_seconds})
