"""Held-out phrases continued: which clips, the same seed for both, what is written and what is not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.log_lines import Lines

from talim import audio
from talim.adapters import serialization
from talim.atomic_io import read_json, read_jsonl
from talim.backbones.load import load
from talim.corpus.manifest import Corpus
from talim.evaluation import continuation
from talim.evaluation.continuation import Cut, choose_clips, control_clips, evaluate_continuations, shortfall
from talim.evaluation.continuation_scores import Continued
from talim.generation.generate import GenerationOptions
from talim.progress import Progress
from talim.run import Run


@pytest.fixture(scope="module")
def corpus(corpus_folder: Path) -> Corpus:
    return Corpus.load(corpus_folder)


def test_evaluate_writes_what_goes_on_from_held_out_phrases(finished_run: Run, corpus: Corpus) -> None:
    told = read_json(finished_run.scores)["continuations"]
    assert (told["clips"], told["recordings"]) == (2, 2)
    assert told["phrase_seconds"] == pytest.approx(0.8)
    assert told["seconds"] == pytest.approx(1.0)
    rows = {row["name"]: row for row in told["scores"]}
    assert rows["continuation_nearness_timbre"]["control"] == 0.5
    assert 0 <= rows["continuation_nearness_timbre"]["value"] <= 1
    assert rows["continuation_mode_probability"]["value"] is None  # the captions name no mode
    assert "no mode that talim knows" in rows["continuation_mode_probability"]["sentence"]
    held_out, trained = ({clip.recording for clip in side} for side in (corpus.held_out, corpus.train))
    manifest = read_jsonl(finished_run.continuations / "manifest.jsonl")
    assert [row["role"] for row in manifest] == ["phrase", "real", "before", "after"] * 2
    assert {row["recording"] for row in manifest} <= held_out
    assert not {row["recording"] for row in manifest} & trained


def test_continuations_begin_with_the_phrase_and_carry_provenance(finished_run: Run) -> None:
    folder = finished_run.continuations
    phrase, real, before, after = (
        audio.read(folder / f"01-{role}.flac") for role in ("phrase", "real", "before", "after")
    )
    exact = phrase.frames - 640
    for sound in (real, before, after):
        assert sound.frames == phrase.frames + 16_000
        np.testing.assert_allclose(sound.samples[:, :exact], phrase.samples[:, :exact], atol=2**-14)
    assert not np.array_equal(before.samples, after.samples)
    tags = audio.read_tags(folder / "01-after.flac")
    assert (tags["ai_generated"], tags["adapter"]) == ("AI-generated", "run/adapter")
    assert (tags["phrase_rights"], tags["ai_generated_from_seconds"]) == ("CC0-1.0", "0.800")
    assert audio.read_tags(folder / "01-before.flac")["adapter"] == "none"
    assert "ai_generated" not in audio.read_tags(folder / "01-real.flac")


def tokens_of(phrase: audio.Audio, backbone: Any) -> np.ndarray:
    """Tokens that differ from phrase to phrase, as a random codec's hardly do; as many as the codec's own."""
    frames = round(phrase.seconds * backbone.frame_rate_hz)
    draw = np.random.default_rng(int(1000 * np.abs(phrase.samples).sum()))
    return draw.integers(0, 32, (backbone.codebooks, frames)).astype(np.int16)


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, finished_run: Run, corpus: Corpus, tiny_base: Path
) -> tuple[Run, dict[str, Any], Any]:
    """Continuations with the adapter switched off, what was told of them, and the base as it was then."""
    backbone = load(tiny_base, precision="fp32", device="cpu")
    peft = serialization.load(backbone, finished_run.adapter)
    from talim.adapters import injection

    run = Run(tmp_path_factory.mktemp("alone") / "run")
    run.folder.mkdir()
    run.adapter = finished_run.adapter
    generate, starts = backbone.generate_each, []

    def watch(*arguments: Any, **named: Any) -> Any:
        starts.append(named["start"])
        return generate(*arguments, **named)

    vars(backbone)["generate_each"] = watch
    vars(backbone)["encode"] = lambda phrase: tokens_of(phrase, generate.__self__)
    with injection.disabled(peft):
        told = run_continuations(run, corpus, backbone, peft)
    return run, told | {"starts": starts}, load(tiny_base, precision="fp32", device="cpu")


def test_continuation_without_effect_of_the_adapter_is_that_of_the_base(alone: tuple[Run, dict[str, Any], Any]) -> None:
    """The same seed and phrase: only the adapter may differ."""
    run, told, _ = alone
    assert all(row["gain"] == 0 for row in told["scores"] if row["value"] is not None and row["gain"] is not None)
    after, before = (audio.read(run.continuations / f"01-{role}.flac") for role in ("after", "before"))
    assert np.array_equal(after.samples, before.samples)


def test_continuation_goes_on_from_the_phrase_of_its_own_clip(
    alone: tuple[Run, dict[str, Any], Any], corpus: Corpus
) -> None:
    run, told, backbone = alone
    clips, cut = choose_clips(corpus, 2, 0.6, backbone.frame_rate_hz)
    assert cut is not None
    for number, clip in enumerate(clips):
        sound = corpus.read_clip(clip).resample(backbone.rate_hz).to_channels(backbone.channels)
        start = tokens_of(sound.cut(0.0, cut.phrase_seconds), backbone)
        assert [np.array_equal(starts[number], start) for starts in told["starts"]] == [True, True]
        new = backbone.generate_tokens([clip.caption], cut.new_seconds, 1 + number, start=start[None])[0]
        expected = backbone.decode(np.concatenate([start, new], axis=1)).cut(cut.phrase_seconds, cut.new_seconds)
        written = audio.read(run.continuations / f"{number + 1:02d}-before.flac")
        heard = written.cut(cut.phrase_seconds, cut.new_seconds)
        np.testing.assert_allclose(heard.samples, expected.samples, atol=2**-14)
    assert told["seed"] == 1
    assert not np.array_equal(*told["starts"][0])


def test_clips_without_words_are_continued_and_scored(
    tmp_path: Path, finished_run: Run, corpus: Corpus, tiny_base: Path
) -> None:
    clips = tuple(clip.model_copy(update={"caption": ""}) for clip in corpus.clips)
    backbone = load(tiny_base, precision="fp32", device="cpu")
    peft = serialization.load(backbone, finished_run.adapter)
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.adapter = finished_run.adapter
    told = run_continuations(run, Corpus(corpus.folder, clips, corpus.summary), backbone, peft, num_clips=1)
    assert told["clips"] == 1
    assert {row["prompt"] for row in read_jsonl(run.continuations / "manifest.jsonl")} == {""}
    assert any(row["value"] is not None for row in told["scores"])
    written = [audio.read(run.continuations / f"01-{role}.flac") for role in ("before", "after")]
    assert not np.array_equal(written[0].samples, written[1].samples)


def run_continuations(run: Run, corpus: Corpus, backbone: Any, peft: Any, **changes: Any) -> dict[str, Any]:
    given = {"num_clips": 2, "seconds": 0.6, "seed": 1, "options": GenerationOptions(), **changes}
    return evaluate_continuations(run, corpus, backbone, peft, Progress(), **given)


def test_evaluate_continuations_says_why_there_are_none(tmp_path: Path, corpus: Corpus) -> None:
    class Base:
        name, target_kind, frame_rate_hz = "some-mustango", "latents", 25.0

    run = Run(tmp_path)
    assert "varies a phrase" in run_continuations(run, corpus, Base(), None)["reason"]
    assert run_continuations(run, corpus, Base(), None, num_clips=0)["reason"] == "it was not asked for"
    Base.target_kind = "tokens"
    short = corpus_of(corpus, [0.9, 0.8])
    assert "long enough" in run_continuations(run, short, Base(), None)["reason"]
    assert list(tmp_path.iterdir()) == []


def test_continuations_of_an_earlier_evaluation_are_removed_and_that_is_told(tmp_path: Path, corpus: Corpus) -> None:
    run, log = Run(tmp_path), Lines()
    run.continuations.mkdir()
    (run.continuations / "01-after.flac").touch()
    class_of_base = type("Base", (), {"name": "some", "target_kind": "tokens", "frame_rate_hz": 25.0})
    settings = {"seconds": 1.0, "seed": 0, "options": GenerationOptions()}
    evaluate_continuations(run, corpus, class_of_base(), None, log, num_clips=0, **settings)
    assert not run.continuations.exists()
    assert log.lines == [f"note: {run.continuations} is removed: it held continuations of an earlier evaluation"]
    evaluate_continuations(run, corpus, class_of_base(), None, log, num_clips=0, **settings)
    assert len(log.lines) == 1


def test_fewer_continuations_than_asked_for_are_told() -> None:
    assert shortfall({"clips": 3}, 3) == shortfall({"reason": "it was not asked for"}, 0) == ""
    assert "not continued: x varies" in shortfall({"reason": "x varies a phrase"}, 3)
    assert shortfall({"clips": 1}, 3).startswith("1 held-out clip continued instead of 3")


def test_generated_held_out_sound_is_not_said_to_be_a_recording(tmp_path: Path, corpus: Corpus) -> None:
    clip = corpus.held_out[0].model_copy(update={"ai_generated": "talim 1.0"})
    sound = audio.Audio(np.full((1, 1600), 0.1, np.float32), 1600)
    parts: dict[str, audio.Audio] = dict.fromkeys(("after", "before", "real"), sound)
    each = Continued(clip, sound.cut(0.0, 0.5), {role: sound.cut(0.5, 0.5) for role in parts})
    run = Run(tmp_path)
    continuation._write(run, [each], [parts], Cut(0.5, 0.5), 0, {"after": {}, "before": {}})
    after = audio.read_tags(run.continuations / "01-after.flac")
    assert after["phrase_ai_generated"] == "AI-generated"
    assert "ai_generated_from_seconds" not in after
    for role in ("phrase", "real"):
        assert audio.read_tags(run.continuations / f"01-{role}.flac")["ai_generated"] == "talim 1.0"


def corpus_of(corpus: Corpus, lengths: list[float]) -> Corpus:
    """Held-out clips of other lengths, each of its own recording."""
    first = corpus.held_out[0]
    clips = [
        first.model_copy(update={"id": f"c{n}", "seconds": seconds, "recording": f"r{n}"})
        for n, seconds in enumerate(lengths)
    ]
    return Corpus(corpus.folder, (*corpus.train, *clips), corpus.summary)


@pytest.mark.parametrize(
    ("lengths", "seconds", "chosen", "cut"),
    [
        ([10.0, 10.0], 10.0, 2, Cut(4.0, 6.0)),
        ([10.0, 9.5, 3.0], 5.0, 2, Cut(3.76, 5.0)),  # the short one is left out
        ([10.0, 10.0, 10.0], 2.0, 2, Cut(4.0, 2.0)),  # no more than asked for
        ([2.03], 10.0, 1, Cut(0.8, 1.2)),  # whole frames
        ([], 10.0, 0, None),
        ([1.0], 10.0, 0, None),
    ],
)
def test_choose_clips_takes_full_clips_and_cuts_them_alike(
    corpus: Corpus, lengths: list[float], seconds: float, chosen: int, cut: Cut | None
) -> None:
    clips, found = choose_clips(corpus_of(corpus, lengths), 2, seconds, 25.0)
    assert len(clips) == chosen
    assert (
        found == cut if cut is None else found == Cut(pytest.approx(cut.phrase_seconds), pytest.approx(cut.new_seconds))
    )
    assert all(clip.split == "held_out" for clip in clips)


def test_control_clips_hold_the_continued_ones_and_no_training_clip(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, cut = choose_clips(corpus, 1, 1.0, 25.0)
    assert cut is not None
    controls = control_clips(corpus, clips, cut)
    assert controls[0][0] == clips[0].sound_group
    assert {group for group, _ in controls} == {clip.sound_group for clip in corpus.held_out}
    assert all(sound.seconds == pytest.approx(cut.new_seconds) for _, sound in controls)
    monkeypatch.setattr(continuation, "MAX_CONTROLS", 2)
    assert len(control_clips(corpus, clips, cut)) == 2
