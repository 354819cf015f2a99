"""The HTTP interface: a piece from request to sound, twenty clients at once, and what is refused, in one line each."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient

from talim.audio import Audio
from talim.audio.stream import AudioStream
from talim.listening.middleware import RateLimits
from talim.listening.participant_store import hash_token
from talim.serving.app import ServedModel, Service, create_app
from talim.serving.generation_queue import GenerationQueue, QueuedPiece, QueueLimits
from talim.serving.piece_maker import resolved_options

TOKENS = {name: f"{name}-token-that-is-long-enough" for name in ("studio", "site")}
MODEL = ServedModel(
    base="nano-musicgen", base_licence="Apache-2.0", adapters=["my-run"], adapter_licences=["CC BY 4.0"],
    sample_rate_hz=8000, max_seconds=20,
)  # fmt: skip


def tone(piece: QueuedPiece) -> AudioStream:
    """A sound that only its request decides."""
    samples = np.full((1, round(piece.seconds * 8000)), piece.seed / 64, np.float32)
    return AudioStream.of(Audio(samples, 8000, {"ai_generated": "AI-generated", "seed": str(piece.seed)}))


class Made:
    """Makes tones, once it is let; counts how many are made together."""

    def __init__(self) -> None:
        self.let, self.batches = threading.Event(), list[int]()

    def __call__(
        self, batch: Sequence[QueuedPiece], report: Callable[[float], None]
    ) -> Iterator[tuple[int, AudioStream]]:
        self.batches.append(len(batch))
        self.let.wait(60)
        for index, piece in enumerate(batch):
            report(index / len(batch))
            yield index, tone(piece)


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def make_client(made: Made, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    queues = []

    def make(limits: QueueLimits | None = None, rates: RateLimits | None = None) -> TestClient:
        queue = GenerationQueue(made, tmp_path, limits or QueueLimits())
        queue.start()
        queues.append(queue)
        clients = {hash_token(token): name for name, token in TOKENS.items()}
        service = Service(queue, MODEL, clients, lambda given: resolved_options("nano-musicgen", given))
        app: Any = create_app(service, frozenset({"localhost"}), rates or RateLimits(link_burst=100_000))
        return TestClient(app, base_url="http://localhost")

    yield make
    made.let.set()
    for queue in queues:
        queue.stop()


@pytest.fixture
def client(make_client: Callable[..., TestClient], made: Made) -> TestClient:
    made.let.set()
    return make_client()


def of(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def ask(client: TestClient, name: str = "studio", **request: Any) -> Any:
    return client.post("/v1/generations", json={"prompt": "slow alap", "seconds": 1, **request}, headers=of(name))


def finished(client: TestClient, id_: str, name: str = "studio") -> dict[str, Any]:
    """A piece's status once it is no longer waiting or running."""
    pause = threading.Event()
    for _ in range(6000):
        status = client.get(f"/v1/generations/{id_}", headers=of(name)).json()
        if status["status"] not in ("waiting", "running"):
            return status
        pause.wait(0.01)
    raise AssertionError(f"{id_} did not end within a minute")


def test_piece_from_request_to_sound(client: TestClient) -> None:
    asked = ask(client, seed=8, seconds=1.5)
    assert asked.status_code == 202
    assert asked.headers["location"] == f"/v1/generations/{asked.json()['id']}"
    status = finished(client, asked.json()["id"])
    assert (status["status"], status["progress_fraction"], status["error"]) == ("done", 1.0, None)
    sound = client.get(status["audio"], headers=of("studio"))
    assert sound.headers["content-type"] == "audio/flac"
    samples, rate_hz = soundfile.read(io.BytesIO(sound.content))
    assert (len(samples), rate_hz, samples[0]) == (12000, 8000, 0.125)


def test_wav_is_given_where_it_is_asked_for(client: TestClient) -> None:
    status = finished(client, ask(client, format="wav").json()["id"])
    assert client.get(status["audio"], headers=of("studio")).content[:4] == b"RIFF"


def test_twenty_clients_at_once_each_get_their_own_piece(client: TestClient, made: Made) -> None:
    def whole(seed: int) -> float:
        name = ("studio", "site")[seed % 2]
        status = finished(client, ask(client, name, seed=seed).json()["id"], name)
        sound = client.get(status["audio"], headers=of(name))
        return float(soundfile.read(io.BytesIO(sound.content))[0][0])

    with ThreadPoolExecutor(20) as pool:
        levels = list(pool.map(whole, range(20)))
    assert levels == [seed / 64 for seed in range(20)]
    assert sum(made.batches) == 20


def test_full_queue_is_refused_and_nothing_that_was_taken_is_lost(
    make_client: Callable[..., TestClient], made: Made
) -> None:
    client = make_client(QueueLimits(waiting=5, batch=1))
    answers = [ask(client, seed=seed) for seed in range(20)]
    taken = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(taken) in (5, 6)  # one may be under way
    assert len(taken) + len(refused) == 20
    assert refused[0].json() == {"reason": "queue_full"}
    assert refused[0].headers["retry-after"] == "10"
    made.let.set()
    assert {finished(client, id_)["status"] for id_ in taken} == {"done"}


def test_audio_before_the_end_and_after_cancelling(make_client: Callable[..., TestClient], made: Made) -> None:
    client = make_client()
    id_ = ask(client).json()["id"]
    assert client.get(f"/v1/generations/{id_}/audio", headers=of("studio")).status_code == 409
    assert client.delete(f"/v1/generations/{id_}", headers=of("studio")).json()["status"] == "cancelled"
    gone = client.get(f"/v1/generations/{id_}/audio", headers=of("studio"))
    assert (gone.status_code, gone.json()) == (410, {"reason": "cancelled"})
    made.let.set()


def test_pieces_of_another_client_are_not_found(client: TestClient) -> None:
    id_ = ask(client).json()["id"]
    for path in (f"/v1/generations/{id_}", f"/v1/generations/{id_}/audio"):
        assert client.get(path, headers=of("site")).status_code == 404
    assert client.delete(f"/v1/generations/{id_}", headers=of("site")).json() == {"reason": "not_found"}
    assert finished(client, id_)["status"] == "done"


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}])
@pytest.mark.parametrize(("method", "path"), [("POST", ""), ("GET", "/x"), ("DELETE", "/x"), ("GET", "/x/audio")])
def test_request_without_a_valid_token_is_refused(
    client: TestClient, header: dict[str, str], method: str, path: str
) -> None:
    answer = client.request(method, f"/v1/generations{path}", headers=header, json={})
    assert (answer.status_code, answer.json()) == (401, {"reason": "no_valid_token"})


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"seconds": 21}, "seconds: at most 20 here"),
        ({"seconds": -1}, "seconds is -1: expected more than 0"),
        ({"seconds": "nan"}, "seconds is "),
        ({"seconds": [1]}, "seconds is [1]: expected a number"),
        ({"prompt": "x" * 2001}, "expected at most 2000 characters"),
        ({"prompt": None}, "prompt is None: expected text"),
        ({"seed": -1}, "seed is -1: expected at least 0"),
        ({"format": "ogg"}, "format is 'ogg': expected 'flac' or 'wav'"),
        ({"guidance_scale": 0.5}, "guidance_scale is 0.5: expected at least 1"),
        ({"sampling_steps": 50}, "is no option of nano-musicgen"),
        ({"secondz": 4}, "unknown key secondz: did you mean seconds? Known: prompt, seconds, seed"),
    ],
)
def test_request_that_cannot_be_met_is_refused_in_one_line(
    client: TestClient, request_: dict[str, Any], reason: str
) -> None:
    answer = ask(client, **request_)
    assert answer.status_code == 422
    assert reason in answer.json()["reason"]
    assert "\n" not in answer.json()["reason"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"nul", b'"x"', b"\xff\xfe"])
def test_body_that_is_no_request_is_refused_in_one_line(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/generations", content=body, headers=of("studio") | {"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "\n" not in answer.json()["reason"]


def test_unknown_path_and_method_are_named_so(client: TestClient) -> None:
    assert client.get("/nothing").json() == {"reason": "not_found"}
    assert client.put("/v1/generations", headers=of("studio")).json() == {"reason": "method_not_allowed"}


def test_flood_of_one_client_is_slowed_down_and_not_the_others(make_client: Callable[..., TestClient]) -> None:
    client = make_client(rates=RateLimits(link_burst=5, link_per_second=0.001))
    codes = [client.get("/v1/model", headers=of("studio")).status_code for _ in range(8)]
    assert codes == [200] * 5 + [429] * 3
    assert client.get("/v1/model", headers=of("site")).status_code == 200


def test_other_host_and_large_body_are_refused(client: TestClient) -> None:
    assert client.get("/v1/model", headers={**of("studio"), "Host": "evil.example"}).status_code == 421
    assert ask(client, prompt="x" * 20_000).status_code == 413


def test_model_tells_licences_and_openapi_describes_the_interface(client: TestClient) -> None:
    model = client.get("/v1/model", headers=of("site")).json()
    assert (model["base_licence"], model["adapter_licences"]) == ("Apache-2.0", ["CC BY 4.0"])
    schema = client.get("/openapi.json").json()
    assert {*schema["paths"]} == {
        "/v1/model",
        "/v1/generations",
        "/v1/generations/{id_}",
        "/v1/generations/{id_}/audio",
    }
    assert all("security" in operation for path in schema["paths"].values() for operation in path.values())
