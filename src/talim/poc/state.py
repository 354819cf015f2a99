"""Files of a proof of concept besides its runs: finished stages, time used, plan, gates and decisions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, read_json, write_json
from talim.errors import TalimError, UsageError
from talim.experiments.tuning import RECORD
from talim.html.formatting import format_percent
from talim.path_suggestions import did_you_mean
from talim.progress import Progress
from talim.reporting import run_results
from talim.reporting.catalogue import Texts, duration, in_languages, machine_price, sentences
from talim.run import POC_DECISIONS, POC_STAGE_CACHE
from talim.time_log import TimeLog

STAGE_CACHE, TIME_LOG, METRICS_CACHE = POC_STAGE_CACHE, "time_log.json", "metrics_cache"
PLAN, GATES, STAGES, EARLIER = "plan.json", "gates.json", POC_DECISIONS, "earlier"
PAGE, BRIEF = "report/index.html", "brief.yaml"
JUDGED = ("listening", "brief", BRIEF)  # what people were asked about these results, and what they answered
PLAN_FILES = (*JUDGED, GATES, STAGES, RECORD, PLAN)  # they move with the plan; the plan's own file last
LISTS = {  # of DIR/stages.json, with what is read of each row
    "stages": {
        **{"name": str, "title": str, "gate": dict, "passed": bool | None, "sentences": list},
        **{"stopped": str, "stopped_translated": dict},
    },
    "designs": {"design": str, "run": str, "loss_reduction": float | int | None, "ci95": list | None, "ratios": dict},
    "continuations": {"name": str, "gate": dict, "passed": bool | None},
}
OTHERS = (  # of DIR/stages.json
    *(
        "plan",
        "licence_use_note",
        "limitations",
        "price_per_hour",
        "prepare_seconds",
        "time_note",
        "time_note_translated",
        "spent",
    ),
    *("spent", "larger_base", "learning_curve", "tuning", "next_steps"),
)


def read_stages(path: Path) -> dict[str, Any]:
    """The decisions in a stages.json; TalimError where they are not as the pipeline writes them."""
    decided = read_json(path)
    if problem := _stages_problem(decided):
        raise TalimError(
            f"{path}: is not as talim poc writes it ({problem}); restore it from a copy, or delete it and run the same "
            "talim poc again: finished runs are kept"
        )
    return decided


def _stages_problem(decided: Any) -> str:
    if not isinstance(decided, dict):
        return "it holds no object"
    for name, fields in LISTS.items():
        rows = decided.get(name)
        if not isinstance(rows, list):
            return f"{name!r} is no list"
        for number, row in enumerate(rows, 1):
            wrong = [
                key
                for key, kind in fields.items()
                if not isinstance(row, dict) or key not in row or not isinstance(row[key], kind)
            ]
            if wrong:
                return f"{wrong[0]!r} of entry {number} of {name!r} is missing or of another kind"
    if missing := [key for key in OTHERS if key not in decided]:
        return f"{missing[0]!r} is missing"
    chosen = decided.get("chosen")
    if chosen is not None and not (
        isinstance(chosen, dict) and all(isinstance(chosen.get(k), str) for k in ("design", "run"))
    ):
        return "'chosen' names no design and run"
    return ""


class StageCache:
    """Which stage was done with which inputs, in DIR/stage_cache.json; a stage is skipped while both are current."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, str] = read_json(path) if path.is_file() else {}

    def is_current(self, stage: str, key: str, output: Path) -> bool:
        """Whether the stage's output exists and was made from these inputs."""
        return output.exists() and self._keys.get(stage) == key

    def mark_done(self, stage: str, key: str) -> None:
        """Record on disk that the stage was done with these inputs."""
        self._keys[stage] = key
        write_json(self.path, self._keys)


def time_note(what: str, seconds: float, price_per_hour: float | None, hours: float | None = None) -> Texts:
    """A time beside the time budget, and its price; `what` is a sentence `time_WHAT` of the catalogue."""
    of_budget: Texts | str = ""
    if hours is not None:
        percent = format_percent(seconds / (hours * 3600) - 1)
        over = in_languages("time_over", percent=percent) if seconds > hours * 3600 else ""
        of_budget = in_languages("time_of_budget", budget=duration(hours * 3600), over=over)
    price = machine_price(seconds, price_per_hour)
    return in_languages(f"time_{what}", time=duration(seconds), of_budget=of_budget, price=price)


def unfinished_note(out: Path, decided: Mapping[str, Any]) -> Texts:
    """Time and price so far, and of the rest as it was estimated before the trainings, while there is work left."""
    plan = read_json(out / PLAN) if (out / PLAN).is_file() else {}
    price, log = decided["price_per_hour"], TimeLog(out / TIME_LOG, f"all {decided['plan']}")
    used = decided["prepare_seconds"] + log.seconds
    spent = time_note("so_far", used, price, plan.get("hours"))
    if "used_seconds" not in plan or "estimated_seconds" not in plan:
        return sentences([spent, in_languages("time_rest_unknown")])
    left = plan["used_seconds"] + plan["estimated_seconds"] - used
    if left <= 0:
        return sentences([spent, in_languages("time_rest_longer")])
    return sentences([spent, time_note("rest", left, price)])


def bind_folder(out: Path, key: str, progress: Progress) -> None:
    """Bind DIR to this configuration.

    Results of a different configuration, with what people said of them, move to DIR/earlier and are restored when it is
    requested again. Its page, whose commands name folders that now hold other results, is removed.
    """
    plan, stored = out / PLAN, out / EARLIER / key
    current = str(read_json(plan).get("key")) if plan.is_file() else None
    if current == key:
        return
    if current is not None or not stored.is_dir():  # else an interrupted restore, which continues below
        files = _result_files(out)
        if files:
            target = out / EARLIER / (current or "before")
            _move(files, target)
            (out / PAGE).unlink(missing_ok=True)
            again = f"talim report {shlex.quote(str(target))}"
            progress.log(f"the configuration has changed; the earlier results are in {target} (their page: {again})")
    if stored.is_dir():
        _move(_result_files(stored), out)
        with contextlib.suppress(OSError):  # not empty: other files stay
            stored.rmdir()


def _result_files(folder: Path) -> list[Path]:
    runs = [path for path in sorted(folder.iterdir()) if path.is_dir() and run_results.is_run(path)]
    return [*runs, *(folder / name for name in PLAN_FILES if (folder / name).exists())]


def _move(paths: Sequence[Path], target: Path) -> None:
    with friendly_os_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in paths:
            os.replace(path, target / path.name)


def write_if_changed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file, unless it has this content already."""
    if not path.is_file() or read_json(path) != value:
        write_json(path, value)


def check_folders(folder: Path, out: Path) -> None:
    """TalimError if the recordings' folder does not exist, UsageError if DIR lies within it."""
    if not folder.is_dir():
        raise TalimError(f"{folder}: no such folder{did_you_mean(folder)}; give the folder that holds your recordings")
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"--out {out} lies within the recordings; choose a folder outside of {folder}")


def recordings_key(folder: Path, out: Path, options: list[Any]) -> str:
    """A hash of every file's name, size and time, of edited captions, and of the options."""
    files = [Path(root) / name for root, _, names in os.walk(folder) for name in names]
    listing = []
    for path in sorted([*files, out / "corpus" / "metadata.csv"]):
        if path.is_file():
            status = path.stat()
            listing.append([os.path.relpath(path, folder), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps([listing, options]).encode()).hexdigest()


def files_hash(paths: Sequence[Path]) -> str:
    """A hash of the files' contents; a missing file counts too."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes() if path.is_file() else b"-")
        digest.update(b"\0")
    return digest.hexdigest()
