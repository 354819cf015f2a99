"""How fast the performer renders: seconds of music a second of one core's time.

Run it:  python benchmarks/performer.py
Process CPU time is measured, not the clock on the wall, because a machine may be busy with other things; one thread
is asked for. Each ensemble of each tradition performs in turn, after one performance that is thrown away.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from talim.synthesis.arrangement import PerformanceRequest  # noqa: E402
from talim.synthesis.performer import perform  # noqa: E402


def speed(seed: int, tradition: str, seconds: float, ensemble: int) -> float:
    """Seconds of music made in a second of CPU time."""
    began = time.process_time()
    perform(seed, tradition, seconds, PerformanceRequest(ensemble=ensemble))
    return seconds / (time.process_time() - began)


def main() -> None:
    """Print the median and the slowest of every ensemble."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--count", type=int, default=12)
    given = parser.parse_args()
    print(
        f"{given.count} performances of {given.seconds:g} s each, times real time per core (process CPU time)"
    )
    print(f"{'tradition':12s} {'players':>7s} {'median':>7s} {'slowest':>8s}")
    for tradition in ("hindustani", "makam"):
        for ensemble in (1, 2, 3):
            speed(0, tradition, given.seconds, ensemble)
            speeds = [speed(seed, tradition, given.seconds, ensemble) for seed in range(given.count)]
            print(f"{tradition:12s} {ensemble:7d} {statistics.median(speeds):7.0f} {min(speeds):8.0f}")


if __name__ == "__main__":
    main()
