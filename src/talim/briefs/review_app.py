"""The ASGI application for reviews: API routes authorised by the reviewer's token, security middleware."""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import Response

from talim.briefs.review_session import ReviewSession
from talim.briefs.review_store import Review
from talim.listening.app import LOOPBACK, secured_app
from talim.listening.middleware import RateLimits, SecurityMiddleware
from talim.listening.routes import ConsentRequest, ParticipantDependency, session_of

SessionDependency = Annotated[ReviewSession, Depends(session_of)]
reviewing = APIRouter(prefix="/api")


def create_app(
    session: ReviewSession, limits: RateLimits | None = None, hosts: frozenset[str] | None = LOOPBACK
) -> SecurityMiddleware:
    """The ASGI application; `hosts` are the accepted host names, None accepts any."""
    return secured_app(session, session.reviews, [reviewing], {"/": "review.html"}, limits, hosts)


@reviewing.get("/session")
def status(reviewer: ParticipantDependency, session: SessionDependency) -> dict[str, Any]:
    """The brief and the progress of this reviewer."""
    brief = session.brief
    return {
        "title": brief.title or {"en": brief.name},
        "brief": {"prompt": brief.prompt_text, "seconds": brief.seconds, "loop": brief.loop, "mood": brief.mood},
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
    language, brief = sent.language, session.brief
    if language not in brief.languages:
        raise HTTPException(422, "malformed")
    session.reviews.begin(reviewer["id"], language, session.consent_hash(language), brief.seed)
    return {"began": True}


@reviewing.post("/candidate")
def candidate(reviewer: ParticipantDependency, session: SessionDependency) -> dict[str, Any]:
    """The current candidate with its failed checks, without its contender."""
    if reviewer["began_at"] is None:
        raise HTTPException(403, "begin_first")
    row = session.reviews.current(reviewer["id"], opening=True)
    if row is None:
        return {"done": True}
    name = row["candidate"]
    failed = [check for check in session.rows[name]["checks"] if check["passed"] is False]
    return {
        "done": False,
        "position": row["position"],
        "candidates": reviewer["turns"],
        "audio": session.name(reviewer["id"], name),
        "minimum_seconds": session.min_listening_seconds(name),
        "failed": [{key: check[key] for key in ("name", "measured", "required")} for check in failed],
    }


@reviewing.get("/audio/{name}", response_class=Response)
def candidate_audio(reviewer: ParticipantDependency, session: SessionDependency, name: str) -> Response:
    """The audio of the current candidate; 404 for other names."""
    row = session.reviews.current(reviewer["id"])
    valid = session.name(reviewer["id"], row["candidate"]) if row else ""
    if row is None or not hmac.compare_digest(valid.encode(), name.encode()):
        raise HTTPException(404, "not_found")
    return Response(session.wav(row["candidate"]), media_type="audio/wav")


@reviewing.post("/reviews")
def review(reviewer: ParticipantDependency, session: SessionDependency, sent: Review) -> dict[str, Any]:
    """Store a review; it is on disk when this returns. Sending the same review again has no effect."""
    reasons = sent.reasons
    if not set(reasons) <= set(session.brief.reasons) or len(set(reasons)) != len(reasons):
        raise HTTPException(422, "malformed")
    if sent.verdict != "accept" and not reasons and not sent.note:
        raise HTTPException(422, "reason_needed")
    row = session.reviews.current(reviewer["id"])
    minimum_seconds = 0.0
    if row is not None and row["position"] == sent.position:
        minimum_seconds = session.min_listening_seconds(row["candidate"])
        if sent.listened_seconds < minimum_seconds:
            raise HTTPException(409, "not_listened")
    return {"stored": True, "new": session.reviews.review(reviewer["id"], sent, minimum_seconds)}
