"""Permitted use of candidates, from the licences of the base and of the training recordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.licences import Use, allows_commercial_use
from talim.reporting.catalogue import Texts, counted, in_languages
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
    """{"commercial": allowed, forbidden or unknown, "reasons": [...]}: the strictest of all licences applies.

    The "phrase" ({"file", "rights"}) that pieces go on from counts too, also where it is not part of them.
    """
    uses = licence_uses(rights)
    order: tuple[Use, ...] = ("forbidden", "unknown", "allowed")
    strictest = min((use for use, _ in uses), key=order.index)
    return {"commercial": strictest, "reasons": [reason["en"] for use, reason in uses if use == strictest]}


def licence_uses(rights: Mapping[str, Any]) -> list[tuple[Use, Texts]]:
    """What each licence of `run_rights` allows, with the licence and whose it is, by language; empty for no rights."""
    if not rights.get("base"):
        return []
    licences = [("rights_base", {"name": rights["base"]}, rights["base_licence"])]
    if "adapter" in rights:
        licences.append(("rights_adapter", {"name": rights["adapter"]}, rights["adapter_licence"]))
    for licence, count in rights["recordings"].items():
        named = {"recordings": counted(count, "recording")} if count else {}
        licences.append(("rights_recordings" if count else "rights_recordings_unknown", named, licence))
    if phrase := rights.get("phrase"):
        licences.append(("rights_phrase", {"name": phrase["file"]}, phrase["rights"]))
    unknown = in_languages("licence_unknown")
    return [
        (
            allows_commercial_use(licence),
            in_languages(key, licence=unknown if licence == "unknown" else licence, **named),
        )
        for key, named, licence in licences
    ]


def corpus_of(run: Run) -> Path | None:
    """The corpus folder of a run: the one in its recipe, else `corpus` beside the run; None if neither exists."""
    folders: list[Path] = []
    if run.recipe_file.is_file():
        recipe = read_yaml(run.recipe_file, "copy the run again")
        corpus = Path(str(recipe.get("corpus", "corpus") if isinstance(recipe, dict) else "corpus"))
        folders = [corpus, run.folder / corpus, run.folder.parent / corpus.name]
    return next((p for p in [*folders, run.folder.parent / "corpus"] if (p / "summary.json").is_file()), None)
