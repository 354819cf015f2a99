"""What a corpus is on disk: corpus.jsonl (one clip a line), summary.json, and the clips themselves."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from talim.audio import Audio, AudioError, read
from talim.errors import TalimError

UNKNOWN = "unknown"
_MUSIC = ("beats", "chords")


class Clip(BaseModel):
    """A stretch of one recording with its words, its rights and its side of the split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    file: str  # relative to the corpus folder
    recording: str
    performer: str  # "unknown" where nobody said
    start_seconds: float  # in the source file
    seconds: float
    caption: str
    split: Literal["train", "held_out"]
    audio_hash: str  # of the stored samples, talim.audio.content_hash
    source_file: str  # relative to the folder of recordings
    source_hash: str  # sha256 of the source file's bytes
    licence: str = UNKNOWN
    source: str = UNKNOWN
    consent: str = UNKNOWN
    release: str = UNKNOWN
    work: str = UNKNOWN
    tradition: str = UNKNOWN
    mode: str = UNKNOWN  # raga, makam, key: only where one is known to hold all through the clip
    cycle: str = UNKNOWN  # tala, usul: likewise; "none" where it is known that no cycle is played
    section: str = UNKNOWN
    instruments: str = UNKNOWN  # divided by |
    tonic_hz: float | None = None
    beats: str = (
        ""  # "1@0.5 2@1.0": place in the bar @ seconds from the clip's beginning; empty where not known
    )
    chords: str = ""  # "Gm@0 Eb/G@2.5": likewise
    extra: dict[str, Any] = {}  # every other column of the metadata


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus; Corpus.load(folder) opens one, prepare makes one."""

    folder: Path
    clips: tuple[Clip, ...]
    summary: dict[str, Any]
    work: dict[str, Any] = field(default_factory=dict)  # what prepare did this time; not stored

    @classmethod
    def load(cls, folder: str | Path) -> Corpus:
        """Open a corpus folder; TalimError where it is none or its manifest is damaged."""
        folder = Path(folder)
        manifest, summary = folder / "corpus.jsonl", folder / "summary.json"
        if not manifest.is_file() or not summary.is_file():
            raise TalimError(
                f"{folder}: not a corpus (corpus.jsonl and summary.json expected); "
                f"make one with: talim prepare FOLDER --out {folder}"
            )
        try:
            lines = manifest.read_text("utf-8").split("\n")  # a caption may hold other line separators
            clips = tuple(Clip.model_validate_json(line) for line in lines if line.strip())
            words = json.loads(summary.read_text("utf-8"))
        except (OSError, ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise TalimError(
                f"{folder}: its manifest is damaged ({reason}); run talim prepare again"
            ) from error
        return cls(folder, clips, words)

    @property
    def train(self) -> tuple[Clip, ...]:
        """The clips to learn from."""
        return tuple(clip for clip in self.clips if clip.split == "train")

    @property
    def held_out(self) -> tuple[Clip, ...]:
        """The clips that training never sees."""
        return tuple(clip for clip in self.clips if clip.split == "held_out")

    @property
    def hash(self) -> str:
        """Sha256 (hex) over all clips: words, split, rights, sound; not over where it lies."""
        return hashlib.sha256(manifest_text(self.clips).encode()).hexdigest()

    @property
    def targets(self) -> Path:
        """The folder of cached targets (tokens, text states)."""
        return self.folder / "targets"

    @property
    def has_beats_chords(self) -> bool:
        """Whether any clip has beats or chords."""
        return any(clip.beats or clip.chords for clip in self.clips)

    def read_clip(self, clip: Clip) -> Audio:
        """The sound of a clip, float32 [C, T]; TalimError where its file is gone or damaged."""
        try:
            return read(self.folder / clip.file)
        except AudioError as error:
            raise TalimError(f"{error}; run talim prepare again to restore the clip") from error


def manifest_text(clips: tuple[Clip, ...]) -> str:
    """The lines of corpus.jsonl: one clip a line, in canonical order of keys."""
    rows = (json.dumps(_row(clip), ensure_ascii=False, sort_keys=True) for clip in clips)
    return "".join(f"{row}\n" for row in rows)


def _row(clip: Clip) -> dict[str, Any]:
    """All fields; beats and chords only where there are any, so that corpora older than these keep their hash."""
    return {name: value for name, value in clip.model_dump().items() if value or name not in _MUSIC}
