"""A training step without corpus, run or weights: the real modules and the real step on a clip of nothing.

Traced without numbers it tells what a design will need (`talim.stages.plan`); run in earnest on random weights it tells
whether that is so (`talim.stages.plan_check`).
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

from talim.adapters import tuner
from talim.backbones.weightless import materialise, weightless
from talim.designs import expression
from talim.errors import TalimError
from talim.recipe import Training
from talim.stages import step, tracing
from talim.stages.cost import forget_peak, resident_bytes
from talim.stages.tracing import Trace

if TYPE_CHECKING:
    from talim.backbones.backbone import Backbone

WORDS = 32  # text positions that a clip is reckoned with
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Setting:
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


MINIATURE = Setting("nano-musicgen", "conv@all:2.5%", 10.0, 2)  # a step that costs next to nothing


class Rehearsal:
    """A base with a design in it, all on the meta device until `fill`; then `take_step` as often as one likes."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.training = setting, Training()
        self.backbone: Backbone = weightless(setting.base, DTYPES[setting.precision])
        design = expression.parse(setting.design)
        with torch.device("meta"):
            self.peft = tuner.attach(self.backbone.model, design, self.backbone.sites())
        self.backbone.enable_training(setting.checkpointing)

    @property
    def trained_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(weight.numel() for weight in tuner.trainable_parameters(self.peft))

    def fill(self, make: Callable[[Tensor], Tensor]) -> None:
        """Put real or fake tensors in the place of all weights, and bring the optimiser's state to be."""
        for part in (self.backbone.model, getattr(self.backbone, "sound", None)):
            if part is not None:
                materialise(part, make)
        self.weights = {name: p for name, p in self.peft.named_parameters() if p.requires_grad}
        self.optimiser = step.optimiser_for(self.weights, self.training)
        for weight in self.weights.values():
            weight.grad = torch.zeros_like(weight)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def take_step(self) -> None:
        """One whole training step. TalimError where the loss is not a number."""
        batch = self.backbone.collate([self._clip()] * self.setting.batch, [False] * self.setting.batch)
        loss = step.forward_and_back(self.backbone, batch)
        if not step.update(self.weights, self.optimiser, loss, 1e-6, self.training.max_grad_norm):
            raise TalimError(f"{self.setting.design}: the loss of the made-up clip is not a number")

    def _clip(self) -> tuple[np.ndarray, np.ndarray]:
        frames = max(1, round(self.setting.seconds * self.backbone.frame_rate_hz))
        model: Any = self.backbone.model
        said = np.zeros((WORDS, model.text_encoder.config.d_model), np.float32)
        if self.backbone.targets == "tokens":
            return np.zeros((self.backbone.codebooks, frames), np.int16), said
        sound: Any = self.backbone.sound  # type: ignore[attr-defined]
        return np.zeros((sound.channels, frames, sound.bands), np.float32), said


def traced(setting: Setting) -> Trace:
    """What one step of a setting needs, everything that is resident counted.

    TalimError for a design that does one thing or another by the values of tensors, which a trace has not.
    """
    rehearsal = Rehearsal(setting)
    try:
        return tracing.trace(rehearsal.take_step, lambda: rehearsal.fill(tracing.empty_like))
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise TalimError(f"{setting.design} cannot be planned: {error.func} looks at values") from error


@dataclass(frozen=True)
class Measured:
    """What steps took in earnest: the most resident memory above that before the weights came, seconds of the last."""

    resident_bytes: int
    step_seconds: float


def measured(setting: Setting, steps: int = 3, now: Callable[[], float] = time.process_time) -> Measured:
    """Take some steps on random weights; what is told is of the last. For a process that did little else.

    Where the system tells no peak (all but Linux), resident memory is what is left after the step: too little.
    """
    rehearsal = Rehearsal(setting)
    before = resident_bytes()
    rehearsal.fill(_random)
    seconds = 0.0
    for _ in range(steps):
        forget_peak()  # where that cannot be, the peak is that of all steps
        began = now()
        rehearsal.take_step()
        seconds = now() - began
    return Measured(resident_bytes(peak=True) - before, seconds)


def _random(tensor: Tensor) -> Tensor:
    made = tracing.empty_like(tensor)
    return made.normal_(0, 0.02) if made.is_floating_point() else made.zero_()
