"""The ASGI application for reviews: API routes authorised by the reviewer's token, security middleware."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from talim.briefs.review_session import ReviewSession
from talim.briefs.review_store import Review
from talim.listening.app import LOOPBACK, secured_app
from talim.listening.middleware import RateLimits, SecurityMiddleware
from talim.listening.routes import ConsentRequest, ParticipantDependency, open_turn, session_of, store_answer

SessionDependency = Annotated[ReviewSession, Depends(session_of)]
reviewing = APIRouter(prefix="/api")


def create_app(
    session: ReviewSession, limits: RateLimits | None = None, hosts: frozenset[str] | None = LOOPBACK
) -> SecurityMiddleware:
    """The ASGI application; `hosts` are the accepted host names, None accepts any."""
    return secured_app(session, [reviewing], {"/": "review.html"}, limits, hosts)


@reviewing.get("/session")
def status(reviewer: ParticipantDependency, session: SessionDependency) -> dict[str, Any]:
    """The brief and the progress of this reviewer."""
    brief = session.brief
    return {
        "title": brief.title or {"en": brief.name},
        "brief": session.wanted(),
        "reasons": brief.reasons,
        "reason_words": brief.reason_words,
        "began": reviewer["began_at"] is not None,
        "language": reviewer["language"],
        "reviewed": reviewer["answered"],
        "candidates": len(session.rows),
    }


@reviewing.post("/begin")
def begin(reviewer: ParticipantDependency, session: SessionDependency, sent: ConsentRequest) -> dict[str, Any]:
    """Store consent and assign the candidates."""
    consent = session.consent_hash(sent.language)
    session.store.begin(reviewer["id"], sent.language, consent, session.brief.seed)
    return {"began": True}


@reviewing.post("/candidate")
def candidate(reviewer: ParticipantDependency, session: SessionDependency) -> dict[str, Any]:
    """The current candidate with its failed checks, without its contender."""
    return open_turn(session, reviewer)


@reviewing.post("/reviews")
def review(reviewer: ParticipantDependency, session: SessionDependency, sent: Review) -> dict[str, Any]:
    """Store a review; it is on disk when this returns. Sending the same review again has no effect."""
    return store_answer(session, reviewer, sent)
