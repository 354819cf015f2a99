"""The page's tables: what a run cost, what it was shown under which rights, where its numbers came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from talim.html import formatting
from talim.reporting import sentences
from talim.reporting.run_results import RunResults

TableRows = list[tuple[str, str]]


def cost_table(result: RunResults) -> TableRows:
    """What the training took, each row said to be not measured where it was not."""
    cost = result.cost
    if not cost:
        return []
    energy = cost.get("energy_joules")
    share = sentences.trained_share(result)
    early = f", stopped early; the best was step {cost['best_step']}" if cost.get("stopped_early") else ""
    rows = [
        ("Wall time", cost.get("wall_seconds"), formatting.format_duration),
        ("Time on the device", cost.get("device_seconds"), formatting.format_duration),
        ("Device", cost.get("device"), str),
        ("Precision", cost.get("precision"), str),
        ("Peak memory", cost.get("peak_memory_bytes"), formatting.format_bytes),
        (
            "Energy",
            energy / 3600 if energy is not None else None,
            lambda wh: f"{formatting.format_number(wh, 1)} Wh",
        ),
        ("Floating-point operations", cost.get("flops"), formatting.format_scientific),
        ("Training steps", cost.get("steps"), lambda steps: formatting.format_count(steps) + early),
        ("Trained parameters", cost.get("trainable_parameters"), formatting.format_count),
        ("Parameters of the base", cost.get("total_parameters"), formatting.format_count),
        ("Trained share", share, formatting.format_percent),
        ("Adapter on disk", folder_bytes(result.folder / "adapter"), formatting.format_bytes),
    ]
    notes = {"Energy": cost.get("energy_note"), "Peak memory": cost.get("memory_note")}
    return [(name, _with_note(_or_unmeasured(value, show), notes.get(name))) for name, value, show in rows]


def _or_unmeasured(value: Any, show: Any) -> str:
    return sentences.NOT_MEASURED if value in (None, "") else show(value)


def _with_note(text: str, note: str | None) -> str:
    return f"{text} ({note})" if note else text


def folder_bytes(folder: Path) -> int | None:
    """Size of all files below a folder, or None where it is missing."""
    if not folder.is_dir():
        return None
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())


def data_table(result: RunResults) -> TableRows:
    """What the model was shown, how it was split, and under what rights."""
    corpus, split = result.corpus, result.split
    if not corpus and not split:
        return []
    rows = [("Music", _amount(corpus))] if corpus else []
    if split.get("step"):
        rows.append(
            (
                "Split by",
                str(split["step"]) + (f", seed {split['seed']}" if split.get("seed") is not None else ""),
            )
        )
    if split.get("explanation"):
        rows.append(("What that means", str(split["explanation"])))
    sides = corpus.get("split") or split
    rows += [
        (name, _amount(sides[key]))
        for key, name in (("train", "Trained on"), ("held_out", "Held out"))
        if sides.get(key)
    ]
    rights = corpus.get("rights") or {}
    rows.append(("Licences", _tally(rights.get("licences"))))
    rows.append(("Consent", _tally(rights.get("consent"))))
    if corpus.get("captions"):
        rows.append(("Captions from", _tally(corpus["captions"])))
    rows.append(("Licence of the base", str(result.base.get("licence") or "unknown")))
    return rows


def _amount(part: dict[str, Any]) -> str:
    pieces = []
    for key, noun in (("recordings", "recording"), ("performers", "performer"), ("clips", "clip")):
        value = part.get(key)
        how_many = len(value) if isinstance(value, list | dict) else value
        if isinstance(how_many, int):
            pieces.append(formatting.format_counted(how_many, noun))
    if part.get("seconds") is not None:
        pieces.append(formatting.format_duration(part["seconds"]))
    return ", ".join(pieces) or sentences.NOT_MEASURED


def _tally(counts: Any) -> str:
    """`CC BY 4.0 (12), unknown (3)`; an honest unknown where nothing was said."""
    if isinstance(counts, dict) and counts:
        return ", ".join(
            f"{name} ({value})" if isinstance(value, int) else f"{name}: {value}"
            for name, value in counts.items()
        )
    return str(counts) if counts else "unknown"


def provenance_table(result: RunResults) -> TableRows:
    """Versions, seed, fingerprints: what another person needs to know about where the numbers came from."""
    origin = result.facts.get("provenance") or result.scores.get("provenance") or {}
    libraries = origin.get("libraries") or {}
    rows = [
        ("Run", result.facts.get("run_id")),
        ("Seed", result.recipe.get("seed")),
        ("Base", result.base.get("name")),
        ("Fingerprint of the base", result.base.get("fingerprint")),
        ("Content hash of the corpus", result.facts.get("corpus_hash")),
        ("talim", " at commit ".join(str(v) for v in (origin.get("talim"), origin.get("commit")) if v)),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in libraries.items() if version)),
        ("Python", ", ".join(str(v) for v in (origin.get("python"), origin.get("platform")) if v)),
        ("Begun", origin.get("time")),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]
