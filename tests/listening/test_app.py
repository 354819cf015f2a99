"""The server: a session by its API, and one attempt after another at what it must not allow."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fixtures.japanese_block import foreign_words
from fixtures.listening_client import ABOUT, Person, client_of, organiser

from talim.listening.database import StorageError
from talim.listening.session import ListeningTestSession, open_test

Make = Callable[..., Path]


def test_session_from_consent_to_last_vote_stores_all_votes(client: TestClient, test: ListeningTestSession) -> None:
    person = Person(client, test)
    assert person.get("/api/session").json()["began"] is False
    assert person.post("/api/trial").status_code == 403
    person.begin()
    for index in range(8):
        trial = person.post("/api/trial").json()
        assert trial["position"] == index
        for name in trial["stimuli"]:
            sound = person.get(f"/api/audio/{name}")
            assert sound.status_code == 200
            assert sound.content[:4] == b"RIFF"
        assert person.post("/api/votes", person.vote_body()).json() == {"stored": True, "new": True}
    assert person.post("/api/trial").json() == {"done": True}
    assert person.get("/api/session").json()["answered"] == 8
    assert len(test.store.rows()) == 16


def test_responses_to_listeners_do_not_reveal_conditions(person: Person, test: ListeningTestSession) -> None:
    result = [person.get("/api/session").text, person.post("/api/trial").text]
    sound = person.get(f"/api/audio/{person.post('/api/trial').json()['stimuli'][0]}")
    result += [str(sound.headers), sound.content[:200].decode("latin-1")]
    forbidden = [*test.protocol.names, "normal", "repeat", "attention", "degraded", "slow flute", "item-0"]
    assert not [word for word in forbidden for text in result if word in text]
    assert "last-modified" not in sound.headers  # the order in which sounds were made
    assert "etag" not in sound.headers


def test_stimulus_names_are_unique_per_trial_and_listener(client: TestClient, test: ListeningTestSession) -> None:
    names: list[str] = []
    for person in (Person(client, test).begin(), Person(client, test).begin()):
        for _ in range(8):
            names += person.post("/api/trial").json()["stimuli"]
            person.post("/api/votes", person.vote_body())
    assert len(set(names)) == len(names) == 32


@pytest.mark.parametrize(
    "path",
    [
        "/api/audio/..%2f..%2fprotocol.yaml",
        "/api/audio/../../protocol.yaml",
        "/api/audio/%2e%2e%2fkeys.json",
        "/static/..%2fapp.py",
        "/static/../store.py",
        "/static/words/en.json",
        "/votes.db",
        "/stimuli/stimuli.json",
        "/api/words/..%2f..%2fkeys",
        "/openapi.json",
        "/docs",
        "/.git/config",
        "//etc/passwd",
        "/api/audio/%00",
    ],
)
def test_get_unknown_path_returns_404(person: Person, path: str) -> None:
    answer = person.get(path)
    assert answer.status_code in (404, 405)
    assert answer.json()["reason"] == "not_found"


def test_get_audio_by_file_name_returns_404(person: Person, test: ListeningTestSession) -> None:
    for name in [*test.stimuli.files.values(), *(Path(f).stem for f in test.stimuli.files.values())]:
        assert person.get(f"/api/audio/{name}").status_code == 404


def test_get_audio_of_other_trials_returns_404(person: Person) -> None:
    early = person.post("/api/trial").json()["stimuli"][0]
    person.post("/api/votes", person.vote_body())
    assert person.get(f"/api/audio/{early}").status_code == 404


def test_request_with_missing_wrong_or_foreign_token_is_rejected(
    client: TestClient, test: ListeningTestSession, person: Person
) -> None:
    name = person.post("/api/trial").json()["stimuli"][0]
    second = Person(client, test).begin()
    second.post("/api/trial")
    assert second.get(f"/api/audio/{name}").status_code == 404
    routes = [("GET", "/api/session"), ("POST", "/api/trial"), ("GET", f"/api/audio/{name}")]
    routes += [("POST", "/api/votes"), ("POST", "/api/begin"), ("DELETE", "/api/session")]
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {person.token}"}, organiser(test)):
        for method, path in routes:
            body = {"json": person.vote_body()} if path.endswith("votes") else {}
            assert client.request(method, path, headers=headers, **body).status_code == 401, (headers, path)
    assert test.store.rows() == []


def test_organiser_routes_with_listener_token_return_401(person: Person) -> None:
    for path in ("/api/organiser/status", "/api/organiser/votes"):
        assert person.get(path).status_code == 401
    assert person.post("/api/organiser/links", {"count": 1}).status_code == 401
    gone = person.client.delete(f"/api/organiser/listeners/{person.id}", headers=person.headers)
    assert gone.status_code == 401


def test_post_vote_twice_stores_it_once(person: Person, test: ListeningTestSession) -> None:
    body = person.vote_body()
    assert person.post("/api/votes", body).json()["new"] is True
    assert person.post("/api/votes", body).json()["new"] is False
    assert len(test.store.rows()) == 2


def test_post_vote_for_answered_trial_returns_409(person: Person, test: ListeningTestSession) -> None:
    body = person.vote_body(1)
    person.post("/api/votes", body)
    for forged in (body | {"answers": {"overall": -2, "melody": -2}}, body | {"id": str(uuid.uuid4())}):
        answer = person.post("/api/votes", forged)
        assert (answer.status_code, answer.json()["reason"]) == (409, "answered")
    assert test.store.rows()[0]["answer"] == 1


def test_post_vote_for_other_position_returns_409(person: Person) -> None:
    answer = person.post("/api/votes", person.vote_body() | {"position": 5})
    assert (answer.status_code, answer.json()["reason"]) == (409, "not_current")


def test_post_vote_with_foreign_trial_is_stored_for_own_trial(client: TestClient, test: ListeningTestSession) -> None:
    """A vote names no listener: whose it is follows from the link alone."""
    a_value, second = Person(client, test).begin(), Person(client, test).begin()
    second.post("/api/trial")
    assert a_value.post("/api/votes", a_value.vote_body() | {"listener": second.id}).status_code == 422
    a_value.post("/api/votes", a_value.vote_body())
    assert {row["listener"] for row in test.store.rows()} == {a_value.id}


@pytest.mark.parametrize(
    "change",
    [
        {"answers": {"overall": 3, "melody": 0}},
        {"answers": {"overall": 1}},
        {"answers": {"overall": 1, "melody": 0, "extra": 1}},
        {"answers": {"overall": "1", "melody": 0}},
        {"answers": {"overall": True, "melody": 0}},
        {"answers": []},
        {"id": "1"},
        {"id": "'; DROP TABLE votes; --"},
        {"position": -1},
        {"position": 10**30},
        {"position": 0.5},
        {"listened_seconds": [1.0]},
        {"listened_seconds": [-1.0, 2.0]},
        {"listened_seconds": ["NaN", 2.0]},
        {"kind": "normal"},
    ],
)
def test_post_malformed_vote_returns_422(person: Person, test: ListeningTestSession, change: dict[str, Any]) -> None:
    answer = person.post("/api/votes", person.vote_body() | change)
    assert answer.status_code == 422
    assert answer.json()["reason"] == "malformed"
    assert test.store.rows() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[" * 9000, b'{"id": NaN}', b"\xff\xfe", b'{"id": "\\ud800"}', b'{"a":1}' * 9, b"x" * 9000],
)
def test_post_without_json_body_returns_422(person: Person, body: bytes) -> None:
    headers = person.headers | {"Content-Type": "application/json"}
    for path in ("/api/votes", "/api/begin"):
        assert person.client.post(path, headers=headers, content=body).status_code in (400, 422)


def test_post_oversized_body_returns_413(person: Person) -> None:
    headers = person.headers | {"Content-Type": "application/json"}
    big = json.dumps({"consent": "x" * 20_000}).encode()
    assert person.client.post("/api/begin", headers=headers, content=big).status_code == 413
    pieces = (big[i : i + 1000] for i in range(0, len(big), 1000))  # chunked: no length is sent
    assert person.client.post("/api/begin", headers=headers, content=pieces).status_code == 413
    lying = headers | {"Content-Length": "-5"}
    assert person.client.post("/api/begin", headers=lying, content=b"{}").status_code == 413


@pytest.mark.parametrize(
    "change",
    [{"consent": False}, {"group": "king"}, {"familiarity": 6}, {"language": "xx"}, {"name": "me"}, {"group": None}],
)
def test_begin_without_consent_or_with_extra_fields_returns_422(
    client: TestClient, test: ListeningTestSession, change: dict[str, Any]
) -> None:
    person = Person(client, test)
    assert person.post("/api/begin", ABOUT | change).status_code == 422
    assert person.get("/api/session").json()["began"] is False


def test_begin_twice_has_no_effect(person: Person) -> None:
    first = person.post("/api/trial").json()
    assert person.post("/api/begin", ABOUT | {"group": "general"}).status_code == 200
    assert person.post("/api/trial").json() == first


def test_post_vote_before_minimum_listening_time_is_rejected(make_test: Make) -> None:
    trials = {"per_listener": 6, "repeats": 1, "attention": 1, "minimum_seconds": 0.5}
    opened = open_test(make_test(trials=trials))
    opened.store._clock = lambda: 1000.0
    with client_of(opened) as client:
        person = Person(client, opened).begin()
        unheard = person.vote_body() | {"listened_seconds": [2.0, 0.1]}
        assert person.post("/api/votes", unheard).json()["reason"] == "not_listened"
        claimed = person.post("/api/votes", person.vote_body())  # it says 2 s of each, but the clock says less
        assert (claimed.status_code, claimed.json()["reason"]) == (409, "too_soon")


def test_begin_when_test_is_full_returns_403(make_test: Make) -> None:
    opened = open_test(make_test(stopping={"listeners": 1}))
    with client_of(opened) as client:
        Person(client, opened).begin()
        answer = Person(client, opened).post("/api/begin", ABOUT)
        assert (answer.status_code, answer.json()["reason"]) == (403, "full")


def test_delete_session_removes_answers_and_invalidates_token(person: Person, test: ListeningTestSession) -> None:
    person.post("/api/votes", person.vote_body())
    gone = person.client.delete("/api/session", headers=person.headers)
    assert gone.json() == {"deleted": True}
    assert test.store.rows() == []
    assert person.get("/api/session").status_code == 401


def test_organiser_reads_notes_and_texts_in_japanese(make_test: Make) -> None:
    test = open_test(make_test(seconds=0.7))
    client = client_of(test)
    notes = {
        language: client.get(f"/api/organiser/status?language={language}", headers=organiser(test)).json()["notes"]
        for language in ("en", "ja")
    }
    assert len(notes["en"]) == len(notes["ja"]) >= 1
    names = [*test.protocol.names, "talim evaluate RUN", "LUFS"]
    assert [word for note in notes["en"] for word in foreign_words(note, names)]
    assert [word for note in notes["ja"] for word in foreign_words(note, names)] == []
    words = client.get("/api/words/ja").json()["organiser"]
    told = " ".join(
        re.sub(r"\{\w+\}", " ", text) for text in (*words["columns"].values(), *words.values()) if isinstance(text, str)
    )
    assert foreign_words(told, ["talim ratings", "JSONL", "publish: true", "UTC"]) == []


def test_organiser_can_see_status_add_export_and_delete(
    client: TestClient, test: ListeningTestSession, person: Person
) -> None:
    person.post("/api/votes", person.vote_body(-1))
    headers = organiser(test)
    created = client.post("/api/organiser/links", headers=headers, json={"count": 3, "label": "band"}).json()
    assert len({a_value["token"] for a_value in created}) == 3
    status = client.get("/api/organiser/status", headers=headers).json()
    assert [p["answered"] for p in status["listeners"] if p["id"] == person.id] == [1]
    assert "token" not in json.dumps(status)
    assert "answers" not in json.dumps(status)
    assert '"answer": -1' in client.get("/api/organiser/votes", headers=headers).text
    assert client.get("/api/organiser/votes?form=csv", headers=headers).text.startswith("test,site,listener")
    assert client.get("/api/organiser/votes?form=xls", headers=headers).status_code == 422
    assert client.post("/api/organiser/links", headers=headers, json={"count": 10**9}).status_code == 422
    index = f"/api/organiser/listeners/{person.id}"
    assert client.delete(index, headers=headers).status_code == 200
    assert client.delete(index, headers=headers).status_code == 404
    assert client.delete("/api/organiser/listeners/%00", headers=headers).status_code == 404


def test_mushra_trial_requires_ratings_of_all_rows(make_test: Make) -> None:
    opened = open_test(make_test(kind="mushra", reference="real"))
    with client_of(opened) as client:
        person = Person(client, opened).begin()
        trial = person.post("/api/trial").json()
        assert len(trial["stimuli"]) == 5
        assert person.get(f"/api/audio/{trial['reference']}").status_code == 200
        body = {"id": str(uuid.uuid4()), "position": 0, "listened_seconds": [2.0] * 5}
        short = {str(index): 50 for index in range(4)}
        for answers in (short, short | {"4": -1}, short | {"4": None}, short | {"4": 101}):
            assert person.post("/api/votes", body | {"answers": answers}).status_code == 422
        assert person.post("/api/votes", body | {"answers": short | {"4": 99}}).json()["new"] is True
        rows = opened.store.rows()
        assert [row["score"] for row in rows] == [50] * 4 + [99]
        assert {row["condition"] for row in rows} >= {"linear", "conv", "untrained", "real"}


def test_vote_for_the_next_trial_is_checked_when_its_turn_has_come(person: Person, test: ListeningTestSession) -> None:
    """Sent early it is not current; sent again once it is, it has to fit the trial like any other vote."""
    vote = person.vote_body()
    forged = {"id": str(uuid.uuid4()), "position": 1, "answers": {"zz": 2}, "listened_seconds": []}
    assert person.post("/api/votes", forged).json()["reason"] == "not_current"
    assert person.post("/api/votes", vote).status_code == 200
    assert (person.post("/api/votes", forged).status_code, len(test.store.rows())) == (422, 2)


def test_forged_votes_beside_a_stream_of_votes_are_never_stored(make_test: Make) -> None:
    test = open_test(make_test())
    with client_of(test) as client:
        person, stop = Person(client, test).begin(), threading.Event()
        seen: set[int] = set()

        def forge() -> None:
            while not stop.is_set():
                for position in range(8):
                    forged = {
                        "id": str(uuid.uuid4()),
                        "position": position,
                        "answers": {"zz": 2},
                        "listened_seconds": [],
                    }
                    seen.add(person.post("/api/votes", forged).status_code)

        threads = [threading.Thread(target=forge) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            assert person.post("/api/votes", person.vote_body()).status_code == 200
        stop.set()
        for thread in threads:
            thread.join()
    assert seen <= {409, 422}
    assert {row["aspect"] for row in test.store.rows()} == {"overall", "melody"}


def test_three_tabs_at_once_store_one_vote_a_trial(person: Person, test: ListeningTestSession) -> None:
    """One link in three windows: each trial's vote comes from one of them, and the others are told."""

    def tab(_: int) -> list[tuple[int, bool]]:
        seen = []
        while "position" in (trial := person.post("/api/trial").json()):
            vote = {"id": str(uuid.uuid4()), "position": trial["position"], "answers": {"overall": 1, "melody": 0}}
            answer = person.post("/api/votes", vote | {"listened_seconds": [2.0, 2.0]})
            seen.append((answer.status_code, answer.json().get("new", False)))
        return seen

    with ThreadPoolExecutor(3) as pool:
        seen = [row for tab_rows in pool.map(tab, range(3)) for row in tab_rows]
    assert Counter(seen)[200, True] == 8
    assert set(seen) <= {(200, True), (409, False)}
    assert Counter(row["position"] for row in test.store.rows()) == dict.fromkeys(range(8), 2)


def test_changed_test_is_told_instead_of_storing_votes_under_another_hash(
    person: Person, test: ListeningTestSession
) -> None:
    vote = person.vote_body()
    path = test.folder / "protocol.yaml"
    path.write_text(path.read_text("utf-8").replace("name: small", "name: edited"), encoding="utf-8")
    open_test(test.folder)
    for answer in (person.post("/api/begin", ABOUT), person.post("/api/trial"), person.post("/api/votes", vote)):
        assert (answer.status_code, answer.json()["reason"]) == (409, "changed")


def test_missing_sound_and_full_disk_are_503_in_a_line(
    person: Person, test: ListeningTestSession, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    vote = person.vote_body()
    name = person.post("/api/trial").json()["stimuli"][0]
    for file in (test.folder / "stimuli").glob("*.wav"):
        file.unlink()
    assert person.get(f"/api/audio/{name}").status_code == 503

    def full(*_: object) -> None:
        raise StorageError("votes.db: cannot be used now (database or disk is full)")

    monkeypatch.setattr(type(test.store), "answer", full)
    answer = person.post("/api/votes", vote)
    assert (answer.status_code, answer.json()) == (503, {"reason": "unavailable"})
    assert [record.exc_info for record in caplog.records if record.name == "talim.listening"] == [None, None]
    assert "POST /api/votes failed: votes.db: cannot be used now (database or disk is full)" in caplog.text


def test_session_tells_pages_questions_and_minutes(client: TestClient, test: ListeningTestSession) -> None:
    told = Person(client, test).get("/api/session").json()
    assert (told["trials"], told["questions"]) == (8, 2)
    assert told["minutes"] == test.protocol.minutes > 0


def test_votes_that_cannot_be_read_are_named_to_the_organiser(
    client: TestClient, person: Person, test: ListeningTestSession
) -> None:
    for _ in range(2):
        person.post("/api/votes", person.vote_body())
    with test.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE votes SET answers = '{\"zz\": 5}' WHERE position = 0")
    exported = client.get("/api/organiser/votes", headers=organiser(test))
    assert (exported.status_code, len(exported.text.splitlines())) == (200, 2)
    notes = client.get("/api/organiser/status", headers=organiser(test)).json()["notes"]
    assert any(f"listener {person.id} on trial 0 cannot be read" in note for note in notes)
