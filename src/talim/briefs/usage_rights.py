"""What a candidate may be used for: the licences of the base and of the recordings behind it, judged with care."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from talim.atomic_io import read_json
from talim.licences import Use, allows_commercial_use
from talim.run import Run


def run_rights(run: Run) -> dict[str, Any]:
    """The licences behind a run: {"base", "base_licence", "recordings": {licence: count}, "consent": {..: count}}."""
    base = read_json(run.facts_file).get("base", {}) if run.facts_file.is_file() else {}
    told = _summary(run).get("rights") or {}
    return {
        "base": str(base.get("name", "unknown")),
        "base_licence": str(base.get("licence") or "unknown"),
        "recordings": dict(told.get("licences") or {"unknown": 0}),
        "consent": dict(told.get("consent") or {"unknown": 0}),
    }


def usage_allowed(rights: Mapping[str, Any]) -> dict[str, Any]:
    """{"commercial": allowed, forbidden or unknown, "because": sentences}: the strictest of all licences counts."""
    found: list[tuple[Use, str]] = [
        (
            allows_commercial_use(rights["base_licence"]),
            f"the base {rights['base']}: {rights['base_licence']}",
        )
    ]
    for licence, count in rights["recordings"].items():
        told = f"{count} recordings: {licence}" if count else f"the recordings: {licence}"
        found.append((allows_commercial_use(licence), told))
    uses = [use for use, _ in found]
    strictest: Use = "forbidden" if "forbidden" in uses else "unknown" if "unknown" in uses else "allowed"
    return {"commercial": strictest, "because": [told for use, told in found if use == strictest]}


def _summary(run: Run) -> dict[str, Any]:
    """The corpus's summary: in the scores, else in the corpus itself."""
    if run.scores.is_file() and isinstance(kept := read_json(run.scores).get("corpus"), dict):
        return kept
    place = corpus_of(run)
    return read_json(place / "summary.json") if place else {}


def corpus_of(run: Run) -> Path | None:
    """The folder of the corpus that a run was trained on: where its recipe says, else beside the run."""
    named: list[Path] = []
    if run.recipe_file.is_file():
        recipe = yaml.safe_load(run.recipe_file.read_text(encoding="utf-8"))
        corpus = Path(str(recipe.get("corpus", "corpus")))
        named = [corpus, run.folder / corpus, run.folder.parent / corpus.name]
    return next((p for p in [*named, run.folder.parent / "corpus"] if (p / "summary.json").is_file()), None)
