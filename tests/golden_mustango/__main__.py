"""Run every golden case of a folder and print how far off each is; exit status 1 if one fails."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from tests.golden_mustango import conditions, diffusions, sounds, structure, unets
from tests.golden_mustango.cases import Check, Golden

GROUPS = (unets, conditions, diffusions, sounds, structure)


def run(folder: Path) -> list[Check]:
    """All checks for which the folder has files; a part that cannot even run counts as one that failed."""
    checks: list[Check] = []
    for group in GROUPS:
        for name, part in group.all_checks(Golden(folder)):
            try:
                checks += part
            except Exception as error:
                checks.append(Check(f"{name} broke off: {type(error).__name__}: {error}", float("inf"), 0.0))
    return checks


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden_mustango", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    asked = parser.parse_args()
    checks = run(asked.folder)
    failed = [check for check in checks if not check.passed]
    if asked.json:
        rows = [
            {"case": check.name, "error": check.error if math.isfinite(check.error) else None}
            | {"tolerance": check.tolerance, "passed": check.passed}
            for check in checks
        ]
        print(json.dumps({"cases": rows, "passed": len(checks) - len(failed), "failed": len(failed)}, indent=1))
    else:
        for check in checks:
            print(f"{'ok  ' if check.passed else 'FAIL'} {check.error:9.2e} of {check.tolerance:7.0e}  {check.name}")
        print(f"{len(checks) - len(failed)} passed, {len(failed)} failed")
    if not checks:
        print(f"{asked.folder}: no golden files here", file=sys.stderr)
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
