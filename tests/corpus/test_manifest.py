"""Corpus.load and the manifest: round trips, damage, other format versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim.audio import content_hash
from talim.corpus.manifest import Clip, Corpus
from talim.corpus.prepare import prepare
from talim.errors import TalimError


@pytest.fixture
def corpus(folder: Path, record, tmp_path: Path) -> Corpus:
    record("a.wav", 25)
    record("b.wav", 25)
    return prepare(folder, tmp_path / "corpus", sample_rate=8000)


def test_load_of_a_prepared_corpus_returns_the_same_corpus(corpus: Corpus) -> None:
    loaded = Corpus.load(corpus.folder)
    assert loaded.clips == corpus.clips
    assert loaded.summary == corpus.summary
    assert loaded.hash == corpus.hash
    assert loaded.features == corpus.folder / "features"
    assert len(loaded.train) + len(loaded.validation) + len(loaded.held_out) == len(loaded.clips)


def test_read_clip_returns_audio_with_the_stored_hash(corpus: Corpus) -> None:
    for clip in corpus.clips:
        audio = corpus.read_clip(clip)
        assert content_hash(audio) == clip.audio_hash
        assert audio.seconds == pytest.approx(clip.seconds, abs=1e-3)
        assert (audio.rate_hz, audio.channels) == (8000, 1)


def test_hash_changes_with_captions_and_not_with_the_folder(corpus: Corpus, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    corpus.folder.rename(moved)
    assert Corpus.load(moved).hash == corpus.hash
    first, *rest = corpus.clips
    changed = Corpus(moved, (first.model_copy(update={"caption": "other"}), *rest), {})
    assert changed.hash != corpus.hash


def test_clip_with_unknown_field_raises(corpus: Corpus) -> None:
    row = corpus.clips[0].model_dump() | {"mood": "x"}
    with pytest.raises(ValueError, match="mood"):
        Clip.model_validate(row)


def test_load_of_a_folder_without_corpus_raises(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match=r"not a corpus.*talim prepare FOLDER --out"):
        Corpus.load(tmp_path)


@pytest.mark.parametrize("text", ["{broken\n", '{"id": "x"}\n', "\xff"])
def test_load_of_a_damaged_manifest_raises_one_line(corpus: Corpus, text: str) -> None:
    (corpus.folder / "corpus.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(TalimError, match="its manifest is damaged") as caught:
        Corpus.load(corpus.folder)
    assert "\n" not in str(caught.value)


def test_read_clip_of_a_missing_file_says_how_to_restore_it(corpus: Corpus, folder: Path) -> None:
    clip = corpus.clips[0]
    (corpus.folder / clip.file).unlink()
    with pytest.raises(TalimError, match="run talim prepare again"):
        corpus.read_clip(clip)
    again = prepare(folder, corpus.folder, sample_rate=8000)
    assert again.prepare_stats["decoded"] == 1
    assert content_hash(again.read_clip(clip)) == clip.audio_hash


def test_load_of_another_format_version_raises_one_line(corpus: Corpus) -> None:
    path = corpus.folder / "summary.json"
    summary = json.loads(path.read_text("utf-8"))
    del summary["format_version"]
    path.write_text(json.dumps(summary), encoding="utf-8")
    with pytest.raises(TalimError, match="another version of talim; prepare it again: talim prepare") as caught:
        Corpus.load(corpus.folder)
    assert "\n" not in str(caught.value)


def test_repr_names_folder_and_amounts(corpus: Corpus) -> None:
    text = repr(corpus)
    assert str(corpus.folder) in text
    assert f"{len(corpus.train)} training, {len(corpus.validation)} validation and " in text
    assert f"{len(corpus.held_out)} held-out clips" in text


def test_manifest_is_one_utf8_json_object_a_line(folder: Path, record, tmp_path: Path) -> None:
    record("a.wav", 12)
    record("b.wav", 12)
    corpus = prepare(folder, tmp_path / "corpus", sample_rate=8000, caption="राग यमन")
    lines = (corpus.folder / "corpus.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["caption"] for line in lines] == ["राग यमन"] * len(corpus.clips)
    assert "राग" in lines[0]


def test_load_with_unicode_line_separators_in_captions_keeps_all_clips(folder: Path, record, tmp_path: Path) -> None:
    caption = "raga Yaman\u2028slow\u0085alap"
    record("a.wav", 12)
    record("b.wav", 12)
    corpus = prepare(folder, tmp_path / "corpus", sample_rate=8000, caption=caption)
    assert {clip.caption for clip in Corpus.load(corpus.folder).clips} == {corpus.clips[0].caption}
    assert len(Corpus.load(corpus.folder).clips) == len(corpus.clips)


def test_read_clip_of_swapped_files_says_that_it_is_another_sound(corpus: Corpus) -> None:
    first, second = corpus.clips[:2]
    kept = (corpus.folder / first.file).read_bytes()
    (corpus.folder / first.file).write_bytes((corpus.folder / second.file).read_bytes())
    try:
        with pytest.raises(TalimError, match="holds another sound than talim prepare wrote"):
            corpus.read_clip(first)
        assert content_hash(corpus.read_clip(second)) == second.audio_hash
    finally:
        (corpus.folder / first.file).write_bytes(kept)
