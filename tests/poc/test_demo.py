"""The demonstration with the shipped miniature: in two steps; in full and within a time limit in the slow set."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures import released_mustango
from fixtures.fake_pipeline import fake_traces
from fixtures.japanese_block import foreign_words
from fixtures.processor_time import seconds_of_children
from fixtures.run_folder import make_run

from talim import audio
from talim.cli import main
from talim.corpus.manifest import Corpus
from talim.listening import draft_protocol, protocol
from talim.poc import demo
from talim.reporting import messages
from talim.training.time_budget import StepTiming

SIX_MINUTES = 360.0


def test_demo_in_two_steps_writes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_traces(monkeypatch)
    monkeypatch.setattr("talim.training.time_budget.measure_step_timing", lambda *_: StepTiming(0.1, 3.0, 2.0))
    monkeypatch.setattr(demo, "RECORDINGS", 8)  # three for the test; one of five for validation
    monkeypatch.setattr(demo, "SECONDS", 2.0)
    settings = dict(demo.DEMO_OPTIONS.settings) | {
        "training.steps": 2,
        "training.warmup_steps": 1,
        "training.eval_every": 2,
        "training.eval_clips": 1,
    }
    options = replace(demo.DEMO_OPTIONS, settings=tuple(settings.items()), clip_seconds=2.0, sample_seconds=1.0)
    result = demo.demo(tmp_path, options=options)
    assert Path(result["page"]).is_file()
    assert len(result["sentences"]) == 3
    assert "miniature" in Path(result["page"]).read_text(encoding="utf-8")
    losses = result["scores"]["held_out_loss"]
    assert 0 < losses["base_loss"]["mean"] < 2 * np.log(1024)
    assert result["listen"] == f"talim listen {tmp_path} --invites 12"
    assert list(result["designs"]) == ["linear@all:2.7%", "conv@all:2.7%", "transformer@all:2.7%"]
    assert all(each["mean"] is not None for each in result["designs"].values())
    compared = demo.compare_designs_sentence(result["designs"])
    assert "conv@all:2.7% " in compared["en"]
    said = {"ja": [*result["sentences_translated"]["ja"], compared["ja"]]}
    told = messages.poc_message(result | {"sentences_translated": said}, "ja")
    words = re.sub(r"talim (poc|generate|listen|evaluate|brief) .*|talim \w+", "", told.replace(result["page"], ""))
    assert foreign_words(words, [*result["designs"], "nano-musicgen", "Apache-2.0"]) == []
    assert "which kind is best cannot be concluded" in Path(result["page"]).read_text(encoding="utf-8")
    draft = protocol.load(draft_protocol.write_draft(tmp_path)).conditions
    assert sorted((c.take, Path(c.source).name) for c in draft if c.take == "adapter") == [
        ("adapter", "conv-all-2.7"),
        ("adapter", "linear-all-2.7"),
        ("adapter", "transformer-all-2.7"),
    ]


def test_demo_prints_a_listen_command_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed command works on the folder that the demo leaves, here with fake audio."""
    run = make_run(tmp_path / "run", seconds=1.0)
    fake_result = {"sentences": ["a", "b", "c"], "page": "p", "run": str(run), "designs": {"linear": {"mean": 0.5}}}
    fake_result |= {"stages": [], "sentences_translated": {}}
    monkeypatch.setattr(demo, "poc", lambda *_: fake_result)
    monkeypatch.setattr(demo, "perform_corpus", lambda *_: None)
    with pytest.raises(SystemExit) as done:
        main(["demo", "--out", str(tmp_path)])
    assert done.value.code == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("Blind listening test: talim listen ")
    arguments = shlex.split(line.partition("talim ")[2])
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--no-serve", "--json"])
    assert done.value.code == 0
    assert len(json.loads(capsys.readouterr().out)["links"]) == 12
    test = protocol.load(tmp_path / "listening")
    assert [c.take for c in test.conditions] == ["adapter", "base", "real"]


@pytest.mark.slow
def test_demo_with_mustango_trains_with_beats_and_asks_by_captions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_traces(monkeypatch)
    monkeypatch.setattr(demo, "RECORDINGS", 5)
    monkeypatch.setattr(demo, "SECONDS", 4.0)
    steps = {"steps": 2, "warmup_steps": 1, "eval_every": 2, "eval_clips": 1}
    settings = dict(demo.DEMO_OPTIONS.settings) | {f"training.{name}": value for name, value in steps.items()}
    base = released_mustango.write(tmp_path / "tiny-mustango")
    default = demo.demo_options(str(base))
    assert dict(default.generation_options) == {"sampling_steps": 25, "sampler": "dpm++"}
    assert demo.demo_options("nano-musicgen").generation_options == ()
    options = replace(
        default,
        settings=tuple(settings.items()),
        generation_options=(("sampling_steps", 2), ("sampler", "ddim")),
        clip_seconds=2.0,
        sample_seconds=1.0,
        designs=("linear@all:2.7%",),  # other kinds have tests of their own
    )
    result = demo.demo(tmp_path / "demo", options=options)
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert "squared error" in page
    assert "nats" not in page
    clips = Corpus.load(tmp_path / "demo" / "corpus").clips
    assert all(clip.beats.startswith(("1@", "2@", "3@", "4@", "5@", "6@", "7@")) for clip in clips)
    tags = audio.read_tags(Path(result["run"]) / "samples" / "01-after.flac")
    assert tags["sampling_steps"] == "2"
    assert "beats" not in tags  # as other bases are asked, so that they can be compared
    assert result["scores"]["adapter_effect"]["latent_change"] >= 0


@pytest.mark.slow
def test_demo_in_full_reduces_the_loss_within_six_minutes_of_two_cores(tmp_path: Path) -> None:
    before = seconds_of_children()
    command = [sys.executable, "-m", "talim", "demo", "--out", str(tmp_path / "demo"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    seconds = seconds_of_children() - before
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    print(f"demo: {seconds:.0f} s; {result['sentences']}")
    assert seconds < 2 * SIX_MINUTES
    assert result["scores"]["held_out_loss"]["loss_reduction"]["mean"] > 0
    assert result["scores"]["adapter_effect"]["token_change_rate"] > 0.05
    assert len(result["designs"]) == 3
    samples = sorted((Path(result["run"]) / "samples").glob("*-after.flac"))
    assert len(samples) == 3
    assert audio.read_tags(samples[0])
