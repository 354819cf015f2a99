"""Runs PEFT's own test files with talim's kinds as rows and writes docs/reports/peft-suite.md.

Give a checkout of PEFT, whose tests need `pip install parameterized`:
python -m research.validation.peft_suite PEFT_CHECKOUT [--write]
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
from research.validation.peft_suite_substitutes import BACKEND

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reports" / "peft-suite.md"
FILES = (
    "test_custom_models.py",
    "test_decoder_models.py",
    "test_encoder_decoder_models.py",
    "test_low_level_api.py",
    "test_mixed.py",
    "test_torch_compile.py",
)
# Refusals that docs/guides/peft.md documents, by a part of their message.
MERGE = "adapters cannot be merged into the base"
REFUSALS = {
    "causal `conv` or `transformer` at a module without the decoding cache": "is not given the cache of a decoding",
    "`causal=False` in cached decoding": "this adapter uses later frames (causal=False)",
    "`conv` or `transformer` at a module whose output has no time": "an adapter with context needs hidden states",
}
CLOSED = "`mixed=True`: PEFT mixes its own methods only"
CLOSED_CAUSE = "is not compatible with the `PeftMixedModel`"
DOWNLOAD = "needs a download that nothing small stands for: its own LoRA fails as well"
LORA_ONLY = "about LoRA's own weight names or options"
LORA_TESTS = (
    "test_inject_adapter_in_model",
    "TestLowLevelFunctional::test_get_peft_model_state_dict",
    "TestLowLevelFunctional::test_modules_to_save",
    "target_parameters",
    "test_inject_from_state_dict_missing_keys_warning",
    "test_inject_from_state_dict_model_with_weight_conversion",
    "test_prefix_removal_is_undone",
)
OUTDATED = "installed PEFT differs from the checkout: its own LoRA fails as well"
Row = dict[str, Any]


def run(checkout: Path) -> list[Row]:
    """The outcome of every test of the files that has one of talim's rows."""
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
    if CLOSED_CAUSE in row["cause"]:
        return CLOSED
    if any(name in row["test"] for name in LORA_TESTS):
        return LORA_ONLY
    if reason := next((words for words, part in REFUSALS.items() if part in row["cause"]), None):
        return reason
    if row["any_class"] not in outdated:
        return "failed"
    return DOWNLOAD if "cached" in row["cause"] else OUTDATED


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
    order = ["passed", "merge", *REFUSALS, CLOSED, LORA_ONLY, OUTDATED, DOWNLOAD, "skipped", "failed"]
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

Where a test of the low level API makes a LoRA itself, a configuration of each kind with the same targets stands for it;
in the tests of mixed adapters `linear` stands for LoKr. Models are compiled with the backend `{BACKEND}`, which leaves
the C++ compiler out. What is about LoRA's own weight names was read: it asserts `lora_A`, or sets LoRA's options.

Merging is refused because an adapter's output depends on its input; tests of other subjects that merge at their end
count there. The refusals are explained in [Use adapters with PEFT](../guides/peft.md#guarantees-and-limits).
"""


def commit_of(checkout: Path) -> str:
    """The short commit of a checkout; "unknown" where it has no .git."""
    if not (checkout / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(checkout), "rev-parse", "--short=9", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Print the table; with --write also write the page. Exit status 1 if a test failed for another reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="folder of a PEFT checkout, with its tests")
    parser.add_argument("--commit", help="its commit, for the page (default: as git says)")
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
        PAGE.write_text(page(counts, options.commit or commit_of(options.checkout)), encoding="utf-8")
    raise SystemExit(int(any(counter["failed"] for counter in counts.values())))


if __name__ == "__main__":
    main()
