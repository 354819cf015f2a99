"""Storage of listeners, trials and votes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StrictInt
from sqlalchemy import Connection, Row, func, select

from talim.listening import database as t
from talim.listening.assignment import trials_for
from talim.listening.database import transaction
from talim.listening.export import row_fault
from talim.listening.participant_store import Answer, Assignment, ParticipantStore, RequestRejectedError
from talim.listening.protocol import Protocol, hashed_content, test_hash


class Vote(Answer):
    """`answers` by aspect (2 for "A much better" to -2, null for "cannot say") or by row (0 to 100); seconds played of
    each stimulus.
    """

    answers: dict[str, Annotated[StrictInt, Field(ge=-2, le=100)] | None] = Field(max_length=64)
    listened_seconds: list[Annotated[float, Field(ge=0, le=86_400)]] = Field(max_length=64)


@dataclass(frozen=True)
class ConsentRecord:
    """What a listener states before the first trial."""

    group: str
    familiarity: int
    language: str
    consent_hash: str


class VoteStore(ParticipantStore):
    """The votes of one test at one site."""

    binding, participants, turns, answers = t.test, t.listeners, t.trials, t.votes
    participant, answer_id = "listener", "id"
    unanswered = ~(
        select(t.votes.c.id)
        .where(t.votes.c.listener == t.trials.c.listener, t.votes.c.position == t.trials.c.position)
        .exists()
    )
    words = ("test", "vote", "the stimuli")

    def open_test(
        self, protocol: Protocol, content_hashes: Mapping[str, str], prompts: Mapping[str, str], site: str
    ) -> str:
        """Bind the database to a test and return the test's hash.

        TalimError if it holds votes of another test. Without votes a changed protocol replaces the old one, and
        listeners who had begun start again.
        """
        new_hash, content = test_hash(protocol, content_hashes), hashed_content(protocol)
        self._bind({"hash": new_hash, "site": site, "content": content, "prompts": dict(prompts)})
        return new_hash

    def begin(self, listener: str, consent: ConsentRecord, protocol: Protocol, items: Sequence[str]) -> None:
        """Enrol a listener and assign the trials, once. RequestRejectedError if the test is full."""

        def assign(connection: Connection, test: Row[Any]) -> Assignment:
            began, in_group = t.listeners.c.began_at.is_not(None), t.listeners.c.group == consent.group
            stopping = protocol.stopping
            limits = ((stopping.listeners, began), (stopping.per_group.get(consent.group), began & in_group))
            for maximum, counted in limits:
                count = connection.execute(select(func.count()).where(counted)).scalar_one()
                if maximum is not None and count >= maximum:
                    raise RequestRejectedError("full", "this test has all the listeners it needs", 403)
            following = select(func.coalesce(func.max(t.listeners.c.number) + 1, 0)).where(in_group)
            number = connection.execute(following).scalar_one()
            trials = trials_for(protocol, items, number, f"{test.site}/{consent.group}")
            return number, [vars(trial) | {"order": list(trial.order)} for trial in trials]

        self._begin(listener, vars(consent), assign)

    def _values(self, answer: Answer) -> dict[str, Any]:
        return answer.model_dump(exclude={"listened_seconds"})

    def _store(self, connection: Connection, participant: str, answer: Answer, now: float) -> None:
        connection.execute(t.votes.insert().values(listener=participant, at=now, **answer.model_dump()))
        if self._current(connection, participant) is None:
            connection.execute(t.listeners.update().where(t.listeners.c.id == participant).values(finished_at=now))

    def status(self) -> dict[str, Any]:
        """The test and all listeners without their answers, for the organiser."""
        fields = ("id", "label", "group", "familiarity", "language", "began_at", "finished_at")
        answered = func.count(t.votes.c.id).label("answered")
        query = select(*(t.listeners.c[name] for name in fields), answered).outerjoin(
            t.votes, t.votes.c.listener == t.listeners.c.id
        )
        with transaction(self.engine) as connection:
            test = connection.execute(select(*t.test.c["hash", "site", "frozen_at", "deleted"])).one()
            listeners = connection.execute(query.group_by(t.listeners.c.id).order_by(t.listeners.c.began_at)).all()
        return dict(test._mapping) | {"listeners": [dict(listener._mapping) for listener in listeners]}

    def rows(self, left_out: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
        """All answers, one row each, in the export format (`export.COLUMNS`).

        A vote that cannot be read is passed over, and named to `left_out`.
        """
        with transaction(self.engine) as connection:
            test = connection.execute(select(t.test)).first()
            same_trial = (t.trials.c.listener == t.votes.c.listener) & (t.trials.c.position == t.votes.c.position)
            joined = select(t.votes, t.trials, *t.listeners.c["group", "familiarity", "language"])
            joined = joined.join(t.trials, same_trial).join(t.listeners, t.listeners.c.id == t.votes.c.listener)
            votes = connection.execute(joined.order_by(t.votes.c.listener, t.votes.c.position)).all()
        if test is None:
            return []
        rows: list[dict[str, Any]] = []
        for vote in votes:
            try:
                own = list(_answer_rows(test, vote._mapping))
                faults = [fault for row in own if (fault := row_fault(row))] or _aspect_faults(test, own)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                own, faults = [], [f"{type(error).__name__}: {error}"]
            if faults or not own:
                listener, position = vote._mapping[t.votes.c.listener], vote._mapping[t.votes.c.position]
                left_out(
                    f"the vote of listener {listener} on trial {position} cannot be read "
                    f"({faults[0] if faults else 'it has no answer'}): left out"
                )
            else:
                rows += own
        return rows


def _aspect_faults(test: Row[Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Answers to questions that the test does not ask."""
    asked = {aspect["name"] for aspect in test.content["aspects"]}
    return [f"{row['aspect']} is no aspect of this test" for row in rows if row["aspect"] not in asked]


def _answer_rows(test: Row[Any], vote: Any) -> Iterator[dict[str, Any]]:
    """The rows of a vote: one per aspect (pairwise) or per stimulus (MUSHRA)."""
    order, answers = vote["order"], vote["answers"]
    shared = {"test": test.hash, "site": test.site, "listener": vote[t.votes.c.listener]}
    shared |= {name: vote[name] for name in ("group", "familiarity", "language")}
    shared |= {"position": vote[t.votes.c.position]} | {name: vote[name] for name in ("kind", "item")}
    timing = {"listened_seconds": min(vote["listened_seconds"], default=0.0), "at": round(vote["at"], 3)}
    if vote["aspect"] is None:
        for aspect, answer in answers.items():
            yield shared | {"aspect": aspect, "first": order[0], "second": order[1], "answer": answer} | timing
    else:
        for index, condition in enumerate(order):
            rating = {"aspect": vote["aspect"], "condition": condition, "score": answers[str(index)]}
            yield shared | rating | timing
