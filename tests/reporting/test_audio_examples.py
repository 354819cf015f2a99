"""Audio examples: grouping of files, and messages for missing ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures.run_folder import PROMPTS, make_run
from fixtures.simulated_study import SMALL, lines, write

from talim.experiments.results import StudyResults, read_study
from talim.reporting import audio_examples
from talim.reporting.audio_examples import MAX_EXAMPLE_GROUPS, collect_audio_examples, group_samples
from talim.reporting.run_results import RunResults, SavedSample, read_result

PLAN = replace(SMALL, designs=("linear@all:2.7%", "conv@all:2.7%", "full@all"), seeds=1)


def with_runs(folder: Path) -> StudyResults:
    found = lines(PLAN)
    for line in found:
        if line["corpus"] == "makam-solo":
            make_run(folder / line["run"], seconds=0.4)
    return read_study(write(folder, found))


def test_side_by_side_uses_the_same_prompt(tmp_path: Path) -> None:
    study = with_runs(tmp_path)
    runs = audio_examples.example_runs(study)
    assert len(runs) == 3
    [shown] = audio_examples.side_by_side(study, runs, ["conv@all:2.7%"])
    assert (shown.corpus, shown.prompt) == ("makam-solo", PROMPTS[0])
    titles = [card.title for card in shown.cards]
    assert titles == ["Real", "nano-musicgen alone", "conv@all:2.7%", "linear@all:2.7%", "full@all"]
    assert all(card.player for card in shown.cards)


def test_side_by_side_says_how_many_designs_and_corpora_are_not_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = with_runs(tmp_path)
    runs = audio_examples.example_runs(study)
    assert [row.note for row in audio_examples.side_by_side(study, runs, [])] == [""]
    monkeypatch.setattr(audio_examples, "MAX_DESIGNS", 2)
    [shown] = audio_examples.side_by_side(study, runs, [])
    assert len(shown.cards) == 2 + 2
    assert shown.note == "2 of 3 designs are played here; each run's own page has its audio."
    monkeypatch.setattr(audio_examples, "MAX_CORPORA", 1)
    twice = replace(study, tables=study.tables * 2)
    [shown] = audio_examples.side_by_side(twice, runs, [])
    assert shown.note.endswith("has its audio. 1 of 2 corpora are played here.")


def test_side_by_side_missing_file_has_a_message(tmp_path: Path) -> None:
    study = with_runs(tmp_path)
    trial = next(trial for trial in study.trials if trial.corpus == "makam-solo" and trial.design == "full@all")
    (tmp_path / trial.run / "samples" / "after-0.flac").unlink()
    [shown] = audio_examples.side_by_side(study, audio_examples.example_runs(study), [])
    assert "no such file" in shown.cards[-1].problem


def test_side_by_side_without_runs_is_empty(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, lines(PLAN)))
    assert audio_examples.example_runs(study) == {}
    assert audio_examples.side_by_side(study, {}, []) == []


def sample(role: str, prompt: str, seed: int | None = None, recording: str = "") -> SavedSample:
    return SavedSample(Path(f"{role}.flac"), role, prompt, seed, recording)


def test_group_samples_pairs_by_prompt_and_seed() -> None:
    groups = group_samples(
        [sample("before", "a", 0), sample("before", "a", 1), sample("after", "a", 1), sample("after", "a", 0)]
    )
    assert [(prompt, seed, sorted(sounds)) for prompt, seed, sounds in groups] == [
        ("a", 0, ["after", "before"]),
        ("a", 1, ["after", "before"]),
    ]


def test_group_samples_real_audio_joins_its_prompt_else_a_free_group() -> None:
    reals = [
        sample("real", "other", recording="x"),
        sample("real", "b", recording="y"),
        sample("real", "more", recording="z"),
    ]
    groups = group_samples([sample("before", "a", 0), sample("before", "b", 0), *reals])
    assert [(prompt, sounds["real"].recording) for prompt, _, sounds in groups] == [
        ("a", "x"),
        ("b", "y"),
        ("more", "z"),
    ]


def test_group_samples_shared_caption_keeps_recordings_apart() -> None:
    rows = [sample(role, "sitar", 0, name) for name in ("x", "y") for role in ("before", "after")]
    groups = group_samples([*rows, sample("real", "sitar", recording="y"), sample("real", "sitar", recording="x")])
    assert [{role: sound.recording for role, sound in sounds.items()} for _, _, sounds in groups] == [
        {"before": "x", "after": "x", "real": "x"},
        {"before": "y", "after": "y", "real": "y"},
    ]


def test_collect_audio_examples_draws_pitch(tmp_path: Path) -> None:
    def tracker(samples: np.ndarray, rate_hz: int) -> SimpleNamespace:
        assert samples.ndim == 1
        assert rate_hz == 16_000
        return SimpleNamespace(hz=np.array([220.0, 220.0, np.nan, 440.0]), hop_seconds=0.05)

    shown, more = collect_audio_examples(read_result(make_run(tmp_path / "run", seconds=0.3)), tracker)
    assert (len(shown), more) == (2, 0)
    card = shown[0].cards[1]
    assert (card.role, card.title, card.details) == ("after", "After", "with the adapter, 0 s, pitched 75\u202f%")
    assert card.drawing
    assert "mostly between 220 and" in card.drawing
    assert 'class="pitch"' in card.drawing
    assert card.player
    assert "audio/mpeg" in card.player


def test_collect_audio_examples_without_tracker_says_so(tmp_path: Path) -> None:
    shown, _ = collect_audio_examples(read_result(make_run(tmp_path / "run", seconds=0.3)), None)
    assert "its pitch was not measured" in str(shown[0].cards[0].drawing)


def test_collect_audio_examples_missing_and_damaged_files_have_messages(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0.3)
    (run / "samples" / "before-0.flac").unlink()
    (run / "samples" / "after-0.flac").write_bytes(b"not audio")
    cards = collect_audio_examples(read_result(run), None)[0][0].cards
    assert "before-0.flac: cannot be played" in cards[0].problem
    assert "after-0.flac: cannot be played" in cards[1].problem
    assert cards[2].player
    alone = collect_audio_examples(RunResults(run, samples=[sample("after", "a", 0)]), None)[0][0].cards
    assert [card.problem[:22] for card in alone] == [
        "no audio from before t",
        "after.flac: cannot be ",
        "no held-out recording ",
    ]


def test_collect_audio_examples_over_the_limit_are_counted() -> None:
    samples = [sample("before", "a", seed) for seed in range(MAX_EXAMPLE_GROUPS + 3)]
    shown, more = collect_audio_examples(RunResults(Path("run"), samples=samples), None)
    assert (len(shown), more) == (MAX_EXAMPLE_GROUPS, 3)
