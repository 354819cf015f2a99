"""A corpus on disk: corpus.jsonl (one clip a line), summary.json, and the clips as FLAC files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from talim.atomic_io import parse_json
from talim.audio import Audio, AudioError, content_hash, read
from talim.errors import TalimError
from talim.html.formatting import format_counted
from talim.path_suggestions import did_you_mean
from talim.strict_yaml import describe

FORMAT_VERSION = 2  # of summary.json and corpus.jsonl; raise it when older code or folders no longer fit
UNKNOWN = "unknown"
_RARE_FIELDS = ("shares_sound_with", "ai_generated")


class Clip(BaseModel):
    """A stretch of one recording with its caption, labels, rights and side of the split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    file: str  # relative to the corpus folder
    recording: str
    performer: str  # "unknown" where the source does not name one
    start_seconds: float  # in the source file
    seconds: float
    caption: str
    split: Literal["train", "validation", "held_out"]  # trained on; weights are chosen on it; scored on (test)
    audio_hash: str  # of the stored samples, talim.audio.content_hash
    source_file: str  # relative to the folder of recordings
    source_hash: str  # sha256 of the source file's bytes
    licence: str = UNKNOWN
    source: str = UNKNOWN
    consent: str = UNKNOWN
    release: str = UNKNOWN
    work: str = UNKNOWN
    tradition: str = UNKNOWN
    mode: str = UNKNOWN  # raga, makam, key: only where one is known to hold throughout the clip
    cycle: str = UNKNOWN  # tala, usul: likewise; "none" where the music is known to be unmetered
    section: str = UNKNOWN
    instruments: str = UNKNOWN  # separated by |
    tonic_hz: float | None = None
    beats: str = ""  # "1@0.5 2@1.0": position in the bar @ seconds from the start of the clip; "" where unknown
    chords: str = ""  # "Gm@0 Eb/G@2.5": likewise
    extra: dict[str, Any] = {}  # every other column of the metadata
    shares_sound_with: str = ""  # a recording with a common stretch; one name for all that are connected so
    ai_generated: str = ""  # what made it, where it is no recording of music and is used on purpose

    @property
    def sound_group(self) -> str:
        """What counts as one recording in numbers and intervals: recordings with a common stretch count once."""
        return self.shares_sound_with or self.recording


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus; `Corpus.load(folder)` opens one, `talim.prepare` makes one."""

    folder: Path
    clips: tuple[Clip, ...]
    summary: dict[str, Any]
    prepare_stats: dict[str, Any] = field(default_factory=dict)  # of the call that made it; not stored

    @classmethod
    def load(cls, folder: str | Path) -> Corpus:
        """Open a corpus folder; TalimError where it is none, is damaged, or has another format version."""
        folder = Path(folder)
        manifest, summary = folder / "corpus.jsonl", folder / "summary.json"
        if not manifest.is_file() or not summary.is_file():
            raise TalimError(
                f"{folder}: not a corpus (corpus.jsonl and summary.json expected){did_you_mean(folder)}; "
                f"make one with: talim prepare FOLDER --out {folder}"
            )
        try:
            facts = parse_json(summary.read_text("utf-8"))
            if facts.get("format_version") != FORMAT_VERSION:
                raise TalimError(
                    f"{folder}: was prepared by another version of talim; prepare it again: "
                    f"talim prepare FOLDER --out {folder}"
                )
            lines = manifest.read_text("utf-8").split("\n")  # a caption may hold other line separators
            clips = tuple(Clip.model_validate_json(line) for line in lines if line.strip())
        except (OSError, ValueError, AttributeError, ValidationError) as error:
            reason = describe(error, Clip) if isinstance(error, ValidationError) else str(error).splitlines()[0]
            raise TalimError(f"{folder}: its manifest is damaged ({reason}); run talim prepare again") from error
        return cls(folder, clips, facts)

    def __repr__(self) -> str:
        seconds = sum(clip.seconds for clip in self.clips)
        return (
            f"Corpus({str(self.folder)!r}: {len(self.train)} training, {len(self.validation)} validation and "
            f"{format_counted(len(self.held_out), 'held-out clip')}, "
            f"{seconds / 60:.1f} minutes)"
        )

    @property
    def train(self) -> tuple[Clip, ...]:
        return tuple(clip for clip in self.clips if clip.split == "train")

    @property
    def validation(self) -> tuple[Clip, ...]:
        """The clips on which weights and designs are chosen; not trained on and not scored. There may be none."""
        return tuple(clip for clip in self.clips if clip.split == "validation")

    @property
    def held_out(self) -> tuple[Clip, ...]:
        """The clips of the test side, which nothing but scores sees."""
        return tuple(clip for clip in self.clips if clip.split == "held_out")

    @property
    def hash(self) -> str:
        """Sha256 (hex) over all clips: captions, split, rights and audio; independent of the folder."""
        return hashlib.sha256(manifest_text(self.clips).encode()).hexdigest()

    @property
    def features(self) -> Path:
        """The folder of cached features: codec tokens or latents, text states, frozen activations."""
        return self.folder / "features"

    def read_clip(self, clip: Clip) -> Audio:
        """The samples of a clip, float32 [C, T]; TalimError where its file is missing, damaged or another sound."""
        try:
            audio = read(self.folder / clip.file)
        except AudioError as error:
            raise TalimError(f"{error}; run talim prepare again to restore the clip") from error
        if content_hash(audio) != clip.audio_hash:
            raise TalimError(
                f"{self.folder / clip.file}: holds another sound than talim prepare wrote (its hash is not the one in "
                "corpus.jsonl); run talim prepare again to restore the clip"
            )
        return audio


def manifest_text(clips: tuple[Clip, ...]) -> str:
    """The content of corpus.jsonl: one clip a line, keys sorted."""
    rows = (json.dumps(_row(clip), ensure_ascii=False, sort_keys=True) for clip in clips)
    return "".join(f"{row}\n" for row in rows)


def _row(clip: Clip) -> dict[str, Any]:
    """The clip's fields, without those that few clips have where they are empty."""
    return {name: value for name, value in clip.model_dump().items() if value or name not in _RARE_FIELDS}
