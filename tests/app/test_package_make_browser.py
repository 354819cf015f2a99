"""The page Make in the browser while a piece is written: it plays, hands over to the finished file, survives a stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fixtures.app_command import finish_command, running_command
from fixtures.browser import CHROMIUM, launched, open_page, overflows, shoot, violations
from fixtures.listening_client import served_app
from fixtures.run_folder import make_run, melody

from talim.app.application import create_app
from talim.app.workspace import Workspace
from talim.audio.write import write_blocks

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
NARROW = {"width": 390, "height": 844}
RATE_HZ, BLOCK_SECONDS, BLOCKS = 16_000, 20, 3  # as the miniature writes; a browser wants more than some seconds
PLAY = "rate => { const a = document.querySelector('#live audio'); a.playbackRate = rate; return a.play(); }"
AFTER = "at => document.querySelector('#live audio')?.currentTime > at"


class Writer:
    """Writes music-1.flac as `talim generate` does: a block whenever one is asked for."""

    def __init__(self, work: Workspace) -> None:
        self.path, self._asked, self._stopped = work.folder / "music-1.flac", threading.Semaphore(0), False
        self._pool = ThreadPoolExecutor(1)
        tags = {"prompt": "slow alap", "seed": "0", "software": "talim"}
        self.written: Future[None] = self._pool.submit(write_blocks, self.path, self._blocks, RATE_HZ, 1, tags)

    def _blocks(self) -> Iterator[np.ndarray]:
        for number in range(BLOCKS):
            self._asked.acquire()
            if self._stopped:
                raise InterruptedError
            random = np.random.default_rng(number)
            yield melody(random, BLOCK_SECONDS, gliding=True, drone=True)[None].astype(np.float32)

    def write(self, blocks: int) -> None:
        self._asked.release(blocks)

    def stop(self) -> None:
        """As a signal does: what there is of the file is removed."""
        self._stopped = True
        self.write(1)
        self.written.exception(60)


@contextmanager
def making(tmp_path: Path) -> Iterator[tuple[Workspace, Writer, str]]:
    """A folder in which a piece is written, and the address of its page."""
    work = Workspace(tmp_path / "work")
    make_run(work.folder / "run-1", seconds=0)
    writer = Writer(work)
    try:
        with served_app(create_app(work)) as start:  # type: ignore[arg-type]
            yield work, writer, f"{start}/make#{work.token}"
    finally:
        writer.stop()


def test_piece_plays_while_it_is_written_and_then_as_the_finished_file(tmp_path: Path) -> None:
    with making(tmp_path) as (work, writer, link), launched() as browser:
        with running_command(work, "make", ["generate", "--run", "run-1", "--out", "music-1.flac"]):
            page = open_page(browser, link, locale="ja-JP", viewport=NARROW, has_touch=True)
            page.wait_for_function("() => document.querySelector('#live')?.textContent.includes('最初の数秒')")
            assert page.locator("#live audio").count() == 0
            writer.write(1)
            page.wait_for_selector("#live audio")
            said = "() => document.querySelector('#status').textContent.includes('music-1.flac')"
            page.wait_for_function(said)  # once, in a polite live region
            page.focus("#live audio")
            page.evaluate(PLAY, 1)
            page.wait_for_function(AFTER, arg=1.0)
            assert not writer.written.done()
            assert violations(page) == []
            assert not overflows(page)
            shoot(page, "app-make-under-way-phone")
            page.select_option("#language", "en")  # the page is drawn anew, and plays on
            page.wait_for_function(AFTER, arg=2.0)
            page.evaluate(PLAY, 8)
            page.focus("#live audio")
            writer.write(1)
            page.wait_for_function(AFTER, arg=BLOCK_SECONDS + 0.5)  # what came after the request was made
            page.evaluate(PLAY, 1)
            assert not writer.written.done()
            writer.write(1)
            writer.written.result(60)
            finish_command(work, "make")
        page.wait_for_selector("#pieces audio")
        page.wait_for_function("() => document.querySelector('#status').textContent === 'Done.'")
        assert page.locator("#live audio").count() == 0
        assert page.inner_text("#pieces .card p >> nth=1") == "slow alap"
        page.wait_for_function(f"() => document.querySelector('#pieces audio').duration === {BLOCK_SECONDS * BLOCKS}")
        heard = page.evaluate("document.querySelector('#pieces audio').currentTime")
        assert heard > BLOCK_SECONDS  # it goes on where it was
        page.wait_for_function("at => document.querySelector('#pieces audio').currentTime > at", arg=heard)
        assert page.evaluate("document.activeElement.tagName") == "AUDIO"
        assert violations(page) == []
        shoot(page, "app-make-finished-phone")


def test_piece_of_a_stopped_command_can_be_played_as_far_as_it_was_written(tmp_path: Path) -> None:
    with making(tmp_path) as (work, writer, link), launched() as browser:
        with running_command(work, "make", ["generate", "--run", "run-1", "--out", "music-1.flac"]):
            page = open_page(browser, link, viewport=NARROW)
            writer.write(2)
            page.wait_for_selector("#live audio")
            page.wait_for_function("() => document.querySelector('#live audio').readyState >= 2")
            writer.stop()
        page.wait_for_function("() => document.querySelector('#live').textContent.includes('was not finished')")
        assert [*work.folder.glob(".music*")] == []
        page.evaluate(PLAY, 16)
        page.wait_for_function("() => document.querySelector('#live audio').ended")
        heard = page.evaluate("document.querySelector('#live audio').currentTime")
        assert heard == pytest.approx(2 * BLOCK_SECONDS, abs=0.5)
        assert violations(page) == []
        assert not overflows(page)
        shoot(page, "app-make-stopped-phone")
