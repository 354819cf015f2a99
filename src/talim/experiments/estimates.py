"""What a study's trials will take, as far as a trace of one training step can tell it before anything is spent."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from talim.errors import TalimError
from talim.experiments.study_file import TrialSpec
from talim.planning.design_table import format_si
from talim.planning.plan_table import GB, KWH_JOULES
from talim.progress import Progress, format_duration


class TrialEstimates:
    """Memory and time of trials on a machine; settings that are alike are traced once, and kept on disk."""

    def __init__(self, gpu: str | None = None, progress: Progress | None = None) -> None:
        self.gpu, self.progress = gpu, progress or Progress()
        self._machine: Any = None
        self._known: dict[tuple[Any, ...], dict[str, Any] | None] = {}

    def of(self, planned: TrialSpec, base: str) -> dict[str, Any] | None:
        """`memory_bytes` and `hours` of its training; None where the base or the design is none that can be traced."""
        from talim.planning.plan import plan_total
        from talim.planning.trace_cache import default_cache_folder

        job = plan_request(planned, base)
        key = tuple(vars(job).values())
        if key not in self._known:
            try:
                told = plan_total(
                    [job], self._corpus_facts(), cache=default_cache_folder(), progress=self.progress
                )
                self._known[key] = told["jobs"][0]
            except TalimError:
                self._known[key] = None
        return self._known[key]

    def needs(self, planned: TrialSpec, base: str) -> int | None:
        """Bytes of memory that its training takes, None where that cannot be told."""
        told = self.of(planned, base)
        return None if told is None else int(told["memory_bytes"])

    def _corpus_facts(self) -> Any:
        from talim.planning.cpu_calibration import hardware_profile
        from talim.planning.trace_cache import default_cache_folder

        self._machine = self._machine or hardware_profile(
            self.gpu, None, default_cache_folder(), False, self.progress
        )
        return self._machine


def plan_request(planned: TrialSpec, base: str) -> Any:
    """A trial's training as `talim.planning.plan` takes it: clips no longer than the base hears at once."""
    from talim.planning.design_costs import base_model_facts
    from talim.planning.plan import PlanRequest

    training, source = planned.recipe.training, planned.source
    seconds = training.clip_seconds or source.clip_seconds
    with contextlib.suppress(TalimError):  # whoever traces it meets it again, and says what is wrong
        seconds = min(seconds, base_model_facts(base).window_seconds)
    precision = training.precision if training.precision in ("bf16", "fp32") else None
    return PlanRequest(
        base, planned.design, seconds, training.batch_size, training.steps, precision,
        training.gradient_checkpointing,
    )  # fmt: skip


def total_message(found: dict[str, Any]) -> str:
    """What `talim.planning.plan.plan_total` says of a study, in words."""
    parts = [
        f"{format_duration(found['hours'] * 3600)} of training",
        f"{format_si(found['file_bytes'])}B of adapters",
    ]
    if found["energy_joules"] is not None:
        parts.append(f"{found['energy_joules'] / KWH_JOULES:.3g} kWh")
    if found["money"] is not None:
        parts.append(f"{found['money']:.2f} in money")
    return (
        f"{found['runs']} trials, one after the other on {found['machine']}: {', '.join(parts)}. The largest takes "
        f"{found['memory_bytes'] / GB:.2f} GB of memory. Looks at held-out clips, samples and the encoding of the "
        "corpora are not in the time, targets and kept prefixes not in the disk."
    )


def trial_lines(rows: Sequence[tuple[TrialSpec, str, dict[str, Any] | None]]) -> str:
    """The trials of a dry run as lines: id, what is known of it, what it is, what it will take."""
    lines = []
    for planned, status, told in rows:
        cost = "not told beforehand"
        if told is not None:
            cost = f"{told['memory_bytes'] / 1e9:.2f} GB, {format_duration(told['hours'] * 3600)}"
        lines.append(f"{planned.id}  {status:7}  {planned.grid}: {planned.name}  ({cost})")
    hours = sum(told["hours"] for _, status, told in rows if told is not None and status != "done")
    missing = sum(status != "done" for _, status, _ in rows)
    return "\n".join(
        [
            *lines,
            f"{missing} of {len(rows)} trials are to be run: {format_duration(hours * 3600)} of training",
        ]
    )
