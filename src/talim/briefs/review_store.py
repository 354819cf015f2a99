"""Storage of reviewers and reviews: durable, idempotent, deletable."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    select,
)

from talim.briefs.brief import Brief, brief_hash
from talim.errors import TalimError
from talim.listening.database import begin_immediate, checkpoint_wal, open_engine
from talim.listening.protocol import changed_keys
from talim.listening.vote_store import RequestRejectedError, hash_token

DATABASE = "reviews.db"
VERDICTS = ("accept", "edit", "reject")

metadata = MetaData()
briefs = Table(
    "brief",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", String(16), nullable=False),
    Column("content", JSON, nullable=False),
    Column("content_hashes", JSON, nullable=False),
    Column("frozen_at", Float),  # time of the first review; all times are seconds since 1970, UTC
    Column("deleted", Integer, nullable=False, default=0),
)
reviewers = Table(
    "reviewers",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("number", Integer, unique=True),
    Column("language", String(12)),
    Column("consent_hash", String(64)),
    Column("began_at", Float),
)
turns = Table(
    "turns",
    metadata,
    Column("reviewer", String(16), ForeignKey("reviewers.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("candidate", String(80), nullable=False),
    Column("opened_at", Float),
    Column("review", String(36)),  # from the client: a review sent twice is stored once
    Column("verdict", String(12)),
    Column("reasons", JSON),
    Column("note", String(500)),
    Column("listened_seconds", Float),
    Column("at", Float),
    UniqueConstraint("reviewer", "candidate"),
    UniqueConstraint("reviewer", "review"),
)


@dataclass(frozen=True)
class Review:
    """A review from a client: an id made by the client, the position, a verdict with reasons, seconds played."""

    id: str
    position: int
    verdict: str
    reasons: Sequence[str]
    note: str
    listened_seconds: float


class ReviewStore:
    """The reviews of one brief's candidates. Every method is one transaction; thread-safe."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.engine = open_engine(url, metadata)
        self._clock = clock

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with begin_immediate(self.engine) as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def open_brief(self, brief: Brief, content_hashes: Mapping[str, str]) -> str:
        """Bind the database to a brief and its candidates {id: content hash}, and return their hash.

        TalimError if it holds reviews of another brief or other candidates. Without reviews the new ones replace the
        old ones, and reviewers who had begun start again.
        """
        new_hash, content = brief_hash(brief, content_hashes), brief.model_dump(mode="json")
        values = {"hash": new_hash, "content": content, "content_hashes": dict(content_hashes)}
        with self._write() as connection:
            row = connection.execute(select(briefs).with_for_update()).first()
            if row is None:
                connection.execute(briefs.insert().values(id=1, deleted=0, **values))
            elif row.hash != new_hash and row.frozen_at is not None:
                changed = changed_keys(row.content, content) or ["the candidates"]
                raise TalimError(
                    f"this brief is frozen since its first review, but {', '.join(changed)} changed; "
                    "undo that, or start again in another folder"
                )
            elif row.hash != new_hash:
                connection.execute(turns.delete())
                connection.execute(reviewers.update().values(number=None, began_at=None))
                connection.execute(briefs.update().values(**values))
        return new_hash

    def add_reviewers(self, count: int) -> list[dict[str, str]]:
        """Create invites: an id and a secret token for each reviewer. Only the token's hash is stored."""
        invites = [{"id": secrets.token_hex(6), "token": secrets.token_urlsafe(24)} for _ in range(count)]
        rows = [{"id": i["id"], "token_hash": hash_token(i["token"])} for i in invites]
        with self._write() as connection:
            connection.execute(reviewers.insert(), rows)
        return invites

    def reviewer(self, token: str) -> dict[str, Any] | None:
        """The reviewer with this token, with the numbers of candidates and reviews; None for an unknown token."""
        with self._read() as connection:
            row = connection.execute(select(reviewers).where(reviewers.c.token_hash == hash_token(token))).first()
            if row is None:
                return None
            counts = select(func.count(), func.count(turns.c.verdict)).where(turns.c.reviewer == row.id)
            assigned, reviewed = connection.execute(counts).one()
        return dict(row._mapping) | {"candidates": assigned, "reviewed": reviewed}

    def begin(self, reviewer: str, language: str, consent_hash: str, seed: int) -> None:
        """Enrol a reviewer and assign all candidates in an individual random order; repeating it has no effect."""
        with self._write() as connection:
            names = connection.execute(select(briefs.c.content_hashes).with_for_update()).scalar_one()
            this_reviewer = reviewers.c.id == reviewer
            if connection.execute(select(reviewers.c.began_at).where(this_reviewer)).scalar_one() is not None:
                return
            highest = connection.execute(select(func.max(reviewers.c.number))).scalar_one()
            number = 0 if highest is None else highest + 1
            order = np.random.default_rng([seed, number]).permutation(sorted(names))
            consent = {"language": language, "consent_hash": consent_hash, "began_at": self._clock()}
            connection.execute(reviewers.update().where(this_reviewer).values(number=number, **consent))
            rows = [{"reviewer": reviewer, "position": n, "candidate": str(c)} for n, c in enumerate(order)]
            connection.execute(turns.insert(), rows)

    def current(self, reviewer: str, opening: bool = False) -> dict[str, Any] | None:
        """The first turn without a verdict, None at the end; `opening` stores the time of its first retrieval."""
        with self._write() if opening else self._read() as connection:
            row = _current(connection, reviewer)
            if row is not None and opening and row.opened_at is None:
                where = (turns.c.reviewer == reviewer) & (turns.c.position == row.position)
                connection.execute(turns.update().where(where).values(opened_at=self._clock()))
            return None if row is None else dict(row._mapping)

    def review(self, reviewer: str, review: Review, minimum_seconds: float = 0.0) -> bool:
        """Store a review of the current turn; True if it is new, False if the same review was stored before.

        RequestRejectedError: another review with this id or of this turn, a turn that is not the current one, or a
        review less than `minimum_seconds` after the turn was opened.
        """
        values = {"verdict": review.verdict, "reasons": list(review.reasons), "note": review.note}
        with self._write() as connection:
            locked = select(reviewers.c.id).where(reviewers.c.id == reviewer).with_for_update()
            connection.execute(locked).one()
            same = (turns.c.reviewer == reviewer) & turns.c.verdict.is_not(None)
            same &= (turns.c.review == review.id) | (turns.c.position == review.position)
            for row in connection.execute(select(turns).where(same)):
                stored = {name: row._mapping[name] for name in values}
                if (row.review, row.position, stored) == (review.id, review.position, values):
                    return False
                raise RequestRejectedError("answered", "another review of this candidate is already stored")
            turn = _current(connection, reviewer)
            if turn is None or turn.position != review.position:
                raise RequestRejectedError("not_current", f"candidate {review.position} is not the one to review now")
            now = self._clock()
            if turn.opened_at is None or now - turn.opened_at < minimum_seconds:
                raise RequestRejectedError("too_soon", f"reviewed before {minimum_seconds:g} s can have been played")
            where = (turns.c.reviewer == reviewer) & (turns.c.position == review.position)
            more = {"review": review.id, "listened_seconds": review.listened_seconds, "at": now}
            connection.execute(turns.update().where(where).values(**values, **more))
            connection.execute(briefs.update().where(briefs.c.frozen_at.is_(None)).values(frozen_at=now))
        return True

    def delete(self, reviewer: str) -> bool:
        """Delete a reviewer with all reviews, on disk too; False if there is none."""
        with self._write() as connection:
            deleted = connection.execute(reviewers.delete().where(reviewers.c.id == reviewer)).rowcount
            if deleted:
                connection.execute(briefs.update().values(deleted=briefs.c.deleted + 1))
        if deleted:
            checkpoint_wal(self.engine)
        return bool(deleted)

    @property
    def frozen(self) -> bool:
        """Whether there was a review: brief and candidates must not change any more."""
        with self._read() as connection:
            return connection.execute(select(briefs.c.frozen_at)).scalar() is not None

    def facts(self) -> dict[str, Any]:
        """The brief, its candidates, the time of freezing, and the number of deleted reviewers."""
        with self._read() as connection:
            return dict(connection.execute(select(briefs)).one()._mapping)

    def rows(self) -> list[dict[str, Any]]:
        """All reviews with their reviewer and duration in seconds since the turn was opened; oldest first."""
        names = ("reviewer", "position", "candidate", "verdict", "reasons", "note", "listened_seconds")
        with self._read() as connection:
            reviewed = connection.execute(
                select(turns).where(turns.c.verdict.is_not(None)).order_by(turns.c.at, turns.c.position)
            ).all()
        return [
            {name: row._mapping[name] for name in names}
            | {"seconds": round(row.at - row.opened_at, 3), "at": round(row.at, 3)}
            for row in reviewed
        ]


def _current(connection: Connection, reviewer: str) -> Any:
    open_turns = (turns.c.reviewer == reviewer) & turns.c.verdict.is_(None)
    return connection.execute(select(turns).where(open_turns).order_by(turns.c.position).limit(1)).first()
