"""Does each kind of adapter teach a base the traditions that the performer plays? Seeds, and intervals over pieces.

`python -m talim.study.kinds --base nano-mustango --out DIR` performs a corpus for every tradition, trains every
design with every seed on one part of it, and reports by how much the loss falls on the pieces held out. The last
weights are kept, so that nothing is chosen by the held-out pieces. Rerun to resume.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talim import recipe as recipes
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.run import write_json
from talim.stages import intervals
from talim.stages.progress import Progress
from talim.study.demo import perform_corpus
from talim.study.leave_one_out import SETTINGS, fall_of, recipe_of

TRADITIONS = ("hindustani", "makam")
DESIGNS = ("linear@all:2.5%", "conv@all:2.5%", "transformer@all:2.5%", "lora@all:2.5%")
PIECES, SECONDS, CLIP_SECONDS = 24, 20.0, 10.0
HELD_OUT_SHARE = 0.34


def kinds(
    out: Path,
    *,
    base: str = "nano-musicgen",
    traditions: Sequence[str] = TRADITIONS,
    designs: Sequence[str] = DESIGNS,
    seeds: Sequence[int] = (0, 1, 2),
    pieces: int = PIECES,
    seconds: float = SECONDS,
    clip_seconds: float = CLIP_SECONDS,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Perform, train and judge all of it; write DIR/kinds.json and return what is in it."""
    progress = progress or Progress()
    found: dict[str, Any] = {"base": base, "seeds": list(seeds), "settings": SETTINGS | (settings or {})}
    found |= {"unit": "fall of the held-out loss, positive is better", "pieces": pieces, "falls": {}}
    for tradition in traditions:
        corpus = _corpus(out / tradition, tradition, pieces, seconds, clip_seconds, progress)
        for design in designs:
            by_seed: dict[str, dict[str, float]] = {}
            for seed in seeds:
                recipe = recipe_of(base, out / tradition / "corpus", design, seed, settings)
                fold = out / tradition / "runs" / f"{design.replace(':', '-')}-{seed}"
                by_seed[str(seed)] = fall_of(recipe, fold, corpus, corpus.held_out, progress)
            found["falls"].setdefault(tradition, {})[design] = told(by_seed)
            write_json(out / "kinds.json", found)
    return found


def told(by_seed: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The mean fall with a 95 % interval over the pieces, seeds averaged first, and each seed's own mean."""
    names = sorted(next(iter(by_seed.values())))
    per_piece = {name: float(np.mean([falls[name] for falls in by_seed.values()])) for name in names}
    return {
        "mean": float(np.mean(list(per_piece.values()))),
        "interval": intervals.interval(per_piece),
        "per_seed": {seed: float(np.mean(list(falls.values()))) for seed, falls in by_seed.items()},
        "per_piece": per_piece,
    }


def table(found: dict[str, Any]) -> str:
    """The falls as a Markdown table."""
    rows = ["| tradition | design | fall | 95 % over pieces | seeds |", "|---|---|---|---|---|"]
    for tradition, designs in found["falls"].items():
        for design, fall in designs.items():
            within = (
                "one piece only" if fall["interval"] is None else "{:.4f} to {:.4f}".format(*fall["interval"])
            )
            seeds = ", ".join(f"{value:.4f}" for value in fall["per_seed"].values())
            rows.append(f"| {tradition} | `{design}` | {fall['mean']:.4f} | {within} | {seeds} |")
    return "\n".join(rows)


def _corpus(
    folder: Path, tradition: str, pieces: int, seconds: float, clip_seconds: float, progress: Progress
) -> Corpus:
    recordings = folder / "recordings"
    if not recordings.is_dir():
        from talim.traditions.performer import perform

        perform_corpus(recordings, perform, progress, pieces, seconds, tradition)
    return prepare(
        recordings,
        folder / "corpus",
        clip_seconds=clip_seconds,
        rate_hz=16000,
        held_out_share=HELD_OUT_SHARE,
    )


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default="nano-musicgen")
    parser.add_argument("--tradition", action="append", default=[])
    parser.add_argument("--design", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    found = kinds(
        options.out,
        base=options.base,
        traditions=options.tradition or TRADITIONS,
        designs=options.design or DESIGNS,
        seeds=range(options.seeds),
        settings=dict(recipes.parse_setting(text) for text in options.set),
    )
    print(json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
