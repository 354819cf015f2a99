"""The whole road in one command: resumable, skipping what is done, honest when nothing improved."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim import audio
from talim.errors import TalimError, UsageError
from talim.run import Run, read_json
from talim.stages.progress import Progress
from talim.study import demo as demonstration
from talim.study import poc as road
from talim.study import results
from talim.study.poc import Stamps, Wishes, poc

SETTINGS = (
    ("training.steps", 4),
    ("training.batch_size", 2),
    ("training.warmup_steps", 1),
    ("training.learning_rate", 0.05),
    ("training.evaluate_every", 2),
    ("training.evaluate_clips", 2),
    ("training.checkpoint_every", 1),
    ("training.precision", "fp32"),
)


class Heard(Progress):
    """Collects what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def wishes(base: Path, **changes: Any) -> Wishes:
    plain = {"design": "linear@all:10%", "clip_seconds": 2.0, "sample_seconds": 1.0, "settings": SETTINGS}
    return Wishes(**{"base": str(base), **plain, **changes})


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, recordings: Path, tiny_base: Path) -> Path:
    """A road that was walked once (copied before it is changed)."""
    out = tmp_path_factory.mktemp("poc") / "out"
    poc(recordings, out, wishes(tiny_base))
    return out


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_it_ends_with_a_page_and_three_sentences(walked: Path, recordings: Path, tiny_base: Path) -> None:
    before = times(walked)
    heard = Heard()
    result = poc(recordings, walked, wishes(tiny_base), heard)
    assert Path(result["page"]) == walked / "report" / "index.html"
    assert len(result["sentences"]) == 3
    assert result["sentences"][0].startswith("On 2 recordings kept out of training the loss")
    assert "switching the adapter on changes" in result["sentences"][1]
    assert "ext: " in result["sentences"][2]
    assert times(walked) == before  # nothing was done twice
    assert any("nothing to prepare" in line for line in heard.said)
    assert any("finished" in line for line in heard.said)


@pytest.mark.parametrize("lost", ["report/index.html", "run/scores.json", "corpus/summary.json"])
def test_a_lost_file_is_made_again_from_what_is_there(
    tmp_path: Path, walked: Path, recordings: Path, tiny_base: Path, lost: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(walked, out)
    recipe = (out / "run" / "recipe.yaml").read_text()
    (out / "run" / "recipe.yaml").write_text(recipe.replace(str(walked), str(out)))
    (out / lost).unlink()
    adapter = (out / "run" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    poc(recordings, out, wishes(tiny_base))
    assert (out / lost).is_file()
    assert (out / "run" / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == adapter


def test_another_wish_keeps_the_earlier_run_and_makes_a_new_one(
    tmp_path: Path, walked: Path, recordings: Path, tiny_base: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(walked, out)
    earlier = read_json(out / "run" / "run.json")["run_id"]
    heard = Heard()
    poc(recordings, out, wishes(tiny_base, seed=1), heard)
    assert Run(out / "earlier" / earlier / "run").finished
    assert Run(out / "run").finished
    assert read_json(out / "run" / "run.json")["run_id"] != earlier
    assert any("is kept in" in line for line in heard.said)
    assert results.find_runs(out) == [out / "run"]  # the page is about the new one alone
    poc(recordings, out, wishes(tiny_base))  # the first wish again: its run comes back, nothing is trained
    assert read_json(out / "run" / "run.json")["run_id"] == earlier
    assert not (out / "earlier" / earlier / "run").exists()


def test_held_out_names_what_is_kept_out(tmp_path: Path, recordings: Path, tiny_base: Path) -> None:
    out = tmp_path / "out"
    poc(recordings, out, wishes(tiny_base, held_out=("take-4",)))
    scores = read_json(out / "run" / "scores.json")
    assert set(scores["held_out_loss"]["fall"]["per_recording"]) == {"take-4"}
    assert scores["held_out_loss"]["fall"]["interval"] is None


def test_hours_become_steps_and_a_resumed_road_keeps_them(
    tmp_path: Path, recordings: Path, tiny_base: Path
) -> None:
    out, hours = tmp_path / "out", wishes(tiny_base, hours=0.01)
    recipe = road.recipe_of(hours, out)
    corpus = road._prepare(recordings, out, hours, Stamps(out / "poc.json"), Progress())
    fitted = road._with_hours(recipe, corpus, hours, out, Progress())
    assert fitted.training.steps > 4
    assert road._with_hours(recipe, corpus, hours, out, Progress()) == fitted
    assert read_json(out / "plan.json")["step_seconds"] * fitted.training.steps < 36


@pytest.mark.parametrize("hours", [0, -1, float("nan"), 1e9])
def test_hours_must_be_hours(hours: float) -> None:
    with pytest.raises(UsageError, match="--hours"):
        Wishes(hours=hours)


def test_stamps_need_both_the_file_and_the_same_inputs(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "poc.json")
    made = tmp_path / "page"
    stamps.set("report", "k1")
    assert not stamps.holds("report", "k1", made)
    made.write_text("")
    again = Stamps(tmp_path / "poc.json")
    assert again.holds("report", "k1", made)
    assert not again.holds("report", "k2", made)


def test_the_key_follows_the_recordings(tmp_path: Path, recordings: Path) -> None:
    folder, out = tmp_path / "takes", tmp_path / "out"
    shutil.copytree(recordings, folder)
    key = road._key(folder, out, [])
    assert road._key(folder, out, []) == key
    assert road._key(folder, out, [1]) != key
    os.utime(folder / "take-0.wav", ns=(0, 0))
    assert road._key(folder, out, []) != key
    second = road._key(folder, out, [])
    (out / "corpus").mkdir(parents=True)
    (out / "corpus" / "metadata.csv").write_text(
        "file_name,text\n"
    )  # words typed into the corpus count as well
    assert road._key(folder, out, []) != second


def test_out_within_the_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "takes").mkdir()
    with pytest.raises(UsageError, match="lies within the recordings"):
        poc(tmp_path / "takes", tmp_path / "takes" / "out")
    with pytest.raises(TalimError, match="no such folder"):
        poc(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "takes" / "out").exists()


@pytest.mark.parametrize(
    ("fall", "base", "words"),
    [
        ({"mean": 0.2, "interval": [0.1, 0.3]}, "nano-musicgen", "--base facebook/musicgen-small"),
        (
            {"mean": 0.2, "interval": [0.1, 0.3]},
            "facebook/musicgen-small",
            "let people who know the tradition",
        ),
        ({"mean": 0.2, "interval": [-0.1, 0.3]}, "nano-musicgen", "tell this from chance"),
        ({"mean": 0.2, "interval": None}, "nano-musicgen", "tell this from chance"),
        ({"mean": -0.1, "interval": [-0.2, 0.1]}, "nano-musicgen", "No improvement"),
        ({"mean": 0.0, "interval": [0.0, 0.0]}, "nano-musicgen", "No improvement"),
    ],
)
def test_the_next_step_is_honest(fall: dict[str, Any], base: str, words: str) -> None:
    result = results.Result(Path("run"), recipe={"base": base}, scores={"held_out_loss": {"fall": fall}})
    assert words in road.next_step(result)


def test_stereo_models_get_stereo_clips() -> None:
    assert road._channels("facebook/musicgen-stereo-small") == 2
    assert (
        road._channels("musicgen-small")
        == road._channels("nano-musicgen")
        == road._channels("some/folder")
        == 1
    )


def fake_perform(seed: int, style: str, seconds: float) -> Any:
    rng = np.random.default_rng(seed)
    samples = (0.1 * rng.standard_normal(int(8000 * seconds))).astype(np.float32)
    return SimpleNamespace(samples=samples, rate_hz=8000, caption=f"{style} {seed}", truth=None, facts={})


def test_the_built_in_corpus_is_a_folder_like_anybodys(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    demonstration.perform_corpus(folder, fake_perform, Progress(), count=3, seconds=2.0)
    with open(folder / "metadata.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file_name"] for row in rows] == ["piece-01.flac", "piece-02.flac", "piece-03.flac"]
    assert len({row["performer"] for row in rows}) == 3
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    assert rows[0]["text"] == f"demo {demonstration.FIRST_SEED}"
    assert audio.read(folder / "piece-02.flac").seconds == 2.0


def test_a_performer_that_fails_leaves_no_half_corpus(tmp_path: Path) -> None:
    def tired(seed: int, style: str, seconds: float) -> Any:
        return fake_perform(seed, style, seconds) if seed == demonstration.FIRST_SEED else 1 / 0

    with pytest.raises(ZeroDivisionError):
        demonstration.perform_corpus(tmp_path / "recordings", tired, Progress(), count=2, seconds=1.0)
    assert list(tmp_path.iterdir()) == []


def test_the_demonstrations_own_wishes_make_a_recipe(tmp_path: Path) -> None:
    recipe = road.recipe_of(demonstration.WISHES, tmp_path)
    assert recipe.base == "nano-musicgen"
    assert recipe.training.steps <= 300
