"""Permitted use of candidates, from what is on record of the base and of the training recordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.html.languages import to_fields
from talim.reporting import commercial_use
from talim.run import Run
from talim.strict_yaml import read_yaml


def run_rights(run: Run) -> dict[str, Any]:
    """The rights of a run: {"base", "base_licence", "recordings": {licence: count}, "consent": {status: count},
    "attributions": a row per recording} of what it was trained on, as run.json tells; and "adapter",
    "adapter_licence" of the one that its training began from, if it did.
    """
    facts = read_json(run.facts_file) if run.facts_file.is_file() else {}
    base, trained_on = facts.get("base") or {}, facts.get("trained_on") or {}
    rights = trained_on.get("rights") or {}
    return {
        "base": str(base.get("name", "unknown")),
        "base_licence": str(base.get("licence") or "unknown"),
        "recordings": dict(rights.get("licences") or {"unknown": 0}),
        "consent": dict(rights.get("consent") or {"unknown": 0}),
        "attributions": list(trained_on.get("attributions") or []),
        **({} if (start := run.start) is None else {"adapter": start["name"], "adapter_licence": start["licence"]}),
    }


def usage_allowed(rights: Mapping[str, Any]) -> dict[str, Any]:
    """{"commercial": allowed, forbidden or unknown, "reasons", "sentence", "sentence_translated"}.

    By `commercial_use`.
    """
    use, reasons = commercial_use.judge(rights)
    sentence = to_fields("sentence", commercial_use.sentence_of(reasons))
    return {"commercial": use, "reasons": [reason["en"] for reason in reasons], **sentence}


def corpus_of(run: Run) -> Path | None:
    """The corpus folder of a run: the one in its recipe, else `corpus` beside the run; None if neither exists."""
    folders: list[Path] = []
    if run.recipe_file.is_file():
        recipe = read_yaml(run.recipe_file, "copy the run again")
        corpus = Path(str(recipe.get("corpus", "corpus") if isinstance(recipe, dict) else "corpus"))
        folders = [corpus, run.folder / corpus, run.folder.parent / corpus.name]
    return next((p for p in [*folders, run.folder.parent / "corpus"] if (p / "summary.json").is_file()), None)
