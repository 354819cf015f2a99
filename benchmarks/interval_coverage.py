"""How often intervals over listeners cover the truth: the table of docs/listening.md.

python benchmarks/interval_coverage.py [STUDIES [RESAMPLES]]   (1000 and 500 unless told; minutes)
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor

from research.validation.listener_simulation import SimulatedPopulation, coverage

LISTENERS = (8, 12, 20, 40)


def row(listeners: int, studies: int, resamples: int) -> str:
    """One line of the table."""
    found = coverage(SimulatedPopulation(), listeners, studies, resamples)
    return f"| {listeners} | " + " | ".join(f"{share:.1%}" for share in found.values()) + " |"


def main() -> None:
    """Print the table."""
    studies, resamples = (int(a) for a in (sys.argv[1:] + ["1000", "500"][len(sys.argv) - 1 :])[:2])
    print("| listeners | percentile | expanded percentile | jackknife t | votes resampled |")
    print("|---|---|---|---|---|")
    with ProcessPoolExecutor(1) as pool:
        for line in pool.map(row, LISTENERS, [studies] * len(LISTENERS), [resamples] * len(LISTENERS)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
