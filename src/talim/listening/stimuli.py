"""The sounds of a test: gathered from runs, cut to one length, brought to one loudness, named at random."""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.atomic_io import new_folder, read_json, read_jsonl, write_json
from talim.audio import Audio
from talim.errors import TalimError
from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.protocol import ANCHOR, Condition, Protocol, hashed_content
from talim.run import Run

FOLDER = "material"
TABLE = "material.json"
ANCHOR_HZ = 3500.0  # the low anchor of ITU-R BS.1534-3
_LOW_QUALITY_ANCHOR_HZ = 1200.0
_PEAK = 10 ** (-1 / 20)  # -1 dB of full scale: no converter clips
_FADE_SECONDS = 0.02
_ROLES = {"adapter": "after", "base": "before", "real": "real"}
_STIMULUS_FIELDS = ("kind", "conditions", "reference", "anchor", "seconds", "loudness_lufs")


@dataclass(frozen=True)
class StimulusSet:
    """Every sound of a test by (item, condition): its file and content hash; and the words of each item."""

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
    def sounds(self) -> dict[str, str]:
        """Content hash by `item/condition`, as the test's hash takes them."""
        return {f"{item}/{condition}": digest for (item, condition), digest in self.hashes.items()}

    def path(self, item: str, condition: str) -> Path:
        """Where a sound lies; KeyError if it is none of the test's."""
        return self.folder / self.files[item, condition]


def prepare(folder: Path, protocol: Protocol) -> StimulusSet:
    """The test's sounds in FOLDER/material: as they are if they fit the protocol, else made from its sources.

    So a folder that was copied to another site works there without the runs. TalimError where a source is
    missing, where no words are common to all conditions, or where a file was changed.
    """
    target = folder / FOLDER
    shaping = {key: hashed_content(protocol)[key] for key in _STIMULUS_FIELDS}
    if (target / TABLE).is_file() and read_json(target / TABLE).get("shaping") == shaping:
        return _read(target)
    gathered, prompts, notes = collect_stimuli(folder, protocol)
    with new_folder(target) as made:
        _write(made, protocol, gathered, prompts, notes, shaping)
    return _read(target)


def collect_stimuli(
    folder: Path, protocol: Protocol
) -> tuple[dict[str, dict[str, Path]], dict[str, str], list[str]]:
    """Files by item and condition, the items' words, and what was left out: items that some condition lacks."""
    found = {c.name: _source_files(folder / c.source, c) for c in protocol.conditions}
    first = found[protocol.names[0]]
    shared = [key for key in first if all(key in sounds for sounds in found.values())]
    if not shared:
        counts = ", ".join(f"{name} {len(sounds)}" for name, sounds in found.items())
        raise TalimError(
            f"the conditions share no music of the same words (sounds found: {counts}); "
            "evaluate the runs with the same prompts, or name files alike"
        )
    notes = [
        f"{name}: {len(sounds) - len(shared)} of {len(sounds)} sounds have no counterpart and are left out"
        for name, sounds in found.items()
        if len(sounds) > len(shared)
    ]
    width = max(2, len(str(len(shared))))
    names = {key: f"item-{place:0{width}d}" for place, key in enumerate(shared, start=1)}
    gathered = {names[key]: {c: found[c][key] for c in protocol.names} for key in shared}
    return gathered, {names[key]: key[0] for key in shared}, notes


def _source_files(source: Path, condition: Condition) -> dict[tuple[str, int], Path]:
    """Files by (words, how many-th of these words); of a folder without a manifest, by the file's stem."""
    folder = source if condition.take == "files" else Run(source).samples
    if not folder.is_dir():
        raise TalimError(
            f"{condition.name}: {folder} is no folder of sounds; run talim evaluate, or mend source: in the protocol"
        )
    table = folder / "manifest.jsonl"
    if table.is_file():
        rows = [row for row in read_jsonl(table) if row.get("file")]
        if condition.take != "files":
            rows = [row for row in rows if row.get("role") == _ROLES[condition.take]]
        named = [(str(row.get("prompt") or row["file"]), folder / str(row["file"])) for row in rows]
    else:
        named = [(path.stem, path) for path in sorted(folder.iterdir()) if audio.is_audio_name(path)]
    found: dict[tuple[str, int], Path] = {}
    for words, path in named:
        found[words, sum(1 for other, _ in found if other == words)] = path
    if not found:
        raise TalimError(f"{condition.name}: no {condition.take} sounds in {folder}")
    return found


def _write(
    made: Path,
    protocol: Protocol,
    gathered: dict[str, dict[str, Path]],
    prompts: dict[str, str],
    notes: list[str],
    shaping: dict[str, Any],
) -> None:
    reference = protocol.reference or protocol.names[0]
    sounds: dict[tuple[str, str], Audio] = {}
    for item, files in gathered.items():
        cut = match_format({name: audio.read(path) for name, path in files.items()}, protocol.seconds)
        cut[LOW_QUALITY_ANCHOR] = degraded_copy(cut[reference])
        if protocol.kind == "mushra" and protocol.anchor:
            cut[ANCHOR] = low_pass_anchor(cut[reference], ANCHOR_HZ)
        sounds |= {(item, name): sound for name, sound in cut.items()}
    _unify_format(sounds)
    target_lufs, levelled = match_loudness(sounds, protocol.loudness_lufs)
    if target_lufs < protocol.loudness_lufs - 0.05:
        notes = [*notes, f"all at {target_lufs:.1f} LUFS: at {protocol.loudness_lufs:g} a peak would clip"]
    rows = []
    for (item, name), sound in levelled.items():
        file = f"{secrets.token_hex(16)}.wav"  # equal lengths make equal sizes: nothing betrays the design
        audio.write(made / file, sound)
        loud = audio.loudness_lufs(sound)
        if not math.isfinite(loud):
            notes = [*notes, f"{item}, {name}: silent, so its loudness could not be matched"]
        rows.append(
            {
                "item": item,
                "condition": name,
                "file": file,
                "sha256": hashlib.sha256((made / file).read_bytes()).hexdigest(),
                "lufs": round(loud, 2) if math.isfinite(loud) else None,
                "seconds": round(sound.seconds, 3),
            }
        )
    table = {"shaping": shaping, "prompts": prompts, "notes": notes, "sounds": rows}
    write_json(made / TABLE, table)


def match_format(sounds: dict[str, Audio], seconds: float) -> dict[str, Audio]:
    """The sounds of one item at the highest of their rates, cut to the shortest of them and to `seconds`."""
    rate_hz = max(sound.rate_hz for sound in sounds.values())
    channels = min(2, max(sound.channels for sound in sounds.values()))
    same = {name: sound.to_channels(channels).resample(rate_hz) for name, sound in sounds.items()}
    frames = min(round(seconds * rate_hz), *(sound.frames for sound in same.values()))
    return {name: Audio(_faded(sound.samples[:, :frames], rate_hz), rate_hz) for name, sound in same.items()}


def match_loudness(
    sounds: dict[tuple[str, str], Audio], target_lufs: float
) -> tuple[float, dict[tuple[str, str], Audio]]:
    """All sounds at one loudness: the target, or the highest at which no peak passes -1 dB of full scale.

    Silence stays as it is. Returns that loudness in LUFS and the sounds.
    """
    measured = {key: audio.loudness_lufs(sound) for key, sound in sounds.items()}
    rooms = [
        measured[key] + 20 * math.log10(_PEAK / sound.peak)
        for key, sound in sounds.items()
        if math.isfinite(measured[key])
    ]
    reached = min([target_lufs, *rooms])
    levelled = {}
    for key, sound in sounds.items():
        gain = 10 ** ((reached - measured[key]) / 20) if math.isfinite(measured[key]) else 1.0
        levelled[key] = Audio(sound.samples * np.float32(gain), sound.rate_hz)
    return reached, levelled


def low_pass_anchor(sound: Audio, corner_hz: float) -> Audio:
    """The sound without what lies above the corner: the anchor of a MUSHRA test."""
    from scipy.signal import butter, sosfiltfilt

    if corner_hz >= 0.45 * sound.rate_hz:
        return sound
    filtered = sosfiltfilt(butter(8, corner_hz, fs=sound.rate_hz, output="sos"), sound.samples, axis=1)
    return Audio(filtered.astype(np.float32), sound.rate_hz)


def degraded_copy(sound: Audio) -> Audio:
    """The sound muffled and drowned in as much noise: whoever listens hears at once that it is damaged."""
    muffled = low_pass_anchor(sound, _LOW_QUALITY_ANCHOR_HZ).samples
    rms = float(np.sqrt(np.mean(muffled.astype(np.float64) ** 2))) or 0.01
    noise = np.random.default_rng(0).standard_normal(muffled.shape).astype(np.float32)
    return Audio(muffled + rms * noise, sound.rate_hz)


def _unify_format(sounds: dict[tuple[str, str], Audio]) -> None:
    """One rate and one number of channels over all items, in place: a file's header must not tell."""
    rate_hz = max(sound.rate_hz for sound in sounds.values())
    channels = max(sound.channels for sound in sounds.values())
    for key, sound in sounds.items():
        sounds[key] = sound.to_channels(channels).resample(rate_hz)


def _faded(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Twenty milliseconds in and out, so that a cut does not click. [C, T]."""
    ramp = np.linspace(0, 1, max(1, min(round(_FADE_SECONDS * rate_hz), samples.shape[1] // 2)))
    shape = np.ones(samples.shape[1], dtype=np.float32)
    shape[: len(ramp)] *= ramp
    shape[-len(ramp) :] *= ramp[::-1]
    return samples * shape


def _read(target: Path) -> StimulusSet:
    table = read_json(target / TABLE)
    for row in table["sounds"]:
        path = target / row["file"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            raise TalimError(
                f"{path}: missing or changed since it was made; copy the test's folder again, or delete "
                f"{target} and start where the runs lie"
            )
    return StimulusSet(
        folder=target,
        files={(row["item"], row["condition"]): row["file"] for row in table["sounds"]},
        hashes={(row["item"], row["condition"]): row["sha256"] for row in table["sounds"]},
        prompts=table["prompts"],
        notes=tuple(table["notes"]),
    )
