"""Candidates for a brief from each design: made, finished, checked; whatever is there already is kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim import audio
from talim.atomic_io import append_jsonl, read_json, read_jsonl, write_json, write_jsonl
from talim.beats_chords import BeatsAndChords
from talim.briefs import automatic_checks, usage_rights
from talim.briefs.brief import Brief
from talim.briefs.postprocess import postprocess, untrimmed_seconds
from talim.errors import TalimError, UsageError
from talim.listening.draft_protocol import slugify
from talim.progress import Progress
from talim.run import Run

FOLDER = "candidates"
TABLE = "candidates.jsonl"
DESIGNS = "designs.json"
_DELIVERY_ONLY = ("title", "reasons", "reason_words", "minimum_seconds", "accepted_by", "languages", "prices")
_DELIVERY_ONLY += ("today", "indicators", "rule", "candidates", "name")


@dataclass(frozen=True)
class Contender:
    """One run that makes candidates, under the name that results give it."""

    name: str
    run: Run


def list_contenders(runs: Sequence[Path]) -> list[Contender]:
    """A design for each run; TalimError where one is not finished, UsageError where there are none or twins."""
    if not runs:
        raise UsageError("say which runs make candidates: --run RUN, once for each design")
    if len({run.resolve() for run in runs}) != len(runs):
        raise UsageError("a run is named twice with --run")
    for run in runs:
        if not Run(run).finished:
            raise TalimError(f"{run}: no finished run is here; train it first: talim train --out {run}")
    names = [slugify(run.resolve().name) for run in runs]
    named = [f"{name}-{place}" if names.count(name) > 1 else name for place, name in enumerate(names, 1)]
    return [Contender(name, Run(run)) for name, run in zip(named, runs, strict=True)]


def generate_candidates(
    brief: Brief,
    runs: Sequence[Path],
    out: Path,
    progress: Progress | None = None,
    device: str = "auto",
    frozen: bool = False,
) -> list[dict[str, Any]]:
    """Make what is missing in OUT/candidates and return a row for each candidate, design by design.

    Killed at any moment, the same call goes on after the last whole candidate. A changed brief or run makes anew
    what it changes; where candidates are `frozen`, because they were reviewed, TalimError refuses that.
    """
    progress, wanted = progress or Progress(), list_contenders(runs)
    with Run(out).lock():
        plan = [(one, seed, candidate_key(brief, one, seed)) for one in wanted for seed in _seeds(brief)]
        if frozen and {key for _, _, key in plan} != {row["key"] for row in read_candidates(out)}:
            raise TalimError(
                f"{out}: its candidates were reviewed and are frozen, but the brief's music or the runs changed; "
                "undo that, or name a new --out"
            )
        write_json(out / DESIGNS, {one.name: _run_facts(one) for one in wanted})
        there = _reusable_rows(out)
        kept = [there[key] for _, _, key in plan if key in there]
        write_jsonl(out / TABLE, kept)
        for one in wanted:
            missing = [(seed, key) for other, seed, key in plan if other is one and key not in there]
            if missing:
                _generate_for(one, missing, brief, out, progress, device)
        return read_candidates(out)


def read_candidates(out: Path) -> list[dict[str, Any]]:
    """The candidates of a folder, by design and number; TalimError where there are none."""
    if not (out / TABLE).is_file():
        raise TalimError(
            f"{out}: no candidates are here; make some: talim brief BRIEF.yaml --run RUN --out {out}"
        )
    return sorted(read_jsonl(out / TABLE), key=lambda row: (row["design"], row["number"]))


def candidate_key(brief: Brief, design: Contender, seed: int) -> str:
    """What decides how a candidate sounds and is checked: the brief's music, the adapter's bytes, the seed."""
    music = {k: v for k, v in brief.model_dump(mode="json").items() if k not in _DELIVERY_ONLY}
    weights = hashlib.sha256()
    for path in sorted(design.run.adapter.glob("*")):
        if path.suffix in (".safetensors", ".json"):
            weights.update(path.read_bytes())
    whole = [music, design.name, weights.hexdigest(), seed]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _seeds(brief: Brief) -> range:
    return range(brief.seed, brief.seed + brief.candidates)


def _reusable_rows(out: Path) -> dict[str, dict[str, Any]]:
    """The rows whose file is there and unchanged, by key."""
    if not (out / TABLE).is_file():
        return {}
    rows = read_jsonl(out / TABLE)
    return {row["key"]: row for row in rows if _digest(out / row["file"]) == row["sha256"]}


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _run_facts(design: Contender) -> dict[str, Any]:
    """What results need of a run: its cost and its rights, kept here because the run may move."""
    cost = read_json(design.run.cost)
    kept = ("wall_seconds", "device_seconds", "energy_joules", "device", "steps", "trainable_parameters")
    return {
        "run": str(design.run.folder),
        "cost": {name: cost.get(name) for name in kept},
        "rights": usage_rights.run_rights(design.run),
    }


def _generate_for(
    design: Contender,
    missing: Sequence[tuple[int, str]],
    brief: Brief,
    out: Path,
    progress: Progress,
    device: str,
) -> None:
    """Make one design's missing candidates; the first one's time holds the loading of the model."""
    from talim.generation import generate as stage
    from talim.generation import sources

    search = automatic_checks.originality_check(design.run)
    began = time.perf_counter()
    source = sources.choose_source(design.run.folder, None, [], False)
    backbone = sources.load_source(source, device, progress)
    sampling = stage.GenerationOptions(**brief.drawing.model_dump())
    asked = {**backbone.options, **sampling.explicit_options}
    for seed, key in missing:
        number = seed - brief.seed + 1
        name = f"{design.name}-{number:03d}"
        sound = stage.generate_clip(
            backbone, brief.words, untrimmed_seconds(brief), seed, asked, BeatsAndChords(), progress, name
        )
        tags = stage.provenance_tags(backbone, source.adapters, brief.words, seed, asked, BeatsAndChords())
        path = out / FOLDER / f"{name}.flac"
        audio.write(path, postprocess(sound, brief), tags)
        seconds = time.perf_counter() - began
        found = automatic_checks.run_checks(path, brief, search)
        row = {"id": name, "design": design.name, "number": number, "seed": seed, "key": key}
        row |= {"file": f"{FOLDER}/{path.name}", "sha256": _digest(path), "tags": tags}
        length = audio.read(path).seconds
        append_jsonl(
            out / TABLE,
            row | {"seconds": round(length, 3), "making_seconds": round(seconds, 3), "checks": found},
        )
        began = time.perf_counter()
