"""One real training step of a design on a synthetic clip: traced without data for a plan, or executed to measure it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from talim.adapters import injection
from talim.backbones.meta_models import load_on_meta, materialize
from talim.design.expression import Design
from talim.errors import TalimError
from talim.planning import tracer
from talim.planning.tracer import Trace
from talim.progress import Progress
from talim.recipe import Training
from talim.training import step
from talim.training.resource_usage import reset_peak_memory, resident_bytes

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

TEXT_TOKENS = 32  # assumed length of a caption
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class StepConfig:
    """A training step on `batch_size` clips of `crop_seconds`; an expression given as `design` is parsed."""

    base: str
    design: Design
    crop_seconds: float
    batch_size: int = 1
    precision: str = "bf16"  # of the base: "bf16" or "fp32"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "design", Design.parse(self.design))

    def to_json(self) -> dict[str, Any]:
        """The fields, with the design as text; keywords of the constructor."""
        return {**vars(self), "design": str(self.design)}


MINIATURE = StepConfig("nano-musicgen", Design.parse("conv@all:2.5%"), 10.0, 2)  # a step that costs little


class SyntheticTrainingStep:
    """A base with a design attached, on the meta device until `fill`; then `take_step` may be called repeatedly."""

    def __init__(self, config: StepConfig) -> None:
        self.config, self.training = config, Training()
        self.backbone: Backbone = load_on_meta(config.base, DTYPES[config.precision])
        sites = self.backbone.sites()
        with torch.device("meta"):
            self.peft = injection.attach(self.backbone.model, config.design, sites)
        self.sites = [self.backbone.model.get_submodule(path) for path in dict.fromkeys(site.module for site in sites)]
        self.backbone.enable_training(config.gradient_checkpointing)

    @property
    def trained_parameters(self) -> int:
        """The number of trainable parameters."""
        return sum(weight.numel() for weight in injection.trainable_parameters(self.peft))

    def fill(self, make: Callable[[Tensor], Tensor]) -> None:
        """Replace all weights by what `make` returns for them, and create the optimiser's state."""
        for module in (self.backbone.model, getattr(self.backbone, "mel_vae", None)):
            if module is not None:
                materialize(module, make)
        self.weights = {name: p for name, p in self.peft.named_parameters() if p.requires_grad}
        self.optimiser = step.make_optimizer(self.weights, self.training)
        for weight in self.weights.values():
            weight.grad = torch.zeros_like(weight)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def take_step(self) -> None:
        """One whole training step. TalimError where the loss is not finite."""
        size = self.config.batch_size
        batch = self.backbone.collate([self._clip()] * size, [False] * size)
        loss = step.forward_backward(self.backbone, batch)
        if not step.optimizer_step(self.weights, self.optimiser, loss, 1e-6, self.training.max_grad_norm):
            raise TalimError(f"{self.config.design}: the loss of the synthetic clip is not finite")

    def _clip(self) -> tuple[np.ndarray, np.ndarray]:
        frames = max(1, round(self.config.crop_seconds * self.backbone.frame_rate_hz))
        model: Any = self.backbone.model
        states = np.zeros((TEXT_TOKENS, model.text_encoder.config.d_model), np.float32)
        if self.backbone.target_kind == "tokens":
            return np.zeros((self.backbone.codebooks, frames), np.int16), states
        sound: Any = self.backbone.mel_vae  # type: ignore[attr-defined]
        return np.zeros((sound.channels, frames, sound.bands), np.float32), states


def trace_step(config: StepConfig, progress: Progress | None = None) -> Trace:
    """Memory and operations of one step, with everything that is resident.

    TalimError for a design whose computation depends on the values of tensors, which a trace does not have.
    """
    synthetic = SyntheticTrainingStep(config)
    finish = _report_sites(synthetic.sites, f"tracing {config.design}: sites, forward and backward", progress)
    try:
        traced = tracer.trace(synthetic.take_step, lambda: synthetic.fill(tracer.empty_like))
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise TalimError(f"{config.design} cannot be planned: {error.func} depends on values of tensors") from error
    finish()
    return traced


def _report_sites(sites: Sequence[torch.nn.Module], title: str, progress: Progress | None) -> Callable[[], None]:
    """Report each site that a step passes, forward and backward; the returned function reports the end.

    Below the first trained site there is no backward pass. The trace is the same: hooks compute and keep nothing.
    """
    progress, done, total = progress or Progress(), 0, 2 * len(sites)

    def passed(*_: Any) -> None:
        nonlocal done
        done = min(done + 1, total - 1)  # checkpointing passes some again
        progress.step(title, done, total)

    def passed_forward(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        passed()
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.requires_grad:
            hidden.register_hook(passed)

    progress.step(title, done, total)
    for module in sites:
        module.register_forward_hook(passed_forward)
    return lambda: progress.step(title, total, total)


@dataclass(frozen=True)
class StepMeasurement:
    """Peak resident memory above that before the weights were loaded, and seconds, of the last executed step."""

    resident_bytes: int
    step_seconds: float


def measure_step(
    config: StepConfig,
    steps: int = 3,
    clock: Callable[[], float] = time.process_time,
    max_seconds: float = float("inf"),
) -> StepMeasurement:
    """Execute some steps with random weights and measure the last one, in a process that did little else.

    Once `max_seconds` have gone by on the wall, the second step, or the one that it is at, is the last.
    Where the system has no peak memory (all but Linux), `resident_bytes` is what remains after the step: too little.
    """
    synthetic = SyntheticTrainingStep(config)
    before = resident_bytes()
    synthetic.fill(_random)
    seconds, end = 0.0, time.monotonic() + max_seconds
    for number in range(steps):
        if number > 1 and time.monotonic() > end:
            break
        reset_peak_memory()
        start = clock()
        synthetic.take_step()
        seconds = clock() - start
    return StepMeasurement(resident_bytes(peak=True) - before, seconds)


def _random(tensor: Tensor) -> Tensor:
    filled = tracer.empty_like(tensor)
    return filled.normal_(0, 0.02) if filled.is_floating_point() else filled.zero_()
