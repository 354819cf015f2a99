"""From an empty folder to a downloaded piece in the browser: a phone in Japanese, servers killed on the way, axe."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures.browser import CHROMIUM, launched, open_page, overflows, shoot, tab_to, violations
from fixtures.listening_client import served_app
from fixtures.run_folder import make_run, melody

from talim.app.application import create_app
from talim.app.pages import PAGES
from talim.app.workspace import Workspace
from talim.audio import read_tags

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
NARROW = {"width": 390, "height": 844}
REAL = Path(__file__).parents[3] / "shared" / "data" / "audio" / "hindustani"
LONG_MILLISECONDS = 900_000  # a command on a crowded machine
PLAYED = "async () => { const a = document.querySelector('.cards audio'); await a.play(); return a.duration; }"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    with launched() as created:
        yield created


class Server:
    """`talim app` as a process at one port, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.link = folder, ""
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "talim", "app", str(self.folder), "--port", str(self.port), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().split()[-1]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def page(self, name: str) -> str:
        return self.link.replace("/#", f"/{name}#")


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        yield server
    finally:
        server.kill()
        for record in (folder / ".talim-app").glob("*.json"):
            facts = json.loads(record.read_text(encoding="utf-8"))
            if "pid" in facts and "status" not in facts:  # a test that failed leaves no training behind
                subprocess.run(["kill", "-KILL", f"-{facts['pid']}"], check=False)


def write_recordings(folder: Path) -> list[Path]:
    folder.mkdir()
    files = [folder / f"録音 {number}.wav" for number in range(1, 6)]
    for number, file in enumerate(files):
        soundfile.write(file, melody(np.random.default_rng(number), 24.0, gliding=True, drone=True), 16_000)
    return files


def halted(work: Path) -> int:
    """Halts a training as soon as it has logged something, and returns its process group."""
    log, end = work / "run-1" / "log.jsonl", time.monotonic() + LONG_MILLISECONDS / 1000
    while not log.is_file() or not log.stat().st_size:
        assert time.monotonic() < end
        time.sleep(0.02)
    group = json.loads((work / ".talim-app" / "train.json").read_text(encoding="utf-8"))["pid"]
    os.killpg(group, signal.SIGSTOP)
    return group


def go(page: Any, name: str) -> None:
    page.click(f'#steps a[href^="/{name}#"]')
    page.wait_for_selector(f'#steps a[href^="/{name}#"][aria-current]')


def run_form(page: Any, button: str) -> str:
    """Press a form's button once it shows its command, which is returned."""
    form = page.locator("form", has=page.get_by_role("button", name=button, exact=True))
    code = form.locator("code")
    page.wait_for_timeout(600)
    command = code.inner_text()
    assert command.startswith("talim "), command
    form.get_by_role("button", name=button, exact=True).click()
    page.wait_for_function("c => document.querySelector('#job code')?.textContent === c", arg=command)
    return command


def finished(page: Any, words: str = "完了しました。") -> None:
    ended = "() => document.querySelector('#status').textContent.match(/^(完了|失敗|停止)しました/)"
    page.wait_for_function(ended, timeout=LONG_MILLISECONDS)  # said once the page is drawn anew
    assert page.inner_text("#status").startswith(words), page.inner_text("#job")


def look(page: Any, name: str) -> None:
    assert violations(page) == [], name
    assert not overflows(page), name
    shoot(page, f"app-{name}")


def prepare(page: Any, files: list[Path]) -> None:
    page.set_input_files('input[type="file"] >> nth=0', [str(file) for file in files])
    page.wait_for_selector(f".recording >> nth={len(files) - 1}")
    page.get_by_role("button", name="ライセンス欄が空の録音は、すべて自分の録音").click()
    for index, field in enumerate(page.query_selector_all('input[data-column="text"]')):
        field.fill(f"slow alap number {index}")
    page.get_by_role("button", name="保存", exact=True).click()
    page.wait_for_function("() => document.querySelector('#status').textContent.includes('metadata.csv')")
    run_form(page, "コーパスを作る")
    finished(page)


def plan(page: Any) -> None:
    go(page, "plan")
    page.fill('input[name="steps"]', "6")
    page.select_option('select[name="gpu"]', "l4")  # this computer would first be timed
    run_form(page, "見積もる")
    finished(page)
    page.check('input[type="radio"][value="linear@all:2.7%"]')
    page.wait_for_selector("tr.chosen")
    look(page, "plan-phone")


def decide_and_share(page: Any) -> None:
    go(page, "decide")
    assert page.inner_text("main").count("費用：") == 1
    run_form(page, "学習結果のページを作る")
    finished(page)
    look(page, "decide-phone")
    with page.expect_popup() as opened:
        page.click('a[target="_blank"]')
    assert opened.value.inner_text("h1")
    go(page, "share")
    run_form(page, "フォルダーを作る")
    finished(page)
    assert "README.md" in page.inner_text("main")
    look(page, "share-phone")


def to_a_piece(page: Any, download: Path) -> None:
    """From a trained adapter to a file that was downloaded."""
    go(page, "make")
    page.fill('input[name="prompt"]', "slow alap")
    page.fill('input[name="seconds"]', "2")
    page.fill('input[name="strength"]', "0.8")
    assert "--adapter-scale 0.8" in run_form(page, "音楽を作る")
    finished(page)
    with page.expect_download() as saved:
        page.click("a[download]")
    saved.value.save_as(download)
    look(page, "make-phone")


def test_empty_folder_to_a_downloaded_piece_on_a_phone_in_japanese(tmp_path: Path, browser: Any) -> None:
    files = write_recordings(tmp_path / "own")
    (tmp_path / "own" / "notes.wav").write_text("no sound")
    with serving(tmp_path / "work") as server:
        page = open_page(browser, server.link, locale="ja-JP", viewport=NARROW, has_touch=True, accept_downloads=True)
        page.wait_for_selector(".drop")
        assert page.inner_text("h1") == "録音"
        look(page, "empty-phone")
        prepare(page, [*files, tmp_path / "own" / "notes.wav"])
        shown = page.inner_text("main")
        assert "notes.wav" in shown.split("除いたものと、その理由")[1]
        assert "学習用：" in shown
        look(page, "recordings-phone")

        plan(page)
        go(page, "train")
        run_form(page, "学習を始める")
        finished(page)
        assert "完了：6 ステップ" in page.inner_text("#live")
        look(page, "train-phone")

        go(page, "listen")
        page.fill('input[name="num_prompts"]', "1")
        page.fill('input[name="seconds"]', "2")
        run_form(page, "測定し、例を作る")
        finished(page)
        assert page.locator("audio").count() == 3
        page.check('input[type="checkbox"]')
        assert "学習前" not in page.inner_text(".cards")
        assert page.evaluate(PLAYED) == pytest.approx(2, abs=0.2)
        look(page, "listen-phone")

        to_a_piece(page, tmp_path / "piece.flac")
        decide_and_share(page)
        assert page.locator("#steps .unseen").count() == len(PAGES)
    tags = read_tags(tmp_path / "piece.flac")
    assert tags["prompt"] == "slow alap"
    assert soundfile.info(tmp_path / "piece.flac").duration == pytest.approx(2, abs=0.1)


def test_listen_opens_a_blind_test_and_shows_its_result_on_a_phone_in_japanese(tmp_path: Path, browser: Any) -> None:
    run = make_run(Workspace(tmp_path / "work").folder / "run-1", seconds=5)
    with serving(tmp_path / "work") as server:
        page = open_page(browser, server.page("listen"), locale="ja-JP", viewport=NARROW, has_touch=True)
        page.wait_for_selector('input[name="listeners"]')
        page.fill('input[name="listeners"]', "2")
        assert run_form(page, "テストを開く") == "talim listen serve run-1 --invites 2 --port 0"
        page.wait_for_selector(".listener", timeout=LONG_MILLISECONDS)
        assert page.locator(".listener").count() == 2
        look(page, "listen-test-phone")
        with page.expect_popup() as opened:
            page.locator(".listener").first.click()
        opened.value.wait_for_selector("#agree, input[type=checkbox]")
        assert "同意" in opened.value.inner_text("main")
        page.get_by_role("button", name="停止", exact=True).click()
        finished(page, "停止しました。")
        assert page.locator(".listener").count() == 0
        assert run_form(page, "結果を計算する") == "talim ratings run-1"
        finished(page, "失敗しました。")
        assert "no votes yet" in page.inner_text("#job")
        said = {"verdict": "real leads.", "sentences_translated": {"ja": ["本物が最も好まれました。"]}}
        (run / "listening" / "ratings.json").write_text(json.dumps(said), encoding="utf-8")
        page.reload()
        page.wait_for_selector("text=本物が最も好まれました。")


def test_server_killed_twice_loses_neither_upload_nor_training(tmp_path: Path, browser: Any) -> None:
    files = write_recordings(tmp_path / "own")
    with serving(tmp_path / "work") as server:
        page = open_page(browser, server.link, locale="ja-JP", viewport=NARROW, accept_downloads=True)
        page.wait_for_selector(".drop")
        prepare(page, files)
        go(page, "train")
        page.fill('input[name="steps"]', "12")
        command = run_form(page, "学習を始める")
        process = halted(server.folder)  # in the middle of its training, on however fast a machine
        page.wait_for_function("() => document.querySelector('#live circle')")
        server.kill()
        page.wait_for_function("() => document.querySelector('#status').textContent.includes('応答しません')")
        server.start()
        page.wait_for_function("() => document.querySelector('#status').textContent === ''")
        assert page.inner_text("#job code") == command
        page.get_by_role("button", name="停止", exact=True).click()
        page.wait_for_function("() => document.querySelector('#status').textContent.includes('停止して')")
        os.killpg(process, signal.SIGCONT)
        finished(page, "停止しました。")
        page.close()  # a closed browser, too

        page = open_page(browser, server.page("train"), locale="ja-JP", viewport=NARROW, accept_downloads=True)
        page.wait_for_selector("#live progress")
        assert run_form(page, "再開する") == "talim train --out run-1"
        server.kill()
        time.sleep(2)
        server.start()
        finished(page)
        assert "完了：12 ステップ" in page.inner_text("#live")
        to_a_piece(page, tmp_path / "piece.flac")
    log = (tmp_path / "work" / "run-1" / "log.jsonl").read_text().splitlines()
    steps = [row["step"] for row in map(json.loads, log) if row["split"] == "train"]
    assert steps == list(range(1, 13))
    assert read_tags(tmp_path / "piece.flac")["prompt"] == "slow alap"


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no real recordings on this machine")
def test_five_real_recordings_to_a_downloaded_piece(tmp_path: Path, browser: Any) -> None:
    files = sorted(REAL.glob("*.mp3"), key=lambda path: path.stat().st_size)[:5]
    with serving(tmp_path / "work") as server:
        page = open_page(browser, server.link, locale="ja-JP", viewport=NARROW, accept_downloads=True)
        page.wait_for_selector(".drop")
        prepare(page, files)
        run_form(page, "音を聴いてラベルの候補を出す")
        finished(page)
        take = page.locator('div:has(> label input[data-column="raga"]) > button.suggested').first
        look(page, "suggestions-phone")
        value = take.inner_text()
        take.click()
        page.get_by_role("button", name="保存", exact=True).click()
        page.wait_for_function("() => document.querySelector('#status').textContent.includes('metadata.csv')")
        table = (tmp_path / "work" / "recordings" / "metadata.csv").read_text(encoding="utf-8")
        assert value.split("：")[1].split("（")[0] in table
        go(page, "train")
        page.fill('input[name="steps"]', "6")
        run_form(page, "学習を始める")
        finished(page)
        to_a_piece(page, tmp_path / "piece.flac")


def test_pages_work_by_keyboard_and_are_accessible_on_a_desk(tmp_path: Path, browser: Any) -> None:
    work = Workspace(tmp_path / "work")
    make_run(work.folder / "run-1", seconds=2)
    for number, file in enumerate(write_recordings(tmp_path / "own")):
        file.rename(work.recordings / f"{number}.wav")
    with served_app(create_app(work)) as start:  # type: ignore[arg-type]
        for scheme in ("light", "dark"):
            page = open_page(browser, f"{start}/decide#{work.token}", color_scheme=scheme)
            page.wait_for_selector(".said")
            for name in PAGES:
                tab_to(page, f"e.getAttribute('href')?.startsWith('/{name}#')")
                page.keyboard.press("Enter")
                page.wait_for_selector(f'#steps a[href^="/{name}#"][aria-current]')
                page.wait_for_timeout(400)
                look(page, f"{name}-desk-{scheme}")
            assert page.evaluate("document.activeElement.tagName") == "H1"  # a screen reader begins there
            page.select_option("#language", "ja")
            page.wait_for_function("() => document.querySelector('h1')?.textContent === '渡す'")
            page.reload()
            page.wait_for_function("() => document.querySelector('h1')?.textContent === '渡す'")
        page = open_page(browser, f"{start}/plan")
        assert "lacks its key" in page.inner_text("main")
