"""The ASGI application of a listening test: API routes, static pages, error responses, security middleware."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from talim.listening.database import StorageError
from talim.listening.error_responses import add_error_handlers, machine_failed
from talim.listening.middleware import KnownLinks, RateLimits, SecurityMiddleware, TokenBucket
from talim.listening.participant_store import RequestRejectedError
from talim.listening.routes import listening, organising, shared
from talim.listening.session import STATIC, ListeningTestSession, ServedSession

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_PAGES = {"/": "listen.html", "/organiser": "organiser.html"}
_ERRORS = {
    400: "not JSON",
    401: "no valid link",
    403: "not allowed now",
    404: "no such thing",
    409: "contradicts what is stored",
    413: "too large",
    422: "malformed",
    429: "too many requests",
    503: "cannot be stored or read now",
}
_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {code: {"description": text} for code, text in _ERRORS.items()}


def create_app(
    test: ListeningTestSession, limits: RateLimits | None = None, hosts: frozenset[str] | None = LOOPBACK
) -> SecurityMiddleware:
    """The ASGI application; `hosts` are the accepted host names, None accepts any. The OpenAPI schema is not served."""
    return secured_app(test, [listening, organising], _PAGES, limits, hosts)


def secured_app(
    session: ServedSession,
    routers: Sequence[APIRouter],
    pages: Mapping[str, str],
    limits: RateLimits | None,
    hosts: frozenset[str] | None,
) -> SecurityMiddleware:
    """An ASGI application with these API routes, static `pages` {URL path: file} and their translations."""
    limits = limits or RateLimits()
    api = FastAPI(title="talim", docs_url=None, redoc_url=None, openapi_url=None, responses=_ERROR_RESPONSES)
    api.state.session, api.state.store = session, session.store
    api.state.wrong_links = TokenBucket(limits.wrong_burst, limits.wrong_per_second)
    api.state.known_links = KnownLinks()
    answers = {
        RequestRejectedError: lambda error: (error.status, {"reason": error.reason}),
        RequestValidationError: _malformed,
        StorageError: machine_failed,
        PoolTimeoutError: machine_failed,
    }
    add_error_handlers(api, logging.getLogger("talim.listening"), answers)
    _add_pages(api, pages, session.translations)
    for router in (shared, *routers):
        api.include_router(router)
    return SecurityMiddleware(api, limits, hosts, api.state.known_links)


def _malformed(error: RequestValidationError) -> tuple[int, dict[str, Any]]:
    fields = [".".join(str(part) for part in e["loc"][:3])[:80] for e in error.errors()[:5]]
    return 422, {"reason": "malformed", "where": [field.encode("ascii", "replace").decode() for field in fields]}


def _add_pages(api: FastAPI, pages: Mapping[str, str], translations: Mapping[str, dict[str, Any]]) -> None:
    """Serve the pages and their scripts from memory: no path of a request reaches the file system."""
    files = {f"/static/{path.name}": path for path in STATIC.iterdir() if path.suffix in (".js", ".css")}
    files |= {url_path: STATIC / name for url_path, name in pages.items()}

    def add(url_path: str, body: bytes, kind: str) -> None:
        api.add_api_route(url_path, lambda: Response(body, media_type=kind), methods=["GET"], include_in_schema=False)

    for url_path, path in files.items():
        add(url_path, path.read_bytes(), _TYPES[path.suffix])

    @api.get("/api/languages")
    def languages() -> list[str]:
        """Language codes, the default first."""
        return list(translations)

    @api.get("/api/words/{language}")
    def translation(language: str) -> dict[str, Any]:
        """The texts of the page; public, because they include the message for an invalid link."""
        if language not in translations:
            raise HTTPException(404, "not_found")
        names = {code: texts["language"] for code, texts in translations.items()}
        return translations[language] | {"languages": names}
