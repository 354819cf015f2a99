"""Reviewers and what they decided: a review is stored when it is made, once, and can be deleted."""

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
    Column("sounds", JSON, nullable=False),
    Column("frozen_at", Float),  # the first review; seconds since 1970, UTC, as all times here
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
    Column("vote", String(36)),  # made by the client: the same review sent twice is one review
    Column("verdict", String(12)),
    Column("reasons", JSON),
    Column("note", String(500)),
    Column("heard_seconds", Float),
    Column("at", Float),
    UniqueConstraint("reviewer", "candidate"),
    UniqueConstraint("reviewer", "vote"),
)


@dataclass(frozen=True)
class Review:
    """What a client sends: an id of its own making, the turn, a verdict with reasons, seconds heard."""

    id: str
    position: int
    verdict: str
    reasons: Sequence[str]
    note: str
    heard_seconds: float


class ReviewStore:
    """The reviews of one brief's candidates. Every method is one transaction; safe from many threads."""

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

    def open_brief(self, brief: Brief, sounds: Mapping[str, str]) -> str:
        """Say which brief and candidates (id to content hash) are reviewed here; return their hash.

        TalimError if reviews of others are in it. Without a review the new ones take their place, and reviewers who
        had begun begin again.
        """
        digest, wanted = brief_hash(brief, sounds), brief.model_dump(mode="json")
        values = {"hash": digest, "content": wanted, "sounds": dict(sounds)}
        with self._write() as connection:
            row = connection.execute(select(briefs).with_for_update()).first()
            if row is None:
                connection.execute(briefs.insert().values(id=1, deleted=0, **values))
            elif row.hash != digest and row.frozen_at is not None:
                differs = changed_keys(row.content, wanted) or ["the candidates"]
                raise TalimError(
                    f"this brief is frozen since its first review, but {', '.join(differs)} changed; "
                    "undo that, or begin again in another folder"
                )
            elif row.hash != digest:
                connection.execute(turns.delete())
                connection.execute(reviewers.update().values(number=None, began_at=None))
                connection.execute(briefs.update().values(**values))
        return digest

    def add_reviewers(self, count: int) -> list[dict[str, str]]:
        """Make links: an id and a secret token for each reviewer. Only the token's hash is kept."""
        made = [{"id": secrets.token_hex(6), "token": secrets.token_urlsafe(24)} for _ in range(count)]
        rows = [{"id": one["id"], "token_hash": hash_token(one["token"])} for one in made]
        with self._write() as connection:
            connection.execute(reviewers.insert(), rows)
        return made

    def reviewer(self, token: str) -> dict[str, Any] | None:
        """The reviewer whose link it is, with how many candidates there are and how many are reviewed."""
        with self._read() as connection:
            row = connection.execute(
                select(reviewers).where(reviewers.c.token_hash == hash_token(token))
            ).first()
            if row is None:
                return None
            mine = select(func.count(), func.count(turns.c.verdict)).where(turns.c.reviewer == row.id)
            turned, reviewed = connection.execute(mine).one()
        return dict(row._mapping) | {"candidates": turned, "reviewed": reviewed}

    def begin(self, reviewer: str, language: str, consent_hash: str, seed: int) -> None:
        """Let a reviewer in and give out all candidates in an order of their own; twice changes nothing."""
        with self._write() as connection:
            sounds = connection.execute(select(briefs.c.sounds).with_for_update()).scalar_one()
            mine = reviewers.c.id == reviewer
            if connection.execute(select(reviewers.c.began_at).where(mine)).scalar_one() is not None:
                return
            highest = connection.execute(select(func.max(reviewers.c.number))).scalar_one()
            number = 0 if highest is None else highest + 1
            order = np.random.default_rng([seed, number]).permutation(sorted(sounds))
            told = {"language": language, "consent_hash": consent_hash, "began_at": self._clock()}
            connection.execute(reviewers.update().where(mine).values(number=number, **told))
            rows = [{"reviewer": reviewer, "position": n, "candidate": str(c)} for n, c in enumerate(order)]
            connection.execute(turns.insert(), rows)

    def current(self, reviewer: str, opening: bool = False) -> dict[str, Any] | None:
        """The first turn without a verdict, or None at the end; `opening` notes the time of the first look."""
        with self._write() if opening else self._read() as connection:
            row = _current(connection, reviewer)
            if row is not None and opening and row.opened_at is None:
                where = (turns.c.reviewer == reviewer) & (turns.c.position == row.position)
                connection.execute(turns.update().where(where).values(opened_at=self._clock()))
            return None if row is None else dict(row._mapping)

    def review(self, reviewer: str, said: Review, minimum_seconds: float = 0.0) -> bool:
        """Store a review of the current turn; True if it is new, False if the very same was stored before.

        RefusedError: another review under this id or of this turn, a turn that is not the current one, or one
        sooner after its opening than the piece can have been heard.
        """
        values = {"verdict": said.verdict, "reasons": list(said.reasons), "note": said.note}
        with self._write() as connection:
            locked = select(reviewers.c.id).where(reviewers.c.id == reviewer).with_for_update()
            connection.execute(locked).one()
            same = (turns.c.reviewer == reviewer) & turns.c.verdict.is_not(None)
            same &= (turns.c.vote == said.id) | (turns.c.position == said.position)
            for row in connection.execute(select(turns).where(same)):
                before = {name: row._mapping[name] for name in values}
                if (row.vote, row.position, before) == (said.id, said.position, values):
                    return False
                raise RequestRejectedError("answered", "another review of this candidate is already stored")
            turn = _current(connection, reviewer)
            if turn is None or turn.position != said.position:
                raise RequestRejectedError(
                    "not_current", f"candidate {said.position} is not the one to review now"
                )
            now = self._clock()
            if turn.opened_at is None or now - turn.opened_at < minimum_seconds:
                raise RequestRejectedError(
                    "too_soon", f"reviewed before {minimum_seconds:g} s can have been heard"
                )
            where = (turns.c.reviewer == reviewer) & (turns.c.position == said.position)
            more = {"vote": said.id, "heard_seconds": said.heard_seconds, "at": now}
            connection.execute(turns.update().where(where).values(**values, **more))
            connection.execute(briefs.update().where(briefs.c.frozen_at.is_(None)).values(frozen_at=now))
        return True

    def delete(self, reviewer: str) -> bool:
        """Delete a reviewer with all reviews, from the disk too; False if there is none."""
        with self._write() as connection:
            gone = connection.execute(reviewers.delete().where(reviewers.c.id == reviewer)).rowcount
            if gone:
                connection.execute(briefs.update().values(deleted=briefs.c.deleted + 1))
        if gone:
            checkpoint_wal(self.engine)
        return bool(gone)

    @property
    def frozen(self) -> bool:
        """Whether a first review was made: from then on brief and candidates stay as they are."""
        with self._read() as connection:
            return connection.execute(select(briefs.c.frozen_at)).scalar() is not None

    def facts(self) -> dict[str, Any]:
        """Which brief and candidates, since when frozen, how many reviewers were deleted on request."""
        with self._read() as connection:
            return dict(connection.execute(select(briefs)).one()._mapping)

    def rows(self) -> list[dict[str, Any]]:
        """Every review, with who made it and how long it took from the first look; oldest first."""
        names = ("reviewer", "position", "candidate", "verdict", "reasons", "note", "heard_seconds")
        with self._read() as connection:
            found = connection.execute(
                select(turns).where(turns.c.verdict.is_not(None)).order_by(turns.c.at, turns.c.position)
            ).all()
        return [
            {name: row._mapping[name] for name in names}
            | {"seconds": round(row.at - row.opened_at, 3), "at": round(row.at, 3)}
            for row in found
        ]


def _current(connection: Connection, reviewer: str) -> Any:
    mine = (turns.c.reviewer == reviewer) & turns.c.verdict.is_(None)
    return connection.execute(select(turns).where(mine).order_by(turns.c.position).limit(1)).first()
