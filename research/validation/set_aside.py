"""Sensitivity, copies and false alarms on recordings that were set aside, beside those that constants were chosen on.

python -m research.validation.set_aside --chosen DIR --otmm DIR --tonics annotations.json --excerpts DIR
    --work DIR --out PAGE.md

--chosen: the folders makam_pitch and audio that the other reports read. --otmm: `data` of
MTG/otmm_makam_recognition_dataset; --tonics: annotations.json of MTG/otmm_tonic_dataset; --excerpts: `data/sample_data`
of VishwaasHegde/E2ERaga. None of it is part of the project. Finished parts are stored in --work and not measured again.
`--list` writes research/validation/set_aside.txt anew.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from research.docs import markdown
from research.validation import copy_detection, degradations, metric_sensitivity
from research.validation.metric_sensitivity import load_or_compute
from research.validation.metric_sensitivity_page import EXPECTED_EFFECTS, INVARIANCES, MIN_RELEVANT_CHANGE, changes
from research.validation.mode_dataset import ModeTrial, cross_validation_groups, load_trials
from talim import audio
from talim.atomic_io import write_text
from talim.errors import TalimError
from talim.evaluation.intervals import mean_interval, wilson_interval
from talim.progress import Progress, default
from talim.traditions import note_transcription
from talim.traditions.tradition import Tradition, load

PAGE = Path("docs/reports/set-aside.md")
LIST = Path(__file__).with_name("set_aside.txt")
FRACTION = 3  # one recording in three
OTMM, EXCERPTS = "otmm", "e2eraga"
SOURCE_HOP_SECONDS = 128 / 44100
HOP_SECONDS = 0.01
LOWEST_HZ = 20.0  # below: unvoiced
TRADITIONS = ("hindustani", "makam")


def is_set_aside(identifier: str) -> bool:
    """Whether a recording belongs to the third that is set aside, by the SHA-256 of its identifier."""
    return int(hashlib.sha256(identifier.encode()).hexdigest(), 16) % FRACTION == 0


def listed(collection: str) -> list[str]:
    """The identifiers of the committed list, of one collection."""
    lines = LIST.read_text(encoding="utf-8").split()
    return [line.removeprefix(f"{collection}/") for line in lines if line.startswith(f"{collection}/")]


def make_list(otmm: Path, excerpts: Path, used: set[str]) -> str:
    """The list: the third of both collections, without recordings that constants were chosen on before."""
    names = {OTMM: [file.stem for file in otmm.glob("*/*.pitch")], EXCERPTS: [f.stem for f in excerpts.glob("*.wav")]}
    lines = [
        f"{collection}/{name}"
        for collection, members in names.items()
        for name in sorted(members)
        if is_set_aside(name) and name not in used
    ]
    return "\n".join(lines) + "\n"


def used_recordings(chosen: Path) -> set[str]:
    """The recordings of makam that constants were chosen on."""
    with open(chosen / "makam_pitch" / "metadata.csv", encoding="utf-8", newline="") as lines:
        return {row["id"] for row in csv.DictReader(lines)}


def read_set_aside(
    otmm: Path, tonics: Path, tradition: Tradition, progress: Progress
) -> tuple[list[ModeTrial], list[str]]:
    """The set-aside pitch tracks of makam, and the identifiers of those without track or annotated tonic."""
    files = {file.stem: file for file in otmm.glob("*/*.pitch")}
    annotated = json.loads(tonics.read_text(encoding="utf-8"))
    names, found, missing = listed(OTMM), list[tuple[str, int, np.ndarray]](), list[str]()
    slugs = [mode.slug for mode in tradition.modes]
    rows = []
    for count, name in enumerate(names, start=1):
        if name not in files or name not in annotated:
            missing.append(name)
            continue
        file, tonic_hz = files[name], np.median([each["value"] for each in annotated[name]["annotations"]])
        hz = np.array(file.read_text().split(), float)
        every = np.round(np.arange(0, hz.size * SOURCE_HOP_SECONDS, HOP_SECONDS) / SOURCE_HOP_SECONDS).astype(int)
        hz = hz[every[every < hz.size]]
        cents = 1200 * np.log2(np.where(hz > LOWEST_HZ, hz, np.nan) / tonic_hz)
        found.append((name, slugs.index(tradition.mode(file.parent.name).slug), cents))
        about = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        mbids = {key: ",".join(each["mbid"] for each in about.get(key) or []) for key in ("releases", "works")}
        rows.append({"recording_id": name, "release_mbid": mbids["releases"], "work_mbid": mbids["works"]})
        progress.step("set-aside tracks", count, len(names))
    if not found:
        raise TalimError(f"{otmm}: none of the recordings of {LIST.name} is here; give the data set's folder `data`")
    groups = cross_validation_groups(rows)
    return [
        ModeTrial(name, name, group, truth, cents, note_transcription.transcribe_notes(cents, HOP_SECONDS))
        for (name, truth, cents), group in zip(found, groups, strict=True)
    ], missing


def rank_rows(sets: Mapping[str, Sequence[ModeTrial]], tradition: Tradition, work: Path) -> list[list[str]]:
    """How often a real track scores better than its degraded copy, on each set."""
    both = [
        (
            load_or_compute(work, f"ranks-{name}-{len(each)}", partial(metric_sensitivity.ranks, each, tradition)),
            len(each),
        )
        for name, each in sets.items()
    ]
    names = [name for name in both[0][0] if name not in ("tracks", "recordings")]
    return [[name, *(_rank_cell(result[name], count) for result, count in both)] for name in names]


def _rank_cell(value: float | list[float], count: int) -> str:
    share = value[0] if isinstance(value, list) else value
    return _share(share * count, count) + (f"; ratio {value[1]:.2f}" if isinstance(value, list) else "")


def _share(count: float, of: int) -> str:
    low, high = wilson_interval(count, of)
    return f"{100 * count / of:.1f} % ({100 * low:.0f} to {100 * high:.0f})"


@dataclass(frozen=True)
class Excerpts:
    """A set of recordings, and those of them without sequenced music, whose clips can be compared with one another."""

    name: str
    files: Sequence[Path]
    performed: Sequence[Path]


def audio_measures(files: Sequence[Path], work: Path, progress: Progress) -> dict[str, dict[str, dict[str, float]]]:
    """`degraded_audio_measures` of the first CLIP_SECONDS of each file, by its name."""

    def compute(file: Path) -> dict[str, Any]:
        whole = audio.read(file).mono().resample(degradations.RATE_HZ)
        clip = whole.cut(0, metric_sensitivity.CLIP_SECONDS).samples[0]
        return metric_sensitivity.degraded_audio_measures(clip)

    results = {}
    for count, file in enumerate(files, start=1):
        results[file.stem] = load_or_compute(work, f"audio-{file.stem}", partial(compute, file))
        progress.step("degraded clips", count, len(files))
    return results


def effect_rows(sets: Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]]) -> list[list[str]]:
    """The change of each score that must respond to a degradation of the sound, on both sets."""
    rows = []
    for degradation, expected in EXPECTED_EFFECTS.items():
        for score in expected:
            if all(degradation in each and score in each[degradation] for one in sets for each in one.values()):
                rows.append([degradation, score, *(_change_cell(one, degradation, score) for one in sets)])
    return rows


def _change_cell(recordings: Mapping[str, Mapping[str, Mapping[str, float]]], degradation: str, score: str) -> str:
    _, change, count = changes(recordings, degradation, score)
    limits = mean_interval(change)
    return f"{change.mean():+.3g}" + (f" ({limits[0]:+.3g} to {limits[1]:+.3g})" if limits else "") + f", n = {count}"


def unstable_scores(recordings: Mapping[str, Mapping[str, Mapping[str, float]]]) -> tuple[list[str], int]:
    """Scores that a transformation moves by more than half the width of their interval, and the number tested."""
    moved, tested = [], 0
    for transform in INVARIANCES:
        for score in next(iter(recordings.values()))["clean"]:
            before, change, count = changes(recordings, transform, score)
            limits = mean_interval(before)
            if score in ("loudness_lufs", "timbre_moved") or count < 2 or limits is None:
                continue
            tested += 1
            allowed = max((limits[1] - limits[0]) / 2, MIN_RELEVANT_CHANGE.get(score, 1e-9))
            if abs(float(change.mean())) > allowed:
                moved.append(f"{score} by {transform}")
    return moved, tested


def copy_rows(sets: Sequence[Excerpts], work: Path, progress: Progress) -> list[list[str]]:
    """Copies found and false alarms of the search by sound, among other recordings and among clips of the same."""
    search = next(each for each in copy_detection.SEARCHES if each.name == "audio")
    rows = []
    for excerpts in sets:
        for same, files in ((False, excerpts.files), (True, excerpts.performed)):
            setting = copy_detection.of_files(files, same)
            if setting is None:
                continue
            progress.log(f"copies: {excerpts.name}, {setting.name}: {len(setting.sources)} clips")
            part = f"copies-{len(setting.sources)}-{'same' if same else 'other'}"
            result = load_or_compute(work, part, partial(copy_detection.measure, setting, search))
            copies, hosts = result["copies"], result["hosts"]
            found, alarms = _share(result["found"], copies), _share(result["false_alarms"], hosts)
            counts = [str(len(files)), str(copies)]
            rows.append([excerpts.name, setting.name, *counts, found, f"{result['located']} of {copies}", alarms])
    return rows


def report(
    chosen: Path, otmm: Path, tonics: Path, excerpts: Path, work: Path, progress: Progress, ranked: int | None = None
) -> str:
    """The whole page, as Markdown; `ranked` is how many of the set-aside tracks are degraded, all by default."""
    makam = load("makam")
    before, _ = load_trials(chosen / "makam_pitch", makam)
    aside, missing = read_set_aside(otmm, tonics, makam, progress)
    clips = sorted(f for kind in TRADITIONS for f in (chosen / "audio" / kind).glob("*") if audio.is_audio_name(f))
    new = [excerpts / f"{name}.wav" for name in listed(EXCERPTS)]
    measured = [audio_measures(files, work, progress) for files in (clips, new)]
    every = sorted(f for f in (chosen / "audio").glob("*/*") if audio.is_audio_name(f))
    unused = sorted(excerpts.glob("*.wav"))
    sets = (
        Excerpts("chosen on", every, clips),
        Excerpts("set aside", new, new),
        Excerpts("all eleven excerpts", unused, unused),
    )
    degraded = {"chosen on": before, "set aside": aside[:ranked]}
    lines: list[Any] = [OPENING, LISTS.format(otmm=len(listed(OTMM)), excerpts=len(new)), "", "## Pitch tracks", ""]
    head = ["change", *(f"{name} ({len(each)})" for name, each in degraded.items())]
    lines += [RANKS, *markdown.table(head, rank_rows(degraded, makam, work)), ""]
    lines += ["## Sound", "", AUDIO, ""]
    head = ["degradation", "score", f"chosen on ({len(clips)})", f"set aside ({len(new)})"]
    lines += [*markdown.table(head, effect_rows(measured)), ""]
    for name, each in zip(("chosen on", "set aside"), measured, strict=True):
        moved, tested = unstable_scores(each)
        lines.append(f"- {name}: of {tested} pairs of score and invariance not still: {', '.join(moved) or 'none'}")
    lines += ["", "## Copies and false alarms", "", COPIES, ""]
    head = ["set", "compared with", "recordings", "clips", "found", "located", "false alarms"]
    lines += markdown.table(head, copy_rows(sets, work, progress))
    if missing:
        lines += ["", f"On the list, but without a pitch track or a tonic: {', '.join(missing)}."]
    return "\n".join(lines).rstrip() + "\n"


OPENING = """# Recordings that nothing was chosen on

The constants of talim's scores and searches were chosen on the recordings on which [Metric
sensitivity](metric-sensitivity.md) and [Copy detection](copy-detection.md) measure them. Here they are measured again,
by the same code, on recordings that were set aside. None of them is part of the project.

```sh
python -m research.validation.set_aside --chosen DIR --otmm DIR --tonics annotations.json --excerpts DIR --work DIR \\
    --ranked 100
```

Brackets are 95 % intervals: of proportions Wilson's, of means by recording.
"""
LISTS = """A third of two public collections is set aside, by the SHA-256 of the recording's identifier (divisible by
three): {otmm} recordings of `MTG/otmm_makam_recognition_dataset` (pitch tracks; those that were used before are left
out), and {excerpts} of the eleven minutes of singing of `VishwaasHegde/E2ERaga`. `research/validation/set_aside.txt` is
the list. No constant may be chosen on them from now on.

| what | chosen on | had seen the set-aside recordings |
|---|---|---|
| scores of ornaments and intonation | the 62 + 48 pitch tracks of Metric sensitivity | no |
| scores of sound | the clips of Metric sensitivity, synthetic music | no |
| search for copies | the clips of Copy detection, synthetic performances | no |
| pitch tracker | the real excerpts of [Pitch tracking](pitch-tracking.md), synthetic performances | no |
| facts about makams | books; weights and frequencies: 2200 scores | no; scores may hold works performed here |
| recognition of modes | [its tracks](mode-recognition.md), [the folds](makam-folds.md) | yes: not measured here |"""
RANKS = """Percentage of makam tracks that score better than their degraded copies, by `intonation_z_rms` for shifts and
by `ornament_score` for the others, for which the ratio of the mean scores after and before follows. The set-aside
tracks are of twenty makams, the others of six. A track's intonation is compared with that of other tracks of its set.
In brackets the number of tracks, of the set-aside ones the first of the list.
"""
AUDIO = "Change of each score by a degradation that it must respond to, on the first 14 s of each recording."
COPIES = """Five seconds of one clip of ten seconds, transformed, are inserted into another; found, and false alarms in
clips without a copy, at p <= 0.01 by the null distribution of each set's own clips. Nothing was chosen on any of the
eleven excerpts either."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the page, or write the list."""
    parser = argparse.ArgumentParser(description="Measure on the recordings that were set aside.")
    parser.add_argument("--chosen", type=Path, required=True, help="holds makam_pitch and audio")
    parser.add_argument("--otmm", type=Path, required=True, help="folder with MAKAM/MBID.pitch and .json")
    parser.add_argument("--tonics", type=Path, help="annotations.json with the tonics")
    parser.add_argument("--excerpts", type=Path, required=True, help="folder with the excerpts, .wav")
    parser.add_argument("--work", type=Path, help="folder of the finished parts (default: all are measured anew)")
    parser.add_argument(
        "--ranked", type=int, help="degrade so many of the set-aside tracks only, the first of the list"
    )
    parser.add_argument("--list", action="store_true", help="write the list and stop")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write, Markdown")
    options = parser.parse_args(arguments)
    if options.list:
        write_text(LIST, make_list(options.otmm, options.excerpts, used_recordings(options.chosen)))
        return
    if options.tonics is None:
        parser.error("--tonics is needed to measure")
    with tempfile.TemporaryDirectory() as anew:  # parts of earlier code would pass for those of this one
        folders = (options.chosen, options.otmm, options.tonics, options.excerpts, options.work or Path(anew))
        write_text(options.out, report(*folders, default(), options.ranked))


if __name__ == "__main__":
    main()
