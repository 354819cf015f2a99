"""What a listener and the organiser may ask of the server, each behind their own link."""

from __future__ import annotations

import hmac
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from talim.listening import export
from talim.listening.protocol import Protocol
from talim.listening.session import ListeningTestSession
from talim.listening.vote_store import ConsentRecord, Vote


class _StrictRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ListenerConsentRequest(_StrictRequest):
    """Consent, and what a listener says of themselves."""

    consent: Literal[True]
    group: str = Field(max_length=40)
    familiarity: StrictInt = Field(ge=1, le=5)
    language: str = Field(max_length=12)


class VoteRequest(_StrictRequest):
    """One vote; `answers` by aspect (pairwise: 2 A much better, to -2; null cannot say) or by row (0 to 100)."""

    id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    position: StrictInt = Field(ge=0, le=10_000)
    answers: dict[str, Annotated[StrictInt, Field(ge=-2, le=100)] | None] = Field(max_length=64)
    heard_seconds: list[Annotated[float, Field(ge=0, le=86_400)]] = Field(max_length=64)


class InviteLinksRequest(_StrictRequest):
    """How many links to make, and a label by which the organiser knows them again."""

    count: StrictInt = Field(ge=1, le=500)
    label: str = Field(default="", max_length=80, pattern=r"^[^\x00-\x1f]*$")


def _test_of(request: Request) -> ListeningTestSession:
    return request.app.state.test


def invalid_link_error(request: Request) -> HTTPException:
    """For a wrong link: 401, and 429 for whoever tries many of them."""
    address = request.client.host if request.client else "?"
    granted = request.app.state.wrong_links.take(address)
    return HTTPException(401, "no_link") if granted else HTTPException(429, "too_many")


SessionDependency = Annotated[ListeningTestSession, Depends(_test_of)]
BearerCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def _listener_of(request: Request, test: SessionDependency, sent: BearerCredentials) -> dict[str, Any]:
    found = test.store.listener(sent.credentials) if sent else None
    if found is None:
        raise invalid_link_error(request)
    return found


def _organiser_only(request: Request, test: SessionDependency, sent: BearerCredentials) -> None:
    token = sent.credentials if sent else ""
    if not hmac.compare_digest(token.encode(), test.organiser_token.encode()):
        raise invalid_link_error(request)


ListenerDependency = Annotated[dict[str, Any], Depends(_listener_of)]
listening = APIRouter(prefix="/api")
organising = APIRouter(prefix="/api/organiser", dependencies=[Depends(_organiser_only)])


@listening.get("/session")
def session(listener: ListenerDependency, test: SessionDependency) -> dict[str, Any]:
    """What the page needs before and between trials."""
    return {
        "title": test.protocol.title,
        "contact": test.protocol.contact,
        "kind": test.protocol.kind,
        "groups": test.protocol.groups,
        "aspects": [aspect.model_dump() for aspect in test.protocol.aspects],
        "began": listener["began_at"] is not None,
        "language": listener["language"],
        "answered": listener["answered"],
        "trials": listener["trials"] or _length(test.protocol),
    }


@listening.post("/begin")
def begin(
    listener: ListenerDependency, test: SessionDependency, said: ListenerConsentRequest
) -> dict[str, Any]:
    """Consent and background; then the trials are given out."""
    if said.group not in test.protocol.groups or said.language not in test.protocol.languages:
        raise HTTPException(422, "malformed")
    consent = test.consent_hash(said.language)
    who = ConsentRecord(said.group, said.familiarity, said.language, consent)
    test.store.begin(listener["id"], who, test.protocol, test.material.items)
    return {"began": True}


@listening.post("/trial")
def trial(listener: ListenerDependency, test: SessionDependency) -> dict[str, Any]:
    """The trial to be answered now, without what kind it is or what is in it."""
    if listener["began_at"] is None:
        raise HTTPException(403, "begin_first")
    row = test.store.current_trial(listener["id"], opening=True)
    if row is None:
        return {"done": True}
    names = test.names(listener["id"], row)
    shown = {
        "done": False,
        "position": row["position"],
        "trials": listener["trials"],
        "sounds": names[: len(row["order"])],
        "reference": names[-1] if test.protocol.kind == "mushra" else None,
        "aspect": row["aspect"],
        "least_seconds": test.min_heard_seconds(row),
    }
    return shown | (
        {"prompt": test.material.prompts[row["item"]]} if test.protocol.trials.show_prompt else {}
    )


@listening.get("/audio/{name}", response_class=Response)
def sound(listener: ListenerDependency, test: SessionDependency, name: str) -> Response:
    """A sound of the current trial; any other name is unknown. No date goes out, which would tell the order
    in which the sounds were made."""
    row = test.store.current_trial(listener["id"])
    path = test.sound(listener["id"], row, name) if row else None
    if path is None:
        raise HTTPException(404, "nothing_here")
    return Response(path.read_bytes(), media_type="audio/wav")


@listening.post("/votes")
def vote(listener: ListenerDependency, test: SessionDependency, sent: VoteRequest) -> dict[str, Any]:
    """Store a vote; when this answers, it is on the disk. The same vote again is the same vote."""
    row = test.store.current_trial(listener["id"])
    least = 0.0
    if row is not None and row["position"] == sent.position:
        _check_answers(test, row, sent)
        least = test.min_heard_seconds(row) * len(row["order"])
    made = Vote(sent.id, sent.position, sent.answers, sent.heard_seconds)
    new = test.store.vote(listener["id"], made, least)
    return {"stored": True, "new": new}


@listening.delete("/session")
def forget(listener: ListenerDependency, test: SessionDependency) -> dict[str, Any]:
    """Delete the listener, with all that they answered."""
    return {"deleted": test.store.delete(listener["id"])}


@organising.get("/status")
def status(test: SessionDependency) -> dict[str, Any]:
    """The test and who has come how far."""
    return test.store.status() | {"name": test.protocol.name, "notes": test.material.notes}


@organising.post("/links")
def links(test: SessionDependency, wanted: InviteLinksRequest) -> list[dict[str, str]]:
    """New links; a token is told this once."""
    return test.store.add_listeners(wanted.count, wanted.label)


@organising.get("/votes")
def votes(test: SessionDependency, form: Literal["jsonl", "csv"] = "jsonl") -> Response:
    """All votes as a file."""
    text = (export.to_csv if form == "csv" else export.to_jsonl)(test.store.rows())
    kind = "text/csv" if form == "csv" else "application/x-ndjson"
    return Response(text, media_type=kind)


@organising.delete("/listeners/{listener}")
def delete(test: SessionDependency, listener: Annotated[str, Field(max_length=16)]) -> dict[str, Any]:
    """Delete a listener on request."""
    if "\x00" in listener or not test.store.delete(listener):
        raise HTTPException(404, "nothing_here")
    return {"deleted": True}


def _check_answers(test: ListeningTestSession, trial: dict[str, Any], sent: VoteRequest) -> None:
    """HTTPException unless every question of the trial is answered on its scale and every sound was heard."""
    if trial["aspect"] is None:
        keys = {aspect.name for aspect in test.protocol.aspects}
        fits = all(answer is None or -2 <= answer <= 2 for answer in sent.answers.values())
    else:
        keys = {str(place) for place in range(len(trial["order"]))}
        fits = all(answer is not None and 0 <= answer <= 100 for answer in sent.answers.values())
    if sent.answers.keys() != keys or not fits or len(sent.heard_seconds) != len(trial["order"]):
        raise HTTPException(422, "malformed")
    if min(sent.heard_seconds) < test.min_heard_seconds(trial):
        raise HTTPException(409, "not_heard")


def _length(protocol: Protocol) -> int:
    return protocol.trials.per_listener + protocol.trials.repeats + protocol.trials.attention
