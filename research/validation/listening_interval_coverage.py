"""Coverage of 95 % intervals over listeners in simulated listening tests: the table of docs/reports/statistics.md.

python -m research.validation.listening_interval_coverage [STUDIES [RESAMPLES]]   (default: 1000 and 500; takes minutes)
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor

from research.validation.listener_simulation import SimulatedPopulation, coverage

LISTENERS = (8, 12, 20, 40)


def row(listeners: int, studies: int, resamples: int) -> str:
    """One line of the table."""
    covered = coverage(SimulatedPopulation(), listeners, studies, resamples)
    return f"| {listeners} | " + " | ".join(f"{fraction:.1%}" for fraction in covered.values()) + " |"


def main() -> None:
    """Print the table."""
    studies, resamples = (int(a) for a in (sys.argv[1:] + ["1000", "500"][len(sys.argv) - 1 :])[:2])
    print("| listeners | percentile bootstrap | expanded percentile | jackknife t (used) | votes resampled |")
    print("|---|---|---|---|---|")
    with ProcessPoolExecutor(1) as pool:
        for line in pool.map(row, LISTENERS, [studies] * len(LISTENERS), [resamples] * len(LISTENERS)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
