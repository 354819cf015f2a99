"""Speed of the synthesizer: seconds of music per second of CPU time on one core.

    python -m benchmarks.synthesis_speed

Process CPU time is measured, as the machine may be busy, on one thread. Every ensemble of each tradition is measured
after one warm-up performance.
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
    """Seconds of music per second of CPU time."""
    began = time.process_time()
    perform(seed, tradition, seconds, PerformanceRequest(ensemble=ensemble))
    return seconds / (time.process_time() - began)


def main() -> None:
    """Print the median and the slowest of every ensemble."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args()
    print(f"{options.count} performances of {options.seconds:g} s each, times real time per core (process CPU time)")
    print(f"{'tradition':12s} {'players':>7s} {'median':>7s} {'slowest':>8s}")
    for tradition in ("hindustani", "makam"):
        for ensemble in (1, 2, 3):
            speed(0, tradition, options.seconds, ensemble)
            speeds = [speed(seed, tradition, options.seconds, ensemble) for seed in range(options.count)]
            print(f"{tradition:12s} {ensemble:7d} {statistics.median(speeds):7.0f} {min(speeds):8.0f}")


if __name__ == "__main__":
    main()
