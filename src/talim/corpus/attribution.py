"""Rights of recordings: counted, named one by one as attribution asks for, and by what they were used for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from talim.corpus.manifest import Clip
from talim.corpus.split_groups import performers
from talim.terminal_text import one_line

MAX_CAPTIONS = 5
FIELDS = ("performer", "title", "source", "licence", "consent")


def rights_of(clips: Iterable[Clip]) -> dict[str, dict[str, int]]:
    """{"licences", "sources", "consent"}: recordings by value; those that share sound and value count once."""
    columns = {"licences": "licence", "sources": "source", "consent": "consent"}
    pairs = {(name, clip.sound_group, str(getattr(clip, column))) for clip in clips for name, column in columns.items()}
    return {
        name: dict(sorted(Counter(value for which, _, value in pairs if which == name).items())) for name in columns
    }


def training_music(trained: Sequence[Clip], measured: Sequence[Clip]) -> dict[str, Any]:
    """The music of a run as run.json has it, from which all that tells its rights is written.

    `trained_on`: `recordings`, `performers` (by name), `clips`, `seconds`, `ai_generated` (a count), `rights`,
    `attributions`, and up to five `captions`, the most frequent first. `kept_out`: how many other `recordings` choose
    its weights and measure it, and their `rights`; they do not bind the adapter and are not named.
    """
    sounds = {clip.sound_group for clip in trained}
    captions = Counter(clip.caption for clip in trained if clip.caption.strip())
    kept_out = [clip for clip in measured if clip.sound_group not in sounds]
    return {
        "trained_on": {
            "recordings": sorted(sounds),
            "performers": sorted({name for clip in trained for name in performers(clip.performer)}),
            "clips": len(trained),
            "seconds": round(sum(clip.seconds for clip in trained), 2),
            "ai_generated": len({clip.sound_group for clip in trained if clip.ai_generated}),
            "rights": rights_of(trained),
            "attributions": attributions(trained),
            "captions": [text for text, _ in captions.most_common(MAX_CAPTIONS)],
        },
        "kept_out": {"recordings": len({clip.sound_group for clip in kept_out}), "rights": rights_of(kept_out)},
    }


def attributions(clips: Iterable[Clip]) -> list[dict[str, str]]:
    """A row per recording, sorted by name: {"recording", "file", and the five FIELDS}.

    The title is that of the metadata's column `title`, else of `work`, else the recording's name. Where the clips of
    one recording differ in a field, its values are joined by "; ".
    """
    rows: dict[str, dict[str, list[str]]] = {}
    for clip in clips:
        row = rows.setdefault(clip.recording, {name: [] for name in ("file", *FIELDS)})
        values = {name: str(getattr(clip, name)) for name in FIELDS if name != "title"}
        for name, value in {"file": clip.source_file, "title": _title(clip), **values}.items():
            if value not in row[name]:
                row[name].append(value)
    return [
        {"recording": recording} | {name: "; ".join(values) for name, values in rows[recording].items()}
        for recording in sorted(rows)
    ]


def attribution_line(row: dict[str, str]) -> str:
    """One row as a line of a notice: "Yaman, by Meera (a/yaman.wav); source: unknown; licence: CC BY 4.0"."""
    performer = f"by {row['performer']}" if row["performer"] != "unknown" else "performer unknown"
    return one_line(f"{row['title']}, {performer} ({row['file']}); source: {row['source']}; licence: {row['licence']}")


def _title(clip: Clip) -> str:
    title = str(clip.extra.get("title") or "").strip()
    return title or (clip.work if clip.work != "unknown" else clip.recording)
