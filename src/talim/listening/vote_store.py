"""Listeners, their trials and votes: a vote is stored when it is made, once, and can be deleted."""

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
    """A listener's request that cannot be granted: `reason` is a word for the page, `status` for HTTP."""

    def __init__(self, reason: str, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.reason, self.status = reason, status


@dataclass(frozen=True)
class Vote:
    """What a client sends: an id of its own making, the trial's position, answers, seconds heard of each sound."""

    id: str
    position: int
    answers: Mapping[str, Any]
    heard_seconds: Sequence[float]


@dataclass(frozen=True)
class ConsentRecord:
    """What a listener says before the first trial."""

    group: str
    familiarity: int
    language: str
    consent_hash: str


class VoteStore:
    """The votes of one test at one site. Every method is one transaction; safe from many threads."""

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
        self, protocol: Protocol, sounds: Mapping[str, str], prompts: Mapping[str, str], site: str
    ) -> str:
        """Say which test this database holds; return its hash.

        TalimError if votes of another test are in it. Without a vote a changed protocol takes the place of the
        old one, and listeners who had begun begin again.
        """
        digest, wanted = test_hash(protocol, sounds), hashed_content(protocol)
        values = {"hash": digest, "site": site, "content": wanted, "prompts": dict(prompts)}
        with self._write() as connection:
            row = connection.execute(select(t.test).with_for_update()).first()
            if row is None:
                connection.execute(t.test.insert().values(id=1, deleted=0, **values))
            elif row.frozen_at is not None and (row.hash, row.site) != (digest, site):
                differs = changed_keys(row.content, wanted) or (["the sounds"] if row.hash != digest else [])
                differs += ["--site"] if row.site != site else []
                raise TalimError(
                    f"this test is frozen since its first vote, but {', '.join(differs)} changed; "
                    "undo that, or begin a new test in another folder"
                )
            elif row.hash != digest or row.site != site:
                connection.execute(t.trials.delete())
                connection.execute(t.listeners.update().values(number=None, began_at=None, finished_at=None))
                connection.execute(t.test.update().values(**values))
        return digest

    def add_listeners(self, count: int, label: str = "") -> list[dict[str, str]]:
        """Make links: an id and a secret token for each new listener. Only the token's hash is kept."""
        made = [
            {"id": secrets.token_hex(6), "token": secrets.token_urlsafe(24), "label": label}
            for _ in range(count)
        ]
        rows = [{"id": m["id"], "token_hash": hash_token(m["token"]), "label": label} for m in made]
        with self._write() as connection:
            connection.execute(t.listeners.insert(), rows)
        return made

    def listener(self, token: str) -> dict[str, Any] | None:
        """The listener whose link it is, with how many trials there are and how many are answered."""
        with self._read() as connection:
            found = connection.execute(
                select(t.listeners).where(t.listeners.c.token_hash == hash_token(token))
            ).first()
            if found is None:
                return None
            mine = {}
            for name, table in (("trials", t.trials), ("answered", t.votes)):
                count = select(func.count()).select_from(table).where(table.c.listener == found.id)
                mine[name] = connection.execute(count).scalar_one()
        return dict(found._mapping) | mine

    def begin(self, listener: str, said: ConsentRecord, protocol: Protocol, items: Sequence[str]) -> None:
        """Let a listener in and give out the trials. RefusedError when full; doing it twice changes nothing."""
        with self._write() as connection:
            row = connection.execute(select(t.test).with_for_update()).one()  # one enrolment at a time
            known = connection.execute(select(t.listeners).where(t.listeners.c.id == listener)).one()
            if known.began_at is not None:
                return
            began = select(func.count()).where(t.listeners.c.began_at.is_not(None))
            mine = began.where(t.listeners.c.group == said.group)
            limit, own_limit = protocol.stopping.listeners, protocol.stopping.per_group.get(said.group)
            for most, query in ((limit, began), (own_limit, mine)):
                if most is not None and connection.execute(query).scalar_one() >= most:
                    raise RequestRejectedError("full", "this test has all the listeners it needs", 403)
            last = select(func.max(t.listeners.c.number)).where(t.listeners.c.group == said.group)
            highest = connection.execute(last).scalar_one()
            number = 0 if highest is None else highest + 1
            trials = trials_for(protocol, items, number, f"{row.site}/{said.group}")
            connection.execute(
                t.listeners.update()
                .where(t.listeners.c.id == listener)
                .values(number=number, began_at=self._clock(), **vars(said))
            )
            connection.execute(t.trials.insert(), [_trial_row(listener, i, x) for i, x in enumerate(trials)])

    def current_trial(self, listener: str, opening: bool = False) -> dict[str, Any] | None:
        """The first trial without a vote, or None at the end; `opening` notes the time of the first look."""
        with self._write() if opening else self._read() as connection:
            row = _current(connection, listener)
            if row is None:
                return None
            if opening and row.opened_at is None:
                where = (t.trials.c.listener == listener) & (t.trials.c.position == row.position)
                connection.execute(t.trials.update().where(where).values(opened_at=self._clock()))
            return dict(row._mapping)

    def vote(self, listener: str, vote: Vote, minimum_seconds: float = 0.0) -> bool:
        """Store a vote for the current trial; True if it is new, False if the very same one was stored before.

        RefusedError: another vote under this id or for this trial, a trial that is not the current one, or a vote
        sooner after the trial was opened than its sounds can have been heard.
        """
        values = {"answers": dict(vote.answers), "heard_seconds": list(vote.heard_seconds)}
        with self._write() as connection:
            connection.execute(
                select(t.listeners.c.id).where(t.listeners.c.id == listener).with_for_update()
            ).one()
            same = (t.votes.c.listener == listener) & (
                (t.votes.c.id == vote.id) | (t.votes.c.position == vote.position)
            )
            for row in connection.execute(select(t.votes).where(same)):
                if (row.id, row.position, row.answers) == (vote.id, vote.position, values["answers"]):
                    return False
                raise RequestRejectedError("answered", "another answer to this trial is already stored")
            trial = _current(connection, listener)
            if trial is None or trial.position != vote.position:
                raise RequestRejectedError(
                    "not_current", f"trial {vote.position} is not the one to be answered now"
                )
            now = self._clock()
            if trial.opened_at is None or now - trial.opened_at < minimum_seconds:
                raise RequestRejectedError(
                    "too_soon", f"answered before {minimum_seconds:g} s of sound can have been heard"
                )
            row = {"listener": listener, "id": vote.id, "position": vote.position, "at": now, **values}
            connection.execute(t.votes.insert().values(**row))
            frozen = t.test.update().where(t.test.c.frozen_at.is_(None)).values(frozen_at=now)
            connection.execute(frozen)
            if _current(connection, listener) is None:
                mine = t.listeners.c.id == listener
                connection.execute(t.listeners.update().where(mine).values(finished_at=now))
        return True

    def delete(self, listener: str) -> bool:
        """Delete a listener with all trials and votes, from the disk too; False if there is none."""
        with self._write() as connection:
            gone = connection.execute(t.listeners.delete().where(t.listeners.c.id == listener)).rowcount
            if gone:
                connection.execute(t.test.update().values(deleted=t.test.c.deleted + 1))
        if gone:
            checkpoint_wal(self.engine)
        return bool(gone)

    def status(self) -> dict[str, Any]:
        """What the organiser sees: the test, and each listener without anything that was answered."""
        with self._read() as connection:
            row = connection.execute(select(t.test)).one()
            count = func.count(t.votes.c.id)
            who = select(t.listeners, count.label("answered")).outerjoin(
                t.votes, t.votes.c.listener == t.listeners.c.id
            )
            found = connection.execute(who.group_by(t.listeners.c.id).order_by(t.listeners.c.began_at)).all()
        shown = ("id", "label", "group", "familiarity", "language", "began_at", "finished_at", "answered")
        people = [{key: person._mapping[key] for key in shown} for person in found]
        facts = {key: row._mapping[key] for key in ("hash", "site", "frozen_at", "deleted")}
        return facts | {"listeners": people}

    def rows(self) -> list[dict[str, Any]]:
        """Every answer, one row each, with the provenance that lets sites be merged."""
        with self._read() as connection:
            head = connection.execute(select(t.test)).one()
            joined = (
                select(
                    t.votes, t.trials, t.listeners.c.group, t.listeners.c.familiarity, t.listeners.c.language
                )
                .join(
                    t.trials,
                    (t.trials.c.listener == t.votes.c.listener) & (t.trials.c.position == t.votes.c.position),
                )
                .join(t.listeners, t.listeners.c.id == t.votes.c.listener)
                .order_by(t.votes.c.listener, t.votes.c.position)
            )
            found = connection.execute(joined).all()
        return [row for vote in found for row in _answers(head, vote._mapping)]


def hash_token(token: str) -> str:
    """What is kept of a token: nobody who reads the database can use a listener's link."""
    return hashlib.sha256(token.encode()).hexdigest()


def _trial_row(listener: str, position: int, trial: ListeningTrial) -> dict[str, Any]:
    return {"listener": listener, "position": position} | vars(trial) | {"order": list(trial.order)}


def _current(connection: Connection, listener: str) -> Row[Any] | None:
    answered = select(t.votes.c.position).where(t.votes.c.listener == listener)
    mine = (t.trials.c.listener == listener) & t.trials.c.position.not_in(answered)
    return connection.execute(select(t.trials).where(mine).order_by(t.trials.c.position).limit(1)).first()


def _answers(head: Row[Any], vote: Any) -> Iterator[dict[str, Any]]:
    """A vote's rows: pairwise one for each aspect, MUSHRA one for each sound."""
    order = vote["order"]
    whole = {
        "test": head.hash,
        "site": head.site,
        "listener": vote[t.votes.c.listener],
        "group": vote["group"],
        "familiarity": vote["familiarity"],
        "language": vote["language"],
        "position": vote[t.votes.c.position],
        "kind": vote["kind"],
        "item": vote["item"],
    }
    after = {"heard_seconds": min(vote["heard_seconds"], default=0.0), "at": round(vote["at"], 3)}
    if vote["aspect"] is None:
        for aspect, answer in vote["answers"].items():
            yield whole | {"aspect": aspect, "first": order[0], "second": order[1], "answer": answer} | after
    else:
        for place, condition in enumerate(order):
            score = vote["answers"][str(place)]
            yield whole | {"aspect": vote["aspect"], "condition": condition, "score": score} | after
