"""Audio as arrays: reading, writing with tags, resampling, loudness and levels."""

from talim.audio.audio import Audio, content_hash
from talim.audio.errors import AudioError
from talim.audio.loudness import loudness_lufs
from talim.audio.read import is_audio_name, list_audio_files, read
from talim.audio.stream import AudioStream
from talim.audio.tags import read_tags
from talim.audio.write import write

__all__ = [
    "Audio",
    "AudioError",
    "AudioStream",
    "content_hash",
    "is_audio_name",
    "list_audio_files",
    "loudness_lufs",
    "read",
    "read_tags",
    "write",
]
