"""The paper's grid in miniature: every kind, site and base of studies/paper/full.yaml, on small checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from fixtures import released_musicgen, released_mustango

from talim.atomic_io import read_jsonl
from talim.experiments.runner import run_study

FILE = Path(__file__).parents[2] / "studies/paper/full.yaml"


@pytest.mark.slow
def test_run_study_paper_grid_on_small_checkpoints_finishes_all_trials(tmp_path: Path, corpus_folder: Path) -> None:
    values = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    small = {
        "facebook/musicgen-medium": str(released_musicgen.write(tmp_path / "musicgen")),
        "declare-lab/mustango": str(released_mustango.write(tmp_path / "mustango")),
    }
    for grid in values["grids"].values():
        grid["bases"] = [small[base] for base in grid["bases"]]
        if "sizes" in grid:
            grid["sizes"] = ["2k"]
        designs = [re.sub(r"(lora@\w+):40M", r"\1:r1", design) for design in grid.get("designs", ())]
        grid["designs"] = [re.sub(r":[0-9.]+M", ":2k", design) for design in designs]
        grid["seeds"] = [0]
    values["base_overrides"] = {small[base]: {"training.crop_seconds": 0.5} for base in values["base_overrides"]}
    values["corpora"] = {"takes": {"corpus": str(corpus_folder)}}
    values["overrides"] |= {"training.steps": 2, "training.warmup_steps": 1, "training.precision": "fp32"}
    values["overrides"] |= {"training.eval_clips": 2, "training.batch_size": 2}
    del values["generation"], values["plateau"], values["tune"]  # tests/experiments/test_runner_tuning.py
    (tmp_path / "full.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    summary = run_study(tmp_path / "full.yaml", tmp_path / "out")
    assert summary["failed"] == []
    lines = read_jsonl(tmp_path / "out/results.jsonl")
    # kinds, lora, mustango, depth, whole; what is planted in two bases
    assert summary["done"] == len(lines) == 3 * 2 + 3 + 4 + 2 * 2 + 4 + 4 + 2
    assert {line["inserted"] for line in lines if line.get("control")} == {"50 % of the steps"}
    assert {Path(line["factors"]["base"]).name for line in lines} == {"musicgen", "mustango"}
    assert {line["factors"]["site"] for line in lines} >= {"conditioner", "post", "all", "shallow", "deep"}
