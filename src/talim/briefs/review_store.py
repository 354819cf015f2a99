"""Storage of reviewers and reviews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import sqlalchemy as sql
from pydantic import Field, StringConstraints
from sqlalchemy import JSON, Column, Connection, Float, Integer, Row, String, func, select

from talim.briefs.brief import Brief, brief_hash
from talim.listening.database import begin_immediate, binding_table, participants_table
from talim.listening.participant_store import Answer, Assignment, ParticipantStore

DATABASE = "reviews.db"

metadata = sql.MetaData()
briefs = binding_table("brief", metadata, Column("content_hashes", JSON, nullable=False))
reviewers = participants_table("reviewers", metadata, Column("number", Integer, unique=True))
turns = sql.Table(
    "turns",
    metadata,
    Column("reviewer", String(16), sql.ForeignKey("reviewers.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("candidate", String(80), nullable=False),
    Column("opened_at", Float),
    Column("review", String(36)),  # from the client: a review sent twice is stored once
    Column("verdict", String(12)),
    Column("reasons", JSON),
    Column("note", String(500)),
    Column("listened_seconds", Float),
    Column("at", Float),
    sql.UniqueConstraint("reviewer", "candidate"),
    sql.UniqueConstraint("reviewer", "review"),
)


class Review(Answer):
    """One review; other verdicts than accept need a reason or a note."""

    verdict: Literal["accept", "edit", "reject"]
    reasons: list[Annotated[str, Field(max_length=40)]] = Field(max_length=20)
    note: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        default="", max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f]*$"
    )
    listened_seconds: float = Field(ge=0, le=86_400)


class ReviewStore(ParticipantStore):
    """The reviews of one brief's candidates."""

    binding, participants, turns, answers = briefs, reviewers, turns, turns
    participant, answer_id, unanswered = "reviewer", "review", turns.c.verdict.is_(None)
    words = ("brief", "review", "the candidates")

    def open_brief(self, brief: Brief, content_hashes: Mapping[str, str]) -> str:
        """Bind the database to a brief and its candidates {id: content hash}, and return their hash.

        TalimError if it holds reviews of another brief or other candidates. Without reviews the new ones replace the
        old ones, and reviewers who had begun start again.
        """
        new_hash, content = brief_hash(brief, content_hashes), brief.model_dump(mode="json")
        self._bind({"hash": new_hash, "content": content, "content_hashes": dict(content_hashes)})
        return new_hash

    def begin(self, reviewer: str, language: str, consent_hash: str, seed: int) -> None:
        """Enrol a reviewer and assign all candidates in an individual random order; repeating it has no effect."""

        def assign(connection: Connection, brief: Row[Any]) -> Assignment:
            number = connection.execute(select(func.coalesce(func.max(reviewers.c.number) + 1, 0))).scalar_one()
            order = np.random.default_rng([seed, number]).permutation(sorted(brief.content_hashes))
            return number, [{"candidate": str(name)} for name in order]

        self._begin(reviewer, {"language": language, "consent_hash": consent_hash}, assign)

    def review(self, reviewer: str, review: Review, minimum_seconds: float = 0.0) -> bool:
        """Store a review of the current turn; True if it is new, False if the same review was stored before.

        RequestRejectedError: another review with this id or of this turn, a turn that is not the current one, or a
        review less than `minimum_seconds` after the turn was opened.
        """
        answer = {"review": review.id} | review.model_dump(exclude={"id", "listened_seconds"})
        with begin_immediate(self.engine) as connection:
            if self._is_stored(connection, reviewer, answer):
                return False
            now = self._check_turn(connection, reviewer, review.position, minimum_seconds)
            more = {"listened_seconds": review.listened_seconds, "at": now}
            turn = self._turn(reviewer, review.position)
            connection.execute(turns.update().where(turn).values(**answer, **more))
        return True

    @property
    def frozen(self) -> bool:
        """Whether there was a review: brief and candidates must not change any more."""
        with self.engine.begin() as connection:
            return connection.execute(select(briefs.c.frozen_at)).scalar() is not None

    def rows(self) -> list[dict[str, Any]]:
        """All reviews with their reviewer and duration in seconds since the turn was opened; oldest first."""
        names = ("reviewer", "position", "candidate", "verdict", "reasons", "note", "listened_seconds")
        reviewed = select(turns).where(turns.c.verdict.is_not(None)).order_by(turns.c.at, turns.c.position)
        with self.engine.begin() as connection:
            rows = connection.execute(reviewed).all()
        return [
            {name: row._mapping[name] for name in names}
            | {"seconds": round(row.at - row.opened_at, 3), "at": round(row.at, 3)}
            for row in rows
        ]
