"""API routes of a listening test, for listeners and for the organiser, authorised by bearer tokens."""

from __future__ import annotations

import hmac
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field, StrictInt

from talim.html.phrases import translate
from talim.listening import export
from talim.listening.participant_store import Answer
from talim.listening.session import ListeningTestSession, ServedSession
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
    if sent:
        request.app.state.known_links.add(sent.credentials)
    return participant


def _organiser_only(request: Request, test: SessionDependency, sent: BearerCredentials) -> None:
    token = sent.credentials if sent else ""
    if not hmac.compare_digest(token.encode(), test.organiser_token.encode()):
        raise _invalid_link_error(request)
    request.app.state.known_links.add(token)


ParticipantDependency = Annotated[dict[str, Any], Depends(_participant_of)]
shared = APIRouter(prefix="/api")
listening = APIRouter(prefix="/api")
organising = APIRouter(prefix="/api/organiser", dependencies=[Depends(_organiser_only)])


@shared.delete("/session")
def forget(request: Request, participant: ParticipantDependency, response: Response) -> dict[str, Any]:
    """Delete the listener or reviewer and all their answers."""
    return _deletion(request.app.state.store.delete(participant["id"]), response)


def _deletion(erased: bool | None, response: Response) -> dict[str, Any]:
    """`deleted` only if nothing is left on disk; 202 while another program delays that, 404 for nobody."""
    if erased is None:
        raise HTTPException(404, "not_found")
    if not erased:
        response.status_code = 202
    return {"deleted": erased}


@shared.get("/audio/{name}", response_class=Response)
def sound(request: Request, participant: ParticipantDependency, name: str) -> Response:
    """Audio of the current turn, 404 for other names; without a modification date, which would reveal the order of
    creation.
    """
    served: ServedSession = request.app.state.session
    turn = served.store.current(participant["id"])
    for valid, read in (served.sounds(participant["id"], turn) if turn else {}).items():
        if hmac.compare_digest(valid.encode(), name.encode()):
            return Response(read(), media_type="audio/wav")
    raise HTTPException(404, "not_found")


def open_turn(session: ServedSession, participant: dict[str, Any]) -> dict[str, Any]:
    """The current turn as the page gets it; its time begins with the first retrieval."""
    turn = session.store.current(participant["id"], opening=True)
    if participant["began_at"] is None:
        raise HTTPException(403, "begin_first")
    if turn is None:
        return {"done": True}
    return {"done": False, "position": turn["position"]} | session.public_turn(participant, turn)


def store_answer(session: ServedSession, participant: dict[str, Any], sent: Answer) -> dict[str, Any]:
    """Store an answer; it is on disk when this returns. Sending the same answer again has no effect."""
    check = partial(session.check_answer, sent)
    return {"stored": True, "new": session.store.answer(participant["id"], sent, check)}


@listening.get("/session")
def session(listener: ParticipantDependency, test: SessionDependency) -> dict[str, Any]:
    """The state of the test for this listener."""
    counts = test.protocol.trials
    return test.protocol.model_dump(include={"title", "contact", "kind", "groups", "aspects"}) | {
        "began": listener["began_at"] is not None,
        "language": listener["language"],
        "answered": listener["answered"],
        "trials": listener["turns"] or counts.total,
        "checks": counts.repeats + counts.attention > 0,
        "questions": test.protocol.questions,
        "minutes": test.protocol.minutes,
    }


@listening.post("/begin")
def begin(listener: ParticipantDependency, test: SessionDependency, sent: ListenerConsentRequest) -> dict[str, Any]:
    """Store consent and background, and assign the trials."""
    if sent.group not in test.protocol.groups:
        raise HTTPException(422, "malformed")
    consent = ConsentRecord(sent.group, sent.familiarity, sent.language, test.consent_hash(sent.language))
    test.store.begin(listener["id"], consent, test.protocol, test.stimuli.items)
    return {"began": True}


@listening.post("/trial")
def trial(listener: ParticipantDependency, test: SessionDependency) -> dict[str, Any]:
    """The current trial, without its kind and conditions."""
    return open_turn(test, listener)


@listening.post("/votes")
def vote(listener: ParticipantDependency, test: SessionDependency, sent: Vote) -> dict[str, Any]:
    """Store a vote; it is on disk when this returns. Sending the same vote again has no effect."""
    return store_answer(test, listener, sent)


@organising.get("/status")
def status(test: SessionDependency, language: str = "en") -> dict[str, Any]:
    """The test and the progress of its listeners; notes in the language where there are words for them."""
    notes = list(test.stimuli.notes)
    test.store.rows(notes.append)
    phrases = test.translations.get(language, {}).get("organiser", {}).get("notes", {})
    shown = [translate(note, phrases) for note in notes]
    return test.store.status() | test.protocol.model_dump(include={"name", "publish"}) | {"notes": shown}


@organising.post("/links")
def links(test: SessionDependency, sent: InviteLinksRequest) -> list[dict[str, str]]:
    """Create invites; this is the only time their tokens are returned."""
    return test.store.invite(sent.count, label=sent.label)


@organising.get("/votes")
def votes(test: SessionDependency, form: Literal["jsonl", "csv"] = "jsonl") -> Response:
    """All votes as a file; the status names those that cannot be read."""
    rows = test.store.rows()
    if form == "csv":
        return Response(export.to_csv(rows), media_type="text/csv")
    return Response(export.to_jsonl(rows), media_type="application/x-ndjson")


@organising.delete("/listeners/{listener}")
def delete(
    test: SessionDependency, listener: Annotated[str, Field(max_length=16)], response: Response
) -> dict[str, Any]:
    """Delete a listener on request."""
    return _deletion(None if "\x00" in listener else test.store.delete(listener), response)
