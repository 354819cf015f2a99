"""From a folder to a corpus: bad files, re-runs, kills, edits, and what the summary says."""

from __future__ import annotations

import csv
import json
import os
import time
import unicodedata
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures.broken_recordings import broken_files, forget, good_clips
from fixtures.prepared_corpus import RATE_HZ, make, snapshot

from talim.audio import Audio, write
from talim.corpus.captions import NEUTRAL_CAPTION
from talim.corpus.importers.folder import list_recordings
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import filter_by_license, prepare_corpus
from talim.corpus.prepare_source import prepare
from talim.errors import TalimError, UsageError
from talim.reporting.messages import corpus_message as tell


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
    corpus = prepare_corpus(recordings, tmp_path / "corpus")
    assert corpus.summary["recordings"] == 7
    assert corpus.summary["skipped"] == []
    assert corpus.summary["split"]["step"] == "performer"


def licensed(folder: Path, make_recordings: Any, *licences: str) -> Path:
    make_recordings(folder, count=len(licences), seconds=3.0)
    rows = [f"take-{n}.wav,{text},p{n}" for n, text in enumerate(licences)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,licence,performer", *rows]) + "\n")
    return folder


def test_what_forbids_it_and_what_nobody_knows_is_left_out(tmp_path: Path, make_recordings: Any) -> None:
    takes = licensed(tmp_path / "takes", make_recordings, "CC0-1.0", "CC BY-NC 4.0", "", "CC BY 4.0")
    found = list_recordings(takes, tmp_path / "out")
    kept = filter_by_license(found, {}, "commercial")
    assert [file.name for file in kept.files] == ["take-0.wav", "take-3.wav"]
    assert {row["file"]: row["reason"] for row in kept.left_out} == {
        "take-1.wav": "its licence (CC BY-NC 4.0) forbids commercial use",
        "take-2.wav": "its licence (unknown) is not known to allow commercial use",
    }
    assert filter_by_license(found, {}) is found
    typed = filter_by_license(
        found, {"take-2.wav": {"licence": "CC0-1.0"}}, "commercial"
    )  # the corpus's own table wins
    assert len(typed.files) == 3
    with pytest.raises(UsageError, match="--use 'selling'"):
        filter_by_license(found, {}, "selling")


def test_nothing_left_says_where_to_write_a_licence(tmp_path: Path, make_recordings: Any) -> None:
    takes = licensed(tmp_path / "takes", make_recordings, "", "unknown")
    with pytest.raises(
        TalimError, match=r"none of 2 recordings may be used commercially .* columns file_name"
    ):
        prepare_corpus(takes, tmp_path / "out", use="commercial")
    assert not (tmp_path / "out").exists()


def test_a_corpus_for_commercial_use_holds_no_other_clip(tmp_path: Path, make_recordings: Any) -> None:
    takes = licensed(tmp_path / "takes", make_recordings, "CC0-1.0", "CC BY 4.0", "CC BY-NC 4.0")
    corpus = prepare_corpus(takes, tmp_path / "out", clip_seconds=2.0, use="commercial")
    assert {clip.licence for clip in corpus.clips} == {"CC0-1.0", "CC BY 4.0"}
    assert [row["file"] for row in corpus.summary["skipped"]] == ["take-2.wav"]
    again = prepare_corpus(takes, tmp_path / "out", clip_seconds=2.0)
    assert len({clip.licence for clip in again.clips}) == 3


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


def test_clips_words_rights_and_summary(three: Path, out: Path) -> None:
    rows = [
        ["file_name", "text", "performer", "licence", "consent", "raga"],
        ["a.wav", "slow alap", "Asha", "CC0", "signed", "Yaman"],
        ["deep/b.flac", "fast gat", "Ravi", "CC0", "", ""],
        ["c.ogg", "drone", "Asha", "", "", ""],
    ]
    with (three / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    corpus = make(three, out)
    assert [clip.id for clip in corpus.clips[:3]] == ["a-00000.0", "a-00010.0", "a-00020.0"]
    assert [clip.seconds for clip in corpus.clips[:3]] == pytest.approx([10, 10, 5])
    first = corpus.clips[0]
    assert (first.caption, first.performer, first.licence, first.consent) == (
        "slow alap",
        "Asha",
        "CC0",
        "signed",
    )
    assert (first.extra, first.source, first.recording) == ({"raga": "Yaman"}, "unknown", "a")
    summary = corpus.summary
    assert (summary["clips"], summary["recordings"], summary["performers"]) == (9, 3, 2)
    assert summary["seconds"] == pytest.approx(75, abs=0.1)
    assert summary["rights"]["licences"] == {"CC0": 2, "unknown": 1}
    assert summary["rights"]["consent"] == {"signed": 1, "unknown": 2}
    assert summary["captions"] == {"metadata": 3}
    split = summary["split"]
    assert split["step"] == "performer"
    assert split["held_out"] == {"clips": 3, "seconds": pytest.approx(25, abs=0.1), "recordings": 1}
    assert {clip.recording for clip in corpus.held_out} == {"deep/b"}
    assert (summary["skipped"], summary["notes"]) == ([], [])


def make_bad_files(folder: Path) -> dict[str, str]:
    """Files that cannot be used, and what has to be said about each."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 30000).astype(np.float32)
    (folder / "letter.wav").write_text("dear friend\n" * 50)
    (folder / "nothing.mp3").write_bytes(b"")
    soundfile.write(folder / "zero.wav", np.zeros((0, 1)), RATE_HZ)
    write(folder / "silent.flac", Audio(np.zeros(30000), RATE_HZ))
    write(folder / "blip.wav", Audio(samples[:2000], RATE_HZ))
    soundfile.write(folder / "nan.wav", np.where(samples > 0.4, np.nan, samples), RATE_HZ, subtype="FLOAT")
    write(folder / "cut.mp3", Audio(samples, 16000))
    data = (folder / "cut.mp3").read_bytes()
    (folder / "cut.mp3").write_bytes(data[: len(data) // 2])
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    return {
        "letter.wav": "not audio",
        "nothing.mp3": "0 bytes",
        "zero.wav": "0 seconds",
        "silent.flac": "silent",
        "blip.wav": "too short: 0.25 s",
        "nan.wav": "NaN",
        "cut.mp3": "truncated",
        "gone.wav": "a broken link",
    }


def test_bad_files_are_reported_and_stop_nothing(three: Path, out: Path) -> None:
    reasons = make_bad_files(three)
    corpus = make(three, out)
    skipped = {row["file"]: row["reason"] for row in corpus.summary["skipped"]}
    assert skipped.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in skipped[name]
        assert str(three) not in skipped[name]
    assert corpus.summary["recordings"] == 3
    assert make(three, out).work == {"decoded": 0, "reused": 3, "rebuilt_because": []}


def test_only_bad_files_is_one_clear_line_and_leaves_nothing(folder: Path, out: Path) -> None:
    make_bad_files(folder)
    with pytest.raises(TalimError, match=r"none of its recordings can be used \(8\); .*: ") as caught:
        make(folder, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_running_again_changes_nothing(three: Path, out: Path) -> None:
    first = make(three, out)
    before = snapshot(out)
    second = make(three, out)
    assert snapshot(out) == before
    assert (first.work["decoded"], second.work["decoded"], second.work["reused"]) == (3, 0, 3)
    assert (second.clips, second.hash) == (first.clips, first.hash)


def test_only_what_is_new_is_decoded(three: Path, out: Path, record) -> None:
    make(three, out)
    record("new.wav", 12, seed=40)
    record("a.wav", 15, seed=41)
    (three / "c.ogg").unlink()
    corpus = make(three, out)
    assert (corpus.work["decoded"], corpus.work["reused"]) == (2, 1)
    assert {clip.source_file for clip in corpus.clips} == {"a.wav", "deep/b.flac", "new.wav"}
    stored = {str(path.relative_to(out)) for path in out.glob("clips/*/*")}
    assert stored == {clip.file for clip in corpus.clips}
    assert len(list(out.glob("sources/*"))) == 2 * 3


def test_an_update_equals_a_fresh_start(three: Path, out: Path, tmp_path: Path, record) -> None:
    make(three, out, clip_seconds=4)
    record("new.wav", 12, seed=40)
    updated, fresh = make(three, out), make(three, tmp_path / "fresh")
    assert updated.hash == fresh.hash
    names = [set(snapshot(corpus.folder)) for corpus in (updated, fresh)]
    assert names[0] == names[1]


def test_moved_recordings_are_not_decoded_again(three: Path, out: Path) -> None:
    make(three, out)
    (three / "a.wav").rename(three / "deep" / "renamed.wav")
    corpus = make(three, out)
    assert (corpus.work["decoded"], corpus.work["reused"]) == (0, 3)
    assert "deep/renamed.wav" in {clip.source_file for clip in corpus.clips}


def test_changed_options_say_what_they_rebuild(three: Path, out: Path) -> None:
    make(three, out)
    corpus = make(three, out, clip_seconds=5)
    assert corpus.work["rebuilt_because"] == ["clip_seconds 10.0 -> 5.0: all clips are cut again"]
    assert corpus.work["decoded"] == 3
    assert {str(path.relative_to(out)) for path in out.glob("clips/*/*")} == {c.file for c in corpus.clips}
    assert make(three, out, clip_seconds=5, seed=3, describe="x").work["decoded"] == 0


def test_a_kill_in_the_middle_keeps_the_old_corpus_and_continues(
    three: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make(three, out)
    before = (out / "corpus.jsonl").read_bytes()
    from talim.corpus import segment

    count = []

    def dying(path: Path, *rest: Any) -> None:
        count.append(path)
        if len(count) == 6:
            raise KeyboardInterrupt
        write(path, *rest)

    monkeypatch.setattr(segment, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        make(three, out, clip_seconds=5)
    monkeypatch.undo()
    assert (out / "corpus.jsonl").read_bytes() == before
    loaded = Corpus.load(out)
    assert [loaded.read_clip(clip).frames for clip in loaded.clips] == [
        old.read_clip(c).frames for c in old.clips
    ]
    assert [*out.rglob("*.part"), *out.rglob(".tmp-*")] == []
    corpus = make(three, out, clip_seconds=5)
    assert (corpus.work["decoded"], corpus.work["reused"]) == (2, 1)


@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_while_the_manifest_is_written_is_noticed(
    three: Path, out: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    make(three, out)
    from talim.atomic_io import write_text
    from talim.corpus import corpus_folder as module

    count = []

    def dying(path: Path, text: str) -> None:
        count.append(path)
        if len(count) == call:
            raise KeyboardInterrupt
        write_text(path, text)

    monkeypatch.setattr(module, "write_text", dying)
    with pytest.raises(KeyboardInterrupt):
        make(three, out, describe="other")
    monkeypatch.undo()
    with pytest.raises(TalimError, match="talim prepare"):
        Corpus.load(out)
    assert {clip.caption for clip in make(three, out, describe="other").clips} == {"other"}
    assert Corpus.load(out).summary["captions"] == {"describe": 3}


def test_without_words_an_editable_table_is_written_and_honoured(three: Path, out: Path) -> None:
    (three / "a.txt").write_text("told beside", encoding="utf-8")
    corpus = make(three, out)
    table = out / "metadata.csv"
    assert corpus.summary["captions_to_write"] == {"file": "metadata.csv", "recordings": 2}
    assert {clip.caption for clip in corpus.clips} == {"told beside", NEUTRAL_CAPTION}
    text = table.read_text("utf-8")
    assert text.splitlines()[0].startswith("file_name,text,performer")
    assert "a.wav" not in text
    rows = [line.replace(NEUTRAL_CAPTION, "a tanpura") for line in text.splitlines()[:-1]]
    table.write_text("\n".join([*rows, text.splitlines()[-1]]) + "\n", encoding="utf-8")
    before = table.read_bytes()
    corpus = make(three, out)
    assert corpus.work["decoded"] == 0
    assert corpus.summary["captions"] == {"corpus metadata.csv": 1, "none": 1, "text file": 1}
    assert table.read_bytes() == before
    assert make(three, out, describe="all the rest").summary["captions_to_write"] is None


def test_the_folder_of_recordings_is_never_written_to(three: Path, out: Path) -> None:
    before = snapshot(three)
    make(three, out)
    assert snapshot(three) == before
