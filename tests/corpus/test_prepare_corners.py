"""Corners of prepare: doubles, names that meet, short and loud and silent files, places that cannot be written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures.prepared import RATE_HZ, make

from talim.audio import Audio, write
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.errors import TalimError, UsageError


def test_the_same_sound_twice_is_used_once(three: Path, out: Path) -> None:
    (three / "copy.wav").write_bytes((three / "a.wav").read_bytes())
    samples, rate_hz = soundfile.read(three / "a.wav", dtype="int16")
    soundfile.write(three / "other.flac", samples, rate_hz)
    corpus = make(three, out)
    assert corpus.summary["skipped"] == [
        {"file": "copy.wav", "reason": "the same sound as a.wav"},
        {"file": "other.flac", "reason": "the same sound as a.wav"},
    ]
    assert len({clip.audio_hash for clip in corpus.clips}) == len(corpus.clips)


def test_ids_are_unique_where_names_meet(folder: Path, out: Path, record) -> None:
    for name in ("x/a.wav", "y/a.wav", "y/A.flac"):
        (folder / name).parent.mkdir(exist_ok=True)
        record(name, 12)
    corpus = make(folder, out)
    assert len({clip.id for clip in corpus.clips}) == len(corpus.clips) == 6
    assert {clip.recording for clip in corpus.clips} == {"x/a", "y/a", "y/A"}


def test_files_of_one_recording_stay_together(folder: Path, out: Path, record) -> None:
    lines = ["file_name,recording"]
    for i in range(6):
        record(f"part{i}.wav", 12)
        lines.append(f"part{i}.wav,session {i // 2}")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    for seed in range(4):
        corpus = make(folder, out, seed=seed)
        sides = {(clip.recording, clip.split) for clip in corpus.clips}
        assert len(sides) == corpus.summary["recordings"] == 3


def test_one_long_recording_leaves_a_gap(folder: Path, out: Path, record) -> None:
    record("long.wav", 200)
    corpus = make(folder, out)
    assert corpus.summary["split"]["step"] == "blocks"
    assert corpus.summary["split"]["gap"]["seconds"] == 30
    ends = {
        side: [(c.start_seconds, c.start_seconds + c.seconds) for c in clips]
        for side, clips in (("train", corpus.train), ("held_out", corpus.held_out))
    }
    pauses = [max(a, b) - min(d, c) for a, c in ends["train"] for b, d in ends["held_out"]]
    assert min(pauses) >= 30 - 1e-6


def test_one_short_recording_cannot_be_judged(folder: Path, out: Path, record) -> None:
    record("short.wav", 20)
    with pytest.raises(TalimError, match=r"nothing can be held out.*add a recording"):
        make(folder, out)
    assert not out.exists()


def test_named_recordings_are_held_out(three: Path, out: Path) -> None:
    for name in ("a", "deep/b", "c"):
        corpus = make(three, out, held_out=(name,))
        assert {clip.recording for clip in corpus.held_out} == {name}
    with pytest.raises(UsageError, match="did you mean"):
        make(three, out, held_out=("bb",))
    assert Corpus.load(out).hash == corpus.hash


def test_loud_float_files_are_turned_down_and_noted(three: Path, out: Path) -> None:
    samples = np.random.default_rng(0).uniform(-4, 4, 90000).astype(np.float32)
    soundfile.write(three / "loud.wav", samples, RATE_HZ, subtype="FLOAT")
    corpus = make(three, out)
    assert [note["file"] for note in corpus.summary["notes"]] == ["loud.wav"]
    loud = [clip for clip in corpus.clips if clip.source_file == "loud.wav"]
    assert max(np.abs(corpus.read_clip(clip).samples).max() for clip in loud) == pytest.approx(1, abs=1e-3)


def test_silence_is_skipped(folder: Path, out: Path, record) -> None:
    record("a.wav", 12)
    tone = 0.4 * np.sin(np.arange(5 * RATE_HZ) * 0.3)
    write(folder / "b.wav", Audio(np.concatenate([tone, np.zeros(20 * RATE_HZ), tone]), RATE_HZ))
    corpus = make(folder, out)
    starts = [clip.start_seconds for clip in corpus.clips if clip.source_file == "b.wav"]
    assert starts == pytest.approx([0, 24.9], abs=0.06)
    assert corpus.summary["silence_skipped_seconds"] == pytest.approx(19.8, abs=0.2)


def test_stereo_is_kept_on_request(three: Path, out: Path) -> None:
    write(three / "st.wav", Audio(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 96000)), RATE_HZ))
    corpus = make(three, out, channels=2)
    assert {corpus.read_clip(clip).channels for clip in corpus.clips} == {2}
    assert corpus.summary["channels"] == 2


def test_words_that_cannot_be_read_skip_one_file(three: Path, out: Path) -> None:
    (three / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    corpus = make(three, out)
    assert [row["file"] for row in corpus.summary["skipped"]] == ["a.wav"]
    assert "UTF-8" in corpus.summary["skipped"][0]["reason"]


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"clip_seconds": -1}, "1 to 600 seconds"),
        ({"rate_hz": 0}, "4000 to 192000"),
        ({"channels": 5}, "mono"),
        ({"held_out_share": 0.0}, "up to 0.5"),
        ({"describe": "  "}, "description is empty"),
        ({"split": "magic"}, "choose one of"),
    ],
)
def test_wishes_that_make_no_sense(three: Path, out: Path, wish: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make(three, out, **wish)
    assert not out.exists()


def test_places_that_cannot_be_a_corpus(three: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        make(three, tmp_path / "file")
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "thesis.doc").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.doc"):
        make(three, tmp_path / "busy")
    with pytest.raises(UsageError, match="no sound file"):
        make(tmp_path / "busy", out)
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_one_clear_line(three: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TalimError, match=r"file.*cannot be written") as caught:
        make(three, tmp_path / "file" / "corpus")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_one_clear_line(three: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(TalimError, match="locked"):
        make(three, tmp_path / "locked" / "corpus")


def test_a_full_disk_keeps_what_is_whole(three: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = []

    def full(_: int) -> None:
        count.append(1)
        if len(count) > 5:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TalimError, match="No space left on device"):
        make(three, out)
    monkeypatch.undo()
    assert not (out / "corpus.jsonl").exists()
    assert make(three, out).work["reused"] == 1


def test_foreign_files_in_the_corpus_folder_survive(three: Path, out: Path) -> None:
    make(three, out)
    for name in ("clips/mine/take.flac", "sources/notes.json", "targets/x.bin"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    make(three, out, clip_seconds=5)
    assert (out / "clips/mine/take.flac").exists()
    assert (out / "sources/notes.json").exists()
    assert (out / "targets/x.bin").exists()


def test_progress_names_every_file(three: Path, out: Path) -> None:
    told: list[tuple[int, int, str]] = []
    make(three, out, progress=lambda done, total, what: told.append((done, total, what)))
    assert [what for _, _, what in told[:3]] == ["a.wav", "c.ogg", "deep/b.flac"]
    assert told[-1][:2] == (3, 3)
    assert "3 cut, 0 as before" in told[-1][2]
    assert f"type them into {out / 'metadata.csv'}" in told[-1][2]


def test_the_summary_is_strict_json(three: Path, out: Path) -> None:
    corpus = make(three, out)
    assert json.loads((out / "summary.json").read_text("utf-8")) == corpus.summary


def test_the_output_may_lie_inside_the_folder(three: Path) -> None:
    first = make(three, three / "corpus")
    assert make(three, three / "corpus").hash == first.hash


@pytest.mark.real
def test_real_recordings(tmp_path: Path) -> None:
    recordings = Path(__file__).parents[3] / "shared" / "data" / "audio" / "hindustani"
    if not recordings.is_dir():
        pytest.skip("the real recordings (shared/data/audio) are not here")
    corpus = prepare(recordings, tmp_path / "corpus")
    assert corpus.summary["recordings"] == 7
    assert corpus.summary["skipped"] == []
    assert corpus.summary["split"]["step"] == "performer"
