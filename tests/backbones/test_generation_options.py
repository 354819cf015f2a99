"""Generation options per model family: defaults, unknown options, beats and chords, loss weighting."""

from __future__ import annotations

import pytest

from talim.backbones import generation_options
from talim.beats_chords import BeatGrid, BeatsAndChords
from talim.errors import UsageError

BEATS = BeatsAndChords(BeatGrid((0.0, 0.5), (1, 2)))


def test_resolve_options_fills_in_the_defaults() -> None:
    options = generation_options.resolve_options("nano-musicgen", {"top_k": 10}, [])
    assert options == {"guidance_scale": 3.0, "temperature": 1.0, "top_k": 10}


@pytest.mark.parametrize(
    ("base", "option", "message"),
    [
        ("nano-musicgen", "sampler", "--sampler is no option of nano-musicgen: Mustango has it; MusicGen takes"),
        ("nano-mustango", "top_k", "--top-k is no option of nano-mustango: MusicGen has it; Mustango takes"),
        ("nano-musicgen", "colour", "no base has it"),
    ],
)
def test_resolve_options_unknown_option_names_the_family_that_has_it(base: str, option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generation_options.resolve_options(base, {option: 1}, [])


def test_resolve_options_beats_for_a_text_only_model_raises_usage_error() -> None:
    generation_options.resolve_options("nano-mustango", {}, [BEATS], predict=True)
    for beats_chords, predict in (([BEATS], False), ([], True)):
        with pytest.raises(UsageError, match="nano-musicgen takes no beats or chords"):
            generation_options.resolve_options("nano-musicgen", {}, beats_chords, predict)


def test_resolve_options_unsupported_beats_raises_usage_error() -> None:
    with pytest.raises(UsageError, match="position 7 in the bar is unknown to Mustango"):
        generation_options.resolve_options("nano-mustango", {}, [BeatsAndChords(BeatGrid((0.0,), (7,)))])


def test_loss_weighting_is_the_familys_first_or_the_requested_one() -> None:
    assert generation_options.loss_weighting("mustango", "m", None) == "min_snr_v"
    assert generation_options.loss_weighting("mustango", "m", "none") == "none"
    assert generation_options.loss_weighting("musicgen", "m", None) is None
    with pytest.raises(UsageError, match="use one of min_snr_v, min_snr_eps, none"):
        generation_options.loss_weighting("mustango", "m", "snr")
    with pytest.raises(UsageError, match="only Mustango has noise levels"):
        generation_options.loss_weighting("musicgen", "m", "none")
