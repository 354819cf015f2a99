"""Seeded synthesis of performances: the demo style, and any tradition with its ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from talim.errors import UsageError
from talim.synthesis import demo_style
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.ground_truth import GroundTruth
from talim.synthesis.performance import Performance, perform_tradition
from talim.traditions.tradition import Tradition, list_builtin, load

MIN_SECONDS = 1.0  # of a performance in a tradition; a shorter one has no phrase


def perform(
    seed: int,
    style: str | Path | Tradition = demo_style.NAME,
    seconds: float = 10.0,
    request: PerformanceRequest | None = None,
    *,
    render: bool = True,
) -> Performance:
    """Synthesise the piece of a seed; equal arguments give equal samples.

    `style` is "demo", a built-in tradition, a tradition's folder or a loaded `Tradition`. `request` (mode, cycle, form,
    ensemble, window) applies to traditions only. Without `render` the samples are empty. UsageError if the style is
    unknown or the request cannot be met.
    """
    if not (np.isfinite(seconds) and seconds > 0):
        raise UsageError(f"a performance needs a positive length, not {seconds} s")
    if style == demo_style.NAME:
        if request is not None and request != PerformanceRequest():
            styles = ", ".join(list_builtin())
            raise UsageError(f"the style {style!r} has no options; they apply to {styles} or a folder")
        return demo_style.perform_demo(seed, seconds, render)
    if isinstance(style, str) and style not in list_builtin() and not Path(style).is_dir():
        names = ", ".join((demo_style.NAME, *list_builtin()))
        raise UsageError(f"no style {style!r}: choose one of {names}, or a tradition's folder")
    if seconds < MIN_SECONDS:
        raise UsageError(f"a performance in a tradition needs {MIN_SECONDS:g} s or more, not {seconds:g} s")
    tradition = style if isinstance(style, Tradition) else load(style)
    return perform_tradition(seed, tradition, seconds, request or PerformanceRequest(), render)


def performance_ground_truth(
    seed: int, style: str | Path | Tradition, seconds: float = 10.0, request: PerformanceRequest | None = None
) -> GroundTruth:
    """The ground truth of what `perform` gives for the same arguments, without rendering. UsageError for "demo"."""
    truth = perform(seed, style, seconds, request, render=False).truth
    if truth is None:
        raise UsageError(f"the style {style!r} has no ground truth; choose a tradition")
    return truth
