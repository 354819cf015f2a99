"""Runs PEFT's own test files with talim's kinds as rows and writes docs/reports/peft-suite.md.

Give a checkout of PEFT: python -m research.validation.peft_suite PEFT_CHECKOUT [--write]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from research.validation import peft_suite_rows

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reports" / "peft-suite.md"
FILES = ("test_custom_models.py", "test_decoder_models.py", "test_encoder_decoder_models.py")
# Refusals that docs/guides/peft.md documents, by a part of their message.
MERGE = "adapters cannot be merged into the base"
REFUSALS = {
    "causal `conv` or `transformer` at a module without the decoding cache": "is not given the cache of a decoding",
    "`causal=False` in cached decoding": "this adapter uses later frames (causal=False)",
}
OUTDATED = "installed PEFT differs from the checkout: its own LoRA fails as well"
Row = dict[str, Any]


def run(checkout: Path) -> list[Row]:
    """The outcome of every test of the three files that has one of talim's rows."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.jsonl"
        paths = [str(ROOT / "src"), str(ROOT), str(checkout)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            peft_suite_rows.RESULTS_VARIABLE: str(results),
        }
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", peft_suite_rows.__name__]
        command += ["-p", "no:cacheprovider", "-o", "addopts=", "--rootdir", str(checkout)]
        done = subprocess.run(
            [*command, *(f"tests/{name}" for name in FILES)],
            cwd=checkout,
            env=environment,
            stdout=sys.stderr,
            check=False,
        )
        if not results.is_file():
            raise SystemExit(f"pytest ended with {done.returncode} before the first test; see its messages above")
        return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def classify(row: Row, outdated: set[str]) -> str:
    """What a test came to: "passed", "skipped", "merge", a documented refusal, or "failed"."""
    if row["outcome"] in ("passed", "skipped"):
        return row["outcome"]
    if MERGE in row["cause"]:
        return "merge"
    reason = next((words for words, part in REFUSALS.items() if part in row["cause"]), None)
    return reason or (OUTDATED if row["any_class"] in outdated else "failed")


def outdated_tests(rows: list[Row]) -> set[str]:
    """Tests that PEFT's own LoRA fails, without the name of the class."""
    return {row["any_class"] for row in rows if row["reference"] and row["outcome"] == "failed"}


def count(rows: list[Row]) -> dict[str, Counter[str]]:
    """Number of tests by file and class of outcome; the reference's own tests are not counted."""
    outdated = outdated_tests(rows)
    counts: dict[str, Counter[str]] = {name: Counter() for name in FILES}
    for row in rows:
        if not row["reference"]:
            counts[row["test"].split("::")[0].removeprefix("tests/")][classify(row, outdated)] += 1
    return counts


def table(counts: dict[str, Counter[str]]) -> str:
    """The counts as a Markdown table, one line per outcome."""
    order = ["passed", "merge", *REFUSALS, OUTDATED, "skipped", "failed"]
    words = {
        "merge": "merge: refused, as the output depends on the input",
        "skipped": "skipped by PEFT's tests for all methods like it",
        "failed": "**failed**",
    }
    lines = ["| outcome | " + " | ".join(f"`{name}`" for name in FILES) + " | all |", "|---" * (len(FILES) + 2) + "|"]
    for outcome in order:
        numbers = [counts[name][outcome] for name in FILES]
        if sum(numbers) or outcome in ("passed", "failed"):
            numbers.append(sum(numbers))
            lines.append(f"| {words.get(outcome, outcome)} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


def page(counts: dict[str, Counter[str]], commit: str) -> str:
    """docs/reports/peft-suite.md."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("peft", "transformers", "torch"))
    return f"""# PEFT's own tests

The test files of PEFT (commit {commit}) with talim's kinds as rows, against {versions}.
`linear` is put at the MLP of PEFT's own tests; `linear`, `conv` and `transformer` at the same MLP on sequences, and at
the blocks of small OPT, GPT-2, GPT-J, Llama, Qwen2, Gemma 3, T5 and BART models with random weights instead of the
downloads: one layer, a list, a regular expression, `modules_to_save`, several adapters, every dtype.

```sh
python -m research.validation.peft_suite PEFT_CHECKOUT --write
```

{table(counts)}

Merging is refused because an adapter's output depends on its input; tests of other subjects that merge at their end
count there. The refusals are explained in [Use adapters with PEFT](../guides/peft.md#guarantees-and-limits).
"""


def main() -> None:
    """Print the table; with --write also write the page. Exit status 1 if a test failed for another reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="folder of a PEFT checkout, with its tests")
    parser.add_argument("--commit", default="unknown", help="its commit, for the page")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    if not (options.checkout / "tests" / FILES[0]).is_file():
        parser.error(f"{options.checkout} is no checkout of PEFT: it has no tests/{FILES[0]}")
    rows = run(options.checkout.resolve())
    counts = count(rows)
    print(table(counts))
    for row in rows:
        if not row["reference"] and classify(row, outdated_tests(rows)) == "failed":
            print(f"{row['test']}: {row['cause'][:200]}")
    if options.write:
        PAGE.write_text(page(counts, options.commit), encoding="utf-8")
    raise SystemExit(int(any(counter["failed"] for counter in counts.values())))


if __name__ == "__main__":
    main()
