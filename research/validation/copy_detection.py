"""Accuracy of copy detection: five seconds of one clip, transformed, are inserted into another.

    python -m research.validation.copy_detection --clips 120 --real FOLDER ... --same FOLDER ... --search audio
        --out docs/reports/copy-detection.md

Negatives are the same clips without an insertion: other pieces of the same scale, cycle and instruments, other real
recordings, or other parts of the same real recording (`--same`, for music that was performed: sequenced music repeats
itself to the sample).
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

from research.docs import markdown
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
from talim.evaluation.intervals import wilson_interval
from talim.metrics import audio_matching, copy_detection, pitch
from talim.metrics.copy_detection import FALSE_POSITIVE_RATE, CopyMatch
from talim.synthesis.performer import perform

SOURCE_SEED, HOST_SEED = 30_000, 60_000  # the search was tuned on seeds from 40_000 and 70_000
CUT_SECONDS = 5.0  # start of the cuts of real recordings; the search was tuned on cuts from 0
SPEED_CLIPS = 360  # an hour
PAGE = Path("docs/reports/copy-detection.md")
OPENING = """# Copy detection

Five seconds of a training clip are inserted into another clip of ten seconds: transposed by up to 3 semitones, at 0.8
to 1.25 of the tempo (by phase vocoder or overlap-add), possibly filtered, possibly mixed with a drone, and possibly
re-encoded. *Found*: p <= 0.01 against the null distribution, which is the clips of the training set compared with one
another. *False alarms*: clips without an insertion that reach it too. *Located*: source, times in both within half a
second, pitch shift within 50 cents and tempo within 4 % are all correct. Brackets are 95 % Wilson intervals.

`audio` searches for the same performance, `melody` for the same melodic line, whether performed again or not:
performances in one mode share melodic lines, so melody alone is not used as a test for copies. The search was tuned
on other performances; the real recordings are those it was tuned on, cut and transformed differently. Other clips of
the same recording share mode, cycle, tonic, performer and room. On recordings that nothing was chosen on:
[set aside](set-aside.md).
"""


@dataclass(frozen=True)
class SearchSetting:
    """Sources and hosts [T] at 16 kHz and the recordings they are of; a host is not compared with its own."""

    name: str
    sources: list[np.ndarray]
    recordings: list[str]
    hosts: list[np.ndarray]
    host_recordings: list[str]


@dataclass(frozen=True)
class SearchMethod:
    """A search for copies: features of a clip, an index of all sources, their null distribution, the search itself."""

    name: str
    features: Callable[[np.ndarray], Any]
    index: Callable[[Sequence[Any]], Any]
    null: Callable[[Any, Sequence[str]], np.ndarray]
    find: Callable[[Any, Any, np.ndarray, Sequence[int]], CopyMatch | None]


def audio_null(sources: audio_matching.ReferenceAudio, recordings: Sequence[str]) -> np.ndarray:
    """Audio similarity of each source to the sources of all other recordings [n]; those without any left out."""
    return copy_detection.null_similarities(
        sources.prints, recordings, lambda clip, exclude: audio_matching.find_audio_match(clip, sources, exclude)
    )


SEARCHES = (
    SearchMethod(
        "audio",
        audio_matching.audio_fingerprint,
        audio_matching.build_reference_audio,
        audio_null,
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
    """Synthetic pieces of the demo style: one scale, a cycle of seven, three instruments, one drone."""
    sources = [perform(SOURCE_SEED + n, "demo", SECONDS).samples for n in range(clips)]
    hosts = [perform(HOST_SEED + n, "demo", SECONDS).samples for n in range(clips)]
    names = [str(n) for n in range(clips)]
    return SearchSetting("performances of one mode and cycle", sources, names, hosts, [f"host {n}" for n in names])


def real(folders: Sequence[Path], same: bool = False) -> SearchSetting | None:
    """`of_files` of the recordings in some folders."""
    return of_files([p for folder in folders for p in folder.iterdir() if audio.is_audio_name(p)], same)


def of_files(files: Sequence[Path], same: bool = False) -> SearchSetting | None:
    """Ten-second clips of real recordings, each a source and a host; None for fewer than two recordings.

    Clips are compared with those of other recordings or, if `same`, with all but themselves.
    """
    clips, names = [], []
    for file in sorted(files):
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
    """Copies found and false alarms at p <= 0.01, whether copies were located, similarities, CPU seconds per clip."""
    rng = np.random.default_rng(seed)
    sources = search.index([search.features(samples) for samples in setting.sources])
    null = search.null(sources, setting.recordings)
    without_copy, copies, with_copy, seconds = [], [], [], []
    for host, recording in zip(setting.hosts, setting.host_recordings, strict=True):
        excluded = [n for n, name in enumerate(setting.recordings) if name == recording]
        begun = time.process_time()
        without_copy.append(search.find(search.features(host), sources, null, excluded))
        seconds.append(time.process_time() - begun)
        copies.append(draw_copy(rng, [n for n in range(len(setting.sources)) if n not in excluded]))
        mixed = insert_copy(host, setting.sources[copies[-1].source], copies[-1], rng)
        with_copy.append(search.find(search.features(mixed), sources, null, excluded))
    detected = np.array([_is_detected(match) for match in with_copy])
    located = [_is_located(match, copy) for match, copy in zip(with_copy, copies, strict=True)]
    return {
        "setting": setting.name,
        "search": search.name,
        "sources": len(setting.sources),
        "copies": len(copies),
        "hosts": len(setting.hosts),
        "found": int(detected.sum()),
        "located": int((detected & np.array(located)).sum()),
        "false_alarms": int(sum(_is_detected(match) for match in without_copy)),
        "null_similarity": _spread(null),
        "copy_similarity": _spread(np.array([match.similarity for match in with_copy if match])),
        "seconds": float(np.mean(seconds)),
        "by_transformation": _by_transformation(copies, detected),
        "missed": [asdict(copy) for copy, hit in zip(copies, detected, strict=True) if not hit],
    }


def _is_detected(match: CopyMatch | None) -> bool:
    return match is not None and match.p_value <= FALSE_POSITIVE_RATE


def _spread(values: np.ndarray) -> list[float]:
    """Lowest, median and highest."""
    return [float(v) for v in np.quantile(values, [0, 0.5, 1])] if values.size else []


def _is_located(match: CopyMatch | None, copy: InsertedCopy) -> bool:
    """Whether the source, the times in both (0.5 s), the pitch shift (50 cents) and the tempo (4 %) are correct."""
    if match is None or match.source != copy.source:
        return False
    clip_offset = match.clip_seconds[0] - copy.clip_seconds
    source_offset = (match.source_seconds[0] - copy.source_seconds) * copy.ratio
    shift_cents = abs((match.cents - 100 * copy.semitones + 600) % 1200 - 600)
    return abs(clip_offset - source_offset) < 0.5 and shift_cents < 50 and abs(match.tempo * copy.ratio - 1) < 0.04


def _by_transformation(copies: Sequence[InsertedCopy], detected: np.ndarray) -> dict[str, list[int]]:
    """Number found and number in all, by transformation."""
    groups = {
        "1.5 semitones or more": [abs(c.semitones) >= 1.5 for c in copies],
        "time stretch of 10 % or more": [abs(np.log(c.ratio)) >= 0.1 for c in copies],
        **{name: [c.stretch == name for c in copies] for name in STRETCHES},
        **{name: [c.filtering == name for c in copies] for name in FILTERS[1:]},
        "drone": [c.drone != "none" for c in copies],
        "mp3, vorbis or opus": [c.coding != "none" for c in copies],
    }
    return {name: [int(detected[np.array(flags)].sum()), int(sum(flags))] for name, flags in groups.items()}


def speed(clips: int = SPEED_CLIPS) -> dict[str, float]:
    """CPU seconds to index the fingerprints of `clips` clips of ten seconds (noise) and to search for one of them."""
    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(round(SECONDS * RATE_HZ)).astype(np.float32) for _ in range(3)]
    audio_matching.audio_fingerprint(sounds[0])  # warm-up
    begun = time.process_time()
    measured = [audio_matching.audio_fingerprint(samples) for samples in sounds]
    fingerprinted = time.process_time()
    shape = measured[0].shape
    fingerprints = [rng.standard_normal(shape, np.float32).astype(np.float16) for _ in range(clips)]
    started = time.process_time()
    sources = audio_matching.build_reference_audio(fingerprints)
    indexed = time.process_time()
    for samples in sounds:
        audio_matching.find_audio_match(audio_matching.audio_fingerprint(samples), sources)
    searched = (time.process_time() - indexed) / len(sounds)
    return {
        "clips": clips,
        "fingerprints": (fingerprinted - begun) / len(sounds) * clips,
        "index": indexed - started,
        "search": searched,
        "megabytes": (sources.passages.nbytes + sum(f.nbytes for f in fingerprints)) / 1e6,
    }


def page(results: Sequence[dict[str, Any]], command: str, speeds: dict[str, float] | None = None) -> str:
    """The measurement as Markdown."""
    head = ("setting", "search", "sources", "found", "located", "false alarms")
    head += ("null similarity: min, median, max", "similarity of copies: min, median, max", "CPU seconds per clip")
    generated = markdown.paragraph(f"Generated by `{command}`.")
    lines = [OPENING, generated, "", *markdown.table(head, map(_cells, results))]
    for r in results:
        counts = ", ".join(f"{name} {found} of {n}" for name, (found, n) in r["by_transformation"].items())
        lines += ["", f"Found by transformation, {r['search']}, {r['setting']}: {counts}."]
    if speeds is not None:
        lines += [
            "",
            f"Against {speeds['clips'] * SECONDS / 60:.0f} minutes of sources a clip takes {speeds['search']:.1f} s "
            f"on one core; their fingerprints take {speeds['fingerprints']:.0f} s and the index "
            f"{speeds['index']:.0f} s, once, and {speeds['megabytes']:.0f} MB.",
        ]
    return "\n".join(lines) + "\n"


def _cells(result: dict[str, Any]) -> list[str]:
    spreads = [", ".join(f"{v:.2f}" for v in result[key]) for key in ("null_similarity", "copy_similarity")]
    return [
        result["setting"],
        result["search"],
        str(result["sources"]),
        _rate(result["found"], result["copies"]),
        f"{result['located']} of {result['copies']}",
        _rate(result["false_alarms"], result["hosts"]),
        *spreads,
        f"{result['seconds']:.2f}",
    ]


def _rate(count: int, of: int) -> str:
    low, high = wilson_interval(count, of)
    return f"{count} of {of}, {100 * count / of:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def load_or_compute(file: Path | None, compute: Callable[[], Any]) -> Any:
    """The result of `compute`, stored in `file` and read from there if it exists."""
    if file is not None and file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    result = compute()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(result, indent=1) + "\n")
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=100, help="synthetic clips, as many sources as hosts")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="folders of real recordings")
    parser.add_argument("--same", type=Path, nargs="*", default=[], help="those without sequenced music")
    parser.add_argument("--speed-clips", type=int, default=SPEED_CLIPS, help="clips in the index when timing")
    names = [search.name for search in SEARCHES]
    parser.add_argument("--search", nargs="*", default=names, choices=names)
    parser.add_argument("--keep", type=Path, help="folder for finished parts, to resume")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    candidates = [performed(options.clips), real(options.real), real(options.same, same=True)]
    settings = [setting for setting in candidates if setting is not None]
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
    text = page(results, f"{command} --out {options.out}", speeds)
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
