"""An adapter without a run is scored on a corpus: what it needs, what is written, what is said of its recordings."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures import peft_folders
from fixtures.log_lines import Lines

from talim import api
from talim.adapters import serialization
from talim.atomic_io import read_json, read_jsonl
from talim.audio import tags
from talim.errors import TalimError, UsageError
from talim.evaluation.evaluate_adapter import _command, evaluate_adapter
from talim.reporting import audio_examples, messages, sentences
from talim.reporting.run_report import write_report
from talim.reporting.run_results import read_result
from talim.run import Run
from talim.training import start_adapter

QUICK: dict[str, Any] = {"num_prompts": 1, "num_continuations": 0, "seconds": 1.0, "device": "cpu"}
CARD = "---\nlicense: cc-by-nc-4.0\n---\n"


@pytest.fixture(scope="module")
def scored(tiny_base: Path, corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Lines]:
    """A LoRA of others, the folder with its scores, and what was told."""
    folder = tmp_path_factory.mktemp("scored")
    lora, log = peft_folders.write(folder / "lora", tiny_base, "rank pattern", card=CARD), Lines()
    before = {file.name: file.read_bytes() for file in lora.iterdir()}
    evaluate_adapter(lora, corpus_folder, folder / "scores", log, base=str(tiny_base), **QUICK)
    assert {file.name: file.read_bytes() for file in lora.iterdir()} == before  # nothing is written into it
    return lora, folder / "scores", log


def test_scores_say_what_was_scored_and_that_its_recordings_are_not_known(scored: tuple[Path, Path, Lines]) -> None:
    lora, out, log = scored
    scores, facts = read_json(out / "scores.json"), read_json(out / "run.json")
    assert scores["design"] == "lora@adapter"
    assert scores["seen_in_training"]["answer"] == "unknown"
    assert "whether lora was trained on these recordings is not known" in scores["warnings"][0]
    assert all(log.lines.count(f"note: {warning}") == 1 for warning in scores["warnings"])
    assert "not known" in scores["held_out_loss"]["loss_reduction"]["ci_note"]
    assert "selected on these clips" not in scores["held_out_loss"]["loss_reduction"]["ci_note"]
    assert (facts["adapter"]["name"], facts["adapter"]["licence"]) == ("lora", "cc-by-nc-4.0")
    assert facts["adapter"]["hash"] == start_adapter.stored_adapter(lora, "--adapter").hash
    assert any("lora@adapter" in line and "cc-by-nc-4.0" in line for line in log.lines)
    assert sum("whether lora was trained on these recordings" in line for line in log.lines) == 1
    assert not (out / "recipe.yaml").exists()  # nothing was trained
    roles = {row["role"] for row in read_jsonl(out / "samples" / "manifest.jsonl")}
    assert roles == {"before", "after", "real"}
    tagged = tags.read_tags(out / "samples" / "01-after.flac")
    assert (tagged["adapter_design"], tagged["adapter_licence"]) == ("lora", "cc-by-nc-4.0")


def test_what_of_copies_was_not_checked_is_said(scored: tuple[Path, Path, Lines]) -> None:
    _, out, said = scored
    copies = read_json(out / "scores.json")["copies"]
    assert copies["checked"] == 0
    (line,) = [line for line in said.lines if line.startswith("Not checked for passages copied from the training")]
    assert "a passage lasts 4 s, and the longest training clip 2 s" in line
    assert line.endswith("; what else the adapter was trained on is not known.")


def test_page_of_the_scores_claims_nothing_that_is_not_known(
    scored: tuple[Path, Path, Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    pitch = SimpleNamespace(hz=np.array([220.0, np.nan, 230.0]), hop_seconds=0.1)  # the real one takes seconds
    monkeypatch.setattr(audio_examples, "pitch_tracker", lambda: lambda samples, rate_hz: pitch)
    _, out, _ = scored
    page = write_report(out).read_text(encoding="utf-8")
    assert "The adapter lora@adapter of lora, scored without a run of its own" in page
    assert "nothing was trained here" in page
    assert "unheard music" not in page
    assert "cc-by-nc-4.0" in page
    assert "Trained on" not in page
    assert "talim evaluate --adapter" in page
    assert "talim train" not in page
    assert "next: talim report" in messages.evaluation_message(out)


def test_a_better_loss_is_not_called_one_of_unheard_music(scored: tuple[Path, Path, Lines], tmp_path: Path) -> None:
    out = Path(shutil.copytree(scored[1], tmp_path / "scores"))
    scores = read_json(out / "scores.json")
    scores["held_out_loss"]["loss_reduction"] |= {"mean": 0.5, "ci95": [0.4, 0.6]}
    del scores["held_out_loss"]["reference_predictors"]  # a random base is worse than they are
    for answer, words in (("unknown", "may have been in its training"), ("no", "predicts unheard music")):
        scores["seen_in_training"]["answer"] = answer
        (out / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
        assert words in sentences.loss_verdict(read_result(out))[1]


@pytest.mark.slow
def test_the_same_again_replaces_its_scores_and_another_is_refused(
    scored: tuple[Path, Path, Lines], tiny_base: Path, corpus_folder: Path, tmp_path: Path, finished_run: Run
) -> None:
    lora, out, _ = scored
    again = Path(shutil.copytree(out, tmp_path / "again"))
    evaluate_adapter(lora, corpus_folder, again, base=str(tiny_base), **QUICK)
    losses = [read_json(folder / "scores.json")["held_out_loss"]["adapted_loss"]["mean"] for folder in (out, again)]
    assert losses[0] == losses[1]
    other = peft_folders.write(tmp_path / "ia3", tiny_base, "ia3")
    with pytest.raises(UsageError, match="holds scores of another adapter or corpus, which is not overwritten"):
        evaluate_adapter(other, corpus_folder, again, base=str(tiny_base), **QUICK)
    for taken in (finished_run.folder, corpus_folder, lora):
        with pytest.raises(UsageError, match="holds something else, which is not overwritten"):
            evaluate_adapter(lora, corpus_folder, taken, base=str(tiny_base), **QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dreamboothing", "biases", "heads", "dora"])
def test_every_kind_is_scored_with_and_without_it(
    tiny_base: Path, corpus_folder: Path, tmp_path: Path, kind: str
) -> None:
    lora = peft_folders.write(tmp_path / "theirs", tiny_base, kind)
    scores = evaluate_adapter(lora, corpus_folder, tmp_path / "scores", base=str(tiny_base), **QUICK)
    plain = peft_folders.write(tmp_path / "ia3", tiny_base, "ia3")
    other = evaluate_adapter(plain, corpus_folder, tmp_path / "other", base=str(tiny_base), **QUICK)
    losses = [each["held_out_loss"] for each in (scores, other)]
    assert losses[0]["base_loss"]["mean"] == losses[1]["base_loss"]["mean"]  # the base is the base beside any adapter
    assert abs(losses[0]["loss_reduction"]["mean"]) > 1e-3


@pytest.mark.slow
def test_an_adapter_of_talim_is_scored_as_its_run_and_knows_its_recordings(
    finished_run: Run, tiny_base: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    scores = evaluate_adapter(finished_run.adapter, corpus_folder, out, base=str(tiny_base), **QUICK)
    of_run = read_json(finished_run.scores)
    assert scores["design"] == of_run["design"]
    for loss in ("base_loss", "adapted_loss"):
        assert scores["held_out_loss"][loss]["mean"] == pytest.approx(of_run["held_out_loss"][loss]["mean"], abs=1e-2)
    assert scores["seen_in_training"] == {"answer": "no", "note": ""}
    known = serialization.read_info(finished_run.adapter)["trained_on"]
    assert len(known["sources"]) == 3  # of six recordings two are held out, and one is for validation


def test_what_is_evaluated_is_one_thing_with_all_it_needs(
    tiny_base: Path, make_base: Any, corpus_folder: Path, finished_run: Run, tmp_path: Path
) -> None:
    for given, message in (
        ({"adapter": "lora"}, "lora is an adapter, .* add --corpus CORPUS and --out FOLDER"),
        ({"adapter": "lora", "corpus": corpus_folder}, "add --out FOLDER"),
        ({"adapter": "lora", "run": finished_run}, "takes either a run"),
        ({"run": finished_run, "corpus": corpus_folder}, "--corpus: only with --adapter"),
        ({"run": finished_run, "base": "nano-musicgen"}, "--base: only with --adapter"),
        ({"run": finished_run, "out": "scores"}, "--out scores: only with --adapter or --real"),
    ):
        with pytest.raises(UsageError, match=message):
            api.evaluate(**given)
    with pytest.raises(TalimError, match="no-such: no adapter folder is here"):
        evaluate_adapter(tmp_path / "no-such", corpus_folder, tmp_path / "out")
    smaller = make_base(tmp_path / "smaller", layers=1)
    lora, log = peft_folders.write(tmp_path / "lora", tiny_base), Lines()
    with pytest.raises(TalimError, match="does not fit this model"):
        evaluate_adapter(lora, corpus_folder, tmp_path / "out", log, base=str(smaller), device="cpu")
    assert log.lines == []
    with pytest.raises(TalimError, match="not a corpus"):
        evaluate_adapter(finished_run.adapter, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_of_an_evaluation_has_the_options_that_differ() -> None:
    asked = {
        "base": None,
        "num_prompts": 3,
        "num_continuations": None,
        "seconds": 10.0,
        "sampling_steps": None,
        "seed": 0,
    }
    assert _command("a", "my corpus", "o", asked) == ("talim evaluate --adapter a --corpus 'my corpus' --out o")
    asked |= {"base": "nano-musicgen", "num_prompts": 2, "seconds": 7.5, "sampling_steps": 20, "seed": 3}
    words = shlex.split(_command("a", "c", "o", asked))
    assert words[8:] == [
        *("--base", "nano-musicgen", "--num-prompts", "2", "--seconds", "7.5", "--sampling-steps", "20", "--seed", "3")
    ]
