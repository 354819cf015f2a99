"""One table as a page of its own: the scores of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talim.pages.page import render


def page_of(title: str, result: Mapping[str, Any]) -> str:
    """`scores` (name, value, low, high, n, floor, ceiling, direction, unit, sentence), `protocol` and `warnings`."""
    return render(
        "scores.html",
        title=title,
        rows=result["scores"],
        protocol=result["protocol"],
        warnings=result["warnings"],
    )
