"""The manifest: what is written is what is loaded; damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim.audio import content_hash
from talim.corpus.manifest import Clip, Corpus
from talim.corpus.prepare import prepare_corpus
from talim.errors import TalimError


@pytest.fixture
def corpus(folder: Path, record, tmp_path: Path) -> Corpus:
    record("a.wav", 25)
    record("b.wav", 25)
    return prepare_corpus(folder, tmp_path / "corpus", rate_hz=8000)


def test_load_gives_what_prepare_gave(corpus: Corpus) -> None:
    loaded = Corpus.load(corpus.folder)
    assert loaded.clips == corpus.clips
    assert loaded.summary == corpus.summary
    assert loaded.hash == corpus.hash
    assert loaded.targets == corpus.folder / "targets"
    assert len(loaded.train) + len(loaded.held_out) == len(loaded.clips)


def test_clips_sound_as_their_hash_says(corpus: Corpus) -> None:
    for clip in corpus.clips:
        audio = corpus.read_clip(clip)
        assert content_hash(audio) == clip.audio_hash
        assert audio.seconds == pytest.approx(clip.seconds, abs=1e-3)
        assert (audio.rate_hz, audio.channels) == (8000, 1)


def test_the_hash_follows_words_and_not_the_place(corpus: Corpus, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    corpus.folder.rename(moved)
    assert Corpus.load(moved).hash == corpus.hash
    first, *rest = corpus.clips
    changed = Corpus(moved, (first.model_copy(update={"caption": "other"}), *rest), {})
    assert changed.hash != corpus.hash


def test_clips_refuse_unknown_fields(corpus: Corpus) -> None:
    row = corpus.clips[0].model_dump() | {"mood": "x"}
    with pytest.raises(ValueError, match="mood"):
        Clip.model_validate(row)


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match=r"not a corpus.*talim prepare FOLDER --out"):
        Corpus.load(tmp_path)


@pytest.mark.parametrize("text", ["{broken\n", '{"id": "x"}\n', "\xff"])
def test_a_damaged_manifest_is_one_clear_line(corpus: Corpus, text: str) -> None:
    (corpus.folder / "corpus.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(TalimError, match="its manifest is damaged") as caught:
        Corpus.load(corpus.folder)
    assert "\n" not in str(caught.value)


def test_a_missing_clip_says_how_to_get_it_back(corpus: Corpus, folder: Path) -> None:
    clip = corpus.clips[0]
    (corpus.folder / clip.file).unlink()
    with pytest.raises(TalimError, match="run talim prepare again"):
        corpus.read_clip(clip)
    again = prepare_corpus(folder, corpus.folder, rate_hz=8000)
    assert again.work["decoded"] == 1
    assert content_hash(again.read_clip(clip)) == clip.audio_hash


def test_rows_are_one_json_object_a_line_in_utf8(folder: Path, record, tmp_path: Path) -> None:
    record("a.wav", 12)
    record("b.wav", 12)
    corpus = prepare_corpus(folder, tmp_path / "corpus", rate_hz=8000, describe="राग यमन")
    lines = (corpus.folder / "corpus.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["caption"] for line in lines] == ["राग यमन"] * len(corpus.clips)
    assert "राग" in lines[0]


def test_a_caption_may_hold_any_separator(folder: Path, record, tmp_path: Path) -> None:
    words = "raga Yaman\u2028slow\u0085alap"
    record("a.wav", 12)
    record("b.wav", 12)
    made = prepare_corpus(folder, tmp_path / "corpus", rate_hz=8000, describe=words)
    assert {clip.caption for clip in Corpus.load(made.folder).clips} == {made.clips[0].caption}
    assert len(Corpus.load(made.folder).clips) == len(made.clips)
