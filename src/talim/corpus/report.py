"""The page of a corpus: contents, examples, labels, levels, split, rights, and what was skipped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from talim.atomic_io import write_text
from talim.corpus.caption_templates import join_list
from talim.corpus.labels import UNKNOWN_NAMES
from talim.corpus.manifest import UNKNOWN, Clip, Corpus
from talim.corpus.metadata import UNMATCHED
from talim.corpus.split_groups import LEAKAGE_KEYS
from talim.corpus.translated_report import MAX_REASONS, NAME, translated_report
from talim.errors import TalimError
from talim.html.audio_player import DecodedAudio, audio_player, read_audio
from talim.html.formatting import format_counted, format_duration, format_number, format_percent
from talim.html.languages import languages, words
from talim.html.render import TEMPLATES, render
from talim.html.spectrogram import spectrogram
from talim.licences import allows_commercial_use, licence_remark, refuses_consent
from talim.recordings_needed import COMPARISON_SENTENCE, held_out_note
from talim.version import __version__

MAX_AUDIO_PLAYERS = 6  # about 150 kB of the page each
MAX_ROWS, MAX_CAPTIONS = 12, 5
MAX_PLAYER_SECONDS = 12.0
_MAX_CLIPPED_FRACTION = 0.0005
_MAX_SILENT_FRACTION = 0.3
_QUIET_LUFS, _LOUD_LUFS = -35.0, -6.0
_MIN_RATE_HZ = 16000
_LEAKAGE_NAMES = {key: key for key in LEAKAGE_KEYS} | {"duplicate": "stretch of audio", "any": "any of these"}
_LENGTH_BINS = (  # upper edge in seconds, name
    (10, "under 10 s"), (30, "10 to 30 s"), (60, "30 to 60 s"), (300, "1 to 5 min"), (900, "5 to 15 min"),
    (1800, "15 to 30 min"), (3600, "30 to 60 min"), (float("inf"), "over an hour"),
)  # fmt: skip
_LUFS_EDGES = (-35, -30, -25, -20, -15, -10, -6)
_LUFS_BINS = (
    (_LUFS_EDGES[0], f"under −{-_LUFS_EDGES[0]}"),
    *((high, f"−{-low} to −{-high}") for low, high in pairwise(_LUFS_EDGES)),
    (float("inf"), f"over −{-_LUFS_EDGES[-1]}"),
)


@dataclass(frozen=True)
class BarChartRow:
    """One row of a bar chart: its name, the text beside it, and its length in percent of the longest."""

    name: str
    text: str
    percent: float


def write(corpus: Corpus) -> Path:
    """Write CORPUS/report/index.html, unless it is up to date; returns its path."""
    path = corpus.folder / "report" / "index.html"
    stamp = _stamp(corpus)
    if not _is_current(path, stamp):
        write_text(path, render("corpus.html", stamp=stamp, **template_values(corpus)))
    return path


def _stamp(corpus: Corpus) -> str:
    """A hash of everything that the page shows, of its template, and of its translations."""
    facts = json.dumps(corpus.summary, sort_keys=True, ensure_ascii=False)
    facts += json.dumps([words(language, NAME) for language in languages(NAME)])
    files = (TEMPLATES / "corpus.html", TEMPLATES / "page.css")
    templates = "".join(path.read_text("utf-8") for path in files)
    return hashlib.sha256(f"{__version__} {corpus.hash} {facts} {templates}".encode()).hexdigest()[:32]


def _is_current(path: Path, stamp: str) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return stamp in file.read(2000)
    except (OSError, UnicodeDecodeError):
        return False


def template_values(corpus: Corpus) -> dict[str, Any]:
    """The values of corpus.html, in the order of the page."""
    facts, clips = corpus.summary, corpus.clips
    levels = [row for row in facts["source_levels"] if row.get("seconds")]
    leakage, random_leakage = facts["split"]["leakage"], facts["split"]["random_split_leakage"]
    performers, players = facts["performers"], _players(corpus)
    counts = problem_counts(facts, levels)
    given = list(dict.fromkeys(clip.caption for clip in clips if clip.caption))
    return {
        "version": __version__,
        "title": title_of(corpus.folder, facts.get("source_name", "")),
        "facts": facts,
        "amount": format_duration(facts["seconds"]),
        "deck": subtitle(facts),
        "cautions": caveats(facts, counts),
        "translated": {
            language: translated_report(language, facts, counts) for language in languages(NAME) if language != "en"
        },
        "max_reasons": MAX_REASONS,
        "figures": [
            (format_duration(facts["seconds"]), f"of music in {format_counted(facts['clips'], 'clip')}"),
            (str(facts["recordings"]), "recording" if facts["recordings"] == 1 else "recordings"),
            (str(performers or "?"), "named performer" if performers == 1 else "named performers"),
        ],
        "players": players,
        "played": _played(players, corpus),
        "labels": {
            name: duration_bars(facts["labels"][name])
            for name in ("tradition", "mode", "cycle", "instruments")
            if {*facts["labels"][name]} - {UNKNOWN}
        },
        "lengths": _histogram([row["seconds"] for row in levels], _LENGTH_BINS),
        "loudness": _histogram([row["lufs"] for row in levels if row["lufs"] is not None], _LUFS_BINS),
        "level_problems": _level_problems(levels),
        "leakage": [
            (name, _leaked(random_leakage, key) if random_leakage else "–", _leaked(leakage, key))
            for key, name in _LEAKAGE_NAMES.items()
        ],
        "copies": any(row.get("copy_of") for row in facts["skipped"]),
        "held_out": facts["split"]["held_out_recordings"],
        "validation": facts["split"]["validation_recordings"],
        "sides": _sides_sentence(facts["split"]),
        "captions": {name: format_counted(count, "recording") for name, count in facts["captions"].items()},
        "example_captions": given[:MAX_CAPTIONS],
        "num_captions": len(given),
        "rights": {
            "licences": _recording_counts(
                {f"{name}{licence_remark(name)}": count for name, count in facts["rights"]["licences"].items()}
            ),
            **{name: _recording_counts(facts["rights"][name]) for name in ("sources", "consent")},
        },
    }


def _leaked(fractions: Mapping[str, float | None], key: str) -> str:
    """The fraction of held-out recordings that share it; of all together it is the least where one is not known."""
    text = format_percent(fractions[key])
    least = key == "any" and fractions[key] is not None and any(fractions[each] is None for each in LEAKAGE_KEYS)
    return f"{text} or more" if least else text


def title_of(folder: Path, source_name: str = "") -> str:
    """The folder's name; with that of the recordings' folder where it is only called "corpus", as in a PoC."""
    name = folder.resolve().name
    return f"Corpus of {source_name}" if name == "corpus" and source_name else name


def subtitle(facts: Mapping[str, Any]) -> str:
    """The line under the title: number of recordings, traditions, and how it is split."""
    seconds = facts["labels"]["tradition"]
    traditions = [name for name in seconds if name != UNKNOWN][:3]
    music = f"{join_list(tuple(traditions))} music" if traditions else "music of an unnamed tradition"
    if traditions and (unnamed := seconds.get(UNKNOWN, 0.0)):
        named = format_percent(1 - unnamed / sum(seconds.values()))
        music = f"music, {named} of it named as {join_list(tuple(traditions))}"
    strategy = facts["split"]["strategy"]
    by = "in blocks of one recording" if strategy == "blocks" else f"by {strategy}"
    return (
        f"{format_counted(facts['recordings'], 'recording')} of {music}, split into training, validation and test {by}."
    )


def _sides_sentence(split: Mapping[str, Any]) -> str:
    """How much is on each side: "8 training clips of 4 recordings, 2 held-out clips of 1 recording"; others alike."""
    sides = [
        f"{format_counted(split[side]['clips'], noun)} of {format_counted(split[side]['recordings'], 'recording')}"
        for side, noun in (("train", "training clip"), ("validation", "validation clip"), ("held_out", "held-out clip"))
    ]
    if gap := split["gap"]["clips"]:
        sides.append(f"{format_counted(gap, 'clip')} between them in neither")
    return f"{', '.join(sides)}."


def duration_bars(seconds: Mapping[str, float]) -> list[BarChartRow]:
    """The values with the most music, then the others together, then the unknown ones."""
    named = [(name, length) for name, length in seconds.items() if name != UNKNOWN]
    rows = named[:MAX_ROWS]
    if len(named) > MAX_ROWS:
        rows.append((format_counted(len(named) - MAX_ROWS, "other"), sum(length for _, length in named[MAX_ROWS:])))
    if UNKNOWN in seconds:
        rows.append((UNKNOWN, seconds[UNKNOWN]))
    longest = max((length for _, length in rows), default=1) or 1
    return [BarChartRow(name, format_duration(length), round(100 * length / longest, 1)) for name, length in rows]


def problem_counts(facts: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many recordings, files or pairs have what should be checked before training, by kind."""
    licences, consent = ([*facts["rights"][name].items()] for name in ("licences", "consent"))
    missing = facts["missing_captions"] or {"names": [], "kept_out": []}
    return {
        "unlicensed": sum(n for name, n in licences if allows_commercial_use(name) == "unknown"),
        "forbidden": sum(n for name, n in licences if allows_commercial_use(name) == "forbidden"),
        "no_performer": facts["recordings_without_performer"],
        "no_consent": sum(n for name, n in consent if name == UNKNOWN),
        "refused": sum(n for name, n in consent if refuses_consent(name)),
        "duplicates": len(facts["near_duplicates"]),
        "clipped": sum(row["clipped_fraction"] > _MAX_CLIPPED_FRACTION for row in levels),
        "no_caption": len(missing["names"]),
        "kept_out": len(missing["kept_out"]),
        "skipped": len(facts["skipped"]),
        "doubtful_names": sum(row["file"] == UNKNOWN_NAMES for row in facts["notes"]),
    }


def caveats(facts: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """What to check before training, in sentences: rights, performers, split, duplicates, levels, captions."""
    split, missing = facts["split"], facts["missing_captions"] or {"file": "metadata.csv"}
    note = held_out_note(split["held_out"]["recordings"])
    generated = facts.get("ai_generated") or {"left_out": 0, "used": [], "held_out": 0}
    sentences = (
        (len(generated["used"]), "recording", "AI-generated and used on purpose: no music that anybody played."),
        (generated["held_out"], "recording", "AI-generated and held out: scores compare with what a model made."),
        (generated["left_out"], "file", "left out as AI-generated."),
        (
            counts["unlicensed"],
            "recording",
            "with an unknown licence (none, or words not understood): ask before anything is published.",
        ),
        (counts["forbidden"], "recording", "under a licence that forbids commercial use."),
        (counts["no_performer"], "recording", "without a performer's name: the split cannot keep them apart."),
        (counts["refused"], "recording", "whose performers refused consent: take them out."),
        (
            counts["no_consent"],
            "recording",
            "without a consent of the performers on record; a column consent in metadata.csv keeps it.",
        ),
        (bool(note), "", f"{note.capitalize()}. {COMPARISON_SENTENCE}"),
        (split["relaxed"], "", f"The split is relaxed to {split['strategy']}: {(split['relaxed'] or [''])[0]}."),
        (counts["duplicates"], "pair", "of files with the same audio; each pair is kept on one side."),
        (counts["clipped"], "recording", "clipped: the model will learn the distortion too."),
        (
            counts["no_caption"],
            "recording",
            f"without a caption: the sound is learned, but no words call for it; captions in {missing['file']} would.",
        ),
        (
            counts["kept_out"],
            "recording",
            "kept out of training without a caption: what has none cannot serve as a prompt.",
        ),
        (counts["skipped"], "file", "skipped; the reasons are below."),
    )
    named = [f"{row['file']}: {row['note']}." for row in facts["notes"] if UNMATCHED in row["note"]]
    named += [f"Unknown name: {row['note']}" for row in facts["notes"] if row["file"] == UNKNOWN_NAMES]
    return named + [
        f"{format_counted(count, noun)} {text}" if noun else text for count, noun, text in sentences if count
    ]


def _players(corpus: Corpus) -> list[dict[str, Any]]:
    """A few clips, of as many modes and then recordings as possible, each with caption and spectrogram."""
    selected: list[Clip] = []
    for column in ("mode", "recording"):
        seen = {getattr(clip, column) for clip in selected}
        for clip in sorted(corpus.clips, key=lambda clip: hashlib.sha256(clip.id.encode()).digest()):
            if len(selected) < MAX_AUDIO_PLAYERS and getattr(clip, column) not in seen:
                seen.add(getattr(clip, column))
                selected.append(clip)
    return [_player(corpus, clip) for clip in sorted(selected, key=lambda clip: clip.id)]


def _played(players: Sequence[Mapping[str, Any]], corpus: Corpus) -> str:
    """How many of the recordings are played, and how much of each."""
    played, every = len({player["recording"] for player in players}), len({clip.recording for clip in corpus.clips})
    of, verb = f"{played} of " * (played < every), "is" if every == 1 else "are"
    return f"{of}{format_counted(every, 'recording')} {verb} played here, up to {MAX_PLAYER_SECONDS:g} s of each."


def _player(corpus: Corpus, clip: Clip) -> dict[str, Any]:
    side = {"train": "Training", "validation": "Validation", "held_out": "Held out"}[clip.split]
    values = {"caption": clip.caption or "No caption", "recording": clip.recording, "side": side}
    try:
        audio = read_audio(corpus.folder / clip.file)
    except TalimError as error:
        return values | {"problem": str(error)}
    audio = DecodedAudio(audio.samples[: round(MAX_PLAYER_SECONDS * audio.rate_hz)], audio.rate_hz)
    alt = f"Spectrogram of {clip.recording}, {audio.seconds:.0f} seconds"
    return values | {
        "problem": "",
        "spectrogram": spectrogram(audio.mono, audio.rate_hz, alt=alt),
        "player": audio_player(audio, f"{clip.recording}: {clip.caption}"),
    }


def _histogram(values: Sequence[float], bins: Sequence[tuple[float, str]]) -> list[BarChartRow]:
    """Counts by bins (upper edge, name) as bars, without empty bins at the ends."""
    edges = [-float("inf"), *(edge for edge, _ in bins)]
    counts = [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return []
    return [
        BarChartRow(bins[index][1], str(counts[index]), round(100 * counts[index] / max(counts), 1))
        for index in range(filled[0], filled[-1] + 1)
    ]


def _level_problems(levels: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Recordings with unusual levels, the most clipped and silent first."""
    rows = []
    for row in sorted(levels, key=lambda row: -(row["clipped_fraction"] + row["silent_fraction"])):
        problems = []
        if row["clipped_fraction"] > _MAX_CLIPPED_FRACTION:
            problems.append(f"{row['clipped_fraction']:.2%} of its samples clipped")
        if row["silent_fraction"] > _MAX_SILENT_FRACTION:
            problems.append(f"{format_percent(row['silent_fraction'])} silence")
        if row["lufs"] is not None and not _QUIET_LUFS <= row["lufs"] <= _LOUD_LUFS:
            loudness = "quiet" if row["lufs"] < _QUIET_LUFS else "loud"
            problems.append(f"{loudness}: {format_number(row['lufs'], 1)} LUFS")
        if row["rate_hz"] < _MIN_RATE_HZ:
            problems.append(f"only {row['rate_hz']} Hz")
        if problems:
            rows.append({"file": row["file"], "problem": "; ".join(problems)})
    return rows


def _recording_counts(recordings: Mapping[str, int]) -> list[tuple[str, str]]:
    """Number of recordings by value: the most frequent first, the unknown last, beyond MAX_ROWS together."""
    ordered = sorted(recordings.items(), key=lambda item: (item[0] == UNKNOWN, -item[1], item[0]))
    rows = [(name, format_counted(count, "recording")) for name, count in ordered[:MAX_ROWS]]
    if rest := ordered[MAX_ROWS:]:
        rows.append((format_counted(len(rest), "other"), format_counted(sum(count for _, count in rest), "recording")))
    return rows
