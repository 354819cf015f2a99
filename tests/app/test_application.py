"""The app over HTTP: the guard, uploads, the table, commands that are shown and run, one at a time."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fixtures.app_command import running_command
from fixtures.run_folder import make_run

from talim.app.application import CHUNK_BYTES, PAGE_POLICY, REPORT_POLICY, create_app
from talim.app.pages import PAGES
from talim.app.workspace import MAX_FILE_BYTES, Workspace
from talim.html.languages import FOLDER

Put = Any


def upload(client: TestClient, name: str, data: bytes = b"x" * 10, kind: str = "recordings", **query: int) -> Any:
    asked = {"total": len(data), "offset": 0, **query}
    return client.put(f"/api/files/{kind}/{name}", params=asked, content=data)


@pytest.mark.parametrize("path", ["/api/pages/recordings", "/api/job"])
def test_request_without_the_token_is_refused(work: Workspace, path: str) -> None:
    client = TestClient(create_app(work), base_url="http://localhost")  # type: ignore[arg-type]
    assert client.get(path).json() == {"reason": "no_token"}
    wrong = client.get(path, headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()) == (401, {"reason": "no_token"})
    assert client.post("/api/jobs/prepare", json={}).status_code == 401
    assert upload(client, "a.wav").status_code == 401
    assert client.get("/").status_code == 200  # the empty page holds no secret


def test_request_for_another_host_is_refused(client: TestClient) -> None:
    answer = client.get("/api/job", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()) == (421, {"reason": "wrong_host"})


@pytest.mark.parametrize("name", PAGES)
def test_every_step_has_an_address_and_values_of_an_empty_folder(client: TestClient, name: str) -> None:
    page = client.get(f"/{name}")
    assert "app.js" in page.text
    assert page.headers["content-security-policy"] == PAGE_POLICY
    assert page.headers["x-frame-options"] == "DENY"
    values = client.get(f"/api/pages/{name}?language=ja")
    assert (values.status_code, values.json()["done"]) == (200, [])


def test_unknown_page_and_job_are_not_found(client: TestClient) -> None:
    for path in ("/api/pages/done", "/api/pages/__init__", "/nothing", "/static/../app.py"):
        assert client.get(path).status_code == 404, path
    assert client.post("/api/jobs/rm", json={}).status_code == 404


def test_upload_in_chunks_goes_on_where_it_broke_off(client: TestClient, work: Workspace) -> None:
    assert upload(client, "a b.wav", b"abcd", total=8).json() == {"have": 4}
    assert upload(client, "a b.wav", b"wrong", total=8).json() == {"have": 4}  # begun anew: nothing is written twice
    assert not (work.recordings / "a b.wav").exists()
    assert upload(client, "a b.wav", b"efgh", total=8, offset=4).json() == {"have": 8}
    assert (work.recordings / "a b.wav").read_bytes() == b"abcdefgh"
    assert upload(client, "a b.wav").json() == {"reason": "exists"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".hidden.wav", "bad_name"),
        ("..%5Ca.wav", "bad_name"),
        ("C:a.wav", "bad_name"),
        ("a%00.wav", "bad_name"),
        ("a%0A.wav", "bad_name"),
        ("ラ" * 80 + ".wav", "long_name"),
        ("notes.html", "no_audio"),
        ("talim.py", "no_audio"),
    ],
)
def test_upload_of_a_wrong_name_is_refused(client: TestClient, work: Workspace, name: str, reason: str) -> None:
    answer = upload(client, name)
    assert (answer.status_code, answer.json()) == (422, {"reason": reason})
    assert list(work.recordings.iterdir()) == []


@pytest.mark.parametrize("path", ["recordings/..%2F..%2Fa.wav", "recordings/x/a.wav", "..%2Frun-1/a.wav"])
def test_upload_out_of_its_folder_is_refused(client: TestClient, work: Workspace, path: str) -> None:
    answer = client.put(f"/api/files/{path}", params={"total": 1, "offset": 0}, content=b"x")
    assert answer.status_code in (404, 405, 422)
    assert [*work.folder.parent.rglob("*.wav")] == []


def test_upload_that_is_too_large_is_refused(client: TestClient) -> None:
    assert upload(client, "a.wav", total=MAX_FILE_BYTES + 1).json() == {"reason": "too_large"}
    assert upload(client, "a.wav", b"").json() == {"reason": "empty"}
    assert upload(client, "a.wav", bytes(CHUNK_BYTES + 1)).status_code == 413


def test_upload_of_more_than_was_said_is_not_kept(client: TestClient, work: Workspace) -> None:
    assert upload(client, "a.wav", b"abc", total=2).json() == {"have": 0}
    assert list(work.recordings.iterdir()) == []


def test_files_are_served_by_addresses_that_nobody_guesses(client: TestClient, work: Workspace) -> None:
    upload(client, "a.wav", b"sound")
    address = client.get("/api/pages/recordings").json()["rows"][0]["audio"]
    stranger = TestClient(create_app(work), base_url="http://localhost")  # type: ignore[arg-type]
    assert stranger.get(address).content == b"sound"
    assert stranger.get(address, headers={"Range": "bytes=1-2"}).content == b"ou"
    assert "attachment" in stranger.get(f"{address}?save=true").headers["content-disposition"]
    key = address.split("/")[2]
    (work.folder.parent / "secret.wav").write_bytes(b"outside")
    (work.folder / "link.wav").symlink_to(work.folder.parent / "secret.wav")
    for wrong in ("recordings/b.wav", ".talim-app/token", "../secret.wav", "..%2Fsecret.wav", "link.wav", "recordings"):
        assert stranger.get(f"/files/{key}/{wrong}").status_code == 404, wrong
    assert stranger.get(f"/files/{'0' * 32}/recordings/a.wav").status_code == 404


def test_file_under_way_is_sent_as_it_grows_until_its_command_ends(client: TestClient, work: Workspace) -> None:
    part = work.folder / ".music-1.flac.1a2b3c4d.part"
    with running_command(work, "make", ["generate", "--out", "music-1.flac"]):
        assert client.get("/api/pages/make").json()["under_way"]["audio"] == ""
        part.write_bytes(b"the first ")
        address = client.get("/api/pages/make").json()["under_way"]["audio"]
        assert address.endswith("/music-1.flac?begun=1a2b3c4d")
        assert client.get(address.replace("1a2b3c4d", "00000000")).status_code == 404
        with ThreadPoolExecutor(1) as reader:
            answer = reader.submit(client.get, address, headers={"Range": "bytes=0-1"})
            time.sleep(0.3)
            with part.open("ab") as file:
                file.write(b"and the last")
            assert not answer.done()
            part.rename(work.folder / "music-1.flac")
    sent = answer.result()
    assert (sent.status_code, sent.content) == (200, b"the first and the last")
    assert (sent.headers["accept-ranges"], sent.headers["content-type"]) == ("none", "audio/flac")
    assert "content-length" not in sent.headers
    assert client.get(address, headers={"Range": "bytes=0-2"}).content == b"the"  # it is a file as any other now


def test_file_under_way_that_leads_out_of_the_folder_is_not_served(client: TestClient, work: Workspace) -> None:
    (work.folder.parent / "secret").write_bytes(b"outside")
    (work.folder / ".music-1.flac.1a2b3c4d.part").symlink_to(work.folder.parent / "secret")
    key = work.address(work.folder / "music-1.flac").split("/")[2]
    for name in ("music-1.flac", "../secret", ".talim-app/token"):
        assert client.get(f"/files/{key}/{name}?begun=1a2b3c4d").status_code == 404, name


def test_pages_of_commands_run_as_a_stranger(client: TestClient, work: Workspace) -> None:
    make_run(work.folder / "run-1", seconds=0)
    (work.folder / "run-1" / "report").mkdir()
    (work.folder / "run-1" / "report" / "index.html").write_text("<p>report")
    page = client.get(client.get("/api/pages/decide").json()["page"])
    assert page.text == "<p>report"
    assert page.headers["content-security-policy"] == REPORT_POLICY
    assert "allow-same-origin" not in REPORT_POLICY


def test_table_keeps_what_nobody_changed(client: TestClient, work: Workspace) -> None:
    upload(client, "a.wav")
    text = 'file_name,text,Year\na.wav,old,1999\ngone.wav,"left, as it is",\n'
    (work.recordings / "metadata.csv").write_text(text)
    row = {"text": " raga  Yaman ", "licence": "自分の録音", "instruments": ""}
    assert client.put("/api/table", json={"rows": {"a.wav": row}}).json() == {"saved": 1}
    written = (work.recordings / "metadata.csv").read_text(encoding="utf-8").splitlines()
    assert written[0] == "file_name,text,instruments,performer,licence,year"
    assert written[1:] == ["a.wav,raga Yaman,,,自分の録音,1999", 'gone.wav,"left, as it is",,,,']
    shown = client.get("/api/pages/recordings").json()
    assert shown["rows"][0]["cells"] == {"text": "raga Yaman", "licence": "自分の録音", "year": "1999"}
    assert client.put("/api/table", json={"rows": {"../x.wav": row}}).status_code == 422


def test_table_that_cannot_be_read_is_told_and_left_alone(client: TestClient, work: Workspace) -> None:
    upload(client, "a.wav")
    (work.recordings / "metadata.csv").write_text("one,two\n1,2\n")
    assert "file_name is needed" in client.get("/api/pages/recordings").json()["fault"]
    assert client.put("/api/table", json={"rows": {"a.wav": {"text": "x"}}}).status_code == 422
    assert (work.recordings / "metadata.csv").read_text() == "one,two\n1,2\n"


def test_set_aside_moves_a_recording(client: TestClient, work: Workspace) -> None:
    upload(client, "a.wav")
    assert client.delete("/api/files/recordings/a.wav").status_code == 200
    assert (work.folder / "set-aside" / "a.wav").is_file()
    assert client.delete("/api/files/recordings/a.wav").json() == {"reason": "not_found"}


def test_preview_shows_the_command_and_runs_nothing(client: TestClient, work: Workspace) -> None:
    answer = client.post("/api/jobs/prepare?preview=true", json={"caption": "it's a sitar"})
    assert answer.json()["command"] == """talim prepare recordings --out corpus --caption 'it'"'"'s a sitar'"""
    assert client.get("/api/job").json() == {"job": None}
    assert list(work.own.glob("prepare*")) == []


def test_second_command_at_once_is_refused_also_by_another_server(client: TestClient, work: Workspace) -> None:
    with running_command(work, "other", []):
        answer = client.post("/api/jobs/prepare", json={})
        assert (answer.status_code, answer.json()) == (409, {"reason": "busy"})
    assert list(work.own.glob("prepare*")) == []


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("prepare", {"out": "/etc"}, "out"),
        ("train", {"design": "linear@nowhere"}, "nowhere"),
        ("train", {"base": "/some/folder"}, "is not offered here"),
        ("train", {"steps": 0}, "at least 1"),
        ("plan", {"gpu": "abacus"}, "is no GPU"),
        ("make", {}, "no_run"),
        ("share", {"to": "hub"}, "'transformers', 'onnx' or 'space'"),
    ],
)
def test_wrong_request_is_refused_in_one_line(client: TestClient, name: str, asked: Any, words: str) -> None:
    answer = client.post(f"/api/jobs/{name}?preview=true", json=asked)
    assert answer.status_code == 422
    assert words in answer.json()["reason"]
    assert "\n" not in answer.json()["reason"]


def test_choices_are_remembered_and_forgotten(client: TestClient, work: Workspace) -> None:
    client.put("/api/choices", json={"design": "conv@all:2.7%", "price_per_hour": 2})
    assert client.put("/api/choices", json={"price_per_hour": None}).json() == {"design": "conv@all:2.7%"}
    assert client.put("/api/choices", json={"design": "no design"}).status_code == 422
    assert Workspace(work.folder).choices == {"design": "conv@all:2.7%"}


def test_pages_of_a_finished_run_have_sentences_of_the_language(client: TestClient, work: Workspace) -> None:
    make_run(work.folder / "run-1", seconds=0.5)
    assert client.get("/api/pages/train?language=ja").json()["run"]["taken"] != ""
    assert client.get("/api/pages/decide?language=ja").json()["points"][0].startswith("費用：")
    assert client.get("/api/pages/decide?language=fr").json()["points"][0].startswith("Cost:")
    listened = client.get("/api/pages/listen").json()
    assert [*listened["groups"][0]["sounds"]] == ["before", "after", "real"]
    assert client.get(listened["groups"][0]["sounds"]["after"]).content[:4] == b"fLaC"
    assert {"train", "listen"} <= {*client.get("/api/pages/share").json()["done"]}


# Words

STATIC = Path(__file__).parents[2] / "src" / "talim" / "app" / "static"


def words_of(language: str) -> dict[str, str]:
    return json.loads((FOLDER / language / "app.json").read_text(encoding="utf-8"))


def test_words_of_every_language_have_the_same_keys_and_places(client: TestClient) -> None:
    english = words_of("en")
    for language, texts in client.get("/api/words").json().items():
        assert list(texts) == list(english), language
        for key, text in texts.items():
            assert {*re.findall(r"\{(\w+)\}", text)} == {*re.findall(r"\{(\w+)\}", english[key])}, (language, key)


def test_japanese_words_are_japanese() -> None:
    own = {key: re.sub(r"\{\w+\}", "", text) for key, text in words_of("ja").items()}
    assert [
        key for key, text in own.items() if re.search("[A-Za-z]", text) and not re.search("[ぁ-んァ-ヶ一-龠]", text)
    ] == []


def test_scripts_use_all_words_and_only_those_and_write_none_themselves() -> None:
    scripts = "".join((STATIC / name).read_text(encoding="utf-8") for name in ("app.js", "steps.js"))
    english, code = words_of("en"), scripts + (Path(STATIC).parent / "workspace.py").read_text(encoding="utf-8")
    code += (Path(STATIC).parent / "commands.py").read_text(encoding="utf-8") + "too_many"
    composed = (
        "review_",
        "column_",
        "length_",
        "leak_",
        "state_",
        "next_",
        "export_",
        "language",
        *(f"{p}_intro" for p in PAGES),
    )
    composed += ("train_side", "validation_side", "held_out_side", "before", "after", "real", "busy", "not_found")
    unused = [key for key in english if not re.search(rf"\b{re.escape(key)}\b", code) and not key.startswith(composed)]
    assert unused == []
    asked = {*re.findall(r"""\b(?:text|p|h2|goTo)\("([a-z_]+)\"""", scripts)}
    assert asked - english.keys() == set()
    html = re.sub(
        r"<title>.*?</title>|<strong>talim</strong>|<noscript>.*?</noscript>", "", (STATIC / "app.html").read_text()
    )
    assert re.findall(r">\s*([^<>\s…][^<>]*)<", html) == []
