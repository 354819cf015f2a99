"""Mustango as a Backbone: latents, unconditional input, loss, generation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from talim.audio import Audio
from talim.backbones.mustango import backbone, diffusion
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.batch import LatentBatch
from talim.backbones.mustango.diffusion import VALIDATION_TIMESTEPS
from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack
from talim.errors import TalimError, UsageError

PROMPTS = ["sitar, slow", "drums"]
MUSIC = BeatsAndChords(BeatGrid.parse("120 bpm 3/4"), ChordTrack.parse("Gm@0 Eb/G@2 F7@5"))


def noise(seconds: float, seed: int = 0, rate_hz: int = 16000, channels: int = 1) -> Audio:
    samples = np.random.default_rng(seed).normal(size=(channels, round(seconds * rate_hz)))
    return Audio(samples.astype(np.float32) * 0.1, rate_hz)


def batch_of(
    model: Mustango,
    frames: tuple[int, ...] = (12, 7),
    drop: list[bool] | None = None,
    music: BeatsAndChords | None = None,
    seed: int = 3,
) -> LatentBatch:
    rng = np.random.default_rng(seed)
    states = model.encode_text([PROMPTS[index % 2] for index in range(len(frames))])
    items: list[Any] = [
        (rng.normal(size=(8, count, 16)).astype(np.float32), text, *([music] if music else []))
        for count, text in zip(frames, states, strict=True)
    ]
    return model.collate(items, drop or [False] * len(frames))


def test_backbone_has_the_facts_of_its_model(tiny: Mustango) -> None:
    assert (tiny.family, tiny.licence, tiny.name) == ("mustango", "apache-2.0", "tiny-mustango")
    assert (tiny.rate_hz, tiny.frame_rate_hz, tiny.channels, tiny.window_seconds) == (16000, 25, 1, 10.24)
    adapted = sum(weight.numel() for part in tiny.model.trainable_modules for weight in part.parameters())
    assert tiny.num_parameters == adapted
    assert not any(weight.requires_grad for weight in tiny.model.parameters())
    assert len({tiny.fingerprint, tiny.codec_hash, tiny.text_encoder_hash}) == 3


def test_encode_and_decode_lengths(tiny: Mustango) -> None:
    latents = tiny.encode(noise(1.01))
    assert latents.dtype == np.float32
    assert latents.shape == (8, 26, 16)
    assert tiny.decode(latents).samples.shape == (1, 26 * 640)
    assert tiny.encode(noise(0.001)).shape == (8, 1, 16)
    assert tiny.encode(noise(1.0, rate_hz=44100, channels=2)).shape == (8, 25, 16)


def test_encode_is_the_posterior_mean_at_any_level(tiny: Mustango) -> None:
    sound = noise(0.5)
    louder = Audio(sound.samples * 3, 16000)
    assert np.allclose(tiny.encode(sound), tiny.encode(louder), atol=1e-3)
    assert np.array_equal(tiny.encode(sound), tiny.encode(sound))


def test_encode_computes_float32_in_whole(tiny: Mustango, monkeypatch: pytest.MonkeyPatch) -> None:
    """In TF32, a GPU's default, other latents would lie in the cache under the same key."""
    codec, convolution = type(tiny.mel_vae), torch.backends.cudnn.conv
    posterior, during = codec.posterior, []

    def watch(*arguments: Any) -> Any:
        during.append(convolution.fp32_precision)
        return posterior(*arguments)

    monkeypatch.setattr(codec, "posterior", watch)
    before, convolution.fp32_precision = convolution.fp32_precision, "tf32"
    try:
        tiny.encode(noise(0.1))
    finally:
        convolution.fp32_precision = before
    assert during == ["ieee"]


def test_decode_latents_of_wrong_shape_raises_talim_error(tiny: Mustango) -> None:
    with pytest.raises(TalimError, match=r"has \[8, frames, 16\]"):
        tiny.decode(np.zeros((8, 5, 4), np.float32))


def test_encode_text_does_not_depend_on_the_batch(tiny: Mustango) -> None:
    both, alone = tiny.encode_text(PROMPTS), tiny.encode_text(PROMPTS[1:])
    assert np.array_equal(both[1], alone[0])
    assert both[0].shape == (len(tiny.tokenizer(PROMPTS[0])["input_ids"]), 24)


def test_guidance_is_skipped_where_nothing_is_asked_for(tiny: Mustango, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    real = diffusion.with_guidance
    monkeypatch.setattr(diffusion, "with_guidance", lambda model, scale: given.append(scale) or real(model, scale))
    few: dict[str, Any] = {"seed": 1, "sampling_steps": 2, "sampler": "ddim"}
    guided, plain = (tiny.generate_tokens([" "], 0.3, guidance_scale=scale, **few) for scale in (3.0, 1.0))
    assert np.array_equal(guided, plain)
    beats = [BeatsAndChords.parse("120 bpm", "", 0.3)]
    tiny.generate_tokens([""], 0.3, beats_chords=beats, guidance_scale=3.0, **few)
    tiny.generate_tokens(["waltz"], 0.3, guidance_scale=3.0, **few)
    assert given == [1.0, 1.0, 3.0, 3.0]


def test_collate_dropped_condition_equals_guidances_unconditional_input(
    tiny: Mustango, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    right = type(tiny.model).forward

    def forward(self: nn.Module, *inputs: Any) -> torch.Tensor:
        calls.append(inputs)
        return right(self, *inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(type(tiny.model), "forward", forward)
    tiny.generate_tokens(PROMPTS[:1], 0.3, seed=0, sampling_steps=1, guidance_scale=2.0, beats_chords=[MUSIC])
    dropped = batch_of(tiny, frames=(8,), drop=[True], music=MUSIC)
    free = calls[0]
    valid = free[3][0]
    assert torch.equal(free[2][:1, valid], dropped.states[:1])
    assert dropped.states_mask.all()
    for actual, expected in zip((*dropped.beats, *dropped.chords), (*free[4], *free[5]), strict=True):
        assert torch.equal(actual[0], expected[0])
    conditioned = batch_of(tiny, frames=(8,), music=MUSIC)
    assert conditioned.beats.mask.any()
    assert conditioned.chords.mask.sum() == 3


def test_validation_loss_of_a_clip_does_not_depend_on_the_batch(tiny: Mustango) -> None:
    together = tiny.loss(batch_of(tiny))
    assert together.part_names == tuple(f"noise level {level}" for level in VALIDATION_TIMESTEPS)
    assert together.mean == together.parts.mean()
    torch.manual_seed(99)
    assert torch.equal(tiny.loss(batch_of(tiny)).per_item, together.per_item)
    alone = tiny.loss(batch_of(tiny, frames=(12,)))
    assert torch.allclose(alone.per_item[0], together.per_item[0], rtol=1e-4)


def test_training_loss_depends_on_the_seed(tiny: Mustango) -> None:
    batch = batch_of(tiny)
    tiny.enable_training()
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(tiny.loss(batch).mean)
    assert losses[0] == losses[1] != losses[2]
    assert not tiny.model.text_encoder.training
    assert tiny.loss(batch).per_item.shape == (2, 1)


def test_training_loss_equals_the_formula(tiny: Mustango) -> None:
    """Computed independently from the alphas."""
    batch = batch_of(tiny, frames=(8,), music=MUSIC)
    levels, added = torch.tensor([321]), torch.randn(1, 8, 8, 16)
    alpha = diffusion.make_scheduler().alphas_cumprod[321]
    signal, grain = alpha.sqrt(), (1 - alpha).sqrt()
    noisy = signal * batch.targets + grain * added
    with torch.no_grad():
        predicted = tiny.model(noisy, levels, batch.states, batch.states_mask, batch.beats, batch.chords)
        error = (predicted - (signal * added - grain * batch.targets)).square().mean()
        snr = alpha / (1 - alpha)
        for weighting, weight in (
            ("min_snr_v", min(snr, 5) / (snr + 1)),
            ("min_snr_eps", min(snr, 5) / snr),
            ("none", 1),
        ):
            tiny.loss_weighting = weighting
            actual = tiny._weighted_errors(batch, levels, added)[0][0]
            assert torch.isclose(actual, error * weight, rtol=1e-4)


def test_backward_reaches_adapters_only(tiny: Mustango) -> None:
    tiny.enable_training(gradient_checkpointing=True)
    trained = nn.Parameter(torch.zeros(24))
    hook = tiny.model.conditioner.register_forward_hook(lambda _m, _i, output: output + trained)
    torch.manual_seed(0)
    tiny.loss(batch_of(tiny, music=MUSIC)).mean.backward()
    hook.remove()
    assert trained.grad is not None
    assert trained.grad.abs().max() > 0


def test_generate_with_a_seed_does_not_depend_on_the_batch(tiny: Mustango) -> None:
    latents = tiny.generate_tokens(PROMPTS, 0.3, seed=5, sampling_steps=4)
    assert latents.shape == (2, 8, 8, 16)
    assert np.array_equal(latents, tiny.generate_tokens(PROMPTS, 0.3, seed=5, sampling_steps=4))
    assert np.allclose(latents[:1], tiny.generate_tokens(PROMPTS[:1], 0.3, seed=5, sampling_steps=4), atol=1e-4)
    assert abs(latents - tiny.generate_tokens(PROMPTS, 0.3, seed=6, sampling_steps=4)).max() > 0.1


@pytest.mark.parametrize("sampler", ["ddpm", *(pytest.param(s, marks=pytest.mark.slow) for s in ("ddim", "dpm++"))])
def test_generate_a_row_of_a_batch_equals_the_piece_alone(
    tiny: Mustango, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    prompts = ["sitar, slow", "drums", "", "drums, a much longer description of them", ""]
    musics = [MUSIC, BeatsAndChords(), MUSIC, BeatsAndChords(), BeatsAndChords()]
    options: dict[str, Any] = {"sampling_steps": 6, "sampler": sampler}
    together = tiny.generate_tokens(prompts, 0.3, seed=5, beats_chords=musics, **options)
    for row in range(5):
        alone = tiny.generate_tokens(prompts[row : row + 1], 0.3, 5 + row, beats_chords=[musics[row]], **options)
        assert np.allclose(together[row], alone[0], atol=1e-4)
    given = tiny.generate_tokens(prompts[::-1], 0.3, seed=[9, 8, 7, 6, 5], beats_chords=musics[::-1], **options)
    assert np.allclose(given[::-1], together, atol=1e-4)
    monkeypatch.setattr(backbone, "BATCH_POSITIONS", 3 * 2 * 8 * 16)  # three pieces at once
    calls: list[tuple[int, int]] = []
    parts = tiny.generate_tokens(
        prompts, 0.3, seed=5, beats_chords=musics, progress=lambda *done: calls.append(done), **options
    )
    assert np.allclose(parts, together, atol=1e-4)
    assert calls == [(number // 2, 6) for number in range(1, 13)]
    lengths = [0.3, 0.6, 0.3, 0.3, 0.6]
    each = list(tiny.generate_each(prompts, lengths, seed=5, beats_chords=musics, **options))
    assert [row for row, _ in each] == [0, 2, 3, 1, 4]
    for row, latents in each:
        alone = tiny.generate_tokens(
            prompts[row : row + 1], lengths[row], 5 + row, beats_chords=[musics[row]], **options
        )
        assert np.allclose(latents, alone[0], atol=1e-4)


def test_generate_variations_in_batches_are_those_of_each_start(
    tiny: Mustango, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = np.random.default_rng(0).normal(size=(3, 8, 8, 16)).astype(np.float32)
    options: dict[str, Any] = {"sampling_steps": 6, "strength": 0.5}
    monkeypatch.setattr(backbone, "BATCH_POSITIONS", 2 * 2 * 8 * 16)
    together = tiny.generate_tokens(["a"] * 3, 0.3, seed=2, start=start, **options)
    for row in range(3):
        alone = tiny.generate_tokens(["a"], 0.3, seed=2 + row, start=start[row : row + 1], **options)
        assert np.allclose(together[row], alone[0], atol=1e-4)


def test_generate_with_too_few_seeds_raises_usage_error(tiny: Mustango) -> None:
    with pytest.raises(UsageError, match="1 seed for 2 clips"):
        tiny.generate_tokens(PROMPTS, 0.3, seed=[1])


def test_generate_depends_on_text_beats_chords_and_guidance(tiny: Mustango) -> None:
    def run(
        prompt: str = PROMPTS[0], guidance_scale: float = 3.0, beats_chords: BeatsAndChords | None = None
    ) -> np.ndarray:
        given = [beats_chords] if beats_chords else None
        return tiny.generate_tokens(
            [prompt], 0.3, seed=0, sampling_steps=3, guidance_scale=guidance_scale, beats_chords=given
        )

    plain = run()
    beats, chords = BeatsAndChords(beats=MUSIC.beats), BeatsAndChords(chords=MUSIC.chords)
    for changed in (run(PROMPTS[1]), run(guidance_scale=1.0), run(beats_chords=beats), run(beats_chords=chords)):
        assert abs(plain - changed).max() > 1e-4


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_generate_with_other_samplers(tiny: Mustango, sampler: str) -> None:
    seen: list[tuple[int, int]] = []
    pieces = tiny.generate(
        PROMPTS, 0.5, seed=0, sampling_steps=3, sampler=sampler, progress=lambda *done: seen.append(done)
    )
    assert [piece.samples.shape for piece in pieces] == [(1, 8000)] * 2
    assert all(np.isfinite(piece.samples).all() and piece.peak <= 1.0 for piece in pieces)
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("seconds", [0.04, 0.33, 1.0, 11.5])
def test_generate_gives_any_length(tiny: Mustango, seconds: float) -> None:
    (piece,) = tiny.generate(PROMPTS[:1], seconds, seed=0, sampling_steps=1, guidance_scale=1.0)
    assert piece.seconds == pytest.approx(seconds)


def vary(model: Mustango, phrase: Audio, strength: float | None, **options: Any) -> Audio:
    given = {"sampling_steps": 10, **options}
    return model.generate_from(phrase, PROMPTS[0], phrase.seconds, seed=3, strength=strength, **given).read()


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
def test_generate_from_a_phrase_reaches_from_its_resynthesis_to_new_music(tiny: Mustango, sampler: str) -> None:
    phrase = noise(0.64)
    varied = {strength: vary(tiny, phrase, strength, sampler=sampler) for strength in (0.0, 0.1, 0.5, 1.0)}
    resynthesis = tiny.decode(tiny.encode(phrase))
    plain = tiny.generate(PROMPTS[:1], phrase.seconds, seed=3, sampling_steps=10, sampler=sampler)[0]
    assert np.array_equal(varied[0.0].samples, resynthesis.cut(0, phrase.seconds).samples)
    assert np.array_equal(varied[1.0].samples, plain.samples)
    for strength in (0.1, 0.5):
        assert not np.array_equal(varied[strength].samples, resynthesis.samples)
        assert not np.array_equal(varied[strength].samples, plain.samples)


@pytest.mark.parametrize(("seconds", "rate_hz", "channels"), [(0.3, 16000, 1), (0.507, 44100, 2), (1.0, 8000, 2)])
def test_generate_from_a_phrase_of_any_form_has_its_length(
    tiny: Mustango, seconds: float, rate_hz: int, channels: int
) -> None:
    varied = vary(tiny, noise(seconds, 1, rate_hz, channels), 0.5)
    assert varied.samples.shape == (1, round(seconds * tiny.rate_hz))
    assert np.isfinite(varied.samples).all()
    assert varied.peak > 0


def test_generate_from_a_phrase_without_strength_takes_half(tiny: Mustango) -> None:
    assert np.array_equal(vary(tiny, noise(0.3), None).samples, vary(tiny, noise(0.3), 0.5).samples)


def test_variations_of_phrases_of_unequal_length_are_those_of_each_alone(tiny: Mustango) -> None:
    sounds = [noise(0.64, 1), noise(0.3, 2), noise(0.64, 3, 8000, 2)]
    given: dict[str, Any] = {"strength": 0.5, "sampling_steps": 4}
    lengths = [sound.seconds for sound in sounds]
    rows = dict(tiny.generate_from_each(sounds, ["a", "b", ""], lengths, [5, 9, 2], **given))
    assert sorted(rows) == [0, 1, 2]
    for row, (sound, prompt, seed) in enumerate(zip(sounds, ["a", "b", ""], [5, 9, 2], strict=True)):
        alone = tiny.generate_from(sound, prompt, lengths[row], seed, **given).read()
        np.testing.assert_allclose(rows[row].read().samples, alone.samples, atol=1e-3)
        assert alone.frames == round(lengths[row] * tiny.rate_hz)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_generate_from_a_phrase_with_a_strength_out_of_range_raises_usage_error(
    tiny: Mustango, strength: float
) -> None:
    with pytest.raises(UsageError, match="--strength is"):
        vary(tiny, noise(0.3), strength)


def test_generate_during_training_keeps_training_mode(tiny: Mustango) -> None:
    tiny.enable_training()
    tiny.generate_tokens(PROMPTS[:1], 0.3, seed=0, sampling_steps=1)
    assert tiny.model.unet.training
    assert not tiny.model.text_encoder.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0.0}, "up to 60 s"),
        ({"seconds": 61.0}, "up to 60 s"),
        ({"seconds": float("nan")}, "up to 60 s"),
        ({"guidance_scale": 0.5}, "1 is off, 3 is the default"),
        ({"temperature": 0.5}, "--temperature is no option of tiny-mustango: MusicGen has it; .*--sampling-steps"),
        ({"top_k": 10}, "--top-k is no option of tiny-mustango: MusicGen has it"),
        ({"colour": 1}, "no base has it"),
        (
            {"beats_chords": [BeatsAndChords(BeatGrid((0.0,), (6,)))]},
            "position 6 in the bar is unknown to Mustango; it takes 1 to 5",
        ),
        ({"beats_chords": [BeatsAndChords(chords=ChordTrack((0.0,), ("Csus4",)))]}, "'sus4', unknown"),
        ({"sampling_steps": 0}, "default 100"),
        ({"sampler": "heun"}, "ddpm, ddim"),
        ({"beats_chords": []}, "1 prompts with 0 sets of beats and chords"),
    ],
)
def test_generate_invalid_options_raises_usage_error(tiny: Mustango, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny.generate_tokens(PROMPTS[:1], **({"seconds": 0.3, "seed": 0} | options))


def test_predict_beats_chords_without_networks_raises_talim_error(tiny: Mustango) -> None:
    bare = Mustango(tiny.model, tiny.mel_vae, tiny.tokenizer, name="bare", licence="unknown")
    with pytest.raises(TalimError, match="give beats and chords"):
        bare.predict_beats_chords(["hello"])
    vars(tiny.model)["name_or_path"] = tiny.name
