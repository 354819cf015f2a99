"""ASGI middleware: request size and rate limits, host check, security headers."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers

from talim.listening.participant_store import hash_token

_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{0,5})?")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

POLICY = "content-security-policy"
HEADERS = {
    POLICY: (
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
    """Rejects requests over the limits or for another host, and adds `HEADERS` to every response, but to one
    with a content security policy of its own.
    """

    def __init__(self, app: Any, limits: RateLimits, hosts: frozenset[str] | None, known_links: KnownLinks) -> None:
        self.app, self.limits, self.hosts, self.known_links = app, limits, hosts, known_links
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
                given = {k.decode().lower() for k, _ in message.get("headers", [])}
                ours = {k: v for k, v in HEADERS.items() if k != POLICY or k not in given}
                headers = [(k, v) for k, v in message.get("headers", []) if k.decode().lower() not in ours]
                message["headers"] = headers + [(k.encode(), v.encode()) for k, v in ours.items()]
            await send(message)

        error = self._check(scope)
        try:
            body = b"" if error else await _read_body(receive, self.limits.body_bytes)
        except ConnectionAbortedError:
            return
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
        headers = Headers(scope=dict(scope))
        name = host_name(headers.get("host", ""))
        if name is None or (self.hosts is not None and name not in self.hosts):
            return 421, "wrong_host"  # DNS rebinding: another name that resolves to this machine
        size = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,12}", size) or int(size) > self.limits.body_bytes:
            return 413, "too_large"
        address = (scope.get("client") or ("?",))[0]
        scheme, token = get_authorization_scheme_param(headers.get("authorization"))
        link = hash_token(token) if scheme and token else ""  # of the token alone, however the header spells it
        if link and not self._links.acquire(link):
            return 429, "too_many"
        # A flood from an address must not lock out the links that were used there before.
        if link not in self.known_links and not self._addresses.acquire(address):
            return 429, "too_many"
        return None


async def _read_body(receive: Receive, max_bytes: int) -> bytes | None:
    """The body, or None if it exceeds `max_bytes`, whatever its content-length; ConnectionAbortedError if it breaks off
    or takes longer than the server waits.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
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


def host_name(host: str) -> str | None:
    """The lower-case name in a Host header or URL: `localhost` for `localhost:8765`, `[::1]` for `[::1]:8765`; an IPv6
    address in its shortest spelling. None for anything that is not exactly a name or address with an optional port.
    """
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return None
    if match["address"] is None:
        return match["name"]
    try:
        return f"[{ipaddress.IPv6Address(match['address'])}]"
    except ValueError:
        return None


class KnownLinks:
    """The hashes of the 4096 tokens that were valid most recently."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[str, None] = OrderedDict()

    def add(self, token: str) -> None:
        key = hash_token(token)
        self._hashes[key] = self._hashes.pop(key, None)
        while len(self._hashes) > 4096:
            self._hashes.popitem(last=False)

    def __contains__(self, key: str) -> bool:
        return key in self._hashes
