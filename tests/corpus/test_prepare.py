"""From a folder to a corpus: bad files, re-runs, kills, edits, and what the summary says."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures.prepared import RATE_HZ, make, snapshot

from talim.audio import Audio, write
from talim.corpus.captions import NEUTRAL
from talim.corpus.manifest import Corpus
from talim.errors import TalimError


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
    from talim.corpus import sources

    count = []

    def dying(path: Path, *rest: Any) -> None:
        count.append(path)
        if len(count) == 6:
            raise KeyboardInterrupt
        write(path, *rest)

    monkeypatch.setattr(sources, "write", dying)
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
    from talim.corpus import stock as module
    from talim.run import write_text

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
    assert {clip.caption for clip in corpus.clips} == {"told beside", NEUTRAL}
    text = table.read_text("utf-8")
    assert text.splitlines()[0].startswith("file_name,text,performer")
    assert "a.wav" not in text
    rows = [line.replace(NEUTRAL, "a tanpura") for line in text.splitlines()[:-1]]
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
