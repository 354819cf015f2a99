"""Two hundred mixed clips, twenty of them broken; a quick second run; and kills at any moment."""

from __future__ import annotations

import os
import time
import unicodedata
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import numpy as np
import pytest
from fixtures.broken import broken_files, forget, good_clips

from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.stages.prepare import prepare
from talim.study.telling import corpus as tell


def check(corpus: Corpus, reasons: dict[str, str], good: int) -> None:
    """Nothing is lost: every good file is in the corpus, every broken one is told in a line of its own."""
    told = {row["file"]: row["reason"] for row in corpus.summary["skipped"]}
    wanted = {unicodedata.normalize("NFC", name): reason for name, reason in reasons.items()}
    assert told.keys() == wanted.keys()
    for name, reason in wanted.items():
        assert reason in told[name], (name, told[name])
    assert corpus.summary["recordings"] == len({clip.source_file for clip in corpus.clips}) == good
    lines = [line for line in tell(corpus.summary, corpus.folder).split("\n") if line.startswith("left out ")]
    assert len(lines) == len(reasons) == 20
    assert all(len(line) < 300 and line.isprintable() for line in lines)
    for clip in corpus.clips:
        assert corpus.read_clip(clip).frames > 0


def test_a_mixed_folder_is_prepared_and_nothing_is_lost(folder: Path, out: Path) -> None:
    good_clips(folder, 16)
    reasons = broken_files(folder)
    check(prepare(folder, out, rate_hz=8000), reasons, 16)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(folder: Path, out: Path) -> None:
    good_clips(folder, 4)
    (closed,) = list(folder.rglob("*.ogg"))
    closed.chmod(0)
    (folder / "disc 1").chmod(0o600)
    told = {row["file"]: row["reason"] for row in prepare(folder, out, rate_hz=8000).summary["skipped"]}
    (folder / "disc 1").chmod(0o700)
    assert any("Permission denied" in reason for reason in told.values())


def test_a_file_that_the_system_refuses_is_told(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good_clips(folder, 8)
    real_open = Path.open

    def refusing(self: Path, *args: object, **more: object) -> object:
        if self.suffix == ".ogg" and "disc" in str(self):
            raise PermissionError(13, "Permission denied", str(self))
        return real_open(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", refusing)
    skipped = prepare(folder, out, rate_hz=8000).summary["skipped"]
    assert [row["reason"] for row in skipped] == ["cannot be read: Permission denied"] * 2


@pytest.mark.slow
def test_two_hundred_clips_and_a_second_run(folder: Path, out: Path) -> None:
    good_clips(folder, 180)
    reasons = broken_files(folder)
    corpus = prepare(folder, out)
    check(corpus, reasons, 180)
    again = prepare(folder, out)
    assert again.hash == corpus.hash
    assert again.work == {"decoded": 0, "reused": corpus.work["decoded"], "rebuilt_because": []}


def start(folder: Path, out: Path) -> ForkProcess:
    """A process of its own that prepares; forked, so that nothing has to be imported again."""
    running = get_context("fork").Process(target=prepare, args=(folder, out), kwargs={"rate_hz": 8000})
    running.start()
    return running


def finish(running: ForkProcess) -> None:
    running.join()
    assert running.exitcode == 0


@pytest.mark.slow
def test_ten_kills_at_random_moments_never_corrupt_a_corpus(folder: Path, out: Path) -> None:
    """Killed at ten moments spread over a run: what is there is whole, and the next run ends as if none was."""
    good_clips(folder, 24)
    broken_files(folder)
    began = time.monotonic()
    finish(start(folder, out))
    seconds = time.monotonic() - began
    whole, clips = Corpus.load(out), {path.name for path in out.glob("clips/*/*")}
    rng = np.random.default_rng(0)
    for round_number in range(10):
        forget(out) if round_number % 2 == 0 else make_older(out)
        running = start(folder, out)
        time.sleep(float(rng.uniform(0.05, 1.0)) * seconds)
        running.kill()
        running.join()
        check_whole_or_none(out)
        finish(start(folder, out))
        assert Corpus.load(out).hash == whole.hash
        assert {path.name for path in out.glob("clips/*/*")} == clips
        assert (out / "report" / "index.html").stat().st_size > 10000


def make_older(out: Path) -> None:
    """Let a finished corpus lack some clips, so that the next run has work to do."""
    for path in sorted(out.glob("clips/*/*.flac"))[::3]:
        path.unlink()


def check_whole_or_none(out: Path) -> None:
    """A killed run leaves a corpus that loads, or none; never one that loads wrongly."""
    if not (out / "summary.json").is_file():
        with pytest.raises(TalimError, match="not a corpus"):
            Corpus.load(out)
        return
    corpus = Corpus.load(out)
    assert corpus.summary["clips"] == len(corpus.clips)
