"""Does the rule hold that a score of continuations decides nothing unless it tells recordings from other recordings?

`python -m research.validation.continuation_scores --out DIR [--recordings FOLDER]` performs fresh pieces, cuts them as
`talim evaluate` does, and puts in place of the two models what is known: a later passage of the same piece (better) and
passages of other pieces (worse, or neither). FOLDER adds real recordings, without labels. Measures are kept in DIR.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talim.audio import Audio
from talim.audio.read import list_audio_files, read
from talim.corpus.manifest import Clip
from talim.evaluation.continuation_scores import Continued, score_continuations
from talim.metrics.cache import MetricCache
from talim.recordings_needed import HELD_OUT_TO_COMPARE
from talim.reporting.continuation_section import NAMES
from talim.reporting.sample_changes import BETTER, WORSE, sample_changes
from talim.synthesis.performer import perform

PHRASE_SECONDS, NEW_SECONDS, START_SECONDS = 4.0, 6.0, 3.0
PIECE_SECONDS = START_SECONDS + PHRASE_SECONDS + 2 * NEW_SECONDS + 2.0
FIRST_SEED = 71_000  # no other seed of this project lies near
RECORDINGS = 8  # of one evaluation


@dataclass(frozen=True)
class Piece:
    """A phrase, what follows it, and what follows that."""

    clip: Clip
    phrase: Audio
    real: Audio
    later: Audio


def cut_piece(sound: Audio, start_seconds: float, recording: str, **labels: Any) -> Piece:
    """Phrase, continuation and later passage of a sound, one after the other."""
    clip = Clip(
        id=recording,
        file=f"{recording}.flac",
        recording=recording,
        performer="unknown",
        start_seconds=start_seconds,
        seconds=PHRASE_SECONDS + NEW_SECONDS,
        caption="",
        split="held_out",
        audio_hash="0",
        source_file=recording,
        source_hash="0",
        **labels,
    )
    lengths, at, parts = (PHRASE_SECONDS, NEW_SECONDS, NEW_SECONDS), start_seconds, []
    for seconds in lengths:
        parts.append(sound.cut(at, seconds))
        at += seconds
    return Piece(clip, *parts)


def performed_pieces(tradition: str, count: int) -> list[Piece]:
    """Pieces of seeds of their own, each in the mode, form and ensemble that its seed draws."""
    pieces = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        played = perform(seed, tradition, PIECE_SECONDS)
        assert played.truth is not None
        labels = {"tradition": tradition, "mode": played.truth.mode, "tonic_hz": played.truth.tonic_hz}
        sound = Audio(np.atleast_2d(played.samples), played.rate_hz)
        pieces.append(cut_piece(sound, START_SECONDS, f"{tradition}-{seed}", **labels))
    return pieces


def recorded_pieces(folder: Path) -> list[list[Piece]]:
    """Lists of pieces, one of each recording that is long enough; the lists begin at later and later times."""
    sounds = {file.stem: read(file) for file in list_audio_files(folder)}
    needed, lists, start = PHRASE_SECONDS + 2 * NEW_SECONDS, [], 0.0
    while True:
        long = {name: sound for name, sound in sounds.items() if sound.seconds >= start + needed}
        if len(long) < HELD_OUT_TO_COMPARE:
            return lists
        lists.append([cut_piece(sound, start, name) for name, sound in long.items()])
        start += needed


def outcome(
    pieces: Sequence[Piece],
    unrelated: Sequence[Piece],
    cache: MetricCache,
    after: Callable[[int], Audio],
    real: Callable[[int], Audio],
    before: Callable[[int], Audio] | None = None,
) -> dict[str, tuple[bool, str]]:
    """For each score: whether it is testable, and the verdict that it would give without that rule.

    `after` and `real` give what stands for the adapter's continuation and for the recording itself, `before` for the
    base's: a passage of another recording if not given.
    """
    before = before or (lambda n: unrelated[n].later)
    continued = [
        Continued(piece.clip, piece.phrase, {"after": after(n), "before": before(n), "real": real(n)})
        for n, piece in enumerate(pieces)
    ]
    controls = [(piece.clip.sound_group, real(n)) for n, piece in enumerate(pieces)]
    rows, _ = score_continuations(continued, controls, cache)
    changes = {change.name: change.verdict for change in sample_changes({"scores": rows}, NAMES)}
    return {
        row["name"]: (bool(row["testable"]), changes.get(NAMES[row["name"]][0], "not measured"))
        for row in rows
        if row["value"] is not None
    }


def experiments(pieces: Sequence[Piece], shuffles: int, cache: MetricCache) -> dict[str, list[dict[str, Any]]]:
    """Evaluations of RECORDINGS pieces each; within a shuffle they share no piece."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    size = 3 * RECORDINGS
    for shuffle in range(shuffles):
        order = [pieces[n] for n in np.random.default_rng(shuffle).permutation(len(pieces))]
        for first in range(0, len(order) - size + 1, size):
            own, one, other = (order[first + n : first + n + RECORDINGS] for n in range(0, size, RECORDINGS))
            for name, result in conditions(own, one, other, cache).items():
                found[name].append(result)
    return found


def conditions(
    own: Sequence[Piece], one: Sequence[Piece], other: Sequence[Piece], cache: MetricCache
) -> dict[str, dict[str, tuple[bool, str]]]:
    """Better: the adapter goes on as the recording does. Neither: it plays other recordings, as the base does.

    Unrelated: what stands for the recordings themselves is of other recordings too, so that nothing can be told.
    Hollow: as neither, but the base holds a tone, so that the adapter is better without going on from the phrase.
    """
    tone = Audio(0.2 * np.sin(2 * np.pi * 220 * np.arange(round(NEW_SECONDS * 16_000)) / 16_000)[None], 16_000)
    return {
        "better": outcome(own, other, cache, lambda n: own[n].later, lambda n: own[n].real),
        "neither": outcome(own, other, cache, lambda n: one[n].later, lambda n: own[n].real),
        "unrelated": outcome(own, other, cache, lambda n: one[n].later, lambda n: one[n].real),
        "hollow": outcome(own, other, cache, lambda n: one[n].later, lambda n: own[n].real, lambda _: tone),
    }


def summary(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row of counts for each score."""
    rows = []
    for name in NAMES:
        row: dict[str, Any] = {"score": name}
        for condition, results in found.items():
            values = [result[name] for result in results if name in result]
            row[f"{condition}_n"] = len(values)
            row[f"{condition}_testable"] = sum(testable for testable, _ in values)
            for rule in (True, False):
                for verdict in (BETTER, WORSE):
                    count = sum(testable is rule and given == verdict for testable, given in values)
                    row[f"{condition}_{verdict}_{'testable' if rule else 'not_testable'}"] = count
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The counts as a table for the page."""
    lines = [
        "| score | testable | better: right (wrong) where testable | where not testable | neither: verdicts where "
        "testable | where not testable | hollow: better where testable | where not testable | unrelated: testable |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if not row["better_n"]:
            continue
        cells = [row["score"].removeprefix("continuation_"), f"{row['better_testable']} of {row['better_n']}"]
        for rule, of in (
            ("testable", row["better_testable"]),
            ("not_testable", row["better_n"] - row["better_testable"]),
        ):
            cells.append(f"{row[f'better_{BETTER}_{rule}']} ({row[f'better_{WORSE}_{rule}']}) of {of}")
        for rule, of in (
            ("testable", row["neither_testable"]),
            ("not_testable", row["neither_n"] - row["neither_testable"]),
        ):
            cells.append(f"{row[f'neither_{BETTER}_{rule}'] + row[f'neither_{WORSE}_{rule}']} of {of}")
        for rule, of in (
            ("testable", row["hollow_testable"]),
            ("not_testable", row["hollow_n"] - row["hollow_testable"]),
        ):
            cells.append(f"{row[f'hollow_{BETTER}_{rule}']} of {of}")
        cells.append(f"{row['unrelated_testable']} of {row['unrelated_n']}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table for each kind of music."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--pieces", type=int, default=48)
    parser.add_argument("--shuffles", type=int, default=10)
    given = parser.parse_args(arguments)
    cache, results = MetricCache(given.out / "cache"), {}
    for tradition in ("hindustani", "makam"):
        found = experiments(performed_pieces(tradition, given.pieces), given.shuffles, cache)
        results[tradition] = summary(found)
        print(f"{tradition}\n\n{table(results[tradition])}\n", flush=True)
    if given.recordings:
        found = defaultdict(list)
        for pieces in recorded_pieces(given.recordings):
            count = len(pieces)
            one, other = ([pieces[(n + step) % count] for n in range(count)] for step in (2, 3))
            for name, result in conditions(pieces, one, other, cache).items():
                found[name].append(result)
        results["recordings"] = summary(found)
        print(f"recordings\n\n{table(results['recordings'])}\n", flush=True)
    (given.out / "continuation-scores.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
