"""The HTTP interface of `talim serve`, described by /openapi.json: ask for a piece, look how far it is, fetch it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from talim.errors import UsageError
from talim.listening.error_responses import add_error_handlers
from talim.listening.middleware import KnownLinks, RateLimits, SecurityMiddleware, TokenBucket
from talim.listening.participant_store import hash_token
from talim.serving.generation_queue import CANCELLED, DONE, FAILED, GenerationQueue, QueuedPiece, QueueFullError, Status
from talim.strict_yaml import describe_faults
from talim.terminal_text import one_line
from talim.version import __version__

LIMITS = RateLimits(body_bytes=16_384, link_burst=120, link_per_second=20)
PATH = "/v1/generations"
MAX_PROMPT_CHARACTERS = 2000
MEDIA_TYPES = {"flac": "audio/flac", "wav": "audio/wav"}
_routes = APIRouter()
_bearer = HTTPBearer(auto_error=False, description="The token of a client, which talim serve printed.")


class GenerationRequest(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid")
    prompt: str = Field("", max_length=MAX_PROMPT_CHARACTERS, description="What is to be played; empty: no words.")
    seconds: float = Field(10.0, gt=0, description="Length of the piece.")
    seed: int = Field(0, ge=0, lt=2**31, description="Equal requests with equal seeds give the same piece.")
    format: Literal["flac", "wav"] = "flac"
    guidance_scale: float | None = Field(None, ge=1, le=50)
    temperature: float | None = Field(None, ge=0, le=10)
    top_k: int | None = Field(None, ge=0)
    sampling_steps: int | None = Field(None, ge=1)
    sampler: str | None = Field(None, max_length=40)

    @property
    def options(self) -> dict[str, Any]:
        """The options of sampling that were given."""
        return self.model_dump(exclude_none=True, exclude={"prompt", "seconds", "seed", "format"})


class GenerationStatus(BaseModel):
    """A request and what has become of it."""

    id: str
    status: Status
    progress_fraction: float = Field(description="0 to 1, of the pieces that are made together with this one.")
    position: int = Field(description="Pieces that are made before this one.")
    audio: str | None = Field(description="Where the sound can be fetched, once the status is done.")
    error: str | None


class ServedModel(BaseModel):
    """What makes the music, and under which licences."""

    base: str
    base_licence: str
    adapters: list[str]
    adapter_licences: list[str]
    sample_rate_hz: int
    max_seconds: float
    talim_version: str = __version__


@dataclass(frozen=True)
class Service:
    """What the interface serves: a queue, the model's facts, the clients by the hash of their token."""

    queue: GenerationQueue
    model: ServedModel
    clients: Mapping[str, str]
    resolve: Callable[[dict[str, Any]], dict[str, Any]]  # options: all of them; UsageError for wrong ones


def create_app(service: Service, hosts: frozenset[str] | None, limits: RateLimits = LIMITS) -> SecurityMiddleware:
    """The ASGI application; `hosts` are the accepted host names, None accepts any."""
    api = FastAPI(
        title="talim",
        version=__version__,
        description="Music from words, by a base model and its adapters. Files are tagged as AI-generated.",
        docs_url=None,  # its page loads scripts from other hosts
        redoc_url=None,
    )
    api.state.service, api.state.known_tokens = service, KnownLinks()
    api.state.wrong_tokens = TokenBucket(limits.wrong_burst, limits.wrong_per_second)
    add_error_handlers(api, logging.getLogger("talim.serving"), {RequestValidationError: _malformed})
    api.include_router(_routes)
    return SecurityMiddleware(api, limits, hosts, api.state.known_tokens)


def _service(request: Request) -> Service:
    return request.app.state.service


def _client(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    """The name of the client whose token a request has; 401 without a valid one."""
    state = request.app.state
    name = None if given is None else state.service.clients.get(hash_token(given.credentials))
    if given is None or name is None:
        address = request.client.host if request.client else "?"
        status, reason = (401, "no_valid_token") if state.wrong_tokens.acquire(address) else (429, "too_many")
        raise HTTPException(status, reason)
    state.known_tokens.add(given.credentials)
    return name


_Service = Annotated[Service, Depends(_service)]
_Client = Annotated[str, Depends(_client)]


def _own_piece(id_: str, service: _Service, client: _Client) -> QueuedPiece:
    """A piece of this client; 404 for anything else."""
    piece = service.queue.get(id_, client)
    if piece is None:
        raise HTTPException(404, "not_found")
    return piece


_OwnPiece = Annotated[QueuedPiece, Depends(_own_piece)]


def _status_of(piece: QueuedPiece, queue: GenerationQueue) -> GenerationStatus:
    return GenerationStatus(
        id=piece.id,
        status=piece.status,
        progress_fraction=round(piece.progress_fraction, 4),
        position=queue.position(piece),
        audio=f"{PATH}/{piece.id}/audio" if piece.status == DONE else None,
        error=piece.error or None,
    )


@_routes.get("/", include_in_schema=False)
def root() -> dict[str, str]:
    """What this is, for people who open the address in a browser."""
    return {"program": "talim serve: music for other programs", "interface": "/openapi.json"}


@_routes.get("/v1/model")
def model(_: _Client, service: _Service) -> ServedModel:
    """What makes the music, and under which licences."""
    return service.model


@_routes.post(PATH, status_code=202)
def submit(request: GenerationRequest, client: _Client, service: _Service, response: Response) -> GenerationStatus:
    """Ask for a piece; 429 where too many wait, 422 for what this model cannot do."""
    if request.seconds > service.model.max_seconds:
        raise HTTPException(422, f"seconds: at most {service.model.max_seconds:g} here")
    try:
        options = service.resolve(request.options)
    except UsageError as error:
        raise HTTPException(422, str(error)) from None
    wanted = QueuedPiece(request.prompt.strip(), request.seconds, request.seed, options, client, f".{request.format}")
    try:
        piece = service.queue.submit(wanted)
    except QueueFullError:
        raise HTTPException(429, "queue_full", {"retry-after": "10"}) from None
    response.headers["location"] = f"{PATH}/{piece.id}"
    return _status_of(piece, service.queue)


@_routes.get(PATH + "/{id_}")
def status(piece: _OwnPiece, service: _Service) -> GenerationStatus:
    """How far a piece is."""
    return _status_of(piece, service.queue)


@_routes.delete(PATH + "/{id_}")
def cancel(piece: _OwnPiece, service: _Service) -> GenerationStatus:
    """Give up a piece, or delete it."""
    service.queue.cancel(piece)
    return _status_of(piece, service.queue)


@_routes.get(PATH + "/{id_}/audio", response_class=FileResponse)
def audio(piece: _OwnPiece) -> FileResponse:
    """The sound of a piece; 409 until it is done, 410 where it never will be."""
    path = piece.path
    if piece.status in (FAILED, CANCELLED):
        raise HTTPException(410, piece.status)
    if piece.status != DONE or path is None:
        raise HTTPException(409, piece.status)
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix[1:]], filename=path.name)


def _malformed(error: RequestValidationError) -> tuple[int, dict[str, Any]]:
    faults = [{**row, "loc": row["loc"][1:]} for row in error.errors()]  # without "body"
    return 422, {"reason": one_line(describe_faults(faults, GenerationRequest), 1000)}
