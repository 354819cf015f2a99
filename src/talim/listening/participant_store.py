"""Storage of participants and their answers, one turn after another: durable, idempotent, deletable."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import sqlalchemy as sql
from pydantic import Field, StrictInt
from sqlalchemy import Connection, Row, Table, func, select

from talim.errors import TalimError
from talim.listening.database import begin_immediate, checkpoint_wal, open_engine, transaction
from talim.listening.protocol import changed_keys
from talim.strict_yaml import StrictModel

Assignment = tuple[int, list[dict[str, Any]]]  # the participant's number, and the rows of the turns
AnswerCheck = Callable[[dict[str, Any]], float]  # of the turn that is answered: the seconds its audio must have taken
_ERASE_AGAIN_SECONDS = 5.0


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
        self._hash: str | None = None  # of what this process serves; None if it only reads
        self._erasing: threading.Timer | None = None

    def close(self) -> bool:
        """Move everything into the database file and let go of it; False if another program still holds deleted data
        in the write-ahead log.
        """
        if self._erasing is not None:
            self._erasing.cancel()
        complete = checkpoint_wal(self.engine)
        self.engine.dispose()
        return complete

    def _bind(self, values: Mapping[str, Any]) -> None:
        """Bind the database to a test or brief. TalimError if it holds answers about another one.

        Without answers the new one replaces the old one, and participants who had begun start again.
        """
        what, answer, contents = self.words
        self._hash = values["hash"]
        with begin_immediate(self.engine) as connection:
            row = connection.execute(select(self.binding).with_for_update()).first()
            if row is None:
                connection.execute(self.binding.insert().values(id=1, deleted=0, **values))
                return
            changed = []
            if row.hash != values["hash"]:
                changed = changed_keys(row.content or {}, values["content"]) or [contents]
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

    def invited(self) -> int:
        """How many participants have a link."""
        with transaction(self.engine) as connection:
            return connection.execute(select(func.count()).select_from(self.participants)).scalar_one()

    def find(self, token: str) -> dict[str, Any] | None:
        """The participant with this token, with the numbers of all and of answered turns; None for an unknown token."""
        with transaction(self.engine) as connection:
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
            binding = self._require_served(connection, lock=True)  # one enrolment at a time
            this_one = self.participants.c.id == participant
            if connection.execute(select(self.participants.c.began_at).where(this_one)).scalar_one() is not None:
                return
            number, turns = assign(connection, binding)
            values = {"number": number, "began_at": self._clock(), **consent}
            connection.execute(self.participants.update().where(this_one).values(values))
            rows = [{self.participant: participant, "position": i} | turn for i, turn in enumerate(turns)]
            connection.execute(self.turns.insert(), rows)

    def _require_served(self, connection: Connection, lock: bool = False) -> Row[Any]:
        """The row of the test or brief. RequestRejectedError if another process has changed it since it was opened
        here: answers would be stored under something they do not belong to.
        """
        query = select(self.binding)
        binding = connection.execute(query.with_for_update() if lock else query).one()
        if self._hash is not None and binding.hash != self._hash:
            raise RequestRejectedError("changed", f"this {self.words[0]} was changed; restart the server")
        return binding

    def current(self, participant: str, opening: bool = False) -> dict[str, Any] | None:
        """The first turn without an answer, None at the end; `opening` stores the time of its first retrieval.

        RequestRejectedError if the test or brief was changed.
        """
        with begin_immediate(self.engine) if opening else transaction(self.engine) as connection:
            self._require_served(connection)
            row = self._current(connection, participant)
            if row is not None and opening and (row.opened_at is None or row.opened_at > self._clock()):
                self._reopen(connection, row)
            return None if row is None else dict(row._mapping)

    def _reopen(self, connection: Connection, turn: Row[Any]) -> None:
        """Store the present as the time of the turn's opening: the first time, and where the clock was set back."""
        which = self._turn(turn._mapping[self.participant], turn.position)
        connection.execute(self.turns.update().where(which).values(opened_at=self._clock()))

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

    def answer(self, participant: str, answer: Answer, check: AnswerCheck) -> bool:
        """Store an answer to the current turn; True if it is new, False if the same answer was stored before.

        `check` gets the turn inside the transaction, raises RequestRejectedError for an answer that does not fit it,
        and returns the seconds that must have passed since the turn was opened. RequestRejectedError also for another
        answer with this id or to this turn, a turn that is not the current one, and a test or brief that was changed.
        The first answer freezes the test or brief.
        """
        values = self._values(answer)
        with begin_immediate(self.engine) as connection:
            self._require_served(connection)
            if self._is_stored(connection, participant, values):
                return False
            turn = self._current(connection, participant)
            if turn is None or turn.position != answer.position:
                raise RequestRejectedError("not_current", f"turn {answer.position} is not the one to be answered now")
            minimum_seconds, now = check(dict(turn._mapping)), self._clock()
            in_time = turn.opened_at is not None and 0 <= now - turn.opened_at >= minimum_seconds
            if in_time:
                unfrozen = self.binding.c.frozen_at.is_(None)
                connection.execute(self.binding.update().where(unfrozen).values(frozen_at=now))
                self._store(connection, participant, answer, now)
            elif turn.opened_at is not None and turn.opened_at > now:
                self._reopen(connection, turn)  # committed below
        if not in_time:
            raise RequestRejectedError(
                "too_soon", f"answered before {minimum_seconds:g} s of audio can have been played"
            )
        return True

    def _values(self, answer: Answer) -> dict[str, Any]:
        """The columns by which an answer that is sent again is recognised."""
        raise NotImplementedError

    def _store(self, connection: Connection, participant: str, answer: Answer, now: float) -> None:
        """Store a checked answer."""
        raise NotImplementedError

    def delete(self, participant: str) -> bool | None:
        """Delete a participant with all turns and answers, on disk too.

        True if nothing is left, False if another program that reads the database delays the erasure from the disk,
        which is then tried again until it is done; None if there is no such participant.
        """
        with begin_immediate(self.engine) as connection:
            this_one = self.participants.c.id == participant
            deleted = connection.execute(self.participants.delete().where(this_one)).rowcount
            if not deleted:
                return None
            connection.execute(self.binding.update().values(deleted=self.binding.c.deleted + 1))
        return self._erase()

    def _erase(self) -> bool:
        """Remove deleted rows from the write-ahead log, now or again a little later."""
        erased = checkpoint_wal(self.engine)
        if not erased:
            self._erasing = threading.Timer(_ERASE_AGAIN_SECONDS, self._erase)
            self._erasing.daemon = True
            self._erasing.start()
        return erased

    def facts(self) -> dict[str, Any]:
        """The test or brief, the time of its first answer (`frozen_at`), and the number of deleted participants."""
        with transaction(self.engine) as connection:
            return dict(connection.execute(select(self.binding)).one()._mapping)
