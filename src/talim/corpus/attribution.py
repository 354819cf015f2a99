"""The recordings behind an adapter as attribution asks for them: performer, title, source and licence of each."""

from __future__ import annotations

from collections.abc import Iterable

from talim.corpus.manifest import Clip
from talim.terminal_text import one_line

FIELDS = ("performer", "title", "source", "licence", "consent")


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
