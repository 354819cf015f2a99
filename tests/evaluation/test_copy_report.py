"""Copies in a folder of clips: found with their source, in JSON and as a page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.validation.inserted_copies import RATE_HZ
from talim.audio import Audio, list_audio_files, write
from talim.errors import TalimError
from talim.evaluation import copy_report
from talim.evaluation.copy_scores import copies_as_dict, copies_sentence
from talim.metrics import audio_matching
from talim.metrics.cache import MetricCache
from talim.progress import PlainProgress
from talim.synthesis.performer import perform


def clip(seed: int, seconds: float = 10.0) -> np.ndarray:
    return perform(seed, "demo", seconds).samples


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("copies")
    (place / "training").mkdir()
    (place / "clips").mkdir()
    for seed in range(12):
        tags = {"ai_generated": "AI-generated"} if seed == 3 else {}
        write(place / "training" / f"{seed}.wav", Audio(clip(seed), RATE_HZ), tags)
    copied = clip(101)
    copied[RATE_HZ : 6 * RATE_HZ] = clip(7)[4 * RATE_HZ : 9 * RATE_HZ]
    write(place / "clips" / "new.wav", Audio(clip(100), RATE_HZ))
    write(place / "clips" / "copied.wav", Audio(copied, RATE_HZ))
    return place


def test_find_copies_in_folders_inserted_passage_is_named_with_its_source(place: Path) -> None:
    out = place / "out"
    result = copy_report.find_copies_in_folders(place / "clips", place / "training", out, place / "kept")
    assert result["copied"] == 1
    found = json.loads((out / "copies.json").read_text())
    first, second = found["clips"]
    assert (Path(first["clip"]).name, first["copied"]) == ("copied.wav", True)
    assert (Path(second["clip"]).name, second["copied"]) == ("new.wav", False)
    assert Path(first["match"]["source"]).name == "7.wav"
    match = first["match"]
    assert match["clip_seconds"][0] - 1.0 == pytest.approx(match["source_seconds"][0] - 4.0, abs=0.05)
    text = (out / "copies.html").read_text()
    assert text.count("<audio") == 2
    assert "copied.wav: a copy" in text
    assert "new.wav: no copy" in text
    assert found["warning"].startswith(f"1 file is AI-generated: {place / 'training' / '3.wav'}, by the tags")
    page, folder = " ".join(text.split()), place / "training"
    assert f"Of the recordings in {folder}, 1 file is AI-generated" in page
    assert f"1 of 2 checked clips contains a passage of a recording in {folder};" in page
    assert (
        "The sound was compared, also shifted in pitch, stretched in time or filtered. A passage is called a copy"
        in page
    )
    assert "if it is so similar that only one in 100 clips that copy nothing has one like it by chance: listen" in page
    assert f"compared with 12 recordings in {folder}." in page
    assert "training recording" not in page
    assert "token" not in page
    assert len(list((place / "kept").rglob("print-*/*.npy"))) == 14


@pytest.mark.parametrize(
    ("compared", "said"),
    [
        (["copied_sound", "copied_tokens"], "filtered, and the runs of codec tokens."),
        (["copied_tokens"], "The runs of codec tokens were compared, not the sound."),
        ([], "Not checked for passages copied from the training recordings: why. </p>"),
    ],
)
def test_page_of_copies_says_what_was_compared(compared: list[str], said: str) -> None:
    copies: dict[str, Any] = {**copies_as_dict({"a": None}, {"a": 9.0}, [], 20, "why"), "compared": compared}
    assert said in " ".join(copy_report.copy_report(copies).split())


def test_find_copies_again_compares_no_training_recordings_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = copy_report.find_copies_in_folders(place / "clips", place / "training", place / "first", place / "kept")
    searched: list[tuple[int, ...]] = []
    search = audio_matching.find_audio_match
    monkeypatch.setattr(audio_matching, "find_audio_match", lambda *a: (searched.append(a[0].shape), search(*a))[1])
    told = copy_report.find_copies_in_folders(place / "clips", place / "training", place / "again", place / "kept")
    assert (len(searched), told) == (2, again)  # the two clips alone


@pytest.mark.parametrize(("name", "reason"), [("note.txt", "holds no audio file"), ("", "is empty")])
@pytest.mark.parametrize("which", [0, 1])
def test_find_copies_in_a_folder_without_audio_says_so(
    place: Path, tmp_path: Path, name: str, reason: str, which: int
) -> None:
    folders = [place / "clips", place / "training"]
    folders[which] = tmp_path / "mine"
    folders[which].mkdir()
    if name:
        (folders[which] / name).write_text("x")
    with pytest.raises(TalimError, match=f"mine: {reason}; name a folder with the (pieces|recordings)"):
        copy_report.find_copies_in_folders(folders[0], folders[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_find_copies_training_clip_is_not_matched_with_itself(place: Path) -> None:
    training = list_audio_files(place / "training")
    found = copy_report.find_copies([training[3]], training, MetricCache(place / "kept"))
    assert found["copied"] == 0
    assert found["clips"][0]["match"]["source"] != str(training[3])


def test_find_copies_says_first_how_much_there_is_to_compare_and_what_evaluate_has_compared() -> None:
    stream, files = io.StringIO(), [Path("no-such/a.wav"), Path("no-such/b.wav")]
    with pytest.raises(TalimError, match="no-such"):
        copy_report.find_copies(files[:1], files, MetricCache(None), progress=PlainProgress(stream))
    told = stream.getvalue()
    assert told.startswith("1 clip to compare with 2 recordings; before that, up to 200 segments of the recordings ")
    assert "the time left is told after the first of these. What `talim evaluate` generates" in told


def test_find_copies_of_continuations_compares_only_what_was_generated(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phrase of a training recording that was kept is no copy; what was generated is judged, at its time."""
    monkeypatch.setattr(copy_report, "_null_similarities", lambda *_: np.linspace(0.3, 0.6, 30))
    begun = {"ai_generated": "AI-generated", "phrase_kept": "yes", "phrase_seconds": "5.000"}
    phrase = clip(7)[: 5 * RATE_HZ]
    made = {"new": clip(102)[: 5 * RATE_HZ], "copied": clip(5)[2 * RATE_HZ : 7 * RATE_HZ], "short": phrase[:RATE_HZ]}
    for name, samples in made.items():
        write(tmp_path / f"{name}.flac", Audio(np.concatenate([phrase, samples]), RATE_HZ), begun)
    found = copy_report.find_copies(
        [tmp_path / f"{name}.flac" for name in made],
        [place / "training" / "5.wav", place / "training" / "7.wav"],
        MetricCache(place / "kept"),
    )
    rows = {Path(row["clip"]).stem: row for row in found["clips"]}
    assert {name: row["copied"] for name, row in rows.items()} == {"new": False, "copied": True, "short": None}
    match = rows["copied"]["match"]
    assert Path(match["source"]).name == "5.wav"
    assert match["clip_seconds"][0] - 5.0 == pytest.approx(match["source_seconds"][0] - 2.0, abs=0.05)
    assert "of 3 continuations only what was generated is compared, not the phrase given" in copies_sentence(found)


def test_find_copies_too_few_recordings_raises(place: Path) -> None:
    training = list_audio_files(place / "training")
    with pytest.raises(
        TalimError, match=r"0\.wav: one recording is not enough\. What counts as a copy .* two at least"
    ) as one:
        copy_report.find_copies(training[:1], training[:1], MetricCache(None))
    assert "hold audio" not in str(one.value)
    with pytest.raises(TalimError, match="a clip and recordings to compare it with are needed"):
        copy_report.find_copies([], training, MetricCache(None))


def test_find_copies_in_folders_missing_folder_raises(place: Path) -> None:
    with pytest.raises(TalimError, match="nowhere"):
        copy_report.find_copies_in_folders(place / "nowhere", place / "training", place / "out")


@pytest.mark.parametrize(
    ("seconds", "recordings", "reason"),
    [
        (2.0, 12, "too short: 2 s, and at least 3.2 s are needed"),
        (
            10.0,
            5,
            "each as long as a clip (10 s) and each compared with others of at least 4 s, and there are 5: give more",
        ),
    ],
)
def test_find_copies_says_why_nothing_could_be_checked(
    place: Path, tmp_path: Path, seconds: float, recordings: int, reason: str
) -> None:
    write(tmp_path / "clip.wav", Audio(clip(100, seconds), RATE_HZ))
    training = list_audio_files(place / "training")[:recordings]
    found = copy_report.find_copies([tmp_path / "clip.wav"], training, MetricCache(place / "kept"))
    assert found["checked"] == 0
    assert reason in found["not_checked"]
    assert "None of" not in copies_sentence(found)
    assert f"Not checked: {reason[:20]}" in copy_report.copy_report(found) or seconds > 4


def test_find_copies_among_short_clips_checks_those_that_are_long_enough(place: Path, tmp_path: Path) -> None:
    for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 10.0)):
        write(tmp_path / f"{name}.wav", Audio(clip(100, 10.0)[: round(seconds * RATE_HZ)], RATE_HZ))
    training = list_audio_files(place / "training")
    found = copy_report.find_copies(list_audio_files(tmp_path), training, MetricCache(place / "kept"))
    assert found["checked"] == 1
    assert "2 clips could not be checked: too short: 1 to 2 s, and at least 3.2 s are needed" in copies_sentence(found)
