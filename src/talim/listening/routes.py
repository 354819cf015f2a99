"""API routes of a listening test, for listeners and for the organiser, authorised by bearer tokens."""

from __future__ import annotations

import hmac
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field, StrictInt

from talim.listening import export
from talim.listening.session import ListeningTestSession
from talim.listening.vote_store import ConsentRecord, Vote
from talim.strict_yaml import StrictModel


class ConsentRequest(StrictModel):
    """Consent, and the language in which it was given."""

    consent: Literal[True]
    language: str = Field(max_length=12)


class ListenerConsentRequest(ConsentRequest):
    """Consent, with the listener's group and familiarity."""

    group: str = Field(max_length=40)
    familiarity: StrictInt = Field(ge=1, le=5)


class InviteLinksRequest(StrictModel):
    """Number of invites to create, and a label for the organiser."""

    count: StrictInt = Field(ge=1, le=500)
    label: str = Field(default="", max_length=80, pattern=r"^[^\x00-\x1f]*$")


def session_of(request: Request) -> Any:
    """The session that the application serves."""
    return request.app.state.session


def _invalid_link_error(request: Request) -> HTTPException:
    """401 for an invalid link, 429 after many of them from one address."""
    granted = request.app.state.wrong_links.acquire(request.client.host if request.client else "?")
    return HTTPException(401, "no_link") if granted else HTTPException(429, "too_many")


SessionDependency = Annotated[ListeningTestSession, Depends(session_of)]
BearerCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def _participant_of(request: Request, sent: BearerCredentials) -> dict[str, Any]:
    participant = request.app.state.store.find(sent.credentials) if sent else None
    if participant is None:
        raise _invalid_link_error(request)
    return participant


def _organiser_only(request: Request, test: SessionDependency, sent: BearerCredentials) -> None:
    token = sent.credentials if sent else ""
    if not hmac.compare_digest(token.encode(), test.organiser_token.encode()):
        raise _invalid_link_error(request)


ParticipantDependency = Annotated[dict[str, Any], Depends(_participant_of)]
shared = APIRouter(prefix="/api")
listening = APIRouter(prefix="/api")
organising = APIRouter(prefix="/api/organiser", dependencies=[Depends(_organiser_only)])


@shared.delete("/session")
def forget(request: Request, participant: ParticipantDependency) -> dict[str, Any]:
    """Delete the listener or reviewer and all their answers."""
    return {"deleted": request.app.state.store.delete(participant["id"])}


@listening.get("/session")
def session(listener: ParticipantDependency, test: SessionDependency) -> dict[str, Any]:
    """The state of the test for this listener."""
    counts = test.protocol.trials
    return test.protocol.model_dump(include={"title", "contact", "kind", "groups", "aspects"}) | {
        "began": listener["began_at"] is not None,
        "language": listener["language"],
        "answered": listener["answered"],
        "trials": listener["turns"] or counts.per_listener + counts.repeats + counts.attention,
    }


@listening.post("/begin")
def begin(listener: ParticipantDependency, test: SessionDependency, sent: ListenerConsentRequest) -> dict[str, Any]:
    """Store consent and background, and assign the trials."""
    if sent.group not in test.protocol.groups or sent.language not in test.protocol.languages:
        raise HTTPException(422, "malformed")
    consent = ConsentRecord(sent.group, sent.familiarity, sent.language, test.consent_hash(sent.language))
    test.store.begin(listener["id"], consent, test.protocol, test.stimuli.items)
    return {"began": True}


@listening.post("/trial")
def trial(listener: ParticipantDependency, test: SessionDependency) -> dict[str, Any]:
    """The current trial, without its kind and conditions."""
    if listener["began_at"] is None:
        raise HTTPException(403, "begin_first")
    row = test.store.current(listener["id"], opening=True)
    if row is None:
        return {"done": True}
    names = test.names(listener["id"], row)
    public = {
        "done": False,
        "position": row["position"],
        "trials": listener["turns"],
        "stimuli": names[: len(row["order"])],
        "reference": names[-1] if test.protocol.kind == "mushra" else None,
        "aspect": row["aspect"],
        "minimum_seconds": test.min_listening_seconds(row),
    }
    return public | ({"prompt": test.stimuli.prompts[row["item"]]} if test.protocol.trials.show_prompt else {})


@listening.get("/audio/{name}", response_class=Response)
def stimulus(listener: ParticipantDependency, test: SessionDependency, name: str) -> Response:
    """A stimulus of the current trial, 404 for other names; without a modification date, which would reveal the order
    of creation.
    """
    row = test.store.current(listener["id"])
    path = test.stimulus_file(listener["id"], row, name) if row else None
    if path is None:
        raise HTTPException(404, "not_found")
    return Response(path.read_bytes(), media_type="audio/wav")


@listening.post("/votes")
def vote(listener: ParticipantDependency, test: SessionDependency, sent: Vote) -> dict[str, Any]:
    """Store a vote; it is on disk when this returns. Sending the same vote again has no effect."""
    row = test.store.current(listener["id"])
    minimum_seconds = 0.0
    if row is not None and row["position"] == sent.position:
        _check_answers(test, row, sent)
        minimum_seconds = test.min_listening_seconds(row) * len(row["order"])
    return {"stored": True, "new": test.store.vote(listener["id"], sent, minimum_seconds)}


@organising.get("/status")
def status(test: SessionDependency) -> dict[str, Any]:
    """The test and the progress of its listeners."""
    return test.store.status() | {"name": test.protocol.name, "notes": test.stimuli.notes}


@organising.post("/links")
def links(test: SessionDependency, sent: InviteLinksRequest) -> list[dict[str, str]]:
    """Create invites; this is the only time their tokens are returned."""
    return test.store.invite(sent.count, label=sent.label)


@organising.get("/votes")
def votes(test: SessionDependency, form: Literal["jsonl", "csv"] = "jsonl") -> Response:
    """All votes as a file."""
    rows = test.store.rows()
    if form == "csv":
        return Response(export.to_csv(rows), media_type="text/csv")
    return Response(export.to_jsonl(rows), media_type="application/x-ndjson")


@organising.delete("/listeners/{listener}")
def delete(test: SessionDependency, listener: Annotated[str, Field(max_length=16)]) -> dict[str, Any]:
    """Delete a listener on request."""
    if "\x00" in listener or not test.store.delete(listener):
        raise HTTPException(404, "not_found")
    return {"deleted": True}


def _check_answers(test: ListeningTestSession, trial: dict[str, Any], sent: Vote) -> None:
    """HTTPException unless all questions are answered on their scale and all stimuli were played long enough."""
    if trial["aspect"] is None:
        keys = {aspect.name for aspect in test.protocol.aspects}
        fits = all(answer is None or -2 <= answer <= 2 for answer in sent.answers.values())
    else:
        keys = {str(index) for index in range(len(trial["order"]))}
        fits = all(answer is not None and 0 <= answer <= 100 for answer in sent.answers.values())
    if sent.answers.keys() != keys or not fits or len(sent.listened_seconds) != len(trial["order"]):
        raise HTTPException(422, "malformed")
    if min(sent.listened_seconds) < test.min_listening_seconds(trial):
        raise HTTPException(409, "not_listened")
