"""Storage of listeners, trials and votes: durable, idempotent, deletable."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select

from talim.errors import TalimError
from talim.listening import database as t
from talim.listening.assignment import ListeningTrial, trials_for
from talim.listening.database import begin_immediate, checkpoint_wal, open_engine
from talim.listening.protocol import Protocol, changed_keys, hashed_content, test_hash


class RequestRejectedError(TalimError):
    """A request that is rejected: `reason` is a code for the page, `status` the HTTP status."""

    def __init__(self, reason: str, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.reason, self.status = reason, status


@dataclass(frozen=True)
class Vote:
    """A vote from a client: an id made by the client, the trial's position, answers, seconds played per stimulus."""

    id: str
    position: int
    answers: Mapping[str, Any]
    listened_seconds: Sequence[float]


@dataclass(frozen=True)
class ConsentRecord:
    """What a listener states before the first trial."""

    group: str
    familiarity: int
    language: str
    consent_hash: str


class VoteStore:
    """The votes of one test at one site. Every method is one transaction; thread-safe."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.engine: Engine = open_engine(url)
        self._clock = clock

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with begin_immediate(self.engine) as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def open_test(
        self, protocol: Protocol, content_hashes: Mapping[str, str], prompts: Mapping[str, str], site: str
    ) -> str:
        """Bind the database to a test and return the test's hash.

        TalimError if it holds votes of another test. Without votes a changed protocol replaces the old one, and
        listeners who had begun start again.
        """
        new_hash, content = test_hash(protocol, content_hashes), hashed_content(protocol)
        values = {"hash": new_hash, "site": site, "content": content, "prompts": dict(prompts)}
        with self._write() as connection:
            row = connection.execute(select(t.test).with_for_update()).first()
            if row is None:
                connection.execute(t.test.insert().values(id=1, deleted=0, **values))
            elif row.frozen_at is not None and (row.hash, row.site) != (new_hash, site):
                changed = changed_keys(row.content, content)
                changed = changed or (["the stimuli"] if row.hash != new_hash else [])
                changed += ["--site"] if row.site != site else []
                raise TalimError(
                    f"this test is frozen since its first vote, but {', '.join(changed)} changed; "
                    "undo that, or start a new test in another folder"
                )
            elif row.hash != new_hash or row.site != site:
                connection.execute(t.trials.delete())
                connection.execute(t.listeners.update().values(number=None, began_at=None, finished_at=None))
                connection.execute(t.test.update().values(**values))
        return new_hash

    def add_listeners(self, count: int, label: str = "") -> list[dict[str, str]]:
        """Create invites: an id and a secret token for each new listener. Only the token's hash is stored."""
        invites = [
            {"id": secrets.token_hex(6), "token": secrets.token_urlsafe(24), "label": label} for _ in range(count)
        ]
        rows = [{"id": i["id"], "token_hash": hash_token(i["token"]), "label": label} for i in invites]
        with self._write() as connection:
            connection.execute(t.listeners.insert(), rows)
        return invites

    def listener(self, token: str) -> dict[str, Any] | None:
        """The listener with this token, with the numbers of trials and answered trials; None for an unknown token."""
        with self._read() as connection:
            row = connection.execute(select(t.listeners).where(t.listeners.c.token_hash == hash_token(token))).first()
            if row is None:
                return None
            counts = {}
            for name, table in (("trials", t.trials), ("answered", t.votes)):
                count = select(func.count()).select_from(table).where(table.c.listener == row.id)
                counts[name] = connection.execute(count).scalar_one()
        return dict(row._mapping) | counts

    def begin(self, listener: str, consent: ConsentRecord, protocol: Protocol, items: Sequence[str]) -> None:
        """Enrol a listener and assign the trials, once. RequestRejectedError if the test is full."""
        with self._write() as connection:
            row = connection.execute(select(t.test).with_for_update()).one()  # one enrolment at a time
            existing = connection.execute(select(t.listeners).where(t.listeners.c.id == listener)).one()
            if existing.began_at is not None:
                return
            began = select(func.count()).where(t.listeners.c.began_at.is_not(None))
            began_in_group = began.where(t.listeners.c.group == consent.group)
            limit, group_limit = protocol.stopping.listeners, protocol.stopping.per_group.get(consent.group)
            for maximum, query in ((limit, began), (group_limit, began_in_group)):
                if maximum is not None and connection.execute(query).scalar_one() >= maximum:
                    raise RequestRejectedError("full", "this test has all the listeners it needs", 403)
            last = select(func.max(t.listeners.c.number)).where(t.listeners.c.group == consent.group)
            highest = connection.execute(last).scalar_one()
            number = 0 if highest is None else highest + 1
            trials = trials_for(protocol, items, number, f"{row.site}/{consent.group}")
            connection.execute(
                t.listeners.update()
                .where(t.listeners.c.id == listener)
                .values(number=number, began_at=self._clock(), **vars(consent))
            )
            connection.execute(t.trials.insert(), [_trial_row(listener, i, x) for i, x in enumerate(trials)])

    def current_trial(self, listener: str, opening: bool = False) -> dict[str, Any] | None:
        """The first trial without a vote, None at the end; `opening` stores the time of its first retrieval."""
        with self._write() if opening else self._read() as connection:
            row = _current(connection, listener)
            if row is None:
                return None
            if opening and row.opened_at is None:
                where = (t.trials.c.listener == listener) & (t.trials.c.position == row.position)
                connection.execute(t.trials.update().where(where).values(opened_at=self._clock()))
            return dict(row._mapping)

    def vote(self, listener: str, vote: Vote, minimum_seconds: float = 0.0) -> bool:
        """Store a vote for the current trial; True if it is new, False if the same vote was stored before.

        RequestRejectedError: another vote with this id or for this trial, a trial that is not the current one, or a
        vote less than `minimum_seconds` after the trial was opened.
        """
        values = {"answers": dict(vote.answers), "listened_seconds": list(vote.listened_seconds)}
        with self._write() as connection:
            connection.execute(select(t.listeners.c.id).where(t.listeners.c.id == listener).with_for_update()).one()
            same = (t.votes.c.listener == listener) & (
                (t.votes.c.id == vote.id) | (t.votes.c.position == vote.position)
            )
            for row in connection.execute(select(t.votes).where(same)):
                if (row.id, row.position, row.answers) == (vote.id, vote.position, values["answers"]):
                    return False
                raise RequestRejectedError("answered", "another answer to this trial is already stored")
            trial = _current(connection, listener)
            if trial is None or trial.position != vote.position:
                raise RequestRejectedError("not_current", f"trial {vote.position} is not the one to be answered now")
            now = self._clock()
            if trial.opened_at is None or now - trial.opened_at < minimum_seconds:
                raise RequestRejectedError(
                    "too_soon", f"answered before {minimum_seconds:g} s of audio can have been played"
                )
            row = {"listener": listener, "id": vote.id, "position": vote.position, "at": now, **values}
            connection.execute(t.votes.insert().values(**row))
            frozen = t.test.update().where(t.test.c.frozen_at.is_(None)).values(frozen_at=now)
            connection.execute(frozen)
            if _current(connection, listener) is None:
                finished = t.listeners.update().where(t.listeners.c.id == listener).values(finished_at=now)
                connection.execute(finished)
        return True

    def delete(self, listener: str) -> bool:
        """Delete a listener with all trials and votes, on disk too; False if there is none."""
        with self._write() as connection:
            deleted = connection.execute(t.listeners.delete().where(t.listeners.c.id == listener)).rowcount
            if deleted:
                connection.execute(t.test.update().values(deleted=t.test.c.deleted + 1))
        if deleted:
            checkpoint_wal(self.engine)
        return bool(deleted)

    def status(self) -> dict[str, Any]:
        """The test and all listeners without their answers, for the organiser."""
        with self._read() as connection:
            row = connection.execute(select(t.test)).one()
            count = func.count(t.votes.c.id)
            query = select(t.listeners, count.label("answered")).outerjoin(
                t.votes, t.votes.c.listener == t.listeners.c.id
            )
            query = query.group_by(t.listeners.c.id).order_by(t.listeners.c.began_at)
            listeners = connection.execute(query).all()
        fields = ("id", "label", "group", "familiarity", "language", "began_at", "finished_at", "answered")
        public = [{key: listener._mapping[key] for key in fields} for listener in listeners]
        facts = {key: row._mapping[key] for key in ("hash", "site", "frozen_at", "deleted")}
        return facts | {"listeners": public}

    def rows(self) -> list[dict[str, Any]]:
        """All answers, one row each, in the export format (`export.COLUMNS`)."""
        with self._read() as connection:
            test = connection.execute(select(t.test)).one()
            joined = (
                select(t.votes, t.trials, t.listeners.c.group, t.listeners.c.familiarity, t.listeners.c.language)
                .join(
                    t.trials, (t.trials.c.listener == t.votes.c.listener) & (t.trials.c.position == t.votes.c.position)
                )
                .join(t.listeners, t.listeners.c.id == t.votes.c.listener)
                .order_by(t.votes.c.listener, t.votes.c.position)
            )
            votes = connection.execute(joined).all()
        return [row for vote in votes for row in _answer_rows(test, vote._mapping)]


def hash_token(token: str) -> str:
    """SHA-256 of a token: the database does not contain usable links."""
    return hashlib.sha256(token.encode()).hexdigest()


def _trial_row(listener: str, position: int, trial: ListeningTrial) -> dict[str, Any]:
    return {"listener": listener, "position": position} | vars(trial) | {"order": list(trial.order)}


def _current(connection: Connection, listener: str) -> Row[Any] | None:
    answered = select(t.votes.c.position).where(t.votes.c.listener == listener)
    unanswered = (t.trials.c.listener == listener) & t.trials.c.position.not_in(answered)
    return connection.execute(select(t.trials).where(unanswered).order_by(t.trials.c.position).limit(1)).first()


def _answer_rows(test: Row[Any], vote: Any) -> Iterator[dict[str, Any]]:
    """The rows of a vote: one per aspect (pairwise) or per stimulus (MUSHRA)."""
    order = vote["order"]
    shared = {
        "test": test.hash,
        "site": test.site,
        "listener": vote[t.votes.c.listener],
        "group": vote["group"],
        "familiarity": vote["familiarity"],
        "language": vote["language"],
        "position": vote[t.votes.c.position],
        "kind": vote["kind"],
        "item": vote["item"],
    }
    timing = {"listened_seconds": min(vote["listened_seconds"], default=0.0), "at": round(vote["at"], 3)}
    if vote["aspect"] is None:
        for aspect, answer in vote["answers"].items():
            yield (shared | {"aspect": aspect, "first": order[0], "second": order[1], "answer": answer} | timing)
    else:
        for index, condition in enumerate(order):
            score = vote["answers"][str(index)]
            yield shared | {"aspect": vote["aspect"], "condition": condition, "score": score} | timing
