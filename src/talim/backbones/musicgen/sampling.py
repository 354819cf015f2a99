"""Sampling from MusicGen with transformers' generate(): guidance, seeds, clips longer than the context window."""

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
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from talim.backbones.protocol import Progress

OVERLAP_FRACTION = 0.4  # of a window is context of the next one: 12 of 30 s, as in audiocraft
MIN_FRAMES = 4  # generate() omits the delay pattern for shorter clips


@dataclass(frozen=True)
class SamplingOptions:
    """Sampling options; UsageError for invalid values."""

    seconds: float
    seed: int
    guidance_scale: float = 3.0
    temperature: float = 1.0
    top_k: int = 250

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UsageError(f"length {self.seconds} s is out of range; give a number of seconds above 0")
        if not (math.isfinite(self.guidance_scale) and self.guidance_scale >= 1):
            raise UsageError(
                f"guidance_scale {self.guidance_scale} is out of range; 1 disables guidance, 3 is the default"
            )
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature {self.temperature} is out of range; 0 is greedy, 1 is the default")
        if self.top_k < 0:
            raise UsageError(f"top-k {self.top_k} is out of range; 0 is off, 250 is the default")


@dataclass(frozen=True)
class GenerationWindow:
    """One call of generate(): frames of context from the previous window, and new frames."""

    context_frames: int
    new_frames: int


def split_into_windows(
    seconds: float, frame_rate_hz: float, window_seconds: float, start_frames: int = 0
) -> tuple[GenerationWindow, ...]:
    """Split a length into windows of the model's context length.

    With `start_frames` that are there already, these are the windows in which an uninterrupted piece would go on.
    """
    total = max(math.ceil(seconds * frame_rate_hz - 1e-6), 1)
    longest, overlap = _window_frames(frame_rate_hz, window_seconds)
    context = context_frames(start_frames, frame_rate_hz, window_seconds)
    windows = [GenerationWindow(context, min(total, longest - context))]
    while (done := sum(window.new_frames for window in windows)) < total:
        windows.append(GenerationWindow(overlap, min(total - done, longest - overlap)))
    return tuple(windows)


def context_frames(start_frames: int, frame_rate_hz: float, window_seconds: float) -> int:
    """How many of the last frames that are there a window goes on from: all, until they fill the first window.

    Beyond it, those that lie in the window which an uninterrupted piece would be in: the overlap at least.
    """
    longest, overlap = _window_frames(frame_rate_hz, window_seconds)
    if start_frames < longest:
        return start_frames
    return overlap + (start_frames - longest) % (longest - overlap)


def _window_frames(frame_rate_hz: float, window_seconds: float) -> tuple[int, int]:
    """The longest window, and its overlap with the one before, in frames."""
    longest = max(int(window_seconds * frame_rate_hz), MIN_FRAMES)
    return longest, int(OVERLAP_FRACTION * longest)


def generate_codes(
    model: Any,  # MusicgenForConditionalGeneration
    conditions: Callable[[int], Mapping[str, Any]],
    batch: int,
    windows: tuple[GenerationWindow, ...],
    options: SamplingOptions,
    shifts: tuple[int, ...],
    progress: Progress | None = None,
    start: Tensor | None = None,  # int64 [B, K, P]
) -> Tensor:  # int64 [B, K, T]
    """Generate codes window by window, each with its own cache; the global random state is restored.

    `conditions` gives the keywords of generate() for a window, by the frame at which it begins. `start` is what the
    codes go on from; it is not part of the result.
    """
    codebooks, device = len(shifts), next(model.parameters()).device
    codes = start
    if codes is None:
        codes = torch.empty(batch, codebooks, 0, dtype=torch.int64, device=device)
    before = codes.shape[-1]
    total = sum(window.new_frames for window in windows)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), inference_mode(model):
        torch.manual_seed(options.seed)
        for window in windows:
            context = codes[..., codes.shape[-1] - window.context_frames :]
            frames = max(window.context_frames + window.new_frames, MIN_FRAMES)
            arguments = _arguments(options, frames + max(shifts) + 1)
            if window.context_frames:
                arguments["decoder_input_ids"] = context.reshape(batch * codebooks, -1)
            if progress is not None:
                counter = _ForwardCounter(progress, codes.shape[-1] - before, window.new_frames, total)
                arguments["stopping_criteria"] = StoppingCriteriaList([counter])
            with capture_codes(model, codebooks) as captured:
                model.generate(**conditions(codes.shape[-1] - window.context_frames), **arguments)
            new = captured[0][..., window.context_frames : window.context_frames + window.new_frames]
            codes = torch.cat([codes, new], dim=-1)
    return codes[..., before:]


def draw_codes(logits: Tensor, uniform: Tensor, options: SamplingOptions) -> Tensor:  # int64 [N, K]
    """Draw codes from logits [N, K, V], or [2 N, K, V] with guidance, by uniform random numbers [N, K] in [0, 1).

    The same logits and numbers give the same codes; those of one row do not depend on the others.
    """
    logits = logits.float()
    if options.guidance_scale > 1:
        conditional, unconditional = logits.chunk(2)
        logits = unconditional + options.guidance_scale * (conditional - unconditional)
    if options.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits / options.temperature
    if 0 < options.top_k < logits.shape[-1]:
        lowest = logits.topk(options.top_k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    # in the order of the codes, not of their logits: a rounding error then moves a boundary by as little as itself
    cumulative = logits.softmax(dim=-1).cumsum(dim=-1)
    drawn = uniform[..., None] * cumulative[..., -1:] * (1 - 1e-6)
    return torch.searchsorted(cumulative, drawn, right=True)[..., 0]


def _arguments(options: SamplingOptions, length: int) -> dict[str, Any]:
    """Keyword arguments of generate(); `length` counts the delayed steps with the leading special token."""
    sampled = options.temperature > 0
    arguments: dict[str, Any] = {"max_length": length, "do_sample": sampled, "use_cache": True}
    arguments["guidance_scale"] = options.guidance_scale if options.guidance_scale > 1 else None
    if sampled:
        arguments |= {"temperature": options.temperature, "top_k": options.top_k}
    return arguments


def part_of(progress: Progress | None, number: int, count: int) -> Progress | None:
    """The progress of one of several equal parts."""
    if progress is None or count == 1:
        return progress
    return lambda done, total: progress((number * total + done) // count, total)


class _ForwardCounter(StoppingCriteria):
    """Reports the steps of generate() as progress; MusicGen calls a streamer only once."""

    def __init__(self, progress: Progress, before: int, new: int, total: int) -> None:
        self.progress, self.before, self.new, self.total = progress, before, new, total
        self.steps = 0

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        self.steps += 1
        self.progress(self.before + min(self.steps, self.new), self.total)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


@contextmanager
def capture_codes(model: Any, codebooks: int) -> Iterator[list[Tensor]]:
    """Capture the codes that generate() would decode, so that they are decoded only once at the end."""
    captured: list[Tensor] = []
    halves: list[Tensor] = []

    def capture(audio_codes: Tensor, audio_scales: Any = None, **_: Any) -> SimpleNamespace:
        halves.append(audio_codes[0])  # [B, K, T], or one channel of it
        if sum(half.shape[1] for half in halves) == codebooks:
            batch, frames = halves[0].shape[0], halves[0].shape[-1]
            captured.append(torch.stack(halves, dim=2).reshape(batch, codebooks, frames))
            halves.clear()
        return SimpleNamespace(audio_values=audio_codes.new_zeros(audio_codes.shape[1], 1, 1))

    codec = model.audio_encoder
    codec.decode = capture
    try:
        yield captured
    finally:
        del codec.decode


@contextmanager
def inference_mode(model: nn.Module) -> Iterator[None]:
    """Context in evaluation mode; afterwards every module has its previous mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def match_precision(model: Any) -> None:
    """Cast float32 text states to the decoder's dtype where they enter it."""
    for name in ("enc_to_dec_proj", "audio_enc_to_dec_proj"):
        if hasattr(model, name):
            getattr(model, name).register_forward_pre_hook(_cast_first)
    if not hasattr(model, "enc_to_dec_proj"):
        model.decoder.register_forward_pre_hook(_cast_states, with_kwargs=True)


def _cast_first(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (arguments[0].to(next(module.parameters()).dtype), *arguments[1:])


def _cast_states(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    states = named.get("encoder_hidden_states")
    if states is not None:
        named = named | {"encoder_hidden_states": states.to(module.lm_heads[0].weight.dtype)}
    return arguments, named
