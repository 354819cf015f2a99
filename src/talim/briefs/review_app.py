"""The review server: what a reviewer may ask, behind their own link and the same guard as listeners."""

from __future__ import annotations

import hmac
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from talim.briefs.review_session import ReviewSession
from talim.briefs.review_store import Review
from talim.listening.app import LOOPBACK, new_api
from talim.listening.middleware import RateLimits, SecurityMiddleware
from talim.listening.routes import BearerCredentials, invalid_link_error

_PAGES = {"/": "review.html"}


class _StrictReviewRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ReviewerConsentRequest(_StrictReviewRequest):
    """Consent, and the language it was given in."""

    consent: Literal[True]
    language: str = Field(max_length=12)


class ReviewRequest(_StrictReviewRequest):
    """One review; what is not accepted needs a reason or a note."""

    id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    position: StrictInt = Field(ge=0, le=100_000)
    verdict: Literal["accept", "edit", "reject"]
    reasons: list[Annotated[str, Field(max_length=40)]] = Field(max_length=20)
    note: str = Field(default="", max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f]*$")
    heard_seconds: float = Field(ge=0, le=86_400)


def create_app(
    opened: ReviewSession, limits: RateLimits | None = None, hosts: frozenset[str] | None = LOOPBACK
) -> SecurityMiddleware:
    """The ASGI application; `hosts` are the names it answers to, None any."""
    limits = limits or RateLimits()
    api = new_api("talim brief", limits, _PAGES, opened.words)
    api.state.brief = opened
    api.include_router(reviewing)
    return SecurityMiddleware(api, limits, hosts)


def _brief_of(request: Request) -> ReviewSession:
    return request.app.state.brief


SessionDependency = Annotated[ReviewSession, Depends(_brief_of)]


def _reviewer_of(request: Request, opened: SessionDependency, sent: BearerCredentials) -> dict[str, Any]:
    found = opened.reviews.reviewer(sent.credentials) if sent else None
    if found is None:
        raise invalid_link_error(request)
    return found


ReviewerDependency = Annotated[dict[str, Any], Depends(_reviewer_of)]
reviewing = APIRouter(prefix="/api")


@reviewing.get("/session")
def session(reviewer: ReviewerDependency, opened: SessionDependency) -> dict[str, Any]:
    """What the page needs before and between candidates."""
    brief = opened.brief
    return {
        "title": brief.title or {"en": brief.name},
        "wanted": {"words": brief.words, "seconds": brief.seconds, "loop": brief.loop, "mood": brief.mood},
        "reasons": brief.reasons,
        "reason_words": brief.reason_words,
        "began": reviewer["began_at"] is not None,
        "language": reviewer["language"],
        "reviewed": reviewer["reviewed"],
        "candidates": len(opened.rows),
    }


@reviewing.post("/begin")
def begin(
    reviewer: ReviewerDependency, opened: SessionDependency, said: ReviewerConsentRequest
) -> dict[str, Any]:
    """Consent; then the candidates are given out."""
    if said.language not in opened.brief.languages:
        raise HTTPException(422, "malformed")
    opened.reviews.begin(reviewer["id"], said.language, opened.consent_hash(said.language), opened.brief.seed)
    return {"began": True}


@reviewing.post("/candidate")
def candidate(reviewer: ReviewerDependency, opened: SessionDependency) -> dict[str, Any]:
    """The candidate to be reviewed now, without what made it; what a machine checked is told."""
    if reviewer["began_at"] is None:
        raise HTTPException(403, "begin_first")
    row = opened.reviews.current(reviewer["id"], opening=True)
    if row is None:
        return {"done": True}
    name = row["candidate"]
    checks = opened.rows[name]["checks"]
    return {
        "done": False,
        "position": row["position"],
        "candidates": reviewer["candidates"],
        "sound": opened.name(reviewer["id"], name),
        "least_seconds": opened.min_heard_seconds(name),
        "failed": [
            {key: c[key] for key in ("name", "found", "wanted")} for c in checks if c["passed"] is False
        ],
    }


@reviewing.get("/audio/{name}", response_class=Response)
def sound(reviewer: ReviewerDependency, opened: SessionDependency, name: str) -> Response:
    """The sound of the current candidate; any other name is unknown."""
    row = opened.reviews.current(reviewer["id"])
    known = opened.name(reviewer["id"], row["candidate"]) if row else ""
    if row is None or not hmac.compare_digest(known.encode(), name.encode()):
        raise HTTPException(404, "nothing_here")
    return Response(opened.sound(row["candidate"]), media_type="audio/wav")


@reviewing.post("/reviews")
def review(reviewer: ReviewerDependency, opened: SessionDependency, sent: ReviewRequest) -> dict[str, Any]:
    """Store a review; when this answers, it is on the disk. The same review again is the same review."""
    reasons, note = sent.reasons, sent.note.strip()
    known = set(opened.brief.reasons)
    if not set(reasons) <= known or len(set(reasons)) != len(reasons):
        raise HTTPException(422, "malformed")
    if sent.verdict != "accept" and not reasons and not note:
        raise HTTPException(422, "reason_needed")
    row = opened.reviews.current(reviewer["id"])
    least = 0.0
    if row is not None and row["position"] == sent.position:
        least = opened.min_heard_seconds(row["candidate"])
        if sent.heard_seconds < least:
            raise HTTPException(409, "not_heard")
    made = Review(sent.id, sent.position, sent.verdict, reasons, note, sent.heard_seconds)
    return {"stored": True, "new": opened.reviews.review(reviewer["id"], made, least)}


@reviewing.delete("/session")
def forget(reviewer: ReviewerDependency, opened: SessionDependency) -> dict[str, Any]:
    """Delete the reviewer, with all that they decided."""
    return {"deleted": opened.reviews.delete(reviewer["id"])}
