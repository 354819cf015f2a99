"""The released model on the meta device: a training step and generation; what is kept between sampling steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fixtures import released_mustango
from golden_mustango.structure import RELEASED_UNET
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import T5Config

import talim.adapters as adapters
from talim.adapters import injection
from talim.backbones.mustango import diffusion
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.batch import LatentBatch, beat_chord_tokens, pad_states
from talim.backbones.mustango.model import ModelDims, MustangoModel
from talim.backbones.mustango.unet import SamplingMemory
from talim.backbones.mustango.unet_config import UNetConfig
from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack

PARAMETERS = 1_416_364_360  # U-Net, beat and chord layers of the released files
WIDTH, WORDS, CLIPS = 1024, 32, 2


def released() -> MustangoModel:
    """The released dimensions with a text encoder that is not called."""
    text = T5Config(vocab_size=8, d_model=WIDTH, d_kv=4, d_ff=4, num_layers=1, num_heads=1)
    return MustangoModel(UNetConfig.of(RELEASED_UNET), text, ModelDims(*[WIDTH] * 5)).requires_grad_(False)


def batch_of(frames: tuple[int, ...], **where: Any) -> LatentBatch:
    beats, chords = beat_chord_tokens([BeatsAndChords()] * len(frames))
    longest = max(frames)
    return LatentBatch(
        torch.zeros(len(frames), 8, longest, 16, **where),
        torch.ones(len(frames), longest, dtype=torch.bool, **where),
        torch.zeros(len(frames), WORDS, WIDTH, **where),
        torch.ones(len(frames), WORDS, dtype=torch.bool, **where),
        beats,
        chords,
        frames,
    )


@pytest.mark.slow
@pytest.mark.parametrize("frames", [(256, 256), (256, 141)])
def test_training_step_of_the_released_model_runs_on_meta(frames: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = released()
        peft = adapters.attach(model, "conv@all:40M", model.sites())
    trained = adapters.trainable_parameters(peft)
    assert model.own_parameters == PARAMETERS
    assert sum(weight.numel() for weight in trained) == pytest.approx(40e6, rel=0.01)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").train()  # as if there were memory for it
        schedule, batch = diffusion.make_scheduler(), batch_of(frames)
        levels, noise = diffusion.sample_noise_levels(batch)
        errors, _ = diffusion.velocity_errors(model, schedule, batch, levels, noise)
        (errors * diffusion.min_snr_weights(schedule.alphas_cumprod, levels, "min_snr_v")).mean().backward()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        assert errors.shape == (len(frames),)
        assert sum(weight.numel() for weight in trained if weight.grad is not None) == pytest.approx(40e6, rel=0.01)
        torch.optim.AdamW(trained, lr=1e-3).step()


@pytest.mark.parametrize(
    "sampler", [pytest.param(name, marks=() if name == "dpm++" else pytest.mark.slow) for name in diffusion.SAMPLERS]
)
def test_generation_of_the_released_model_runs_on_meta(sampler: str) -> None:
    with torch.device("meta"):
        model = released()
        text = torch.zeros(2 * CLIPS, WORDS, WIDTH)
        mask = torch.ones(2 * CLIPS, WORDS, dtype=torch.bool)
        latents = torch.zeros(CLIPS, 8, 256, 16)
    beats, chords = (tokens.to("meta") for tokens in beat_chord_tokens([BeatsAndChords()] * 2 * CLIPS))
    calls: list[torch.Size] = []

    def predict(noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        calls.append(noisy.shape)
        if len(calls) == 1:  # every call is the same one; the others are not needed to know that it goes
            return model(noisy, level, text, mask, beats, chords)
        return torch.empty_like(noisy)

    sources = diffusion.make_generators(0, CLIPS)
    with torch.no_grad():
        output = diffusion.denoise(
            diffusion.with_guidance(predict, 3.0), latents, 100, diffusion.make_scheduler(sampler), sources
        )
    assert output.shape == latents.shape
    assert output.device.type == "meta"
    assert len(calls) >= 100
    assert set(calls) == {torch.Size((2 * CLIPS, 8, 256, 16))}


MUSIC = BeatsAndChords(BeatGrid.parse("120 bpm 3/4"), ChordTrack.parse("Gm@0 Eb/G@2 F7@5"))
QUICK_DESIGNS = ("transformer@conditioner:4k", "lora@mid:r4", "conv@down:5k+full@mid")
DESIGNS = (
    *("linear@all:20k", "conv@all:20k", "transformer@all:20k", "linear@conditioner:2k", "lora@all:r4"),
    *("lora@conditioner:r4", "dora@all:r4", "ia3@all", "full@all"),
)


def conditions(base: Mustango, musics: list[BeatsAndChords]) -> list[Any]:
    """Text of unequal lengths, beats and chords; half of the rows unconditional, as in guidance."""
    texts = [f"drums {'and bass ' * number}" for number in range(len(musics))]
    states = [base.null_states] * len(musics) + base.encode_text(texts)
    tokens = beat_chord_tokens([BeatsAndChords()] * len(musics) + musics)
    return [*pad_states(states), *tokens]


def steps(model: MustangoModel, given: list[Any], memory: SamplingMemory | None) -> torch.Tensor:
    """The velocities of three different calls."""
    source, made = torch.Generator().manual_seed(3), []
    for level in (900, 500, 20):
        latents = torch.randn(len(given[0]), 8, 8, 16, generator=source)
        with torch.no_grad():
            made.append(model(latents, torch.full((len(latents),), level), *given, memory))
    return torch.stack(made)


def randomised(base: Mustango, design: str) -> Mustango:
    """A copy with an adapter of random weights."""
    adapted = copy.deepcopy(base)
    peft = injection.attach(adapted.model, design, adapted.sites())
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in injection.trainable_parameters(peft):
            weight += 0.05 * torch.randn(weight.shape, generator=source)
    adapted.model.eval()
    return adapted


@pytest.mark.parametrize("musics", [[BeatsAndChords(), MUSIC], [BeatsAndChords()] * 2], ids=["mixed", "text only"])
def test_sampling_with_a_memory_gives_the_velocities_without(tiny: Mustango, musics: list[BeatsAndChords]) -> None:
    given = conditions(tiny, musics)
    torch.testing.assert_close(
        steps(tiny.model, given, SamplingMemory()), steps(tiny.model, given, None), atol=2e-5, rtol=0
    )


@pytest.mark.parametrize("design", [*QUICK_DESIGNS, *(pytest.param(d, marks=pytest.mark.slow) for d in DESIGNS)])
def test_sampling_with_a_memory_is_exact_with_every_adapter(tiny: Mustango, design: str) -> None:
    adapted = randomised(tiny, design)
    for musics in ([BeatsAndChords(), MUSIC], [BeatsAndChords()]):
        given = conditions(adapted, musics)
        whole = steps(adapted.model, given, None)
        assert (whole - steps(tiny.model, given, None)).abs().max() > 1e-3
        torch.testing.assert_close(steps(adapted.model, given, SamplingMemory()), whole, atol=5e-5, rtol=0)


def test_a_memory_makes_what_is_constant_once(tiny: Mustango) -> None:
    base, calls = copy.deepcopy(tiny), []

    def listen(name: str) -> Callable[..., None]:
        return lambda *_: calls.append(name)

    for name, module in base.model.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v", "attn2.to_q", "ffn", "conditioner", "attn1.to_k")):
            module.register_forward_hook(listen(name))
    steps(base.model, conditions(base, [MUSIC]), SamplingMemory())
    assert {name: calls.count(name) for name in calls if "attn1" not in name and "to_q" not in name} == {
        name: 1 for name in calls if "attn1" not in name and "to_q" not in name
    }
    own = {name for name in calls if "attn1" in name or "to_q" in name}
    assert {calls.count(name) for name in own} == {3}
    calls.clear()
    steps(base.model, conditions(base, [BeatsAndChords()]), SamplingMemory())
    # nothing is asked of beats and chords that are not there: one token has the answer
    assert {name.split(".attentions")[1][0] for name in calls if "attn2.to_q" in name} == {"."}


def test_a_memory_belongs_to_one_batch(tiny: Mustango) -> None:
    first, second = conditions(tiny, [MUSIC]), conditions(tiny, [BeatsAndChords()])
    memory = SamplingMemory()
    kept = steps(tiny.model, first, memory)
    assert torch.equal(steps(tiny.model, second, memory), kept)
    assert not torch.allclose(steps(tiny.model, second, SamplingMemory()), kept)


class Louder(torch.nn.Module):
    """Something around a part of a transformer."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part = part

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("part"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return 1.5 * self.part(*args, **kwargs)


@pytest.mark.parametrize("part", ["attn1", "attn2", "ff", ""])
def test_sampling_with_a_memory_calls_what_is_around_a_part(tiny: Mustango, part: str) -> None:
    base = copy.deepcopy(tiny)
    block: Any = base.model.unet.mid_block.attentions3[0]
    if part:
        setattr(block.transformer_blocks[0], part, Louder(getattr(block.transformer_blocks[0], part)))
    else:
        block.transformer_blocks[0] = Louder(block.transformer_blocks[0])
    given = conditions(base, [MUSIC])
    whole = steps(base.model, given, None)
    assert (whole - steps(tiny.model, given, None)).abs().max() > 1e-3
    torch.testing.assert_close(steps(base.model, given, SamplingMemory()), whole, atol=2e-5, rtol=0)


def test_sampling_with_a_memory_without_linear_projections() -> None:
    torch.manual_seed(0)
    unet = UNetConfig.of(released_mustango.UNET | {"use_linear_projection": False})
    text = T5Config(vocab_size=8, d_model=24, d_kv=4, d_ff=4, num_layers=1, num_heads=1)
    model = MustangoModel(unet, text, ModelDims(*[24] * 5)).eval()
    beats, chords = beat_chord_tokens([BeatsAndChords(), MUSIC])
    given = [torch.randn(2, 5, 24), torch.ones(2, 5, dtype=torch.bool), beats, chords]
    torch.testing.assert_close(steps(model, given, SamplingMemory()), steps(model, given, None), atol=2e-5, rtol=0)
