"""Pitch tracks: read strictly, and never trained on unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.sources import pitch_track_files, sound

from talim.audio import write
from talim.corpus.importers import pitch_tracks
from talim.corpus.importers.contract import Request
from talim.corpus.importers.pitch_tracks import read_track
from talim.corpus.importers.table import find
from talim.errors import TalimError, UsageError
from talim.stages.sounding import Players

PACKS = Path(__file__).parents[4] / "shared" / "data"


def save(path: Path, **arrays: object) -> Path:
    whole = {"cents": np.zeros(100, np.float32), "tonic_hz": 220.0, "hop_s": 0.01}
    np.savez(path, **{**whole, **arrays})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"cents": np.full(10, np.nan)}, "nothing is voiced"),
        ({"cents": np.zeros((2, 5))}, "nothing is voiced"),
        ({"cents": np.full(10, 22000.0)}, "is it in hertz"),
        ({"tonic_hz": 0.0}, "no tonic and hop"),
        ({"hop_s": 3.0}, "no tonic and hop"),
    ],
)
def test_what_is_no_pitch_track(folder: Path, arrays: dict[str, object], reason: str) -> None:
    with pytest.raises(TalimError, match=reason):
        read_track(save(folder / "a.npz", **arrays))


def test_a_file_that_is_no_npz(folder: Path) -> None:
    (folder / "a.npz").write_text("no zip")
    with pytest.raises(TalimError, match=r"cannot be read as \.npz"):
        read_track(folder / "a.npz")


def test_tracks_beside_recordings_are_not_taken_for_the_source(folder: Path, out: Path) -> None:
    pitch_track_files(folder)
    write(folder / "real.wav", sound(0, 3))
    assert not pitch_tracks.recognises(folder)
    assert [file.name for file in find(str(folder), out, None, Players()).files] == ["real.wav"]
    with pytest.raises(UsageError, match="nobody was named"):
        pitch_tracks.find(Request(str(folder), out))


@pytest.mark.real
@pytest.mark.parametrize(("pack", "count"), [("hindustani", 62), ("makam_pitch", 48)])
def test_real_tracks(pack: str, count: int, out: Path) -> None:
    if not (PACKS / pack).is_dir():
        pytest.skip(f"the real pitch tracks (shared/data/{pack}) are not here")
    found = find(str(PACKS / pack), out, "pitch-tracks", Players())
    assert (len(found.files), found.left_out) == (count, ())
    assert all(file.row.get("raga") or file.row.get("makam") for file in found.files)
