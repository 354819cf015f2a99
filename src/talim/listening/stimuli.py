"""Stimuli of a listening test: collected from runs, cut to equal length, loudness matched, randomly named."""

from __future__ import annotations

import hashlib
import itertools
import math
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from talim import audio
from talim.atomic_io import check_keys, new_folder, read_json, read_jsonl, write_json
from talim.audio import Audio
from talim.corpus.recordings import real_music_warning
from talim.errors import TalimError
from talim.html.formatting import format_counted
from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.protocol import ANCHOR, FILE, Condition, Protocol, hashed_content
from talim.run import Run

FOLDER = "stimuli"
TABLE = "stimuli.json"
SHORT_SECONDS = 3.0  # what is shorter ends before a phrase does
ANCHOR_HZ = 3500.0  # the low anchor of ITU-R BS.1534-3
_LOW_QUALITY_ANCHOR_HZ = 1200.0
_PEAK = 10 ** (-1 / 20)  # -1 dBFS: leaves headroom for inter-sample peaks
_FADE_SECONDS = 0.02
_ROLES = {"adapter": "after", "base": "before", "real": "real"}
GENERATED_TAKES = ("adapter", "base")  # of a run: nobody takes them for real music
Key = TypeVar("Key")
_STIMULUS_FIELDS = ("kind", "conditions", "reference", "anchor", "seconds", "loudness_lufs")


@dataclass(frozen=True)
class StimulusSet:
    """Files and content hashes of all stimuli by (item, condition), and the prompt of each item."""

    folder: Path
    files: dict[tuple[str, str], str]
    hashes: dict[tuple[str, str], str]
    prompts: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def items(self) -> list[str]:
        """Names of the items, in order."""
        return list(self.prompts)

    @property
    def content_hashes(self) -> dict[str, str]:
        """Content hash by `item/condition`, the form that enters the test's hash."""
        return {f"{item}/{condition}": digest for (item, condition), digest in self.hashes.items()}

    def path(self, item: str, condition: str) -> Path:
        """The file of a stimulus; KeyError for an unknown one."""
        return self.folder / self.files[item, condition]


def prepare(folder: Path, protocol: Protocol) -> StimulusSet:
    """The stimuli in FOLDER/stimuli, created from the protocol's sources if there are none of its format.

    A folder that was copied to another site therefore works without the runs. TalimError if a source is missing, if
    no prompt is common to all conditions, or if a stimulus file was changed.
    """
    target = folder / FOLDER
    stimulus_format = {key: hashed_content(protocol)[key] for key in _STIMULUS_FIELDS}
    there = read_json(target / TABLE) if (target / TABLE).is_file() else None
    if there is not None and not (isinstance(there, dict) and there.get("format") != stimulus_format):
        return _read(target)
    files, prompts, notes = collect_stimuli(folder, protocol)
    with new_folder(target) as new:
        written = _write(new, protocol, files, notes)
        written["notes"] += equal_sounds(written["stimuli"], prompts, protocol.names, folder / FILE)
        written["notes"] += weak_material(written["stimuli"], len(prompts))
        write_json(new / TABLE, {"format": stimulus_format, "prompts": prompts} | written)
    return _read(target)


def weak_material(rows: Sequence[dict[str, Any]], items: int) -> list[str]:
    """A note where listeners get one item alone, or stimuli too short to judge, with what would help."""
    again, notes = "evaluate again and make the test again: talim evaluate RUN", list[str]()
    if items == 1:
        notes.append(
            "warning: there is one item only: answers tell of this one piece, and little of the conditions; for more, "
            f"{again} --num-prompts 8"
        )
    shortest = min((row["seconds"] for row in rows), default=SHORT_SECONDS)
    if shortest < SHORT_SECONDS:
        notes.append(
            f"warning: the shortest sounds last {shortest:.2g} s, in which music can hardly be judged; for longer "
            f"ones, {again} --seconds 8"
        )
    return notes


def equal_sounds(
    rows: Sequence[dict[str, Any]], prompts: Mapping[str, str], names: Sequence[str], protocol_file: Path
) -> list[str]:
    """A note for each two conditions whose stimuli are the same in some items; TalimError if in all of them."""
    hashes = {(row["item"], row["condition"]): row["sha256"] for row in rows}
    notes = []
    for first, second in itertools.combinations(names, 2):
        equal = [f"{item} {text!r}" for item, text in prompts.items() if hashes[item, first] == hashes[item, second]]
        counted = format_counted(len(prompts), "item")
        if len(equal) == len(prompts):
            raise TalimError(
                f"{first} and {second} are the same sound in all of {counted}, so nobody can prefer one: an adapter "
                "that changes nothing (talim train says so), or the same files twice; leave one of them out of the "
                f"conditions in {protocol_file}, or train longer and evaluate again"
            )
        if equal:
            notes.append(
                f"warning: {first} and {second} are the same sound in {len(equal)} of {counted} ({', '.join(equal)}): "
                "answers on these tell nothing of them"
            )
    return notes


def collect_stimuli(folder: Path, protocol: Protocol) -> tuple[dict[str, dict[str, Path]], dict[str, str], list[str]]:
    """Files by item and condition, the items' prompts, and notes on sounds that some condition lacks."""
    sources = {c.name: _source_files(folder / c.source, c) for c in protocol.conditions}
    first = sources[protocol.names[0]]
    shared = [key for key in first if all(key in files for files in sources.values())]
    if not shared:
        counts = ", ".join(f"{name} {len(files)}" for name, files in sources.items())
        raise TalimError(
            f"the conditions have no prompt in common (files found: {counts}); evaluate the runs with the same "
            "prompts, or give files of one item the same name"
        )
    notes = [
        f"{name}: {len(files) - len(shared)} of {format_counted(len(files), 'file')} left out, without a counterpart"
        for name, files in sources.items()
        if len(files) > len(shared)
    ]
    for condition in protocol.conditions:
        is_reference = condition.name == protocol.reference and condition.take not in GENERATED_TAKES
        if is_reference or "real" in (condition.take, condition.name):
            files = [sources[condition.name][key] for key in shared]
            warning = real_music_warning(files, "listeners hear them in the place of real music")
            notes += [f"{condition.name}: {warning}"] * bool(warning)
    width = max(2, len(str(len(shared))))
    names = {key: f"item-{number:0{width}d}" for number, key in enumerate(shared, start=1)}
    collected = {names[key]: {c: sources[c][key] for c in protocol.names} for key in shared}
    return collected, {names[key]: key[0] for key in shared}, notes


def _source_files(source: Path, condition: Condition) -> dict[tuple[str, int], Path]:
    """Files by (prompt, its occurrence number); in a folder without a manifest the file's stem is the prompt.

    A sound without a prompt goes by its recording. A run's continuations are a source of their own.
    """
    is_continuations = source.name == Run(source).continuations.name
    folder = source if condition.take == "files" or is_continuations else Run(source).samples
    if not folder.is_dir():
        raise TalimError(
            f"{condition.name}: no folder {folder}; run talim evaluate, or correct source: in the protocol"
        )
    table = folder / "manifest.jsonl"
    if table.is_file():
        rows = [row for row in read_jsonl(table) if row.get("file")]
        if condition.take != "files":
            rows = [row for row in rows if row.get("role") == _ROLES[condition.take]]
        named = [
            (str(row.get("prompt") or row.get("recording") or row["file"]), folder / str(row["file"])) for row in rows
        ]
    else:
        named = [(path.stem, path) for path in sorted(folder.iterdir()) if audio.is_audio_name(path)]
    occurrences: Counter[str] = Counter()
    files: dict[tuple[str, int], Path] = {}
    for prompt, path in named:
        files[prompt, occurrences[prompt]] = path
        occurrences[prompt] += 1
    if not files:
        raise TalimError(f"{condition.name}: no audio files of {condition.take} in {folder}")
    return files


def _write(folder: Path, protocol: Protocol, collected: dict[str, dict[str, Path]], notes: list[str]) -> dict[str, Any]:
    """Write the stimuli and return their rows and notes."""
    reference = protocol.reference or protocol.names[0]
    clips: dict[tuple[str, str], Audio] = {}
    for item, files in collected.items():
        by_name = match_format({name: audio.read(path) for name, path in files.items()}, protocol.seconds)
        by_name[LOW_QUALITY_ANCHOR] = degraded_copy(by_name[reference])
        if protocol.kind == "mushra" and protocol.anchor:
            by_name[ANCHOR] = low_pass_anchor(by_name[reference], ANCHOR_HZ)
        clips |= {(item, name): clip for name, clip in by_name.items()}
    clips = _unify_format(clips, max(clip.channels for clip in clips.values()))
    target_lufs, clips = match_loudness(clips, protocol.loudness_lufs)
    if target_lufs < protocol.loudness_lufs - 0.05:
        notes = [*notes, f"all at {target_lufs:.1f} LUFS, because a peak would clip at {protocol.loudness_lufs:g}"]
    rows = []
    for (item, name), clip in clips.items():
        file = f"{secrets.token_hex(16)}.wav"  # neither name nor size identifies the condition
        audio.write(folder / file, clip)
        lufs = audio.loudness_lufs(clip)
        if not math.isfinite(lufs):
            notes = [*notes, f"{item}, {name}: silent, its loudness cannot be matched"]
        row = {"item": item, "condition": name, "file": file, "seconds": round(clip.seconds, 3)}
        row |= {"lufs": round(lufs, 2) if math.isfinite(lufs) else None, "sha256": _digest(folder / file)}
        rows.append(row)
    return {"notes": notes, "stimuli": rows}


def match_format(clips: dict[str, Audio], seconds: float) -> dict[str, Audio]:
    """The clips of one item at the highest of their rates, cut to the shortest of them and to `seconds`."""
    clips = _unify_format(clips, min(2, max(clip.channels for clip in clips.values())))
    frames = min(clip.frames for clip in clips.values())
    return {name: _faded(clip, min(frames, round(seconds * clip.rate_hz))) for name, clip in clips.items()}


def _unify_format(clips: dict[Key, Audio], channels: int) -> dict[Key, Audio]:
    """The clips at the highest of their rates, so that headers do not identify a condition."""
    rate_hz = max(clip.rate_hz for clip in clips.values())
    return {key: clip.to_channels(channels).resample(rate_hz) for key, clip in clips.items()}


def match_loudness(clips: dict[Key, Audio], target_lufs: float) -> tuple[float, dict[Key, Audio]]:
    """(loudness in LUFS, clips at it): the target, or the highest loudness at which no peak exceeds -1 dBFS.

    Silent clips are unchanged.
    """
    lufs = {key: audio.loudness_lufs(clip) for key, clip in clips.items()}
    limits = [lufs[key] + 20 * math.log10(_PEAK / clip.peak) for key, clip in clips.items() if math.isfinite(lufs[key])]
    common = min([target_lufs, *limits])
    gains = {key: 10 ** ((common - own) / 20) if math.isfinite(own) else 1.0 for key, own in lufs.items()}
    return common, {k: Audio(clip.samples * np.float32(gains[k]), clip.rate_hz) for k, clip in clips.items()}


def low_pass_anchor(clip: Audio, corner_hz: float) -> Audio:
    """The clip through a zero-phase Butterworth low-pass: the anchor of a MUSHRA test."""
    from scipy.signal import butter, sosfiltfilt

    if corner_hz >= 0.45 * clip.rate_hz:
        return clip
    filtered = sosfiltfilt(butter(8, corner_hz, fs=clip.rate_hz, output="sos"), clip.samples, axis=1)
    return Audio(filtered.astype(np.float32), clip.rate_hz)


def degraded_copy(clip: Audio) -> Audio:
    """The clip low-passed at 1.2 kHz with white noise at 0 dB signal-to-noise ratio: obviously damaged."""
    low_passed = low_pass_anchor(clip, _LOW_QUALITY_ANCHOR_HZ).samples
    rms = float(np.sqrt(np.mean(low_passed.astype(np.float64) ** 2))) or 0.01
    noise = np.random.default_rng(0).standard_normal(low_passed.shape).astype(np.float32)
    return Audio(low_passed + rms * noise, clip.rate_hz)


def _faded(clip: Audio, frames: int) -> Audio:
    """The first `frames`, faded in and out over 20 ms to avoid clicks."""
    ramp = np.linspace(0, 1, max(1, min(round(_FADE_SECONDS * clip.rate_hz), frames // 2)))
    shape = np.ones(frames, dtype=np.float32)
    shape[: len(ramp)] *= ramp
    shape[-len(ramp) :] *= ramp[::-1]
    return Audio(clip.samples[:, :frames] * shape, clip.rate_hz)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(target: Path) -> StimulusSet:
    table, again = read_json(target / TABLE), f"delete {target} and create the stimuli again where the runs are"
    check_keys(table, {"stimuli": list, "prompts": dict, "notes": list}, str(target / TABLE), again)
    for row in table["stimuli"]:
        check_keys(row, dict.fromkeys(("item", "condition", "file", "sha256"), str), str(target / TABLE), again)
        path = target / row["file"]
        if not path.is_file() or _digest(path) != row["sha256"]:
            raise TalimError(f"{path}: missing or changed; copy the test's folder again, or {again}")
    by_key = {(row["item"], row["condition"]): row for row in table["stimuli"]}
    files, hashes = ({key: row[column] for key, row in by_key.items()} for column in ("file", "sha256"))
    return StimulusSet(target, files, hashes, table["prompts"], tuple(table["notes"]))
