"""Audio sources and normalized paths.

AI-generated files in a folder of recordings: left out with a word, or used on purpose with a word.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from fixtures.importer_sources import sound
from fixtures.log_lines import Lines
from fixtures.prepared_corpus import make

from talim.audio import Audio, write
from talim.corpus import report
from talim.corpus.manifest import Corpus
from talim.corpus.recordings import (
    HOW_TO_INCLUDE,
    AudioSource,
    EmbeddedAudio,
    FileAudio,
    RenderedAudio,
    file_hash,
    normalize_path,
    real_music_warning,
)
from talim.errors import TalimError
from talim.reporting.messages import corpus_message

TAGS = {
    "ai_generated": "AI-generated",
    "software": "talim 1.0",
    "base": "nano-musicgen",
    "adapter": "none",
    "seed": "3",
}


def samples_of(source: AudioSource) -> np.ndarray:
    return np.concatenate([block.samples for block in source.blocks([])], axis=1)


def test_normalize_path_unifies_separators_and_unicode_forms() -> None:
    assert normalize_path("a\\b//./c.wav") == "a/b/c.wav"
    assert normalize_path("rāga.wav") == normalize_path("r\u0101ga.wav") == "r\u0101ga.wav"


def test_file_hash_is_sha256_or_raises(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"x")
    assert file_hash(folder / "a.wav") == hashlib.sha256(b"x").hexdigest()
    with pytest.raises(TalimError, match="No such file"):
        file_hash(folder / "b.wav")
    os.mkfifo(folder / "c.wav")
    with pytest.raises(TalimError, match="pipe"):  # opening it would wait for ever
        file_hash(folder / "c.wav")


def test_embedded_audio_reads_as_its_file(record) -> None:
    path = record("a.wav", 2)
    embedded = EmbeddedAudio(path.read_bytes, ".wav")
    assert embedded.hash() == FileAudio(path).hash()
    assert np.array_equal(samples_of(embedded), samples_of(FileAudio(path)))


def test_rendered_audio_hash_changes_with_the_rendering_key(folder: Path) -> None:
    path = folder / "score.txt"
    path.write_text("notes")
    silence = Audio(np.zeros(100), 8000)
    sources = [RenderedAudio(path, key, lambda: silence) for key in ("practice ney", "theory ney")]
    assert [*sources[0].blocks([])] == [silence]
    assert len({sources[0].hash(), sources[1].hash(), file_hash(path)}) == 3


@pytest.fixture
def mixed(folder: Path) -> Path:
    """Three recordings and two generated pieces, one of them converted to another format with its tags."""
    for number in range(3):
        write(folder / f"take-{number}.wav", sound(number, 12))
    write(folder / "made.flac", sound(11, 12), TAGS)
    write(folder / "made.mp3", sound(12, 12), TAGS)
    return folder


def test_prepare_leaves_generated_files_out_and_says_so_everywhere(mixed: Path, out: Path) -> None:
    progress = Lines()
    corpus = make(mixed, out, progress=progress)
    assert {clip.source_file for clip in corpus.clips} == {f"take-{number}.wav" for number in range(3)}
    rows = {row["file"]: row["reason"] for row in corpus.summary["skipped"]}
    assert rows == dict.fromkeys(("made.flac", "made.mp3"), "AI-generated, by talim 1.0, base nano-musicgen, seed 3")
    said = [*progress.lines, *corpus_message(corpus.summary, out, "takes").splitlines()]
    reason = rows["made.mp3"]
    assert [line for line in said if "made" in line] == [f"left out made.{kind}: {reason}" for kind in ("flac", "mp3")]
    assert said.count(HOW_TO_INCLUDE) == 1
    assert corpus.summary["ai_generated"] == {"left_out": 2, "used": [], "held_out": 0}
    assert "left out as AI-generated: 2 files, named above" in said
    assert "2 files left out as AI-generated." in report.write(corpus).read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["source", "corpus"])
def test_prepare_uses_a_generated_file_where_the_metadata_ask_for_it(mixed: Path, out: Path, place: str) -> None:
    target = mixed if place == "source" else out
    target.mkdir(exist_ok=True)
    (out / "corpus.jsonl").parent.mkdir(exist_ok=True)
    (out / "corpus.jsonl").touch()
    (target / "metadata.csv").write_text("file_name,AI generated\nmade.flac,Include\n", encoding="utf-8")
    progress = Lines()
    corpus = make(mixed, out, progress=progress)
    makers = {clip.source_file: clip.ai_generated for clip in corpus.clips}
    assert makers == {f"take-{number}.wav": "" for number in range(3)} | {
        "made.flac": "talim 1.0, base nano-musicgen, seed 3"
    }
    assert "used, as the metadata ask for it: 1 file is AI-generated: made.flac" in progress.lines
    facts = corpus.summary["ai_generated"]
    assert (facts["left_out"], facts["used"]) == (1, ["made"])
    assert "AI-generated and used on purpose: 1 recording" in corpus_message(corpus.summary, out, "takes")
    assert "1 recording AI-generated and used on purpose" in report.write(corpus).read_text(encoding="utf-8")
    assert Corpus.load(out).clips == corpus.clips


def test_prepare_of_a_column_that_names_generated_files_believes_it(folder: Path, out: Path, record) -> None:
    for name in ("a.wav", "b.wav", "c.wav", "d.wav"):
        record(name, 12)
    (folder / "metadata.csv").write_text(
        "file_name,ai_generated\na.wav,yes\nb.wav,no\nc.wav,\nd.wav,N\n", encoding="utf-8"
    )
    corpus = make(folder, out)
    assert {clip.source_file for clip in corpus.clips} == {"b.wav", "c.wav", "d.wav"}
    assert corpus.summary["skipped"][0]["reason"] == "AI-generated, by an unnamed program, says its metadata"


def test_prepare_of_generated_music_only_raises(folder: Path, out: Path) -> None:
    write(folder / "made.flac", sound(11, 12), TAGS)
    with pytest.raises(TalimError, match=r"holds AI-generated music only .*made\.flac.*write include in a column"):
        make(folder, out)


def test_prepare_without_generated_files_says_nothing_of_them(three: Path, out: Path) -> None:
    corpus = make(three, out)
    assert "ai_generated" not in corpus.summary
    assert "ai_generated" not in (out / "corpus.jsonl").read_text(encoding="utf-8")


def test_real_music_warning_names_the_files_with_tags_only(mixed: Path) -> None:
    write(mixed / "stripped.flac", sound(11, 12))
    warning = real_music_warning(sorted(mixed.iterdir()), "they count")
    assert warning.startswith("2 files are AI-generated: ")
    assert warning.endswith("made.mp3, by the tags; they count")
    assert "stripped" not in warning
    assert real_music_warning([mixed / "take-0.wav", mixed / "absent.wav"], "they count") == ""
