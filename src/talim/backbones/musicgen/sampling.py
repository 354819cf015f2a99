"""Music from MusicGen through transformers' generate(): guidance, seeds, lengths beyond the window."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from talim.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from talim.backbones.protocol import Progress

OVERLAP_SHARE = 0.4  # of the window is heard again by the next one: 12 of 30 s, as in the original
MIN_FRAMES = 4  # generate() leaves the delay pattern out for shorter pieces


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample. UsageError for values that make no sense."""

    seconds: float
    seed: int
    guidance_scale: float = 3.0
    temperature: float = 1.0
    top_k: int = 250

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UsageError(f"length {self.seconds} s makes no piece; give a number of seconds above 0")
        if not (math.isfinite(self.guidance_scale) and self.guidance_scale >= 1):
            raise UsageError(f"guidance_scale {self.guidance_scale} is out of range; 1 is none, 3 is usual")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature {self.temperature} is out of range; 0 is greedy, 1 is usual")
        if self.top_k < 0:
            raise UsageError(f"top-k {self.top_k} is out of range; 0 is off, 250 is usual")


@dataclass(frozen=True)
class GenerationWindow:
    """One call of generate(): so many frames of what exists are heard again, so many are new."""

    context_frames: int
    new_frames: int


def split_into_windows(
    seconds: float, frame_rate_hz: int, window_seconds: float
) -> tuple[GenerationWindow, ...]:
    """Split a length into windows the model was trained for."""
    total = max(math.ceil(seconds * frame_rate_hz - 1e-6), 1)
    longest = max(int(window_seconds * frame_rate_hz), MIN_FRAMES)
    overlap = int(OVERLAP_SHARE * longest)
    plan = [GenerationWindow(0, min(total, longest))]
    while (made := sum(window.new_frames for window in plan)) < total:
        plan.append(GenerationWindow(overlap, min(total - made, longest - overlap)))
    return tuple(plan)


def generate_codes(
    model: Any,  # MusicgenForConditionalGeneration
    input_ids: Tensor,  # int64 [B, L]
    attention_mask: Tensor,  # int64 [B, L]
    plan: tuple[GenerationWindow, ...],
    wishes: SamplingOptions,
    shifts: tuple[int, ...],
    progress: Progress | None = None,
) -> Tensor:  # int64 [B, K, T]
    """Generate codes window by window, each with a cache of its own; the global random state is kept."""
    batch, codebooks = input_ids.shape[0], len(shifts)
    codes = torch.empty(batch, codebooks, 0, dtype=torch.int64, device=input_ids.device)
    total = sum(window.new_frames for window in plan)
    devices = [input_ids.device] if input_ids.device.type == "cuda" else []
    with torch.random.fork_rng(devices), inference_mode(model):
        torch.manual_seed(wishes.seed)
        for window in plan:
            heard = codes[..., codes.shape[-1] - window.context_frames :]
            frames = max(window.context_frames + window.new_frames, MIN_FRAMES)
            arguments = _arguments(wishes, frames + max(shifts) + 1)
            if window.context_frames:
                arguments["decoder_input_ids"] = heard.reshape(batch * codebooks, -1)
            if progress is not None:
                counter = _ForwardCounter(progress, codes.shape[-1], window.new_frames, total)
                arguments["stopping_criteria"] = StoppingCriteriaList([counter])
            with capture_codes(model, codebooks) as caught:
                model.generate(input_ids=input_ids, attention_mask=attention_mask, **arguments)
            made = caught[0][..., window.context_frames : window.context_frames + window.new_frames]
            codes = torch.cat([codes, made], dim=-1)
    return codes


def _arguments(wishes: SamplingOptions, length: int) -> dict[str, Any]:
    """Keyword arguments of generate(); `length` counts the delayed steps with the leading special one."""
    sampled = wishes.temperature > 0
    arguments: dict[str, Any] = {"max_length": length, "do_sample": sampled, "use_cache": True}
    arguments["guidance_scale"] = wishes.guidance_scale if wishes.guidance_scale > 1 else None
    if sampled:
        arguments |= {"temperature": wishes.temperature, "top_k": wishes.top_k}
    return arguments


class _ForwardCounter(StoppingCriteria):
    """Turns the steps of generate() into progress; a streamer would not do, MusicGen calls it only once."""

    def __init__(self, progress: Progress, before: int, new: int, total: int) -> None:
        self.progress, self.before, self.new, self.total = progress, before, new, total
        self.steps = 0

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self.steps += 1
        self.progress(self.before + min(self.steps, self.new), self.total)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


@contextmanager
def capture_codes(model: Any, codebooks: int) -> Iterator[list[Tensor]]:
    """Catch the codes that generate() would decode: a continuation needs them, and decodes only once."""
    caught: list[Tensor] = []
    halves: list[Tensor] = []

    def catch(audio_codes: Tensor, audio_scales: Any = None, **_: Any) -> SimpleNamespace:
        halves.append(audio_codes[0])  # [B, K, T], or one channel's half of it
        if sum(half.shape[1] for half in halves) == codebooks:
            batch, frames = halves[0].shape[0], halves[0].shape[-1]
            caught.append(torch.stack(halves, dim=2).reshape(batch, codebooks, frames))
            halves.clear()
        return SimpleNamespace(audio_values=audio_codes.new_zeros(audio_codes.shape[1], 1, 1))

    codec = model.audio_encoder
    codec.decode = catch
    try:
        yield caught
    finally:
        del codec.decode


@contextmanager
def inference_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards every module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def match_precision(model: Any) -> None:
    """Let float32 text states enter a bf16 decoder: cast where they reach its first weights."""
    if hasattr(model, "enc_to_dec_proj"):
        model.enc_to_dec_proj.register_forward_pre_hook(_cast_first)
    else:
        model.decoder.register_forward_pre_hook(_cast_states, with_kwargs=True)


def _cast_first(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (arguments[0].to(next(module.parameters()).dtype), *arguments[1:])


def _cast_states(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    states = named.get("encoder_hidden_states")
    if states is not None:
        named = named | {"encoder_hidden_states": states.to(module.lm_heads[0].weight.dtype)}
    return arguments, named
