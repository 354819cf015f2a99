"""Read audio files: by libsndfile, or by FFmpeg (PyAV) for the formats of phones and messengers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from talim.audio.audio import Audio
from talim.audio.containers import mp3_states_length, truncation_reason
from talim.audio.errors import AudioError
from talim.errors import UsageError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

SOUNDFILE_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".mp3", ".opus", ".aif", ".aiff", ".au", ".w64", ".rf64"}
PHONE_SUFFIXES = frozenset(
    {".m4a", ".aac", ".mp4", ".m4b", ".3gp", ".3gpp", ".3g2", ".amr", ".caf", ".wma", ".webm", ".mka", ".mov"}
)
_BLOCK_FRAMES = 1 << 20
_MP3_SLACK_FRAMES = 2304  # an MP3 that states its length may lack a frame or two of padding


def is_audio_name(path: str | Path) -> bool:
    """Whether the suffix is that of an audio format that talim reads."""
    return Path(path).suffix.lower() in SOUNDFILE_SUFFIXES | PHONE_SUFFIXES


def list_audio_files(path: Path) -> list[Path]:
    """Audio files (by suffix) in a folder and its subfolders, sorted; or the file itself. UsageError if missing."""
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; name one that holds audio files")
    return sorted(file for file in path.rglob("*") if is_audio_name(file)) if path.is_dir() else [path]


def read(path: str | Path) -> Audio:
    """Read a whole file as float32 [C, T] at its own rate.

    AudioError, with file and reason, for files that are missing, empty, truncated, not audio or not finite.
    """
    path = Path(path)
    _require_bytes(path)
    if cut_off := truncation_reason(path):
        raise AudioError(f"{path}: truncated: {cut_off}")
    by_soundfile = path.suffix.lower() not in PHONE_SUFFIXES
    audio = (_read_soundfile(path) if by_soundfile else None) or _read_av(path)
    if audio.frames == 0:
        raise AudioError(f"{path}: empty: it holds 0 seconds of sound")
    starts = range(0, audio.frames, _BLOCK_FRAMES)
    finite = sum(int(np.isfinite(audio.samples[:, at : at + _BLOCK_FRAMES]).sum()) for at in starts)
    if bad := audio.samples.size - finite:
        raise AudioError(f"{path}: {bad} of {audio.samples.size} samples are not numbers (NaN or infinite)")
    return audio


def _require_bytes(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror or error}") from error
    if path.is_dir():
        raise AudioError(f"{path}: is a folder, expected a sound file")
    if size == 0:
        raise AudioError(f"{path}: empty: the file has 0 bytes")


def _read_soundfile(path: Path) -> Audio | None:
    """The audio decoded by libsndfile, or None if it does not know the format or the length."""
    import soundfile

    states_length = mp3_states_length(path)  # None: not an MP3
    if states_length is False:
        return None  # libsndfile would decode only its estimate of the length
    try:
        file = soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, OSError):
        return None
    with file:
        declared, rate_hz = file.frames, file.samplerate
        try:
            samples = np.empty((file.channels, declared), dtype=np.float32)
            frames = 0
            while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                samples[:, frames : frames + len(block)] = block.T
                frames += len(block)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path}: damaged or truncated: decoding stopped with an error ({error})") from error
    if frames < declared - (_MP3_SLACK_FRAMES if states_length else 0):
        raise _truncated(path, frames / rate_hz, declared / rate_hz)
    return Audio(samples[:, :frames], rate_hz)


def _declared_seconds(container: InputContainer, stream: AudioStream) -> float:
    """The length that the header states; 0 if the container only estimates it (raw AAC, AMR)."""
    if not {"mp4", "matroska"} & set(container.format.name.split(",")):
        return 0.0
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6


def _read_av(path: Path) -> Audio:
    """The first audio stream, decoded by FFmpeg."""
    import av
    import av.error

    pieces: list[np.ndarray] = []
    rate_hz: int | None = None
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"{path}: not audio: the file has no sound track")
            stream = container.streams.audio[0]
            declared_seconds = _declared_seconds(container, stream)
            resampler: av.AudioResampler | None = None
            for frame in container.decode(stream):
                if resampler is None:
                    resampler = av.AudioResampler("fltp", frame.layout, frame.sample_rate)
                    rate_hz = frame.sample_rate
                pieces += [part.to_ndarray() for part in resampler.resample(frame)]
            if resampler is not None:
                pieces += [part.to_ndarray() for part in resampler.resample(None)]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        problem = "truncated or damaged" if pieces else "not audio, or cut off before the sound begins"
        raise AudioError(f"{path}: {problem}: {getattr(error, 'strerror', None) or error}") from error
    if not pieces or rate_hz is None:
        raise AudioError(f"{path}: not audio, or empty: no sound could be decoded from it")
    samples = np.concatenate(pieces, axis=1)
    decoded_seconds = samples.shape[1] / rate_hz
    if decoded_seconds < declared_seconds - max(0.5, 0.02 * declared_seconds):
        raise _truncated(path, decoded_seconds, declared_seconds)
    return Audio(samples, rate_hz)


def _truncated(path: Path, seconds: float, declared_seconds: float) -> AudioError:
    return AudioError(f"{path}: truncated: {seconds:.1f} of {declared_seconds:.1f} seconds are there; export it again")
