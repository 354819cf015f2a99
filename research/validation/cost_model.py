"""Plans against measurements: `python -m research.validation.cost_model --out docs/plan.md`.

Each case is planned from a trace, and measured in a fresh process on random weights: the most resident memory of the
third step above that before the weights came (MALLOC_MMAP_THRESHOLD_=1048576, so that what torch frees is given back),
and the CPU time of that step on one thread. The CPU is timed in the same process, right after the steps, so that a busy
machine is busy for both. Cases that were measured are kept in the results file and not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from talim.atomic_io import write_text
from talim.errors import TalimError
from talim.planning import cpu_calibration, trace_cache, training_step
from talim.planning.training_step import StepConfig
from talim.progress import Progress, for_terminal

MODULE = "research.validation.cost_model"
NANO, SMALL = "nano-musicgen", "musicgen-small"
CASES = (
    StepConfig(NANO, "linear@all:2.5%", 5.0, 1, "fp32"),
    StepConfig(NANO, "conv@all:2.5%", 10.0, 8, "bf16"),
    StepConfig(NANO, "transformer@post:2.5%", 20.0, 8, "fp32"),
    StepConfig(NANO, "lora@deep:2.5%", 10.0, 8, "fp32"),
    StepConfig(NANO, "full@all", 10.0, 8, "bf16"),
    StepConfig(SMALL, "conv@all:8M", 5.0, 1, "bf16"),
    StepConfig(SMALL, "conv@all:8M", 5.0, 1, "fp32"),
    StepConfig(SMALL, "conv@post:8M", 5.0, 1, "bf16"),
    StepConfig(SMALL, "linear@deep:8M", 5.0, 1, "fp32"),
    StepConfig(SMALL, "transformer@all:40M", 5.0, 1, "bf16"),
    StepConfig(SMALL, "lora@all:8M", 5.0, 2, "bf16"),
    StepConfig(SMALL, "conv@all:8M", 20.0, 1, "bf16", checkpointing=True),
    StepConfig(
        "mustango", "conv@all:40M", 5.12, 1, "bf16", checkpointing=True
    ),  # 6 GB, and minutes of one core
)
MEMORY_BOUND, TIME_BOUND = 0.10, 0.25
SINGLE_THREAD_ENV = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
OPENING = """# What training will cost, before it is begun

```sh
talim plan --base musicgen-medium --design conv@all:40M --design lora@all:8M --gpu rtx-3060 --price-per-hour 0.2
```

`talim plan` takes one step of the real training (forward, loss, backward, clipping, AdamW) with the real modules on
tensors that hold no numbers, and follows every storage from its birth to its death: the most that was alive at once is
the memory. No weights are needed. The whole model is resident in it, text encoder and codec too. Every operation is
told as a roofline: its FLOPs or its bytes, whichever takes longer, and the start of a call. A GPU's rates are its
maker's, half of them for matrix products and 70 % for memory; that share and the 10 microseconds of a call are
assumed, so a GPU's hours are a first guess. This CPU's are measured once and kept (`--calibrate` does it anew), with
as many threads as torch uses. A GPU's step is traced with the CPU's kernels, whose dropout keeps four bytes where a
GPU keeps one, so its memory is told a little high; 0.8 GB for CUDA itself are added. Energy is time by the board's
power (`--watts` for your own). Prices are yours (`--price-per-hour`, `--price-per-kwh`); none is invented.

What does not fit is told what would: `--checkpointing`, a smaller `--batch`, shorter `--seconds`, another site, each
tried by tracing it. Traces are kept in the user's cache (`TALIM_CACHE` names another place) under what they were made
from: setting, base, talim's code, versions of the libraries.

## The plan against measurement

Made by `python -m research.validation.cost_model --out docs/plan.md`: every case traced, and then run in earnest on random
weights, each in a process of its own. Memory is the most that was resident in the third step above what was resident
before the weights came; time is the CPU time of that step on one thread, against rates that were measured in the
same process.
"""


def check(cases: Sequence[StepConfig], results: Path, progress: Progress) -> list[dict[str, Any]]:
    """Plan and measure the cases that are not in the results file yet; all rows in the order of the cases."""
    known = {_key(row["setting"]): row for row in _read(results)}
    shelf = trace_cache.TraceCache(trace_cache.default_cache_folder(), progress)
    cpu = cpu_calibration.calibrate_in_subprocess(1)
    for number, case in enumerate(cases, start=1):
        if _key(case.facts()) not in known:
            known[_key(case.facts())] = _row(case, shelf, cpu)
            write_text(results, json.dumps(list(known.values()), indent=1) + "\n")
        progress.step("measuring", number, len(cases), case.design)
    return [known[_key(case.facts())] for case in cases]


def _row(case: StepConfig, shelf: trace_cache.TraceCache, cpu: dict[str, Any]) -> dict[str, Any]:
    trace = shelf.trace(case)
    found = measure_in_subprocess(case)
    machine = cpu_calibration.to_hardware_profile({**cpu, **found["cpu"]}, 1)
    return {
        "setting": case.facts(),
        "planned_bytes": machine.needed_bytes(trace, case.precision),
        "measured_bytes": found["measured"]["resident_bytes"],
        "planned_seconds": machine.seconds(trace),
        "measured_seconds": found["measured"]["step_seconds"],
    }


def measure_in_subprocess(case: StepConfig) -> dict[str, Any]:
    """What `one` tells in a fresh process; TalimError where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "--one", json.dumps(case.facts())],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | SINGLE_THREAD_ENV | {"MALLOC_MMAP_THRESHOLD_": "1048576"},
    )
    if done.returncode:
        raise TalimError(f"{case.base} {case.design}: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_case(case: StepConfig) -> dict[str, Any]:
    """Measure a case in this process: memory and time of its third step, then the rates of this CPU."""
    found = training_step.measure_step(case)
    return {"measured": asdict(found), "cpu": cpu_calibration.measure_rates()}


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown, with the errors and what the bounds make of them."""
    lines = [OPENING, "| base | design | clips | precision | memory MB: planned | measured | error "]
    lines[-1] += "| step s: planned | measured | error |"
    lines.append("|---|---|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        case = row["setting"]
        again = ", checkpointed" if case["checkpointing"] else ""
        lines.append(
            f"| {case['base']} | `{case['design']}` | {case['batch']} x {case['seconds']:g} s "
            f"| {case['precision']}{again} | {row['planned_bytes'] / 1e6:,.0f} | {row['measured_bytes'] / 1e6:,.0f} "
            f"| {error(row, 'bytes'):+.1%} "
            f"| {row['planned_seconds']:.3g} | {row['measured_seconds']:.3g} | {error(row, 'seconds'):+.1%} |"
        )
    lines.append("")
    for word, what, bound in (("bytes", "Memory", MEMORY_BOUND), ("seconds", "Time", TIME_BOUND)):
        errors = [abs(error(row, word)) for row in rows]
        within = sum(each <= bound for each in errors)
        lines.append(
            f"{what}: {within} of {len(rows)} within {bound:.0%}; median error {median(errors):.1%}, "
            f"largest {max(errors):.1%}."
        )
    return "\n".join(lines) + "\n"


def error(row: dict[str, Any], word: str) -> float:
    """The plan's error as a share of what was measured."""
    return row[f"planned_{word}"] / row[f"measured_{word}"] - 1


def _key(facts: dict[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True)


def _read(results: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(results.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/plan.md"))
    parser.add_argument("--results", type=Path, default=Path("out/plan-check.json"))
    parser.add_argument("--page-only", action="store_true", help="measure nothing, show what was measured")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        import torch

        torch.set_num_threads(1)
        print(json.dumps(measure_case(StepConfig(**json.loads(asked.one)))))
        return
    rows = _read(asked.results) if asked.page_only else check(CASES, asked.results, for_terminal())
    write_text(asked.out, page(rows))


if __name__ == "__main__":
    main()
