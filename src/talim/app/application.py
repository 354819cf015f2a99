"""The ASGI application of `talim app`: pages, their values, jobs, uploads and files, behind the servers' guard."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from talim.app.commands import REQUESTS, TrainingChoice
from talim.app.growing_file import follow
from talim.app.jobs import RUNNING, BusyError, Job, JobRunner
from talim.app.pages import PAGES, PageReader
from talim.app.workspace import Workspace
from talim.atomic_io import finished_path
from talim.design.expression import Design
from talim.errors import TalimError
from talim.html.languages import languages, words
from talim.listening.app import LOOPBACK
from talim.listening.error_responses import add_error_handlers
from talim.listening.middleware import POLICY, KnownLinks, RateLimits, SecurityMiddleware, TokenBucket
from talim.listening.session import STATIC as SHARED
from talim.strict_yaml import StrictModel, build, describe_faults
from talim.terminal_text import one_line

STATIC = Path(__file__).parent / "static"
CHUNK_BYTES = 4_000_000
LIMITS = RateLimits(body_bytes=CHUNK_BYTES, link_burst=400, link_per_second=60)
SCRIPTS = {f"/static/{name}": STATIC for name in ("app.js", "steps.js", "app.css")}
SCRIPTS |= {f"/static/{name}": SHARED for name in ("listen.css", "parts.js", "server.js")}
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
OPENED = {".html", ".flac", ".wav", ".mp3", ".json", ".md"}  # shown in the browser; anything else is only kept
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Pages that commands write hold their scripts and sounds; they run as a stranger, who can ask this server nothing.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "media-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_bearer = HTTPBearer(auto_error=False)
_public, _private = APIRouter(), APIRouter()


@dataclass(frozen=True)
class AppState:
    """What the requests share."""

    work: Workspace
    jobs: JobRunner
    wrong_tokens: TokenBucket
    known_tokens: KnownLinks
    ending: Event = field(default_factory=Event)  # of the server

    def goes_on(self) -> bool:
        """Whether a command runs, as long as the server can tell of it."""
        return not self.ending.is_set() and self.jobs.busy()


class Choices(TrainingChoice):
    """What the pages remember; a value that is not sent is left as it is."""

    design: str | None = None
    run: str | None = None
    gpu: str | None = None
    price_per_hour: float | None = None


class TableChange(StrictModel):
    """Cells of metadata.csv by file name and column."""

    rows: dict[str, dict[str, str]]


def create_app(
    work: Workspace, limits: RateLimits = LIMITS, hosts: frozenset[str] | None = LOOPBACK
) -> SecurityMiddleware:
    """The ASGI application of a folder; `hosts` are the accepted host names, None accepts any."""
    api = FastAPI(title="talim", docs_url=None, redoc_url=None, openapi_url=None)
    wrong = TokenBucket(limits.wrong_burst, limits.wrong_per_second)
    api.state.app = AppState(work, JobRunner(work.folder, work.own), wrong, KnownLinks())
    answers = {
        BusyError: lambda _error: (409, {"reason": "busy"}),
        TalimError: lambda error: (422, {"reason": one_line(str(error), 1000)}),
        RequestValidationError: _malformed,
    }
    add_error_handlers(api, logging.getLogger("talim.app"), answers)
    _add_static(api)
    api.include_router(_public)
    api.include_router(_private, dependencies=[Depends(_authorised)])
    return SecurityMiddleware(api, limits, hosts, api.state.app.known_tokens)


def _state(request: Request) -> AppState:
    return request.app.state.app


State = Annotated[AppState, Depends(_state)]


def _authorised(
    request: Request, state: State, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    """401 without the token of the app's address."""
    if given is None or not hmac.compare_digest(given.credentials.encode(), state.work.token.encode()):
        address = request.client.host if request.client else "?"
        raise HTTPException(*((401, "no_token") if state.wrong_tokens.acquire(address) else (429, "too_many")))
    state.known_tokens.add(given.credentials)


@_public.get("/api/words")
def texts() -> Mapping[str, dict[str, str]]:
    """All texts; public, as one of them says that the token is missing."""
    return {code: words(code, "app") for code in languages("app")}


@_public.get("/files/{key}/{name:path}")
def file(key: str, name: str, state: State, save: bool = False, begun: str = "") -> Response:
    """A file of the folder by the address that a page gave; to be kept with `save`.

    A FLAC file that is `begun` is sent as it is written, as long as a command runs; its length is not known, so that
    no part of it can be asked for.
    """
    path = state.work.served_file(key, name, begun)
    if path is None:
        raise HTTPException(404, "not_found")
    if finished_path(path):
        headers = {POLICY: REPORT_POLICY, "accept-ranges": "none"}
        return StreamingResponse(follow(path, state.goes_on), media_type="audio/flac", headers=headers)
    suffix = path.suffix.lower()
    kept = path.name if save or suffix not in OPENED else None
    return FileResponse(path, filename=kept, headers={POLICY: REPORT_POLICY})


@_private.get("/api/pages/{name}")
def page(name: str, state: State, language: str = "en") -> dict[str, Any]:
    """What a page shows."""
    if name not in PAGES:
        raise HTTPException(404, "not_found")
    return PageReader(state.work, state.jobs, language).read(name)


@_private.get("/api/job")
def job(state: State) -> dict[str, Any]:
    """The command that was started last, and the end of its log."""
    last = state.jobs.last()
    return {"job": None if last is None else _shown(last)}


@_private.post("/api/jobs/{name}", status_code=202)
def start(name: str, state: State, asked: Annotated[dict[str, Any], Body()], preview: bool = False) -> dict[str, Any]:
    """Start a step's command, or only say it; 409 while another one runs."""
    if name not in REQUESTS:
        raise HTTPException(404, "not_found")
    request = build(REQUESTS[name], asked, name)
    arguments = request.arguments(state.work)
    if not preview:
        state.jobs.start(name, arguments, lambda: request.write(state.work))
        if name == "train":
            state.work.choose(run=arguments[-1])
    return {"command": Job(name, tuple(arguments), RUNNING, None, 0, None, ()).command}


@_private.delete("/api/job")
def stop(state: State) -> dict[str, Any]:
    """Ask the running command to end."""
    state.jobs.stop()
    return {"stopping": True}


@_private.put("/api/choices")
def choose(sent: Choices, state: State) -> dict[str, Any]:
    """Remember what was chosen."""
    if sent.design is not None:
        Design.parse(sent.design)
    state.work.choose(**{name: getattr(sent, name) for name in sent.model_fields_set})
    return state.work.choices


@_private.put("/api/table")
def write_table(sent: TableChange, state: State) -> dict[str, Any]:
    """Write cells of metadata.csv; only of recordings that are here."""
    if unknown := sent.rows.keys() - {*state.work.files("recordings")}:
        raise HTTPException(422, one_line(f"not_found: {', '.join(sorted(unknown))}", 200))
    state.work.write_table(sent.rows)
    return {"saved": len(sent.rows)}


@_private.put("/api/files/{kind}/{name}")
async def upload(kind: str, name: str, total: int, offset: int, request: Request, state: State) -> dict[str, int]:
    """A chunk of a file, at `offset` of `total` bytes; answers how many are here, from where to go on."""
    chunk = await request.body()
    return {"have": await run_in_threadpool(state.work.receive, kind, name, total, offset, chunk)}


@_private.delete("/api/files/recordings/{name}")
def set_aside(name: str, state: State) -> dict[str, Any]:
    """Move a recording to the folder set-aside."""
    state.work.set_aside(name)
    return {"set_aside": name}


def _shown(last: Job) -> dict[str, Any]:
    return {"name": last.name, "command": last.command, "state": last.state, "log": last.log, "began": last.began}


def _add_static(api: FastAPI) -> None:
    """Serve pages and scripts from memory: no path of a request reaches the file system."""

    def add(url_path: str, body: bytes, kind: str) -> None:
        headers = {POLICY: PAGE_POLICY}
        api.add_api_route(url_path, lambda: Response(body, media_type=kind, headers=headers), include_in_schema=False)

    for address, folder in SCRIPTS.items():
        name = address.rpartition("/")[2]
        add(address, (folder / name).read_bytes(), TYPES[Path(name).suffix])
    for address in ("/", *(f"/{name}" for name in PAGES)):
        add(address, (STATIC / "app.html").read_bytes(), TYPES[".html"])


def _malformed(error: RequestValidationError) -> tuple[int, dict[str, Any]]:
    faults = [{**row, "loc": [part for part in row["loc"] if part != "body"]} for row in error.errors()]
    return 422, {"reason": one_line(describe_faults(faults, StrictModel), 1000)}
