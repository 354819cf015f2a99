"""The server of a listening test: the routes behind a guard, the pages, and how refusals are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from talim.listening.middleware import RateLimits, SecurityMiddleware, TokenBucket
from talim.listening.routes import listening, organising
from talim.listening.session import STATIC, ListeningTestSession
from talim.listening.vote_store import RequestRejectedError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_PAGES = {"/": "listen.html", "/organiser": "organiser.html"}
Translations = Mapping[str, dict[str, Any]]  # by language
_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"description": words}
    for code, words in {
        400: "not JSON",
        401: "no valid link",
        403: "not allowed now",
        404: "no such thing",
        409: "contradicts what is stored",
        413: "too large",
        422: "malformed",
        429: "too many requests",
    }.items()
}


def create_app(
    test: ListeningTestSession, limits: RateLimits | None = None, hosts: frozenset[str] | None = LOOPBACK
) -> SecurityMiddleware:
    """The ASGI application; `hosts` are the names it answers to, None any. Its API's description is not served."""
    limits = limits or RateLimits()
    api = new_api("talim listen", limits, _PAGES, test.words)
    api.state.test = test
    api.include_router(listening)
    api.include_router(organising)
    return SecurityMiddleware(api, limits, hosts)


def new_api(title: str, limits: RateLimits, pages: Mapping[str, str], words: Translations) -> FastAPI:
    """What every server of talim begins with: its pages and their words, refusals, and nobody's description."""
    api = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None, responses=_ERROR_RESPONSES)
    api.state.wrong_links = TokenBucket(limits.wrong_burst, limits.wrong_per_second)
    _add_refusals(api)
    _add_pages(api, pages, words)
    return api


def _add_refusals(api: FastAPI) -> None:
    """Every refusal is {"reason": word}; nothing that was sent is sent back."""

    @api.exception_handler(RequestRejectedError)
    async def refused(_request: Request, error: RequestRejectedError) -> JSONResponse:
        return JSONResponse({"reason": error.reason}, error.status)

    @api.exception_handler(AnyHTTPException)
    async def known(_request: Request, error: AnyHTTPException) -> JSONResponse:
        word = {404: "nothing_here", 405: "not_that_way"}.get(error.status_code, error.detail)
        return JSONResponse({"reason": word}, error.status_code, error.headers)

    @api.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        places = [".".join(str(part) for part in e["loc"][:3])[:80] for e in error.errors()[:5]]
        safe = [place.encode("ascii", "replace").decode() for place in places]
        return JSONResponse({"reason": "malformed", "where": safe}, 422)


def _add_pages(api: FastAPI, pages: Mapping[str, str], every_word: Translations) -> None:
    """The pages (place to file) and their parts, read once: no path of a request ever touches the disk."""
    files = {f"/static/{path.name}": path for path in STATIC.iterdir() if path.suffix in (".js", ".css")}
    files |= {place: STATIC / name for place, name in pages.items()}
    parts = {place: (path.read_bytes(), _TYPES[path.suffix]) for place, path in files.items()}

    def add(place: str, body: bytes, kind: str) -> None:
        api.add_api_route(
            place, lambda: Response(body, media_type=kind), methods=["GET"], include_in_schema=False
        )

    for place, (body, kind) in parts.items():
        add(place, body, kind)

    @api.get("/api/languages")
    def languages() -> list[str]:
        """Codes of the languages, the first one first."""
        return list(every_word)

    @api.get("/api/words/{language}")
    def words(language: str) -> dict[str, Any]:
        """The page's words; no link is needed to read that a link is wrong."""
        if language not in every_word:
            raise HTTPException(404, "nothing_here")
        others = {code: told["language"] for code, told in every_word.items()}
        return every_word[language] | {"languages": others}
