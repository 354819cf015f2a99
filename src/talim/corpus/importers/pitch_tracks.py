"""Pitch tracks (.npz with cents, tonic_hz, hop_s): sung by a plain tone, and only when asked for by name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from talim.audio import Audio, is_audio_name
from talim.corpus.importers.contract import Request, Sounding
from talim.corpus.importers.folder import check_folder, walk
from talim.corpus.importers.notes import PitchTrack
from talim.corpus.metadata import Row, read_metadata
from talim.corpus.recordings import Found, RenderedSound, SourceFile, plain_name
from talim.errors import TalimError, UsageError

KEYS = ("cents", "tonic_hz", "hop_s")
_WIDEST_CENTS = 6000.0


def recognises(path: Path) -> bool:
    """Whether it is a folder with .npz files in it (or one below) and no sound."""
    if not path.is_dir():
        return False
    inside = [
        *path.iterdir(),
        *(one for below in sorted(path.iterdir()) if below.is_dir() for one in below.iterdir()),
    ]
    return any(one.suffix == ".npz" for one in inside) and not any(is_audio_name(one) for one in inside)


def find(request: Request) -> Found:
    """Every pitch track below the folder; files that are none are left out by name."""
    folder, sounding = request.path, request.sounding
    if sounding is None:
        raise UsageError("pitch tracks hold no sound, and nobody was named who sings them")
    check_folder(folder, request.out)
    paths = {
        plain_name(path.relative_to(folder)): path
        for place in walk(folder, request.out)
        for path in sorted(place.glob("*.npz"))
    }
    if not paths:
        raise UsageError(f"{folder}: no .npz file in it or below it; pitch tracks hold {', '.join(KEYS)}")
    rows, notes = read_metadata(folder, walk(folder, request.out), {*paths})
    files, left_out = [], []
    for name, path in sorted(paths.items()):
        try:
            track = read_track(path)
        except TalimError as error:
            left_out.append({"file": name, "reason": str(error).removeprefix(f"{path}: ")})
            continue
        files.append(_source(name, path, rows.get(name, {}), track.tonic_hz, sounding))
    return Found("pitch-tracks", str(folder), tuple(files), tuple(left_out), tuple(notes))


def read_track(path: Path) -> PitchTrack:
    """A pitch track from its file; TalimError says what is missing or out of range."""
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise TalimError(
                    f"{path}: no pitch track: {', '.join(missing)} missing; {', '.join(KEYS)} expected"
                )
            cents = np.asarray(file["cents"], dtype=np.float32)
            tonic_hz, hop_seconds = float(file["tonic_hz"]), float(file["hop_s"])
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise TalimError(f"{path}: cannot be read as .npz: {error}") from error
    if cents.ndim != 1 or not np.isfinite(cents).any():
        raise TalimError(f"{path}: nothing is voiced in it")
    if not (20 <= tonic_hz <= 2000 and 0.0005 <= hop_seconds <= 0.1):
        raise TalimError(f"{path}: tonic_hz {tonic_hz:g} and hop_s {hop_seconds:g} are no tonic and hop")
    if float(np.nanmax(np.abs(cents))) > _WIDEST_CENTS:
        raise TalimError(f"{path}: its cents reach {float(np.nanmax(np.abs(cents))):.0f}; is it in hertz?")
    return PitchTrack(cents, tonic_hz, hop_seconds)


def _source(name: str, path: Path, told: Row, tonic_hz: float, sounding: Sounding) -> SourceFile:
    def render() -> Audio:
        return sounding.track(read_track(path))

    row = told | {
        "instruments": "harmonic tone",
        "tonic_hz": f"{tonic_hz:.3f}",
        "source": f"pitch track, resynthesised by talim{'; ' + told['source'] if 'source' in told else ''}",
    }
    row.pop("lead_instrument", None)
    row.pop("instrument", None)
    return SourceFile(path, name, RenderedSound(path, "harmonic tone", render), row)
