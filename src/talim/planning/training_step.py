"""A training step without corpus, run or weights: the real modules and the real step on a clip of nothing.

Traced without numbers it tells what a design will need (`talim.planning.plan`); run in earnest on random weights it tells
whether that is so (`research.validation.cost_model`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from talim.adapters import injection
from talim.backbones.meta_models import load_on_meta, materialize
from talim.designs import expression
from talim.errors import TalimError
from talim.planning import tracer
from talim.planning.tracer import Trace
from talim.recipe import Training
from talim.training import step
from talim.training.resource_usage import reset_peak_memory, resident_bytes

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

TEXT_TOKENS = 32  # text positions that a clip is reckoned with
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class StepConfig:
    """What a step is of: `seconds` is the length of each of `batch` clips."""

    base: str
    design: str
    seconds: float
    batch: int = 1
    precision: str = "bf16"
    checkpointing: bool = False

    def facts(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


MINIATURE = StepConfig("nano-musicgen", "conv@all:2.5%", 10.0, 2)  # a step that costs next to nothing


class SyntheticTrainingStep:
    """A base with a design in it, all on the meta device until `fill`; then `take_step` as often as one likes."""

    def __init__(self, setting: StepConfig) -> None:
        self.setting, self.training = setting, Training()
        self.backbone: Backbone = load_on_meta(setting.base, DTYPES[setting.precision])
        design = expression.Design.parse(setting.design)
        with torch.device("meta"):
            self.peft = injection.attach(self.backbone.model, design, self.backbone.sites())
        self.backbone.enable_training(setting.checkpointing)

    @property
    def trained_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(weight.numel() for weight in injection.trainable_parameters(self.peft))

    def fill(self, make: Callable[[Tensor], Tensor]) -> None:
        """Put real or fake tensors in the place of all weights, and bring the optimiser's state to be."""
        for part in (self.backbone.model, getattr(self.backbone, "sound", None)):
            if part is not None:
                materialize(part, make)
        self.weights = {name: p for name, p in self.peft.named_parameters() if p.requires_grad}
        self.optimiser = step.make_optimizer(self.weights, self.training)
        for weight in self.weights.values():
            weight.grad = torch.zeros_like(weight)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def take_step(self) -> None:
        """One whole training step. TalimError where the loss is not a number."""
        batch = self.backbone.collate([self._clip()] * self.setting.batch, [False] * self.setting.batch).to(self.backbone.device)
        loss = step.forward_backward(self.backbone, batch)
        if not step.optimizer_step(self.weights, self.optimiser, loss, 1e-6, self.training.max_grad_norm):
            raise TalimError(f"{self.setting.design}: the loss of the made-up clip is not a number")

    def _clip(self) -> tuple[np.ndarray, np.ndarray]:
        frames = max(1, round(self.setting.seconds * self.backbone.frame_rate_hz))
        model: Any = self.backbone.model
        said = np.zeros((TEXT_TOKENS, model.text_encoder.config.d_model), np.float32)
        if self.backbone.target_kind == "tokens":
            return np.zeros((self.backbone.codebooks, frames), np.int16), said
        sound: Any = self.backbone.sound  # type: ignore[attr-defined]
        return np.zeros((sound.channels, frames, sound.bands), np.float32), said


def trace_step(setting: StepConfig) -> Trace:
    """What one step of a setting needs, everything that is resident counted.

    TalimError for a design that does one thing or another by the values of tensors, which a trace has not.
    """
    rehearsal = SyntheticTrainingStep(setting)
    try:
        return tracer.trace(rehearsal.take_step, lambda: rehearsal.fill(tracer.empty_like))
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise TalimError(f"{setting.design} cannot be planned: {error.func} looks at values") from error


@dataclass(frozen=True)
class StepMeasurement:
    """What steps took in earnest: the most resident memory above that before the weights came, seconds of the last."""

    resident_bytes: int
    step_seconds: float


def measure_step(
    setting: StepConfig, steps: int = 3, now: Callable[[], float] = time.process_time
) -> StepMeasurement:
    """Take some steps on random weights; what is told is of the last. For a process that did little else.

    Where the system tells no peak (all but Linux), resident memory is what is left after the step: too little.
    """
    rehearsal = SyntheticTrainingStep(setting)
    before = resident_bytes()
    rehearsal.fill(_random)
    seconds = 0.0
    for _ in range(steps):
        reset_peak_memory()  # where that cannot be, the peak is that of all steps
        began = now()
        rehearsal.take_step()
        seconds = now() - began
    return StepMeasurement(resident_bytes(peak=True) - before, seconds)


def _random(tensor: Tensor) -> Tensor:
    made = tracer.empty_like(tensor)
    return made.normal_(0, 0.02) if made.is_floating_point() else made.zero_()
