"""Storage of participants and their answers, one turn after another: durable, idempotent, deletable."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import sqlalchemy as sql
from pydantic import Field, StrictInt
from sqlalchemy import Connection, Row, Table, func, select

from talim.errors import TalimError
from talim.listening.database import begin_immediate, checkpoint_wal, open_engine
from talim.listening.protocol import changed_keys
from talim.strict_yaml import StrictModel

Assignment = tuple[int, list[dict[str, Any]]]  # the participant's number, and the rows of the turns


class Answer(StrictModel):
    """The answer to one turn; the id is made by the client, so that an answer sent twice is stored once."""

    id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    position: StrictInt = Field(ge=0, le=100_000)


class RequestRejectedError(TalimError):
    """A request that is rejected: `reason` is a code for the page, `status` the HTTP status."""

    def __init__(self, reason: str, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.reason, self.status = reason, status


def hash_token(token: str) -> str:
    """SHA-256 of a token: the database does not contain usable links."""
    return hashlib.sha256(token.encode()).hexdigest()


class ParticipantStore:
    """What the stores of votes and of reviews share. Every method is one transaction; thread-safe."""

    binding: ClassVar[Table]  # one row: the test or brief to which the database belongs
    participants: ClassVar[Table]
    turns: ClassVar[Table]  # by participant and position
    answers: ClassVar[Table]  # may be the same table as `turns`
    participant: ClassVar[str]  # the column of turns and answers with the participant's id
    answer_id: ClassVar[str]  # the column of answers with the id made by the client
    unanswered: ClassVar[sql.ColumnElement[bool]]  # of a turn
    words: ClassVar[tuple[str, str, str]]  # for messages: what is frozen, by the first what, and its other contents

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.engine = open_engine(url, self.binding.metadata)
        self._clock = clock

    def _bind(self, values: Mapping[str, Any]) -> None:
        """Bind the database to a test or brief. TalimError if it holds answers about another one.

        Without answers the new one replaces the old one, and participants who had begun start again.
        """
        what, answer, contents = self.words
        with begin_immediate(self.engine) as connection:
            row = connection.execute(select(self.binding).with_for_update()).first()
            if row is None:
                connection.execute(self.binding.insert().values(id=1, deleted=0, **values))
                return
            changed = []
            if row.hash != values["hash"]:
                changed = changed_keys(row.content, values["content"]) or [contents]
            changed += ["--site"] if row._mapping.get("site") != values.get("site") else []
            if changed and row.frozen_at is not None:
                raise TalimError(
                    f"this {what} is frozen since its first {answer}, but {', '.join(changed)} changed; "
                    f"undo that, or start a new {what} in another folder"
                )
            if changed:
                begun = {"number", "began_at", "finished_at"} & set(self.participants.c.keys())
                connection.execute(self.turns.delete())
                connection.execute(self.participants.update().values(dict.fromkeys(begun)))
                connection.execute(self.binding.update().values(**values))

    def invite(self, count: int, **values: str) -> list[dict[str, str]]:
        """Create invites: an id and a secret token for each participant. Only the token's hash is stored."""
        invites = [{"id": secrets.token_hex(6), "token": secrets.token_urlsafe(24)} | values for _ in range(count)]
        rows = [{"id": i["id"], "token_hash": hash_token(i["token"])} | values for i in invites]
        with begin_immediate(self.engine) as connection:
            connection.execute(self.participants.insert(), rows)
        return invites

    def find(self, token: str) -> dict[str, Any] | None:
        """The participant with this token, with the numbers of all and of answered turns; None for an unknown token."""
        with self.engine.begin() as connection:
            known = self.participants.c.token_hash == hash_token(token)
            row = connection.execute(select(self.participants).where(known)).first()
            if row is None:
                return None
            count = select(func.count()).select_from(self.turns).where(self.turns.c[self.participant] == row.id)
            turns = connection.execute(count).scalar_one()
            unanswered = connection.execute(count.where(self.unanswered)).scalar_one()
        return dict(row._mapping) | {"turns": turns, "answered": turns - unanswered}

    def _begin(
        self, participant: str, consent: Mapping[str, Any], assign: Callable[[Connection, Row[Any]], Assignment]
    ) -> None:
        """Enrol a participant and assign the turns; repeating it has no effect."""
        with begin_immediate(self.engine) as connection:
            binding = connection.execute(select(self.binding).with_for_update()).one()  # one enrolment at a time
            this_one = self.participants.c.id == participant
            if connection.execute(select(self.participants.c.began_at).where(this_one)).scalar_one() is not None:
                return
            number, turns = assign(connection, binding)
            values = {"number": number, "began_at": self._clock(), **consent}
            connection.execute(self.participants.update().where(this_one).values(values))
            rows = [{self.participant: participant, "position": i} | turn for i, turn in enumerate(turns)]
            connection.execute(self.turns.insert(), rows)

    def current(self, participant: str, opening: bool = False) -> dict[str, Any] | None:
        """The first turn without an answer, None at the end; `opening` stores the time of its first retrieval."""
        with begin_immediate(self.engine) if opening else self.engine.begin() as connection:
            row = self._current(connection, participant)
            if row is not None and opening and row.opened_at is None:
                turn = self._turn(participant, row.position)
                connection.execute(self.turns.update().where(turn).values(opened_at=self._clock()))
            return None if row is None else dict(row._mapping)

    def _current(self, connection: Connection, participant: str) -> Row[Any] | None:
        unanswered = (self.turns.c[self.participant] == participant) & self.unanswered
        first = select(self.turns).where(unanswered).order_by(self.turns.c.position).limit(1)
        return connection.execute(first).first()

    def _turn(self, participant: str, position: int) -> sql.ColumnElement[bool]:
        return (self.turns.c[self.participant] == participant) & (self.turns.c.position == position)

    def _is_stored(self, connection: Connection, participant: str, answer: Mapping[str, Any]) -> bool:
        """Whether this answer is stored; RequestRejectedError for another one with its id or position. Locks."""
        this_one = self.participants.c.id == participant
        connection.execute(select(self.participants.c.id).where(this_one).with_for_update()).one()
        columns = self.answers.c
        same = (columns[self.participant] == participant) & columns[self.answer_id].is_not(None)
        same &= (columns[self.answer_id] == answer[self.answer_id]) | (columns.position == answer["position"])
        stored = connection.execute(select(*(columns[name] for name in answer)).where(same)).first()
        if stored is not None and dict(stored._mapping) != answer:
            raise RequestRejectedError("answered", f"another {self.words[1]} of this turn is already stored")
        return stored is not None

    def _check_turn(self, connection: Connection, participant: str, position: int, minimum_seconds: float) -> float:
        """The time of the answer, which freezes the test or brief. RequestRejectedError: not the current turn, or
        opened less than `minimum_seconds` ago.
        """
        turn = self._current(connection, participant)
        if turn is None or turn.position != position:
            raise RequestRejectedError("not_current", f"turn {position} is not the one to be answered now")
        now = self._clock()
        if turn.opened_at is None or now - turn.opened_at < minimum_seconds:
            raise RequestRejectedError(
                "too_soon", f"answered before {minimum_seconds:g} s of audio can have been played"
            )
        unfrozen = self.binding.c.frozen_at.is_(None)
        connection.execute(self.binding.update().where(unfrozen).values(frozen_at=now))
        return now

    def delete(self, participant: str) -> bool:
        """Delete a participant with all turns and answers, on disk too; False if there is none."""
        with begin_immediate(self.engine) as connection:
            this_one = self.participants.c.id == participant
            deleted = connection.execute(self.participants.delete().where(this_one)).rowcount
            if deleted:
                connection.execute(self.binding.update().values(deleted=self.binding.c.deleted + 1))
        if deleted:
            checkpoint_wal(self.engine)
        return bool(deleted)

    def facts(self) -> dict[str, Any]:
        """The test or brief, the time of its first answer (`frozen_at`), and the number of deleted participants."""
        with self.engine.begin() as connection:
            return dict(connection.execute(select(self.binding)).one()._mapping)
