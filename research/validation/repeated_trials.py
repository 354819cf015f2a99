"""Do trials of a study come out equal when they are run again from nothing?

`python -m research.validation.repeated_trials FILE STUDY --out DIR` draws ten finished trials of the study FILE in the
folder STUDY (`--here`: of those that ran on this kind of processor, as others round otherwise), builds their corpora
anew in DIR, runs these trials there with the settings that the study chose, and compares all measures but time and
memory: the largest difference of each measure, and of the curves. Rerun to resume.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talim.backbones.precision import processor
from talim.errors import TalimError
from talim.experiments.results import COST_MEASURES
from talim.experiments.results_log import ResultRecord, ResultsLog
from talim.experiments.runner import TrialExecutor, executor_for, list_trials, run_study
from talim.experiments.trial import failed_trial_record
from talim.experiments.tuning import TUNING_LOG
from talim.progress import Progress, default

COUNT = 10


def repeat_trials(
    file: Path,
    study: Path,
    out: Path,
    *,
    count: int = COUNT,
    seed: int = 0,
    here: bool = False,
    progress: Progress | None = None,
    execute: TrialExecutor | None = None,
) -> dict[str, Any]:
    """Run `count` trials again in the folder `out`; the largest difference of each, by measure.

    With `here` they are drawn from those whose line names this processor.
    TalimError where fewer trials are finished, or where one does not finish now.
    """
    log, specs = ResultsLog(study, repair=False), [spec for spec, _, _ in list_trials(file, study)]
    done = sorted({spec.id for spec in specs if log.done(spec.id)})  # not what an earlier form of the file asked for
    if here:
        done = [id_ for id_ in done if log.lines[id_]["cost"].get("processor") == processor()]
    if len(done) < count:
        raise TalimError(f"{study}: {len(done)} trials are finished, {count} are to be run again")
    drawn = [str(name) for name in np.random.default_rng(seed).choice(done, count, replace=False)]
    again = ResultsLog(out)
    out.mkdir(parents=True, exist_ok=True)
    if (study / TUNING_LOG).is_file():
        shutil.copy(study / TUNING_LOG, out / TUNING_LOG)
    for spec in specs:  # all others count as done, or as failed, which are not run again
        if spec.stage == "trial" and spec.id not in again.lines and spec.id not in drawn:
            again.add(log.lines.get(spec.id) or failed_trial_record(spec, "not drawn"))
    run_study(file, out, progress, execute=execute)
    lines = ResultsLog(out, repair=False)
    if missing := [id_ for id_ in drawn if not lines.done(id_)]:
        reasons = "; ".join(f"{id_}: {lines.lines.get(id_, {}).get('error', 'not run')}" for id_ in missing)
        raise TalimError(f"{out}: not every trial has finished: {reasons}")
    rows = [differences(log.lines[id_], lines.lines[id_]) for id_ in drawn]
    return {
        "study": str(study),
        "trials": [
            {name: log.lines[id_][name] for name in ("id", "design", "corpus", "seed")} | {"largest": max(row.values())}
            for id_, row in zip(drawn, rows, strict=True)
        ],
        "equal": sum(max(row.values()) == 0 for row in rows),
        "largest_by_measure": {
            name: max(row.get(name, 0.0) for row in rows) for name in sorted({*rows[0]}.union(*rows))
        },
    }


def differences(one: ResultRecord, other: ResultRecord) -> dict[str, float]:
    """The largest absolute difference of each measure and of the curves; infinite where only one has a value."""
    found = {
        name: _largest(one["measures"].get(name, {}), other["measures"].get(name, {}))
        for name in one["measures"].keys() | other["measures"].keys()
        if name not in COST_MEASURES
    }
    curves = [{str(step): loss for step, loss in line.get("curve", ())} for line in (one, other)]
    return found | {"curve": _largest(*curves)}


def _largest(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    if one.keys() != other.keys():
        return float("inf")
    return max((abs(value - other[name]) for name, value in one.items()), default=0.0)


def main() -> None:
    """Run ten trials again and print what they differ by."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the study file")
    parser.add_argument("study", type=Path, help="its folder with results")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", action="store_true", help="draw of the trials on this kind of processor alone")
    parser.add_argument("--num-workers", type=int, default=0)
    given = parser.parse_args()
    progress = default()
    execute = executor_for(given.num_workers, None, "auto", given.file.parent, progress)
    found = repeat_trials(
        given.file,
        given.study,
        given.out,
        count=given.count,
        seed=given.seed,
        here=given.here,
        progress=progress,
        execute=execute,
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
