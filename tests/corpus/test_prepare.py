"""prepare: bad files, repeated runs, kills, edited captions, licences, progress, and the summary."""

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
from fixtures import t5_tokenizer
from fixtures.broken_recordings import broken_files, forget, good_clips
from fixtures.importer_sources import SCORE_HEAD, own_folder, sound, symbtr_scores
from fixtures.prepared_corpus import RATE_HZ, make, snapshot

from talim.audio import Audio, write
from talim.backbones.readable_text import TextReader
from talim.corpus import report
from talim.corpus.captions import NO_CAPTION, RecordingMetadata, file_metadata
from talim.corpus.importers.folder import list_recordings
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import filter_by_licence, prepare, read_descriptions
from talim.corpus.recordings import SourceFile
from talim.errors import TalimError, UsageError
from talim.progress import Progress
from talim.reporting.messages import corpus_message


class RecordedProgress(Progress):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, str]] = []
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self.steps.append((done, total, facts))


def test_prepare_with_the_same_audio_twice_uses_it_once(three: Path, out: Path) -> None:
    (three / "copy.wav").write_bytes((three / "a.wav").read_bytes())
    samples, rate_hz = soundfile.read(three / "a.wav", dtype="int16")
    soundfile.write(three / "other.flac", samples, rate_hz)
    corpus = make(three, out)
    assert corpus.summary["skipped"] == [
        {"file": "copy.wav", "reason": "the same audio as a.wav", "copy_of": "a.wav"},
        {"file": "other.flac", "reason": "the same audio as a.wav", "copy_of": "a.wav"},
    ]
    assert len({clip.audio_hash for clip in corpus.clips}) == len(corpus.clips)


def test_prepare_with_five_copies_among_six_files_tells_two_recordings(folder: Path, out: Path) -> None:
    for name, seed in (("a.wav", 1), ("b.wav", 2)):
        write(folder / name, sound(seed, 24))
    samples, rate_hz = soundfile.read(folder / "a.wav", dtype="float32")
    for number, (ending, gain) in enumerate([("wav", 1.0), ("flac", 0.9), ("ogg", 0.8), ("mp3", 0.7)]):
        write(folder / f"copy-{number}.{ending}", Audio(gain * samples[None], rate_hz))
    corpus = make(folder, out)
    summary = corpus.summary
    assert summary["recordings"] == 2
    assert {row["file"] for row in summary["skipped"]} == {
        f"copy-{n}.{e}" for n, e in enumerate(("wav", "flac", "ogg", "mp3"))
    }
    assert summary["split"]["train"]["recordings"] + summary["split"]["held_out"]["recordings"] == 2
    terminal = corpus_message(summary, out, "takes")
    assert " of 2 recordings, " in terminal
    assert "same sound as a.wav, left out: copy-0.wav, copy-1.flac, copy-2.ogg, copy-3.mp3" in terminal
    assert "2 recordings of" in report.write(corpus).read_text(encoding="utf-8")


def test_prepare_with_a_common_stretch_in_five_of_six_files_tells_two_recordings(folder: Path, out: Path) -> None:
    common = sound(1, 20)
    for number in range(6):
        parts = [sound(10 + number, 20).samples, *([common.samples] if number < 5 else [])]
        write(folder / f"take-{number}.wav", Audio(np.concatenate(parts, axis=1), common.rate_hz))
    corpus = make(folder, out)
    assert len({clip.recording for clip in corpus.clips}) == 6
    assert len({clip.sound_group for clip in corpus.clips}) == 2
    summary = corpus.summary
    assert summary["recordings"] == 2
    assert sum(summary["rights"]["licences"].values()) == 2
    assert summary["recordings_without_performer"] == 2
    assert {summary["split"][side]["recordings"] for side in ("train", "held_out")} == {1}
    terminal = corpus_message(summary, out, "takes")
    assert " of 2 recordings in 6 files, " in terminal
    assert "count as one recording: take-0.wav, take-1.wav, take-2.wav, take-3.wav and 1 more" in terminal
    assert "2 recordings of" in report.write(corpus).read_text(encoding="utf-8")


def test_prepare_with_equal_file_names_gives_unique_clip_ids(folder: Path, out: Path, record) -> None:
    for name in ("x/a.wav", "y/a.wav", "y/A.flac"):
        (folder / name).parent.mkdir(exist_ok=True)
        record(name, 12)
    corpus = make(folder, out)
    assert len({clip.id for clip in corpus.clips}) == len(corpus.clips) == 6
    assert {clip.recording for clip in corpus.clips} == {"x/a", "y/a", "y/A"}


def test_prepare_keeps_files_of_one_recording_on_one_side(folder: Path, out: Path, record) -> None:
    lines = ["file_name,recording"]
    for i in range(6):
        record(f"part{i}.wav", 12)
        lines.append(f"part{i}.wav,session {i // 2}")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    for seed in range(4):
        corpus = make(folder, out, seed=seed)
        sides = {(clip.recording, clip.split == "held_out") for clip in corpus.clips}
        assert len(sides) == corpus.summary["recordings"] == 3


def test_prepare_of_one_long_recording_leaves_a_gap(folder: Path, out: Path, record) -> None:
    record("long.wav", 200)
    corpus = make(folder, out)
    assert corpus.summary["split"]["strategy"] == "blocks"
    assert corpus.summary["split"]["gap"]["seconds"] == 30
    ends = {
        side: [(c.start_seconds, c.start_seconds + c.seconds) for c in clips]
        for side, clips in (("train", corpus.train), ("held_out", corpus.held_out))
    }
    pauses = [max(a, b) - min(d, c) for a, c in ends["train"] for b, d in ends["held_out"]]
    assert min(pauses) >= 30 - 1e-6


def test_prepare_of_one_short_recording_raises_and_leaves_nothing(folder: Path, out: Path, record) -> None:
    record("short.wav", 20)
    with pytest.raises(TalimError, match=r"nothing can be held out.*add a recording"):
        make(folder, out)
    assert not out.exists()


def test_prepare_with_named_recordings_holds_them_out(three: Path, out: Path) -> None:
    for name in ("a", "deep/b", "c"):
        corpus = make(three, out, held_out=(name,))
        assert {clip.recording for clip in corpus.held_out} == {name}
    with pytest.raises(UsageError, match="did you mean"):
        make(three, out, held_out=("bb",))
    assert Corpus.load(out).hash == corpus.hash


def test_prepare_reads_the_metadata_of_each_file_once(
    folder: Path, record: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.wav", "b.wav"):
        record(name, 2)
    read: list[str] = []

    def counted(file: SourceFile, *options: Any) -> RecordingMetadata:
        read.append(file.name)
        return file_metadata(file, *options)

    monkeypatch.setattr("talim.corpus.prepare.file_metadata", counted)
    make(folder, out, held_out=("a",))
    assert sorted(read) == ["a.wav", "b.wav"]


def test_prepare_with_an_unknown_recording_held_out_decodes_nothing(folder: Path, out: Path) -> None:
    for name in ("yaman.wav", "bhairav.wav"):
        (folder / name).write_text("never read", encoding="utf-8")
    (folder / "metadata.csv").write_text("file_name,recording\nyaman.wav,evening concert\n", encoding="utf-8")
    with pytest.raises(UsageError, match="'yamann' is no usable recording here; did you mean: "):
        make(folder, out, held_out=("yamann",))
    assert not out.exists()
    for name in ("Evening concert", "YAMAN", "bhairav.wav"):
        with pytest.raises(TalimError, match="none of its recordings can be used"):
            make(folder, out, held_out=(name,))


def test_prepare_of_files_above_full_scale_attenuates_with_note(three: Path, out: Path) -> None:
    samples = np.random.default_rng(0).uniform(-4, 4, 90000).astype(np.float32)
    soundfile.write(three / "loud.wav", samples, RATE_HZ, subtype="FLOAT")
    corpus = make(three, out)
    assert [note["file"] for note in corpus.summary["notes"]] == ["loud.wav"]
    loud = [clip for clip in corpus.clips if clip.source_file == "loud.wav"]
    assert max(np.abs(corpus.read_clip(clip).samples).max() for clip in loud) == pytest.approx(1, abs=1e-3)


def test_prepare_skips_long_silence(folder: Path, out: Path, record) -> None:
    record("a.wav", 12)
    tone = 0.4 * np.sin(np.arange(5 * RATE_HZ) * 0.3)
    write(folder / "b.wav", Audio(np.concatenate([tone, np.zeros(20 * RATE_HZ), tone]), RATE_HZ))
    corpus = make(folder, out)
    starts = [clip.start_seconds for clip in corpus.clips if clip.source_file == "b.wav"]
    assert starts == pytest.approx([0, 24.9], abs=0.06)
    assert corpus.summary["silence_skipped_seconds"] == pytest.approx(19.8, abs=0.2)


def test_prepare_with_two_channels_keeps_stereo(three: Path, out: Path) -> None:
    write(three / "st.wav", Audio(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 96000)), RATE_HZ))
    corpus = make(three, out, channels=2)
    assert {corpus.read_clip(clip).channels for clip in corpus.clips} == {2}
    assert corpus.summary["channels"] == 2


def test_prepare_with_unreadable_text_file_uses_the_recording_and_tells(three: Path, out: Path) -> None:
    (three / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    corpus = make(three, out)
    assert corpus.summary["skipped"] == []
    assert "a.wav" in {clip.source_file for clip in corpus.clips}
    (note,) = corpus.summary["notes"]
    assert note["file"] == "a.wav"
    assert "a.txt is not used" in note["note"]
    assert "UTF-8" in note["note"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"clip_seconds": -1}, "1 to 600 seconds"),
        ({"sample_rate": 0}, "4000 to 192000"),
        ({"channels": 5}, "mono"),
        ({"held_out_fraction": 0.0}, "up to 0.5"),
        ({"caption": "  "}, "caption is empty"),
        ({"split_by": "magic"}, "choose one of"),
    ],
)
def test_prepare_with_invalid_option_raises_usage_error(
    three: Path, out: Path, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        make(three, out, **options)
    assert not out.exists()


def test_prepare_into_an_unsuitable_folder_raises_usage_error(three: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        make(three, tmp_path / "file")
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "thesis.doc").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.doc"):
        make(three, tmp_path / "busy")
    with pytest.raises(TalimError, match="no audio file"):
        make(tmp_path / "busy", out)
    assert not out.exists()


def test_prepare_below_a_file_raises_one_line(three: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TalimError, match=r"file.*cannot be written") as caught:
        make(three, tmp_path / "file" / "corpus")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_prepare_into_a_read_only_folder_raises_talim_error(three: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(TalimError, match="locked"):
        make(three, tmp_path / "locked" / "corpus")


def test_prepare_on_a_full_disk_keeps_complete_clips(three: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert make(three, out).prepare_stats["reused"] == 1


def test_prepare_reports_every_file_and_a_closing_hint(three: Path, out: Path) -> None:
    progress = RecordedProgress()
    make(three, out, progress=progress)
    assert [facts for _, _, facts in progress.steps[:3]] == ["a.wav", "c.ogg", "deep/b.flac"]
    assert progress.steps[-1][:2] == (3, 3)
    assert "3 decoded, 0 unchanged" in progress.steps[-1][2]
    assert f"write them into {out / 'metadata.csv'}" in progress.steps[-1][2]


def test_prepare_writes_the_summary_as_strict_json(three: Path, out: Path) -> None:
    corpus = make(three, out)
    assert json.loads((out / "summary.json").read_text("utf-8")) == corpus.summary


def test_prepare_into_a_subfolder_of_the_source_is_repeatable(three: Path) -> None:
    first = make(three, three / "corpus")
    assert make(three, three / "corpus").hash == first.hash


@pytest.mark.real
def test_prepare_of_real_recordings_splits_by_performer(tmp_path: Path) -> None:
    recordings = Path(__file__).parents[3] / "shared" / "data" / "audio" / "hindustani"
    if not recordings.is_dir():
        pytest.skip("the real recordings (shared/data/audio) are not here")
    corpus = prepare(recordings, tmp_path / "corpus")
    assert corpus.summary["recordings"] == 7
    assert corpus.summary["skipped"] == []
    assert corpus.summary["split"]["strategy"] == "performer"


def licensed(folder: Path, make_recordings: Any, *licences: str) -> Path:
    make_recordings(folder, count=len(licences), seconds=3.0)
    rows = [f"take-{n}.wav,{text},p{n}" for n, text in enumerate(licences)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,licence,performer", *rows]) + "\n")
    return folder


def test_filter_by_licence_skips_forbidden_and_unknown_licences(tmp_path: Path, make_recordings: Any) -> None:
    recordings = licensed(tmp_path / "takes", make_recordings, "CC0-1.0", "CC BY-NC 4.0", "", "CC BY 4.0")
    imported = list_recordings(recordings, tmp_path / "out")
    described = read_descriptions(imported.files, {})
    allowed = filter_by_licence(imported, described, "commercial")
    assert [file.name for file in allowed.files] == ["take-0.wav", "take-3.wav"]
    assert {row["file"]: row["reason"] for row in allowed.skipped} == {
        "take-1.wav": "its licence (CC BY-NC 4.0) forbids commercial use",
        "take-2.wav": "its licence (unknown) is not known to allow commercial use",
    }
    assert filter_by_licence(imported, described) is imported
    edited = {"take-2.wav": {"licence": "CC0-1.0"}}  # a row of the corpus's own metadata.csv wins
    assert len(filter_by_licence(imported, read_descriptions(imported.files, edited), "commercial").files) == 3
    with pytest.raises(UsageError, match="unknown licence use 'selling'"):
        filter_by_licence(imported, described, "selling")


def test_prepare_for_commercial_use_without_allowed_recording_raises(tmp_path: Path, make_recordings: Any) -> None:
    recordings = licensed(tmp_path / "takes", make_recordings, "", "unknown")
    with pytest.raises(TalimError, match=r"none of 2 recordings may be used commercially .* columns file_name"):
        prepare(recordings, tmp_path / "out", license_use="commercial")
    assert not (tmp_path / "out").exists()


def test_prepare_for_commercial_use_keeps_allowed_recordings_only(tmp_path: Path, make_recordings: Any) -> None:
    recordings = licensed(tmp_path / "takes", make_recordings, "CC0-1.0", "CC BY 4.0", "CC BY-NC 4.0")
    corpus = prepare(recordings, tmp_path / "out", clip_seconds=2.0, license_use="commercial")
    assert {clip.licence for clip in corpus.clips} == {"CC0-1.0", "CC BY 4.0"}
    assert [row["file"] for row in corpus.summary["skipped"]] == ["take-2.wav"]
    again = prepare(recordings, tmp_path / "out", clip_seconds=2.0)
    assert len({clip.licence for clip in again.clips}) == 3


def check(corpus: Corpus, reasons: dict[str, str], good: int) -> None:
    """Every good file is in the corpus, every broken one has a line of its own."""
    skipped = {row["file"]: row["reason"] for row in corpus.summary["skipped"]}
    expected = {unicodedata.normalize("NFC", name): reason for name, reason in reasons.items()}
    assert skipped.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in skipped[name], (name, skipped[name])
    assert corpus.summary["recordings"] == len({clip.source_file for clip in corpus.clips}) == good
    said = corpus_message(corpus.summary, corpus.folder, "takes")
    lines = [line for line in said.split("\n") if line.startswith("skipped ")]
    assert len(lines) == len(reasons) >= 17
    assert all(len(line) < 300 and line.isprintable() for line in lines)
    for clip in corpus.clips:
        assert corpus.read_clip(clip).frames > 0


def test_prepare_of_a_mixed_folder_uses_all_good_files(folder: Path, out: Path) -> None:
    good_clips(folder, 16)
    reasons = broken_files(folder)
    corpus = prepare(folder, out, sample_rate=8000)
    incomplete = {row["file"]: row["note"] for row in corpus.summary["notes"] if "incomplete" in row["note"]}
    assert incomplete.keys() == {"torn.mp3", "cut.flac"}
    check_but_readable(corpus, reasons, 16)


def check_but_readable(corpus: Corpus, reasons: dict[str, str], good: int) -> None:
    """As `check`; which of the torn files can be read in part depends on the version of the decoder."""
    used = {clip.source_file for clip in corpus.clips}
    readable = {"torn.mp3", "cut.flac", "words.wav"} & used
    check(corpus, {name: reason for name, reason in reasons.items() if name not in readable}, good + len(readable))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_prepare_with_unreadable_files_names_them(folder: Path, out: Path) -> None:
    good_clips(folder, 4)
    (closed,) = list(folder.rglob("*.ogg"))
    closed.chmod(0)
    (folder / "disc 1").chmod(0o600)
    skipped = prepare(folder, out, sample_rate=8000).summary["skipped"]
    (folder / "disc 1").chmod(0o700)
    assert any("Permission denied" in row["reason"] for row in skipped)


def test_prepare_with_permission_errors_skips_the_files(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good_clips(folder, 8)
    real_open = Path.open

    def refusing(self: Path, *args: object, **more: object) -> object:
        if self.suffix == ".ogg" and "disc" in str(self):
            raise PermissionError(13, "Permission denied", str(self))
        return real_open(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", refusing)
    skipped = prepare(folder, out, sample_rate=8000).summary["skipped"]
    assert [row["reason"] for row in skipped] == ["cannot be read: Permission denied"] * 2


def test_prepare_again_reads_its_own_table_with_a_line_break_in_a_name(three: Path, out: Path) -> None:
    (three / "a.wav").rename(three / "two\nlines.wav")
    corpus = make(three, out)
    assert make(three, out).hash == corpus.hash


@pytest.mark.slow
def test_prepare_of_two_hundred_files_twice_decodes_once(folder: Path, out: Path) -> None:
    good_clips(folder, 180)
    reasons = broken_files(folder)
    corpus = prepare(folder, out)
    check_but_readable(corpus, reasons, 180)
    again = prepare(folder, out)
    assert again.hash == corpus.hash
    assert again.prepare_stats == {"decoded": 0, "reused": corpus.prepare_stats["decoded"], "rebuilt_because": []}


def start(folder: Path, out: Path) -> ForkProcess:
    """Prepare in a forked process, which need not import anything again."""
    running = get_context("fork").Process(target=prepare, args=(folder, out), kwargs={"sample_rate": 8000})
    running.start()
    return running


def finish(running: ForkProcess) -> None:
    running.join()
    assert running.exitcode == 0


@pytest.mark.slow
def test_prepare_killed_at_random_times_never_corrupts_the_corpus(folder: Path, out: Path) -> None:
    """Killed at ten moments of a run, the corpus loads or is absent, and the next run gives the same result."""
    good_clips(folder, 24)
    broken_files(folder)
    began = time.monotonic()
    finish(start(folder, out))
    seconds = time.monotonic() - began
    whole, clips = Corpus.load(out), {path.name for path in out.glob("clips/*/*")}
    rng = np.random.default_rng(0)
    for round_number in range(10):
        forget(out) if round_number % 2 == 0 else remove_some_clips(out)
        running = start(folder, out)
        time.sleep(float(rng.uniform(0.05, 1.0)) * seconds)
        running.kill()
        running.join()
        check_complete_or_none(out)
        finish(start(folder, out))
        assert Corpus.load(out).hash == whole.hash
        assert {path.name for path in out.glob("clips/*/*")} == clips
        assert (out / "report" / "index.html").stat().st_size > 10000


def remove_some_clips(out: Path) -> None:
    """Delete some clips of a finished corpus, so that the next run has to make them."""
    for path in sorted(out.glob("clips/*/*.flac"))[::3]:
        path.unlink()


def check_complete_or_none(out: Path) -> None:
    """A killed run leaves a corpus that loads, or none."""
    if not (out / "summary.json").is_file():
        with pytest.raises(TalimError, match="not a corpus"):
            Corpus.load(out)
        return
    corpus = Corpus.load(out)
    assert corpus.summary["clips"] == len(corpus.clips)


def test_prepare_gives_clips_captions_rights_and_summary(three: Path, out: Path) -> None:
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
    assert (first.caption, first.performer, first.licence, first.consent) == ("slow alap", "Asha", "CC0", "signed")
    assert (first.extra, first.source, first.recording) == ({"raga": "Yaman"}, "unknown", "a")
    summary = corpus.summary
    assert (summary["clips"], summary["recordings"], summary["performers"]) == (9, 3, 2)
    assert summary["seconds"] == pytest.approx(75, abs=0.1)
    assert summary["rights"]["licences"] == {"CC0": 2, "unknown": 1}
    assert summary["rights"]["consent"] == {"signed": 1, "unknown": 2}
    assert summary["captions"] == {"metadata": 3}
    split = summary["split"]
    assert split["strategy"] == "performer"
    assert split["held_out"] == {"clips": 3, "seconds": pytest.approx(25, abs=0.1), "recordings": 1}
    assert {clip.recording for clip in corpus.held_out} == {"deep/b"}
    assert (summary["skipped"], [row["file"] for row in summary["notes"]]) == ([], ["labels"])  # no tradition is given


def make_bad_files(folder: Path) -> dict[str, str]:
    """Write unusable files; returns a part of the reason for each."""
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
        "cut.mp3": "seconds are there",
        "gone.wav": "a broken link",
    }


def test_prepare_with_bad_files_reports_them_and_continues(three: Path, out: Path) -> None:
    reasons = make_bad_files(three)
    corpus = make(three, out)
    skipped = {row["file"]: row["reason"] for row in corpus.summary["skipped"]}
    assert skipped.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in skipped[name]
        assert str(three) not in skipped[name]
    assert corpus.summary["recordings"] == 3
    assert make(three, out).prepare_stats == {"decoded": 0, "reused": 3, "rebuilt_because": []}


def test_prepare_of_bad_files_only_raises_one_line_and_leaves_nothing(folder: Path, out: Path) -> None:
    make_bad_files(folder)
    with pytest.raises(TalimError, match=r"none of its recordings can be used \(8\); .*: ") as caught:
        make(folder, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_prepare_again_changes_nothing(three: Path, out: Path) -> None:
    first = make(three, out)
    before = snapshot(out)
    second = make(three, out)
    assert snapshot(out) == before
    assert (first.prepare_stats["decoded"], second.prepare_stats["decoded"], second.prepare_stats["reused"]) == (
        3,
        0,
        3,
    )
    assert (second.clips, second.hash) == (first.clips, first.hash)


def test_prepare_after_changes_decodes_new_files_only(three: Path, out: Path, record) -> None:
    make(three, out)
    record("new.wav", 12, seed=40)
    record("a.wav", 15, seed=41)
    (three / "c.ogg").unlink()
    corpus = make(three, out)
    assert (corpus.prepare_stats["decoded"], corpus.prepare_stats["reused"]) == (2, 1)
    assert {clip.source_file for clip in corpus.clips} == {"a.wav", "deep/b.flac", "new.wav"}
    stored = {str(path.relative_to(out)) for path in out.glob("clips/*/*")}
    assert stored == {clip.file for clip in corpus.clips}
    assert len(list(out.glob("sources/*"))) == 2 * 3


def test_prepare_of_an_update_equals_a_fresh_corpus(three: Path, out: Path, tmp_path: Path, record) -> None:
    make(three, out, clip_seconds=4)
    record("new.wav", 12, seed=40)
    updated, fresh = make(three, out), make(three, tmp_path / "fresh")
    assert updated.hash == fresh.hash
    names = [set(snapshot(corpus.folder)) for corpus in (updated, fresh)]
    assert names[0] == names[1]


def test_prepare_after_renaming_decodes_nothing(three: Path, out: Path) -> None:
    make(three, out)
    (three / "a.wav").rename(three / "deep" / "renamed.wav")
    corpus = make(three, out)
    assert (corpus.prepare_stats["decoded"], corpus.prepare_stats["reused"]) == (0, 3)
    assert "deep/renamed.wav" in {clip.source_file for clip in corpus.clips}


def test_prepare_with_changed_options_names_what_is_rebuilt(three: Path, out: Path) -> None:
    make(three, out)
    corpus = make(three, out, clip_seconds=5)
    assert corpus.prepare_stats["rebuilt_because"] == ["clip_seconds 10.0 -> 5.0: all clips are cut again"]
    assert corpus.prepare_stats["decoded"] == 3
    assert {str(path.relative_to(out)) for path in out.glob("clips/*/*")} == {c.file for c in corpus.clips}
    assert make(three, out, clip_seconds=5, seed=3, caption="x").prepare_stats["decoded"] == 0


def test_prepare_interrupted_keeps_the_old_corpus_and_resumes(
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
    assert [loaded.read_clip(clip).frames for clip in loaded.clips] == [old.read_clip(c).frames for c in old.clips]
    assert [*out.rglob("*.part")] == []
    corpus = make(three, out, clip_seconds=5)
    assert (corpus.prepare_stats["decoded"], corpus.prepare_stats["reused"]) == (2, 1)


def test_prepare_without_captions_writes_an_editable_table_and_reads_it(three: Path, out: Path) -> None:
    (three / "a.txt").write_text("from a text file", encoding="utf-8")
    corpus = make(three, out)
    table = out / "metadata.csv"
    missing = corpus.summary["missing_captions"]
    assert missing["file"] == "metadata.csv"
    assert missing["recordings"] == len(missing["names"])
    assert len(missing["names"] + missing["kept_out"]) == 2
    assert {clip.caption for clip in corpus.clips} == {"from a text file", NO_CAPTION}
    text = table.read_text("utf-8")
    assert text.splitlines()[0] == "file_name,text,tradition,raga,performer,recording,licence,source,consent"
    assert "a.wav" not in text
    rows = [line.replace(".ogg,,", ".ogg,a tanpura,") for line in text.splitlines()[:-1]]
    table.write_text("\n".join([*rows, text.splitlines()[-1]]) + "\n", encoding="utf-8")
    before = table.read_bytes()
    corpus = make(three, out)
    assert corpus.prepare_stats["decoded"] == 0
    assert corpus.summary["captions"] == {"corpus metadata.csv": 1, "none": 1, "text file": 1}
    assert table.read_bytes() == before
    assert make(three, out, caption="all the rest").summary["missing_captions"] is None


def test_prepare_with_the_recordings_own_table_names_that_one_for_captions(three: Path, out: Path) -> None:
    (three / "metadata.csv").write_text("file_name,performer\na.wav,Meera\n", encoding="utf-8")
    progress = RecordedProgress()
    corpus = make(three, out, progress=progress)
    assert corpus.summary["missing_captions"]["file"] == f"{three.name}/metadata.csv"  # it goes with the corpus
    assert f"write them into {three / 'metadata.csv'}" in progress.steps[-1][2]  # as the folder was given
    assert f"add captions to {three / 'metadata.csv'}" in corpus_message(corpus.summary, out, three)
    assert not (out / "metadata.csv").exists()


def test_prepare_with_a_table_beside_the_recordings_names_it_though_the_empty_template_is_still_there(
    three: Path, out: Path
) -> None:
    assert make(three, out).summary["missing_captions"]["file"] == "metadata.csv"
    row = "a.wav,slow,Yaman,morning\n"
    (three / "metadata.csv").write_text(f"file_name,text,raga,recording\n{row}", encoding="utf-8")
    corpus = make(three, out)
    assert corpus.summary["missing_captions"]["file"] == f"{three.name}/metadata.csv"
    told = {(clip.caption, clip.mode, clip.recording) for clip in corpus.clips if clip.source_file == "a.wav"}
    assert told == {("slow", "Yaman", "morning")}


def test_prepare_tells_what_a_table_says_of_no_recording_before_the_work(three: Path, out: Path) -> None:
    (three / "metadata.csv").write_text("file_name,text\nA.WAV,x\nnobody.wav,y\n", encoding="utf-8")
    (three / "metadata.xlsx").write_bytes(b"PK")
    (three / "c.txt").symlink_to(three.parent / "elsewhere.txt")
    (three.parent / "elsewhere.txt").write_text("secret", encoding="utf-8")
    progress = RecordedProgress()
    corpus = make(three, out, progress=progress)
    for note in (
        "line 3 matches no recording",
        "'A.WAV' (line 2) is a.wav",
        "metadata.xlsx: not read",
        "c.txt is not used",
    ):
        assert any(line.startswith("note: ") and note in line for line in progress.lines)
        assert any(note in f"{row['file']}: {row['note']}" for row in corpus.summary["notes"])
        assert note.split(": ")[-1].split("'")[-1] in (out / "report" / "index.html").read_text("utf-8")
    assert "secret" not in (out / "corpus.jsonl").read_text("utf-8")


def test_prepare_tells_rows_of_its_own_table_that_match_nothing(three: Path, out: Path) -> None:
    make(three, out)
    (out / "metadata.csv").write_text("file_name,text\nA,a tanpura\ngone.wav,y\n ,z\n", encoding="utf-8")
    progress = RecordedProgress()
    corpus = make(three, out, progress=progress)
    assert "a tanpura" in {clip.caption for clip in corpus.clips}
    assert any("line 3 matches no recording here" in line and "gone.wav" in line for line in progress.lines)
    assert any("line 4 without a file name: not used" in line for line in progress.lines)
    assert "gone.wav" in (out / "metadata.csv").read_text("utf-8")  # kept for when the recording is back


def test_prepare_for_commercial_use_takes_what_is_declared_as_own(three: Path, out: Path) -> None:
    rows = "a.wav,自作（自由に使用可）\nc.ogg,Kendi kaydım\ndeep/b.flac,my own recording of a song by others\n"
    (three / "metadata.csv").write_text(f"file_name,licence\n{rows}", encoding="utf-8")
    corpus = make(three, out, license_use="commercial")
    assert {clip.licence for clip in corpus.clips} == {
        "自作（自由に使用可）",
        "Kendi kaydım",
    }  # the words that were typed
    assert [row["file"] for row in corpus.summary["skipped"]] == ["deep/b.flac"]


def test_prepare_never_writes_to_the_source(three: Path, out: Path) -> None:
    before = snapshot(three)
    make(three, out)
    assert snapshot(three) == before


def test_prepare_writes_the_corpus_page(folder: Path, out: Path) -> None:
    corpus = prepare(own_folder(folder), out, sample_rate=8000)
    assert (corpus.folder / "report" / "index.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_prepare_of_scores_renders_them(folder: Path, out: Path, tmp_path: Path) -> None:
    corpus = prepare(symbtr_scores(folder), out, sample_rate=8000, clip_seconds=5)
    assert corpus.summary["source_format"] == "symbtr"
    assert {clip.mode for clip in corpus.clips} == {"Hicaz"}
    assert corpus.summary["split"]["strategy"] == "release"  # no performers, but different works
    other = prepare(folder, tmp_path / "theory", format="symbtr:theory", sample_rate=8000, clip_seconds=5)
    assert {clip.audio_hash for clip in other.clips}.isdisjoint({clip.audio_hash for clip in corpus.clips})


def test_prepare_of_a_source_without_usable_file_logs_each_reason(folder: Path, out: Path) -> None:
    for n in range(3):
        (folder / f"hicaz--sarki--aksak--empty_{n}--nobody.txt").write_text(SCORE_HEAD, encoding="utf-8")
    progress = RecordedProgress()
    with pytest.raises(TalimError, match=r"none of its recordings can be used \(3\)"):
        prepare(folder, out, progress=progress)
    assert len(progress.lines) == 3
    assert all("holds no note" in line for line in progress.lines)
    assert not out.exists()


def test_prepare_of_equal_files_keeps_the_described_one(folder: Path, record, tmp_path: Path) -> None:
    record("b.wav", 25)
    (folder / "a copy of b.wav").write_bytes((folder / "b.wav").read_bytes())
    record("c.wav", 25)
    (folder / "metadata.csv").write_text(
        "file_name,text,raga,licence\nb.wav,a slow sitar,Yaman,CC BY 4.0\n", encoding="utf-8"
    )
    corpus = prepare(folder, tmp_path / "corpus", sample_rate=8000)
    assert {clip.source_file for clip in corpus.clips} == {"b.wav", "c.wav"}
    assert {clip.licence for clip in corpus.clips if clip.source_file == "b.wav"} == {"CC BY 4.0"}
    assert corpus.summary["example_caption"] in {clip.caption for clip in corpus.train}


def test_prepare_tells_which_letters_of_captions_a_base_may_not_know(three: Path, out: Path) -> None:
    for name, text in (("a", "राग यमन, slow"), ("deep/b", "rāga Yaman, slow"), ("c", "静かな朝")):
        (three / f"{name}.txt").write_text(text, encoding="utf-8")
    corpus = make(three, out)
    told = [row["note"] for row in corpus.summary["notes"] if row["file"] == "captions"]
    assert all(any(pair in note for note in told) for pair in ("राग -> raga", "यमन -> Yaman", "rāga -> raga")), told
    assert any("cannot read 1 word of the captions: 静かな朝" in note for note in told)
    assert any("cannot tell apart 'राग यमन, slow' and 'rāga Yaman, slow'" in note for note in told)
    assert {clip.caption for clip in corpus.clips} == {"राग यमन, slow", "rāga Yaman, slow", "静かな朝"}  # kept


def test_prepare_for_a_base_asks_its_tokenizer(three: Path, out: Path) -> None:
    (three / "a.txt").write_text("café rāga", encoding="utf-8")
    corpus = make(three, out, reader=TextReader(t5_tokenizer.load(), "musicgen-small"))
    (note,) = [row["note"] for row in corpus.summary["notes"] if row["file"] == "captions"]
    assert note.endswith("unknown to musicgen-small; it reads a spelling that it knows: rāga -> raga")


def test_prepare_tells_names_in_no_list_and_sections_behind_the_end(three: Path, out: Path) -> None:
    (three / "metadata.csv").write_text("file_name,raga\na.wav,Yamna\nb.wav,Yaman\nc.wav,Yamna\n")
    (three / "sections.csv").write_text("file_name,start_seconds,seconds,laya\na.wav,0,5,drut\na.wav,500,5,vilambit\n")
    (three / "empty.wma").touch()
    progress = RecordedProgress()
    summary = make(three, out, progress=progress).summary
    told = "raga 'Yamna' (2 recordings): did you mean Yaman?"
    assert {"file": "unknown names", "note": told} in summary["notes"]
    assert f"unknown name, in captions as written: {told}" in corpus_message(summary, out, "takes").splitlines()
    assert not any(told in line for line in progress.lines)  # once
    (late,) = [row["note"] for row in summary["notes"] if row["file"] == "a.wav"]
    assert late.startswith("1 section of it begins after its end and labels nothing: it lasts ")
    assert [row["file"] for row in summary["skipped"]] == ["empty.wma"]
    assert told.replace("'", "&#39;") in (out / "report" / "index.html").read_text(encoding="utf-8")
