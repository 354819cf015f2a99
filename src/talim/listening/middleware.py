"""ASGI middleware: request size and rate limits, host check, security headers."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from talim.listening.participant_store import hash_token

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src blob:; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "x-robots-tag": "noindex, nofollow",
}


@dataclass(frozen=True)
class RateLimits:
    """Limits per client: token buckets for each link, for each address, and for invalid links of an address."""

    body_bytes: int = 16_384
    link_burst: float = 60
    link_per_second: float = 10
    address_burst: float = 1000
    address_per_second: float = 200
    wrong_burst: float = 20
    wrong_per_second: float = 1 / 3


class TokenBucket:
    """Token buckets that refill with time, for the 4096 most recent keys."""

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def acquire(self, key: str) -> bool:
        """Take a token; False if none is left."""
        now = self._clock()
        left, updated = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - updated) * self._per_second)
        granted = left >= 1
        self._left[key] = (left - granted, now)
        while len(self._left) > 4096:
            self._left.popitem(last=False)
        return granted


class SecurityMiddleware:
    """Rejects requests over the limits or for another host, and adds `HEADERS` to every response."""

    def __init__(self, app: Any, limits: RateLimits, hosts: frozenset[str] | None) -> None:
        self.app, self.limits, self.hosts = app, limits, hosts
        self._links = TokenBucket(limits.link_burst, limits.link_per_second)
        self._addresses = TokenBucket(limits.address_burst, limits.address_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(k, v) for k, v in message.get("headers", []) if k.decode().lower() not in HEADERS]
                message["headers"] = headers + [(k.encode(), v.encode()) for k, v in HEADERS.items()]
            await send(message)

        error = self._check(scope)
        body = b"" if error else await _read_body(receive, self.limits.body_bytes)
        if error or body is None:
            await _send_error(send_with_headers, *(error or (413, "too_large")))
            return

        delivered = False

        async def receive_body() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, receive_body, send_with_headers)

    def _check(self, scope: Scope) -> tuple[int, str] | None:
        """(status, reason) of a request to reject, else None."""
        headers = {k.lower(): v for k, v in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self.hosts is not None and _without_port(host) not in self.hosts:
            return 421, "wrong_host"  # DNS rebinding: another name that resolves to this machine
        size = headers.get(b"content-length", b"0")
        if not size.isdigit() or int(size) > self.limits.body_bytes:
            return 413, "too_large"
        address = (scope.get("client") or ("?",))[0]
        link = headers.get(b"authorization")
        if not self._addresses.acquire(address) or (
            link and not self._links.acquire(hash_token(link.decode("latin-1")))
        ):
            return 429, "too_many"
        return None


async def _read_body(receive: Receive, max_bytes: int) -> bytes | None:
    """The body, or None if it exceeds `max_bytes`, whatever its content-length."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > max_bytes:
            return None
    return body


async def _send_error(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"reason": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 429:
        headers.append((b"retry-after", b"2"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _without_port(host: str) -> str:
    """`localhost` for `localhost:8765`, `[::1]` for `[::1]:8765`."""
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]
