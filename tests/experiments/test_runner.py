"""Studies conducted: what is missing is run, what breaks is told, kills and worker processes change no result."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.fake_trials import pretend, slowly, write_study

from talim.atomic_io import read_json, read_jsonl
from talim.errors import TalimError, UsageError
from talim.experiments import runner as conducting
from talim.experiments.local_executor import ProcessExecutor
from talim.experiments.runner import list_trials, run_study
from talim.experiments.trial import TrialJob
from talim.progress import Progress
from talim.reporting import run_results
from talim.run import Run

MANY = {"a": {"kinds": ["linear", "conv"], "sites": ["all", "post"], "shares": [1, 2, 3], "seeds": [0, 1, 2]}}


def lines_of(out: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_jsonl(out / "results.jsonl")}


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, corpus_folder: Path
) -> tuple[Path, Path, dict]:
    """A study that ran undisturbed: its file, its folder, what `conduct` said."""
    folder = tmp_path_factory.mktemp("study")
    grids = {
        "a": {"bases": [str(tiny_base)], "designs": ["linear@all:5%", "conv@layers[7]:500", "conv@post:500"]}
    }
    file = write_study(folder / "study.yaml", corpus_folder, tiny_base, grids=grids)
    return file, folder / "out", run_study(file, folder / "out")


def test_every_trial_gets_its_line(told: tuple[Path, Path, dict], corpus_folder: Path) -> None:
    _, out, said = told
    assert (said["trials"], said["done"], len(said["failed"])) == (3, 2, 1)
    lines = lines_of(out)
    done = [line for line in lines.values() if line["status"] == "done"]
    assert {line["design"] for line in done} == {"linear@all:5%", "conv@post:500"}
    for line in done:
        falls, before, after = (line["measures"][name] for name in ("fall", "before", "after"))
        assert len(falls) == 2
        assert all(falls[name] == pytest.approx(before[name] - after[name], abs=1e-5) for name in falls)
        assert line["directions"]["fall"] == "higher"
        assert line["measures"]["log_seconds"]["run"] == pytest.approx(np.log(line["cost"]["cpu_seconds"]))
        assert line["cost"]["steps"] == 3
        assert line["cost"]["adapter_bytes"] > 4 * line["parameters"]
        assert line["factors"]["genre"] == "takes"
    assert len({line["settings_hash"] for line in done}) == 1
    assert done[0]["measures"]["before"] == done[1]["measures"]["before"]


def test_a_broken_trial_is_told_and_stops_nothing(told: tuple[Path, Path, dict]) -> None:
    _, out, said = told
    (broken,) = said["failed"]
    assert broken["design"] == "conv@layers[7]:500"
    assert "layers" in broken["error"]
    assert "\n" not in broken["error"]
    assert list(lines_of(out)).index(broken["id"]) == 1  # the third one ran after it


def test_a_trials_folder_is_a_run(told: tuple[Path, Path, dict]) -> None:
    _, out, _ = told
    line = next(line for line in lines_of(out).values() if line["status"] == "done")
    run = Run(out / line["run"])
    assert run.finished
    assert run_results.read_result(run.folder).recipe["design"] == line["design"]
    assert set(run_results.find_runs(out)) >= {run.folder}


def test_what_is_done_is_not_run_again(told: tuple[Path, Path, dict]) -> None:
    file, out, said = told
    asked: list[str] = []

    def watch(orders: Any, progress: Progress) -> Any:
        asked.extend(order.planned.design for order in orders)
        return iter(())

    assert run_study(file, out, execute=watch) == said
    assert asked == []
    run_study(file, out, retry=True, execute=watch)
    assert asked == ["conv@layers[7]:500"]
    assert [status for _, status, _ in list_trials(file, out)] == ["done", "failed", "done"]


def test_the_second_trial_of_a_process_is_as_in_a_fresh_one(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    """Bit for bit, whatever was in the base before."""

    def run(name: str, designs: list[str]) -> Path:
        grids = {"a": {"bases": [str(tiny_base)], "designs": designs}}
        file = write_study(tmp_path / f"{name}.yaml", corpus_folder, tiny_base, grids=grids)
        said = run_study(file, tmp_path / name)
        assert said["failed"] == []
        return tmp_path / name

    last = "conv@all:800"
    alone = run("alone", [last])
    after = run("after", ["full@post", "lora@all:r2", "linear@conditioner:300", last])
    (wanted,) = lines_of(alone).values()
    found = lines_of(after)[wanted["id"]]
    for name in ("before", "after", "fall"):
        assert found["measures"][name] == wanted["measures"][name]
    file = "adapter/adapter_model.safetensors"
    assert (after / found["run"] / file).read_bytes() == (alone / wanted["run"] / file).read_bytes()


def test_results_may_be_all_that_is_kept(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> None:
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@post:300"]}}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, grids=grids, keep="results")
    said = run_study(file, tmp_path / "out")
    (line,) = lines_of(tmp_path / "out").values()
    run = Run(tmp_path / "out" / line["run"])
    assert said["done"] == 1
    assert not run.adapter.exists()
    assert read_json(run.cost)["steps"] == 3
    assert run_study(
        file, tmp_path / "out", execute=lambda orders, _: pytest.fail("again") if orders else iter(())
    )


def unending(orders: Sequence[TrialJob], progress: Progress) -> Iterator[dict[str, Any]]:
    """`slowly`, and then nothing more: whoever kills the process never comes too late."""
    yield from slowly(orders, progress)
    threading.Event().wait()


def go(file: Path, out: Path) -> None:
    run_study(file, out, execute=unending)


def test_kills_at_random_moments_change_no_result(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    grids = {"a": {"bases": [str(tiny_base)], **MANY["a"]}}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, grids=grids)
    run_study(file, tmp_path / "undisturbed", execute=slowly)
    rng, fork = np.random.default_rng(0), multiprocessing.get_context("fork")
    for _ in range(10):
        process = fork.Process(target=go, args=(file, tmp_path / "killed"))
        process.start()
        time.sleep(float(rng.uniform(0.01, 0.2)))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    run_study(file, tmp_path / "killed", execute=slowly)
    assert lines_of(tmp_path / "killed") == lines_of(tmp_path / "undisturbed")


def test_workers_give_the_same_lines_and_outlive_one_another(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    designs = ["linear@all:1%", "ia3@all", "lora@all:r2", "conv@all:1%", "conv@all:2%", "conv@all:3%"]
    grids = {"a": {"bases": [str(tiny_base)], "designs": designs}}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, grids=grids)
    said = run_study(file, tmp_path / "out", execute=ProcessExecutor(2, pretend))
    assert said["done"] == 4
    errors = {line["design"]: line["error"] for line in said["failed"]}
    assert errors["lora@all:r2"] == "it was told to fail"
    assert "killed by signal 9" in errors["ia3@all"]


def test_a_second_study_in_the_folder_is_refused(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path
) -> None:
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base)
    with Run(tmp_path / "out").lock(), pytest.raises(TalimError, match="another talim process"):
        run_study(file, tmp_path / "out", execute=slowly)


def test_a_corpus_that_has_changed_is_told(tmp_path: Path, tiny_base: Path, make_recordings: Any) -> None:
    make_recordings(tmp_path / "takes", 6, 3.0)
    source = {"takes": {"folder": "takes", "clip_seconds": 2.0, "rate_hz": 16000}}
    file = write_study(tmp_path / "s.yaml", tmp_path, tiny_base, corpora=source)
    assert run_study(file, tmp_path / "out", execute=slowly)["done"] == 4
    make_recordings(tmp_path / "takes", 8, 3.0)
    more = {"a": {"bases": [str(tiny_base)], "designs": ["linear@all:9%"]}}
    write_study(file, tmp_path, tiny_base, corpora=source, grids=more)
    with pytest.raises(TalimError, match="have changed since this study began"):
        run_study(file, tmp_path / "out", execute=slowly)


def test_performed_corpora_tell_moments(tmp_path: Path, tiny_base: Path) -> None:
    played = {"perform": {"tradition": "makam", "players": 1, "pieces": 4, "seconds": 6}, "rate_hz": 16000}
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@post:300"]}}
    file = write_study(tmp_path / "s.yaml", tmp_path, tiny_base, corpora={"sung": played}, grids=grids)
    said = run_study(file, tmp_path / "out")
    assert said["failed"] == []
    (line,) = lines_of(tmp_path / "out").values()
    assert {"ornament_fall", "plain_fall"} <= set(line["measures"])
    assert set(line["measures"]["plain_fall"]) <= set(line["measures"]["fall"])
    assert (line["factors"]["genre"], line["factors"]["texture"]) == ("makam", "solo")


def test_ray_runs_a_study_on_a_local_cluster(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (talim[ray])")
    monkeypatch.setenv(
        "RAY_worker_niceness", "0"
    )  # else workers wait for whatever else runs on a test machine
    from talim.experiments.ray_executor import RayExecutor

    changes = {"settings": {"training.steps": 2, "training.batch_size": 2, "training.warmup_steps": 1}}
    grids = {
        "a": {"bases": [str(tiny_base)], "designs": ["linear@post:300", "conv@post:300", "conv@layers[7]:9"]}
    }
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, grids=grids, **changes)
    needs = {"linear@post:300": 10**15}  # no node is so large

    cluster = RayExecutor(
        "local", conducting.run_trial_safely, lambda order: needs.get(order.planned.design), cpus=2
    )
    said = run_study(file, tmp_path / "out", execute=cluster)
    errors = {line["design"]: line["error"] for line in said["failed"]}
    assert said["done"] == 1, errors
    assert "no node has the memory" in errors["linear@post:300"]
    assert "layers" in errors["conv@layers[7]:9"]


def test_a_file_that_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        run_study(tmp_path / "none.yaml", tmp_path / "out")
    (tmp_path / "list.yaml").write_text("- a\n", encoding="utf-8")
    with pytest.raises(UsageError, match="expected keys and values: corpora, grids"):
        run_study(tmp_path / "list.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()
