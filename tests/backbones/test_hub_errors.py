"""What each fault of the connection becomes: one line, with what to do; and which of them may pass."""

from __future__ import annotations

import ast
import socket
from pathlib import Path

import pytest
from stand_in_hub.server import StandInHub

from talim.backbones import hub_errors, hub_repository, registry, resolve
from talim.backbones.hub_errors import HubUnreachableError
from talim.errors import TalimError
from talim.planning.generation_memory import generation_advice


def ask(name: str = "someone/x", seconds: float = 5.0) -> TalimError:
    """The error of asking for a repository."""
    hub_repository._ask.cache_clear()
    with pytest.raises(TalimError) as caught:
        hub_repository.ask(name, "main", name, seconds)
    assert "\n" not in str(caught.value)
    return caught.value


def at(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)


def test_dead_port_names_host_and_port(stand_in_hub: StandInHub) -> None:
    stand_in_hub.stop()
    problem = ask()
    assert isinstance(problem, HubUnreachableError)
    assert problem.reason == f"{stand_in_hub.url.removeprefix('http://')} cannot be reached"


def test_unknown_host(stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, "http://no-such-host.invalid:1234")
    assert str(ask()) == "no-such-host.invalid:1234 cannot be reached"


@pytest.mark.usefixtures("stand_in_hub")
@pytest.mark.parametrize("address", ["localhost:8080", "hub.example", "ftp://x", "http://[::1"])
def test_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    at(monkeypatch, address)
    assert str(ask()).startswith(f"HF_ENDPOINT is {address!r}, which is no address; expected one that begins with")


@pytest.mark.parametrize("status", [500, 503])
def test_errors_of_the_server(stand_in_hub: StandInHub, status: int) -> None:
    stand_in_hub.status = status
    assert f"has an error of its own (HTTP {status})" in str(ask())


def test_too_many_requests(stand_in_hub: StandInHub) -> None:
    stand_in_hub.status = 429
    problem = ask()
    assert isinstance(problem, HubUnreachableError)
    assert "hf auth login" in str(problem)


def test_login_page_of_a_network_is_not_taken_for_the_hub(stand_in_hub: StandInHub) -> None:
    stand_in_hub.status = 200
    problem = ask()
    assert isinstance(problem, HubUnreachableError)
    assert "answers, but not as the Hub does" in str(problem)


def test_server_that_does_not_answer(stand_in_hub: StandInHub) -> None:
    stand_in_hub.delay_seconds = 1.0
    assert str(ask(seconds=0.1)).endswith("does not answer within 0.1 s")


def test_refused_token(stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    stand_in_hub.refuses_tokens = True
    problem = ask()
    assert not isinstance(problem, HubUnreachableError)
    assert "does not accept the token in use; log in again with: hf auth login" in str(problem)


def test_proxy_that_is_not_there_is_named_without_its_password(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    at(monkeypatch, "http://hub.example")
    set_proxy(monkeypatch, f"http://me:secret@127.0.0.1:{port}")
    problem = str(ask())
    assert f"the proxy 127.0.0.1:{port} cannot be used" in problem
    assert "NO_PROXY" in problem
    assert "secret" not in problem


def test_no_proxy_is_obeyed(stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = stand_in_hub.publish("someone/x", {"config.json": b"{}"})
    set_proxy(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert hub_repository.ask("someone/x", "main", "someone/x").commit == commit
    stand_in_hub.stop()
    set_proxy(monkeypatch, "http://127.0.0.1:9")  # and no connection that is still open
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert str(ask()) == f"{stand_in_hub.url.removeprefix('http://')} cannot be reached"  # it is no fault of the proxy


def set_proxy(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Give the process a proxy; the HTTP client reads it when it is made."""
    from huggingface_hub.utils import close_session

    monkeypatch.setenv("http_proxy", address)
    monkeypatch.delenv("no_proxy", raising=False)
    close_session()


def test_hint_proposes_registered_names_only_for_others() -> None:
    assert hub_errors.hint("facebok/musicgen-smal").startswith("did you mean musicgen-small")
    assert hub_errors.hint("facebook/musicgen-small@main") == ""
    assert hub_errors.hint("someone/else") == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("facebook/musicgen-large", "or use nano-musicgen, which"),
        ("musicgen-stereo-small@main", "or use nano-musicgen, which"),
        ("mustango", "or use nano-mustango, which"),
        ("someone/else", "or use nano-musicgen, which"),
        ("musicgen-melody", "none that ships with talim follows a melody"),
        ("facebook/musicgen-stereo-melody-large@main", "none that ships with talim follows a melody"),
    ],
)
def test_a_base_that_is_not_here_is_replaced_by_one_that_can_do_the_same(name: str, expected: str) -> None:
    text = str(hub_errors.not_here(name, name, "the Hub cannot be reached"))
    assert expected in text
    if "none" in expected:
        assert "or use" not in text


GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "real-bases.md"
SMALL = "facebook/musicgen-small"
HUB = "https://hub.example"
COMMIT = "4c8334b02c6ec4e8664a91979669a501ec497792"
FACTS = {"name": SMALL, "hub_id": SMALL, "host": "hub.example", "commit": COMMIT}
ELSEWHERE = hub_errors.ELSEWHERE.format(**FACTS, folder="musicgen-small", instead=hub_errors.instead(SMALL))
CLOSED: dict[str, object] = {"name": "someone/closed", "hub_id": "someone/closed", "host": HUB}
# what the guide's examples are about; every text that the modules can say has one
EXAMPLES: dict[str, dict[str, object]] = {
    "NOT_HERE": {"reason": "hub.example cannot be reached", "hint": "", "elsewhere": ELSEWHERE},
    "SWITCHED_OFF": {},
    "NO_CONNECTION": {},
    "ENDED": {},
    "NO_ANSWER": {"seconds": 30.0},
    "BAD_CERTIFICATE": {},
    "SERVER_ERROR": {"status": 503},
    "TOO_MANY": {},
    "NO_HUB": {},
    "PROXY": {"proxy": "http://10.0.0.1:3128", "cause": "Connection refused"},
    "BAD_ENDPOINT": {"endpoint": "localhost:8080"},
    "NO_MODEL": {
        **{"name": "facebok/musicgen-small", "hub_id": "facebok/musicgen-small", "host": HUB},
        "hint": "did you mean musicgen-small? ",
    },
    "NO_REVISION": {"revision": "v2"},
    "GATED": CLOSED,
    "NOT_ALLOWED": CLOSED,
    "REFUSED_LOGIN": CLOSED,
    "NO_CHECKPOINT": {"name": "someone/data", "hub_id": "someone/data", "files": "README.md, data.csv"},
    "NO_SPACE": {"needed": "2.41 GB", "free": "1.20 GB", "cache": "/data/huggingface/hub"},
    "BROKEN_OFF": {
        **{"file": "model.safetensors", "times": 6, "have": "1.10 GB", "size": "2.36 GB"},
        "cause": "hub.example cannot be reached",
    },
    "DAMAGED": {"file": "model.safetensors"},
    "FROM_CACHE": {"reason": "hub.example does not answer within 5 s"},
    "NOT_PINNED": {"host": "mirror.example", "pinned": COMMIT, "revision": "main"},
    "FOLDER_FIRST": {"name": "musicgen-small", "folder": "musicgen-small"},
    "FOLDER_UNUSED": {"name": "musicgen-small", "folder": "musicgen-small"},
    "SHIPPED_FIRST": {"name": "nano-musicgen", "folder": "nano-musicgen"},
}


def said_texts() -> dict[str, str]:
    """The texts of both modules by name; ELSEWHERE is part of NOT_HERE."""
    constants = {**vars(hub_errors), **vars(resolve)}
    texts = {name: text for name, text in constants.items() if name.isupper() and isinstance(text, str) and "{" in text}
    return {**texts, "SWITCHED_OFF": hub_errors.SWITCHED_OFF} | {"ELSEWHERE": ""}


READING = (  # the modules with which a base is fetched and read
    *("hub_download", "hub_repository", "resolve", "load", "tokenizer_files", "mustango/load"),
    *("mustango/checkpoint_files", "mustango/weight_names"),
    *("musicgen/audiocraft_checkpoint", "musicgen/audiocraft_names", "musicgen/audiocraft_settings"),
)


def guide_text() -> str:
    """The guide with each white space as one space, without the marks of quotations."""
    lines = [line.removeprefix(">") for line in GUIDE.read_text(encoding="utf-8").splitlines()]
    return " ".join(" ".join(lines).split())


def raised_texts(module: str) -> list[str]:
    """Of each TalimError of a module whose text is written where it is raised, the longest part without a value."""
    source = (Path(hub_errors.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    texts = [c.args[0] for c in calls if isinstance(c.func, ast.Name) and c.func.id == "TalimError"]
    formatted = [text.values for text in texts if isinstance(text, ast.JoinedStr)]
    parts = [[str(part.value) for part in values if isinstance(part, ast.Constant)] for values in formatted]
    return [longest for part in parts if len(longest := max(part, key=len, default="").strip(" ;:,.()[]")) > 8]


@pytest.mark.parametrize("module", READING)
def test_guide_explains_every_error_of_reading_a_base(module: str) -> None:
    guide = guide_text()
    assert [text for text in raised_texts(module) if text not in guide] == []


def test_guide_quotes_the_advice_for_too_little_memory() -> None:
    assert generation_advice("musicgen-large", 10.0, 8e9, gpu=True) in guide_text()


def test_guide_quotes_every_message_as_it_is() -> None:
    guide, texts = guide_text(), said_texts()
    assert set(EXAMPLES) == {name for name, text in texts.items() if text}
    missing = [name for name, facts in EXAMPLES.items() if texts[name].format(**{**FACTS, **facts}) not in guide]
    assert missing == []


def test_guide_lists_every_base_with_its_size_licence_and_commit() -> None:
    rows = [line for line in GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    listed = {row.split("|")[1].strip(" `"): [cell.strip(" `") for cell in row.split("|")[2:-1]] for row in rows}
    for entry in registry.MODELS.values():
        if entry.hub_id:
            precision = "fp32" if entry.value_bytes == 4 else "fp16"
            commit = entry.revision[:12] or "first download"
            assert listed[entry.name] == [f"{entry.download_gb:.3g} GB", precision, entry.licence, commit], entry.name
