"""Storage of reviewers and reviews."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import sqlalchemy as sql
from pydantic import Field, StringConstraints, ValidationError
from sqlalchemy import JSON, Column, Connection, Float, Integer, Row, String, func, select

from talim.briefs.brief import Brief, brief_hash
from talim.listening.database import binding_table, participants_table, transaction
from talim.listening.participant_store import Answer, Assignment, ParticipantStore
from talim.strict_yaml import describe

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

    def _values(self, answer: Answer) -> dict[str, Any]:
        return {"review": answer.id} | answer.model_dump(exclude={"id", "listened_seconds"})

    def _store(self, connection: Connection, participant: str, answer: Answer, now: float) -> None:
        more = {"at": now} | answer.model_dump(include={"listened_seconds"})
        turn = self._turn(participant, answer.position)
        connection.execute(turns.update().where(turn).values(**self._values(answer), **more))

    @property
    def frozen(self) -> bool:
        """Whether there was a review: brief and candidates must not change any more."""
        with transaction(self.engine) as connection:
            return connection.execute(select(briefs.c.frozen_at)).scalar() is not None

    def rows(self, left_out: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
        """All reviews with their reviewer and duration in seconds since the turn was opened; oldest first.

        A review that cannot be read is passed over, and named to `left_out`.
        """
        reviewed = select(turns).where(turns.c.verdict.is_not(None)).order_by(turns.c.at, turns.c.position)
        with transaction(self.engine) as connection:
            stored = connection.execute(reviewed).all()
        rows = []
        for row in stored:
            try:
                rows.append(_review_row(dict(row._mapping)))
            except (TypeError, ValueError) as error:
                reason = describe(error, Review) if isinstance(error, ValidationError) else error
                left_out(
                    f"the review of candidate {row.candidate} by {row.reviewer} cannot be read ({reason}): left out"
                )
        return rows


def _review_row(row: dict[str, Any]) -> dict[str, Any]:
    """A stored review as plain values; ValueError or TypeError if it is none."""
    names = ("position", "verdict", "reasons", "note", "listened_seconds")
    review = Review.model_validate({"id": row["review"]} | {name: row[name] for name in names})
    seconds, at = round(row["at"] - row["opened_at"], 3), round(row["at"], 3)
    if not math.isfinite(seconds) or not math.isfinite(at):
        raise ValueError("its time is no number")
    who = {"reviewer": row["reviewer"], "position": row["position"], "candidate": row["candidate"]}
    return who | review.model_dump(exclude={"id", "position"}) | {"seconds": seconds, "at": at}
