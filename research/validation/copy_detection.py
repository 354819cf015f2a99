"""How surely copied passages are found: five seconds of other clips planted in new ones, changed as copies are.

`python -m research.validation.copy_detection --clips 100 --out docs/metrics-originality.md [--real FOLDER ...]
[--same FOLDER ...]`.
Negatives are the same hosts without a plant: other pieces of the same scale, cycle and
instruments, other real recordings, or other parts of the same real recording (`--same`, for music that was played:
sequenced music repeats itself to the sample).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from research.validation import melody_matching
from research.validation.inserted_copies import (
    FILTERS,
    RATE_HZ,
    SECONDS,
    STRETCHES,
    InsertedCopy,
    draw_copy,
    insert_copy,
)
from talim import audio
from talim.atomic_io import write_text
from talim.evaluation.bootstrap import wilson_interval
from talim.metrics import audio_matching, copy_detection, pitch
from talim.metrics.copy_detection import FALSE_POSITIVE_RATE, CopyMatch
from talim.synthesis.performer import perform

SOURCE_SEED, HOST_SEED = 30_000, 60_000  # the search was tuned on 40_000 and 70_000
CUT_SECONDS = 5.0  # where real recordings are cut from; it was tuned on cuts from 0
SPEED_CLIPS = 360  # an hour


@dataclass(frozen=True)
class SearchSetting:
    """Sources and hosts [T] at 16 kHz with what they are of; hosts meet no source of the same name."""

    name: str
    sources: list[np.ndarray]
    recordings: list[str]
    hosts: list[np.ndarray]
    host_recordings: list[str]


@dataclass(frozen=True)
class SearchMethod:
    """One way to look for copies: what it makes of samples, of all sources, and what it finds."""

    name: str
    describe: Callable[[np.ndarray], Any]
    library: Callable[[Sequence[Any]], Any]
    strangers: Callable[[Any, Sequence[str]], np.ndarray]
    find: Callable[[Any, Any, np.ndarray, Sequence[int]], CopyMatch | None]


SEARCHES = (
    SearchMethod(
        "sound",
        audio_matching.audio_fingerprint,
        audio_matching.build_reference_audio,
        copy_detection.audio_null,
        copy_detection.find_audio_copy,
    ),
    SearchMethod(
        "melody",
        lambda samples: pitch.track_pitch(samples, RATE_HZ),
        melody_matching.build_reference_melodies,
        melody_matching.melody_null,
        melody_matching.find_melody_copy,
    ),
)


def performed(clips: int) -> SearchSetting:
    """Pieces of the demo style: one scale, a cycle of seven, three instruments, over one drone."""
    sources = [perform(SOURCE_SEED + n, "demo", SECONDS).samples for n in range(clips)]
    hosts = [perform(HOST_SEED + n, "demo", SECONDS).samples for n in range(clips)]
    names = [str(n) for n in range(clips)]
    return SearchSetting(
        "performances of one mode and cycle", sources, names, hosts, [f"host {n}" for n in names]
    )


def real(folders: Sequence[Path], same: bool = False) -> SearchSetting | None:
    """Ten-second clips of the real recordings in folders, each a source and a host; None for fewer than two.

    Clips meet those of other recordings or, where `same`, all but themselves: mode, cycle, tonic and player alike.
    """
    clips, names = [], []
    for file in sorted(p for folder in folders for p in folder.iterdir() if audio.is_audio_name(p)):
        whole = audio.read(file).mono().resample(RATE_HZ)
        begin = CUT_SECONDS if whole.seconds >= CUT_SECONDS + SECONDS else 0.0
        for start in np.arange(begin, whole.seconds - SECONDS + 0.01, SECONDS):
            clips.append(whole.cut(float(start), SECONDS).samples[0])
            names.append(file.stem)
    if len(set(names)) < 2:
        return None
    name = "real, other clips of the same recording too" if same else "real, other recordings"
    names = [str(n) for n in range(len(clips))] if same else names
    return SearchSetting(name, clips, names, clips, names)


def measure(setting: SearchSetting, search: SearchMethod, seed: int = 0) -> dict[str, Any]:
    """Plants found and false alarms at p <= 0.01 against strangers, what was told of them, CPU seconds a clip."""
    rng = np.random.default_rng(seed)
    sources = search.library([search.describe(samples) for samples in setting.sources])
    strangers = search.strangers(sources, setting.recordings)
    alone, plants, found, seconds = [], [], [], []
    for host, recording in zip(setting.hosts, setting.host_recordings, strict=True):
        own = [n for n, name in enumerate(setting.recordings) if name == recording]
        begun = time.process_time()
        alone.append(search.find(search.describe(host), sources, strangers, own))
        seconds.append(time.process_time() - begun)
        plants.append(draw_copy(rng, [n for n in range(len(setting.sources)) if n not in own]))
        mixed = insert_copy(host, setting.sources[plants[-1].source], plants[-1], rng)
        found.append(search.find(search.describe(mixed), sources, strangers, own))
    alarms = np.array([_alarm(finding) for finding in found])
    right = [_is_located_correctly(finding, how) for finding, how in zip(found, plants, strict=True)]
    return {
        "setting": setting.name,
        "search": search.name,
        "sources": len(setting.sources),
        "plants": len(plants),
        "hosts": len(setting.hosts),
        "found": int(alarms.sum()),
        "found_and_told": int((alarms & np.array(right)).sum()),
        "false_alarms": int(sum(_alarm(finding) for finding in alone)),
        "strangers_likeness": _spread(strangers),
        "plants_likeness": _spread(np.array([f.likeness for f in found if f])),
        "seconds": float(np.mean(seconds)),
        "by_change": _by_change(plants, alarms),
        "missed": [asdict(how) for how, alarm in zip(plants, alarms, strict=True) if not alarm],
    }


def _alarm(finding: CopyMatch | None) -> bool:
    return finding is not None and finding.p_value <= FALSE_POSITIVE_RATE


def _spread(values: np.ndarray) -> list[float]:
    """Lowest, median and highest."""
    return [float(v) for v in np.quantile(values, [0, 0.5, 1])] if values.size else []


def _is_located_correctly(finding: CopyMatch | None, how: InsertedCopy) -> bool:
    """Whether a finding names the source, the times in both within half a second, shift and tempo."""
    if finding is None or finding.source != how.source:
        return False
    here = finding.clip_seconds[0] - how.clip_seconds
    there = (finding.source_seconds[0] - how.source_seconds) * how.ratio
    shift = abs((finding.cents - 100 * how.semitones + 600) % 1200 - 600)
    return abs(here - there) < 0.5 and shift < 50 and abs(finding.tempo * how.ratio - 1) < 0.04


def _by_change(plants: Sequence[InsertedCopy], found: np.ndarray) -> dict[str, list[int]]:
    """Found and planted, of those that had each change."""
    groups = {
        "1.5 semitones or more": [abs(p.semitones) >= 1.5 for p in plants],
        "stretched by 10 % or more": [abs(np.log(p.ratio)) >= 0.1 for p in plants],
        **{name: [p.stretch == name for p in plants] for name in STRETCHES},
        **{name: [p.filtering == name for p in plants] for name in FILTERS[1:]},
        "drone": [p.drone != "none" for p in plants],
        "mp3, vorbis or opus": [p.coding != "none" for p in plants],
    }
    return {name: [int(found[np.array(flags)].sum()), int(sum(flags))] for name, flags in groups.items()}


def speed(clips: int = SPEED_CLIPS) -> dict[str, float]:
    """CPU seconds to index the prints of so many clips of ten seconds, here noise, and to search one among them."""
    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(round(SECONDS * RATE_HZ)).astype(np.float32) for _ in range(3)]
    audio_matching.audio_fingerprint(sounds[0])  # loads what it needs
    begun = time.process_time()
    made = [audio_matching.audio_fingerprint(samples) for samples in sounds]
    printed = time.process_time()
    shape = made[0].shape
    prints = [rng.standard_normal(shape, np.float32).astype(np.float16) for _ in range(clips)]
    started = time.process_time()
    sources = audio_matching.build_reference_audio(prints)
    indexed = time.process_time()
    for samples in sounds:
        audio_matching.find_audio_match(audio_matching.audio_fingerprint(samples), sources)
    searched = (time.process_time() - indexed) / len(sounds)
    return {
        "clips": clips,
        "print": (printed - begun) / len(sounds) * clips,
        "index": indexed - started,
        "search": searched,
        "megabytes": (sources.passages.nbytes + sum(p.nbytes for p in prints)) / 1e6,
    }


def page(results: Sequence[dict[str, Any]], command: str, speeds: dict[str, float] | None = None) -> str:
    """The figures as a Markdown page."""
    lines = [
        "# Finding copied passages",
        "",
        "Five seconds of a training clip are planted in another clip of ten seconds: transposed by up to 3 semitones,",
        "at 0.8 to 1.25 of the tempo (by a phase vocoder or by overlapped waves), perhaps filtered, perhaps under a",
        "drone, the whole perhaps re-encoded. Found is what has p <= 0.01 against the strangers, which are the clips",
        "of the training set against one another; false alarms are hosts without a plant that have it too. Told right:",
        "source, times in both within half a second, shift within 50 cents, tempo within 4 %. Brackets are 95 %",
        "Wilson intervals.",
        "",
        "`sound` looks for the same performance, `melody` for the same line, played anew or not: strangers in one mode",
        "share lines, so that melody alone is no gate for copies. The search was tuned on other performances; the real",
        "recordings are those it was tuned on, cut elsewhere and changed anew. Other clips of the same recording share",
        "mode, cycle, tonic, player and room.",
        "",
        f"Made by `{command}`.",
        "",
        "| setting | search | sources | found | told right | false alarms | likeness of strangers, lowest to highest "
        "| of plants | CPU seconds a clip |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        shares = [_share(r["found"], r["plants"]), f"{r['found_and_told']} of {r['plants']}"]
        spreads = [", ".join(f"{v:.2f}" for v in r[f"{who}_likeness"]) for who in ("strangers", "plants")]
        lines.append(
            f"| {r['setting']} | {r['search']} | {r['sources']} | {' | '.join(shares)} | "
            f"{_share(r['false_alarms'], r['hosts'])} | {' | '.join(spreads)} | {r['seconds']:.2f} |"
        )
    for r in results:
        told = ", ".join(f"{name} {got} of {n}" for name, (got, n) in r["by_change"].items())
        lines += ["", f"Found by change, {r['search']}, {r['setting']}: {told}."]
    if speeds is not None:
        lines += [
            "",
            f"Against {speeds['clips'] * SECONDS / 60:.0f} minutes of sources a clip takes {speeds['search']:.1f} s of "
            f"one core; their prints take {speeds['print']:.0f} s and the index {speeds['index']:.0f} s, once, and "
            f"{speeds['megabytes']:.0f} MB.",
        ]
    return "\n".join(lines) + "\n"


def _share(count: int, of: int) -> str:
    low, high = wilson_interval(count, of)
    return f"{count} of {of}, {100 * count / of:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def load_or_compute(file: Path | None, compute: Callable[[], Any]) -> Any:
    """What `compute` gives, from `file` if it is there, so that a long report can be taken up again."""
    if file is not None and file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    found = compute()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(found, indent=1) + "\n")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=100, help="performances on each side")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="folders of real recordings")
    parser.add_argument("--same", type=Path, nargs="*", default=[], help="of them, those of no pasted sound")
    parser.add_argument("--speed-clips", type=int, default=SPEED_CLIPS, help="clips to time a search against")
    names = [search.name for search in SEARCHES]
    parser.add_argument("--search", nargs="*", default=names, choices=names, help="only these")
    parser.add_argument("--keep", type=Path, help="a folder to keep finished parts in")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    found = [performed(options.clips), real(options.real), real(options.same, same=True)]
    settings = [setting for setting in found if setting is not None]
    results = []
    for search in (search for search in SEARCHES if search.name in options.search):
        for n, setting in enumerate(settings):
            file = options.keep and options.keep / f"{search.name}-{n}-{len(setting.sources)}.json"
            results.append(load_or_compute(file, lambda s=setting, by=search: measure(s, by)))
    speeds = load_or_compute(options.keep and options.keep / "speed.json", lambda: speed(options.speed_clips))
    command = f"python -m research.validation.copy_detection --clips {options.clips}"
    command += " --real FOLDER ..." if options.real else ""
    command += " --same FOLDER ..." if options.same else ""
    command += "" if options.search == names else f" --search {' '.join(options.search)}"
    text = page(results, f"{command} --out {options.out.name}", speeds)
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
