"""The corpus's own page: what is in it, how it sounds, how it is split, whose it is, and what was left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim import __version__
from talim.atomic_io import write_text
from talim.corpus.caption_templates import join_list
from talim.corpus.manifest import UNKNOWN, Clip, Corpus
from talim.errors import TalimError
from talim.html.audio_player import audio_player, read_sound
from talim.html.render import TEMPLATES, render
from talim.html.spectrogram import spectrogram
from talim.licences import allows_commercial_use

MAX_AUDIO_PLAYERS = 6  # about 150 kB of the page each
MAX_ROWS = 12
MAX_PLAYER_SECONDS = 12.0  # of a clip that is heard: a corpus may be cut in minutes
_CLIPPED_SHARE = 0.0005
_SILENT_SHARE = 0.3
_QUIET_LUFS, _LOUD_LUFS = -35.0, -6.0
_KINDS = {
    "performer": "performer",
    "release": "release",
    "work": "work",
    "twin": "piece of sound",
    "any": "any of these",
}


@dataclass(frozen=True)
class BarChartRow:
    """One row of a bar chart: a name, what is written beside it, its length in percent of the longest."""

    name: str
    text: str
    percent: float


def write(corpus: Corpus) -> Path:
    """Write CORPUS/report/index.html, or leave it where nothing that it shows has changed; its path."""
    target = corpus.folder / "report" / "index.html"
    stamp = _stamp(corpus)
    if not _is_current(target, stamp):
        write_text(target, render("corpus.html", stamp=stamp, **context(corpus)))
    return target


def _stamp(corpus: Corpus) -> str:
    """Changes with anything that the page shows, and with the page's own make."""
    facts = json.dumps(corpus.summary, sort_keys=True, ensure_ascii=False)
    make = "".join((TEMPLATES / name).read_text("utf-8") for name in ("corpus.html", "page.css"))
    return hashlib.sha256(f"{__version__} {corpus.hash} {facts} {make}".encode()).hexdigest()[:32]


def _is_current(target: Path, stamp: str) -> bool:
    try:
        with target.open(encoding="utf-8") as file:
            return stamp in file.read(2000)
    except (OSError, UnicodeDecodeError):
        return False


def context(corpus: Corpus) -> dict[str, Any]:
    """Every value that the template shows, in the order in which it shows them."""
    facts, clips = corpus.summary, corpus.clips
    levels = [row for row in facts["recordings_as_found"] if row.get("seconds")]
    return {
        "version": __version__,
        "title": corpus.folder.resolve().name,
        "facts": facts,
        "amount": duration(facts["seconds"]),
        "deck": subtitle(facts),
        "cautions": caveats(facts, levels),
        "figures": _key_figures(facts, levels),
        "players": _players(corpus),
        "labels": {
            name: duration_bars(facts["labels"][name])
            for name in ("tradition", "mode", "cycle", "instruments")
            if {*facts["labels"][name]} - {UNKNOWN}
        },
        "lengths": _lengths(levels),
        "loudness": _loudness(levels),
        "odd": _level_problems(levels),
        "leak": _leakage_rows(facts["split"]),
        "held_out": facts["split"]["held_out_recordings"],
        "captions": {name: counted(count, "recording") for name, count in facts["captions"].items()},
        "phrases": list(dict.fromkeys(clip.caption for clip in clips))[:5],
        "rights": {name: _rights(facts["rights"][name]) for name in ("licences", "sources", "consent")},
    }


def subtitle(facts: Mapping[str, Any]) -> str:
    """One line under the title: what music, and how it is split."""
    kinds = [name for name in facts["labels"]["tradition"] if name != UNKNOWN][:3]
    music = f"{join_list(tuple(kinds))} music" if kinds else "music of a tradition that nobody named"
    step = {"blocks": "in blocks of one recording"}.get(
        facts["split"]["step"], f"by {facts['split']['step']}"
    )
    return f"{counted(facts['recordings'], 'recording')} of {music}, split {step}."


def duration(seconds: float) -> str:
    """A length in words: 8 s, 12.3 min, 4.2 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 recording, 2 recordings."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration_bars(seconds: Mapping[str, float]) -> list[BarChartRow]:
    """The values with the most music, the rest together, what is unknown last."""
    known = [(name, length) for name, length in seconds.items() if name != UNKNOWN]
    rows = [*known[:MAX_ROWS]]
    if len(known) > MAX_ROWS:
        rows.append((f"{len(known) - MAX_ROWS} others", sum(length for _, length in known[MAX_ROWS:])))
    if UNKNOWN in seconds:
        rows.append((UNKNOWN, seconds[UNKNOWN]))
    longest = max((length for _, length in rows), default=1) or 1
    return [BarChartRow(name, duration(length), round(100 * length / longest, 1)) for name, length in rows]


def caveats(facts: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a person should look at before training on it, in sentences; none is good news."""
    found = []
    licences = facts["rights"]["licences"]
    if count := licences.get(UNKNOWN, 0):
        found.append(
            f"{counted(count, 'recording')} with an unknown licence: ask before anything is published."
        )
    if count := sum(n for name, n in licences.items() if allows_commercial_use(name) == "forbidden"):
        found.append(f"{counted(count, 'recording')} under a licence that forbids commercial use.")
    if count := facts["recordings_without_performer"]:
        found.append(
            f"{counted(count, 'recording')} without a performer's name: the split cannot keep them apart."
        )
    if facts["rights"]["consent"].get(UNKNOWN, 0) == facts["recordings"]:
        found.append("Nobody's consent is on record; a column consent in metadata.csv keeps it.")
    if facts["split"]["relaxed"]:
        found.append(f"The split is relaxed to {facts['split']['step']}: {facts['split']['relaxed'][0]}.")
    if pairs := facts["near_duplicates"]:
        found.append(
            f"{counted(len(pairs), 'pair')} of files hold the same sound; each pair is kept on one side."
        )
    clipped = sum(row["clipped_share"] > _CLIPPED_SHARE for row in levels)
    if clipped:
        found.append(f"{counted(clipped, 'recording')} clipped: the model will learn the distortion too.")
    if waiting := facts["captions_to_write"]:
        found.append(
            f"{counted(waiting['recordings'], 'recording')} without words: write them into metadata.csv."
        )
    if facts["skipped"]:
        found.append(f"{counted(len(facts['skipped']), 'file')} left out; the reasons are below.")
    return found


def _key_figures(facts: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [
        (duration(facts["seconds"]), f"of music in {counted(facts['clips'], 'clip')}"),
        (str(facts["recordings"]), "recordings" if facts["recordings"] != 1 else "recording"),
        (
            str(facts["performers"] or "?"),
            "performers by name" if facts["performers"] != 1 else "performer by name",
        ),
    ]


def _players(corpus: Corpus) -> list[dict[str, Any]]:
    """A few clips, each of another recording and as many modes as there are, with words and spectrogram."""
    chosen: list[Clip] = []
    for kind in ("mode", "recording"):
        seen = {getattr(clip, kind) for clip in chosen}
        for clip in sorted(corpus.clips, key=lambda clip: hashlib.sha256(clip.id.encode()).digest()):
            if len(chosen) < MAX_AUDIO_PLAYERS and getattr(clip, kind) not in seen:
                seen.add(getattr(clip, kind))
                chosen.append(clip)
    return [_player(corpus, clip) for clip in sorted(chosen, key=lambda clip: clip.id)]


def _player(corpus: Corpus, clip: Clip) -> dict[str, Any]:
    shown = {
        "caption": clip.caption,
        "recording": clip.recording,
        "side": "Held out" if clip.split == "held_out" else "To learn from",
    }
    try:
        sound = read_sound(corpus.folder / clip.file)
    except TalimError as error:
        return shown | {"problem": str(error)}
    sound = type(sound)(sound.samples[: round(MAX_PLAYER_SECONDS * sound.rate_hz)], sound.rate_hz)
    alt = f"Spectrogram of {clip.recording}, {sound.seconds:.0f} seconds"
    drawing: Markup = spectrogram(sound.mono, sound.rate_hz, alt=alt)
    return shown | {
        "problem": "",
        "drawing": drawing,
        "player": audio_player(sound, f"{clip.recording}: {clip.caption}"),
    }


def _lengths(levels: Sequence[Mapping[str, Any]]) -> list[BarChartRow]:
    """How many recordings there are of which length."""
    edges = (0, 10, 30, 60, 300, 900, 1800, 3600, float("inf"))
    names = (
        "under 10 s",
        "10 to 30 s",
        "30 to 60 s",
        "1 to 5 min",
        "5 to 15 min",
        "15 to 30 min",
        "30 to 60 min",
    )
    return _bins([row["seconds"] for row in levels], edges, (*names, "over an hour"))


def _loudness(levels: Sequence[Mapping[str, Any]]) -> list[BarChartRow]:
    """How many recordings there are of which integrated loudness."""
    edges = (-float("inf"), -35, -30, -25, -20, -15, -10, -6, float("inf"))
    names = (
        "under -35",
        *(f"{low:g} to {high:g}" for low, high in pairwise(edges[1:-1])),
    )
    found = [row["lufs"] for row in levels if row["lufs"] is not None]
    return _bins(found, edges, tuple(name.replace("-", "−") for name in (*names, "over -6")))


def _bins(values: Sequence[float], edges: Sequence[float], names: Sequence[str]) -> list[BarChartRow]:
    """A histogram as bars, without the empty bins at its ends."""
    counts = [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return []
    most = max(counts)
    kept = range(filled[0], filled[-1] + 1)
    return [
        BarChartRow(names[place], str(counts[place]), round(100 * counts[place] / most, 1)) for place in kept
    ]


def _level_problems(levels: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Recordings with something wrong with their levels, the worst first."""
    rows = []
    for row in levels:
        faults = []
        if row["clipped_share"] > _CLIPPED_SHARE:
            faults.append(f"{row['clipped_share']:.2%} of its samples clipped")
        if row["silent_share"] > _SILENT_SHARE:
            faults.append(f"{row['silent_share']:.0%} silence")
        if row["lufs"] is not None and not _QUIET_LUFS <= row["lufs"] <= _LOUD_LUFS:
            faults.append(f"{'quiet' if row['lufs'] < _QUIET_LUFS else 'loud'}: {row['lufs']:.1f} LUFS")
        if row["rate_hz"] < 16000:
            faults.append(f"only {row['rate_hz']} Hz")
        if faults:
            rows.append(
                (
                    row["clipped_share"] + row["silent_share"],
                    {"file": row["file"], "fault": "; ".join(faults)},
                )
            )
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


def _leakage_rows(split: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of the leak table: what is shared, under a plain split by recording, and under this one."""
    plain = split["leak_of_a_plain_split"]
    return [
        (name, f"{plain[kind]:.0%}" if plain else "–", f"{split['leak'][kind]:.0%}")
        for kind, name in _KINDS.items()
    ]


def _rights(found: Mapping[str, int]) -> list[tuple[str, str]]:
    ordered = sorted(found.items(), key=lambda item: (item[0] == UNKNOWN, -item[1], item[0]))
    rows = [(name, counted(count, "recording")) for name, count in ordered[:MAX_ROWS]]
    if rest := ordered[MAX_ROWS:]:
        rows.append((f"{len(rest)} others", counted(sum(count for _, count in rest), "recording")))
    return rows
