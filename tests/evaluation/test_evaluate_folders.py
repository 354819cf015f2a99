"""Two folders of audio, scored without a run: a set against itself, against noise, and unusable folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talim.atomic_io import read_json
from talim.audio import Audio, write
from talim.errors import TalimError, UsageError
from talim.evaluation.evaluate_folders import evaluate_folders
from talim.synthesis.performer import perform

RATE_HZ = 16000


def save(folder: Path, *clips: np.ndarray) -> Path:
    folder.mkdir()
    for number, samples in enumerate(clips):
        write(folder / f"{number}.wav", Audio(np.asarray(samples, np.float32), RATE_HZ))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four performances, four others, and four files of noise."""
    place, rng = tmp_path_factory.mktemp("folders"), np.random.default_rng(0)
    pieces = [perform(seed, "hindustani", 6.0).samples for seed in range(8)]
    return {
        "real": save(place / "real", *pieces[:4]),
        "other": save(place / "other", *pieces[4:]),
        "noise": save(place / "noise", *(0.1 * rng.standard_normal(4 * RATE_HZ) for _ in range(4))),
    }


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["scores"]}


def test_evaluate_folders_of_a_set_against_itself_finds_no_distance(folders: dict[str, Path]) -> None:
    rows = by_name(evaluate_folders(folders["real"], folders["real"]))
    for name in ("timbre", "pitch", "rhythm"):
        row = rows[f"kernel_distance_{name}"]
        assert abs(row["value"]) <= 0.1  # each file is compared with the others alone
        assert row["low"] <= row["value"] <= row["high"]
        assert rows[f"diversity_{name}"]["value"] == pytest.approx(rows[f"diversity_{name}"]["reference"])
    assert rows["loudness_lufs"]["value"] == rows["loudness_lufs"]["reference"]
    assert {row["baseline"] for row in rows.values()} == {None}


def test_evaluate_folders_of_continuations_compares_only_what_was_generated(tmp_path: Path) -> None:
    """Files that begin with a loud phrase score as the same files without it, and the result says so."""
    rng = np.random.default_rng(0)
    real = save(tmp_path / "real", *(0.1 * rng.standard_normal((2, RATE_HZ))))
    new = 0.01 * rng.standard_normal((2, RATE_HZ + 3200))
    begun = {"phrase_kept": "yes", "phrase_seconds": "3.000"}
    (tmp_path / "continued").mkdir()
    for number, samples in enumerate(new):
        whole = np.concatenate([0.1 * rng.standard_normal(3 * RATE_HZ), samples]).astype(np.float32)
        write(tmp_path / "continued" / f"{number}.wav", Audio(whole, RATE_HZ), begun)
    continued = evaluate_folders(real, tmp_path / "continued")
    alone = evaluate_folders(real, save(tmp_path / "alone", *new))
    assert by_name(continued)["loudness_lufs"]["value"] == pytest.approx(
        by_name(alone)["loudness_lufs"]["value"], abs=0.1
    )
    sentence = "of 2 continuations only what was generated is compared, not the phrase given"
    assert sentence in continued["warnings"]
    assert sentence not in alone["warnings"]


def test_evaluate_folders_says_which_real_files_are_generated(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, RATE_HZ + 3200))
    save(tmp_path / "real", *noise)
    result = evaluate_folders(tmp_path / "real", save(tmp_path / "made", *noise))
    assert not any("AI-generated" in text for text in result["warnings"])
    write(tmp_path / "real" / "1.wav", Audio(noise[1].astype(np.float32), RATE_HZ), {"ai_generated": "AI-generated"})
    (warning,) = [
        text for text in evaluate_folders(tmp_path / "real", tmp_path / "made")["warnings"] if "AI-gen" in text
    ]
    assert warning.startswith(f"of the real music, 1 file is AI-generated: {tmp_path / 'real' / '1.wav'}, by the tags")


def test_evaluate_folders_of_noise_lies_farther_away_than_music(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "noise.json"
    noise_result = evaluate_folders(folders["real"], folders["noise"], out=out)
    told = next(
        line for line in noise_result["warnings"] if "instead of 10 s" in line
    )  # a length that nobody asked for
    assert told.startswith("clips of 4 s are compared")
    assert f"as {folders['noise']}" in told
    noise, music = by_name(noise_result), by_name(evaluate_folders(folders["real"], folders["other"]))
    for name in ("timbre", "pitch"):
        key = f"kernel_distance_{name}"
        assert noise[key]["value"] > music[key]["value"] + 10
        assert noise[key]["value"] > noise[key]["reference"]
    assert noise["noise_db"]["value"] == pytest.approx(0, abs=1)
    assert noise_result["protocol"]["seconds"] == 4.0  # the shortest file's length
    assert read_json(out)["scores"] == noise_result["scores"]
    assert noise_result["protocol"]["hash"] in out.with_suffix(".html").read_text("utf-8")


def test_evaluate_folders_counts_clips_but_takes_intervals_by_file(folders: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    generated = save(tmp_path / "two", *(0.1 * rng.standard_normal(seconds * RATE_HZ) for seconds in (2, 6)))
    result = evaluate_folders(folders["real"], generated)
    loudness = by_name(result)["loudness_lufs"]
    assert (result["protocol"]["seconds"], result["protocol"]["generated"]) == (2.0, 4)
    assert result["generated"]["files"] == 2
    assert loudness["n"] == 4
    assert loudness["low"] is not None
    assert by_name(result)["kernel_distance_timbre"]["low"] is None  # too few files for an interval


@pytest.mark.parametrize(("count", "seconds", "message"), [(1, 2.0, "1 audio file;"), (2, 0.5, "at least 1 s")])
def test_evaluate_folders_with_too_few_or_too_short_files_raises(
    folders: dict[str, Path], tmp_path: Path, count: int, seconds: float, message: str
) -> None:
    generated = save(tmp_path / "few", *(np.ones(int(seconds * RATE_HZ)) for _ in range(count)))
    with pytest.raises(TalimError, match=message):
        evaluate_folders(folders["real"], generated)


def test_evaluate_folders_of_missing_folder_or_unknown_protocol_raises(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(TalimError, match="no such file or folder"):
        evaluate_folders(folders["real"], tmp_path / "nowhere")
    with pytest.raises(UsageError, match="default, paper"):
        evaluate_folders(folders["real"], folders["other"], protocol="other")
