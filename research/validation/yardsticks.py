"""All yardsticks of the field that take public data: `make yardsticks DATA=DIR`.

DIR holds a checkout or download of each data set in a folder of its repository's name. None is part of the project;
what is missing is skipped, by name and with where it is from. Every yardstick writes its page in docs/reports.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {  # folder of DATA: where it is from
    "otmm_makam_recognition_dataset": "github: MTG/otmm_makam_recognition_dataset",
    "makam_recognition_experiments": "github: sertansenturk/makam_recognition_experiments",
    "otmm_tonic_dataset": "github: MTG/otmm_tonic_dataset",
    "musical-bridges-hindustani-tools": "github: MTG/musical-bridges-hindustani-tools",
    "SymbTr": "github: MTG/SymbTr",
    "E2ERaga": "github: VishwaasHegde/E2ERaga",
    "otmm_audio_score_alignment_dataset": "github: MTG/otmm_audio_score_alignment_dataset",
    "automated-symbolic-transcription-hindustani-vocals":
        "github: rhythmjain/automated-symbolic-transcription-hindustani-vocals",
    "peft": "github: huggingface/peft, the commit of the installed version",
    "torch-fidelity": "github: toshas/torch-fidelity",
    "generative-evaluation-prdc": "github: clovaai/generative-evaluation-prdc",
    "mir_eval": "github: mir-evaluation/mir_eval",
    "mirdata": "github: mir-dataset-loaders/mirdata",
    "own-recordings": "makam_pitch and audio, the recordings of the project's other reports, which are not public",
}  # fmt: skip
ORNAMENTS = "automated-symbolic-transcription-hindustani-vocals/Ornamentation-In-Hindustani-Vocals-Dataset"
PITCH, FOLDS = "otmm_makam_recognition_dataset/data", "makam_recognition_experiments/data/folds.json"


@dataclass(frozen=True)
class Yardstick:
    """A command of research.validation; an argument that begins with @ is a path below DATA, @ alone DATA itself."""

    module: str
    arguments: tuple[str, ...]
    folders: tuple[str, ...] = ()  # of DATA, where no argument names them

    def needed(self) -> tuple[str, ...]:
        """The folders of DATA without which it cannot run."""
        named = [argument[1:].partition("/")[0] for argument in self.arguments if argument.startswith("@")]
        return tuple(dict.fromkeys(filter(None, [*named, *self.folders])))

    def command(self, data: Path) -> list[str]:
        """What is run."""
        words = [str(data / word[1:]) if word.startswith("@") else word for word in self.arguments]
        return [sys.executable, "-m", f"research.validation.{self.module}", *words]


YARDSTICKS = (
    Yardstick("makam_folds", ("--pitch", f"@{PITCH}", "--folds", f"@{FOLDS}")),
    Yardstick("makam_scores", ("--scores", "@SymbTr/txt")),
    Yardstick(
        "tonic_identification",
        ("--hindustani", "@musical-bridges-hindustani-tools/files", "--pitch", f"@{PITCH}", "--folds", f"@{FOLDS}"),
    ),
    Yardstick("raga_excerpts", ("--audio", "@E2ERaga/data/sample_data")),
    Yardstick(
        "performed_notes",
        ("--notes", "@otmm_audio_score_alignment_dataset/data",
         "--ornaments", f"@{ORNAMENTS}"),
    ),
    Yardstick(
        "set_aside",
        ("--chosen", "@own-recordings", "--otmm", f"@{PITCH}", "--tonics", "@otmm_tonic_dataset/annotations.json",
         "--excerpts", "@E2ERaga/data/sample_data", "--ranked", "100"),
    ),
    Yardstick("peft_suite", ("@peft", "--write")),
    Yardstick("reference_implementations", ("@",), ("torch-fidelity", "generative-evaluation-prdc", "mir_eval")),
    Yardstick("mirdata_loaders", ("@",), ("mirdata",)),
)  # fmt: skip


def run_all(data: Path, run: Callable[[list[str]], int]) -> dict[str, list[str]]:
    """The modules that passed, failed and were skipped; each is announced, a skipped one with what it lacks."""
    outcomes: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for yardstick in YARDSTICKS:
        missing = [name for name in yardstick.needed() if not (data / name).is_dir()]
        if missing:
            outcomes["skipped"].append(yardstick.module)
            for name in missing:
                print(f"{yardstick.module}: SKIPPED, {data / name} is not there ({SOURCES[name]})", flush=True)
            continue
        print(f"{yardstick.module}: running", flush=True)
        failed = run(yardstick.command(data)) != 0
        outcomes["failed" if failed else "passed"].append(yardstick.module)
        print(f"{yardstick.module}: {'FAILED' if failed else 'passed'}", flush=True)
    return outcomes


def main(
    arguments: Sequence[str] | None = None,
    run: Callable[[list[str]], int] = lambda command: subprocess.run(command, cwd=ROOT, check=False).returncode,
) -> None:
    """Run what there is data for; exit status 1 if one failed, or if nothing ran."""
    parser = argparse.ArgumentParser(description="All yardsticks of the field that take public data.")
    parser.add_argument("data", help="folder with a folder per data set")
    options = parser.parse_args(arguments)
    data = Path(options.data).resolve()
    if not options.data or not data.is_dir():
        parser.error(f"DATA is {options.data!r}, which is no folder; type: make yardsticks DATA=DIR")
    outcomes = run_all(data, run)
    print(", ".join(f"{len(names)} {outcome}" for outcome, names in outcomes.items()))
    if not outcomes["passed"] and not outcomes["failed"]:
        print(f"nothing ran: {data} holds none of {', '.join(SOURCES)}")
    raise SystemExit(int(bool(outcomes["failed"]) or not outcomes["passed"]))


if __name__ == "__main__":
    main()
