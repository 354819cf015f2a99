"""The tables of a run's report: cost of training, data and rights, provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talim.html import formatting
from talim.reporting import sentences
from talim.reporting.run_results import RunResults

MAX_NAMES = 12  # recordings that are named
TableRows = list[tuple[str, str]]


def cost_table(result: RunResults) -> TableRows:
    """The cost of training; what was not measured is marked so."""
    cost = result.cost
    if not cost:
        return []
    energy = cost.get("energy_joules")
    fraction = sentences.trained_fraction(result)
    stopped = f", stopped early; best step {cost['best_step']}" if cost.get("stopped_early") else ""
    rows = [
        ("Wall time", cost.get("wall_seconds"), formatting.format_duration),
        ("Time on the device", cost.get("device_seconds"), formatting.format_duration),
        ("Device", cost.get("device"), str),
        ("Number format (precision)", cost.get("precision"), str),
        ("Peak memory", cost.get("peak_memory_bytes"), formatting.format_bytes),
        ("Energy", energy / 3600 if energy is not None else None, lambda wh: f"{formatting.format_number(wh, 1)} Wh"),
        ("FLOPs", cost.get("flops"), formatting.format_scientific),
        ("Training steps", cost.get("steps"), lambda steps: formatting.format_count(steps) + stopped),
        ("Trained parameters", cost.get("trainable_parameters"), formatting.format_count),
        ("Parameters of the base", cost.get("total_parameters"), formatting.format_count),
        ("Trained fraction", fraction, formatting.format_percent),
        ("Adapter on disk", folder_bytes(result.folder / "adapter"), formatting.format_bytes),
    ]
    rows = [row for row in rows if row[0] != "Energy" or energy is not None]  # the cost sentence says why not
    notes = {"Energy": cost.get("energy_note"), "Peak memory": cost.get("memory_note")}
    texts = [(name, sentences.NOT_MEASURED if value in (None, "") else show(value)) for name, value, show in rows]
    return [(name, f"{text} ({notes[name]})" if notes.get(name) else text) for name, text in texts]


def folder_bytes(folder: Path) -> int | None:
    """The size of all files below a folder, None if it is missing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else None


def data_table(result: RunResults) -> TableRows:
    """The training data, the split, and rights."""
    corpus, split = result.corpus, result.split
    if not corpus and not split and not result.training_music:
        return []
    sides = corpus.get("split") or split
    seed = f", seed {split['seed']}" if split.get("seed") is not None else ""
    music = result.training_music
    rights, measured = music.get("rights") or {}, result.kept_out.get("rights") or {}
    trained = "Trained on" if result.finished else "Training recordings"
    rows = [
        ("Music", _amount(corpus) if corpus else ""),
        ("Split by", f"{split['strategy']}{seed}" if split.get("strategy") else ""),
        ("Explanation", str(split.get("explanation") or "")),
        (trained, _amount(music) + _names(music.get("recordings")) if music else ""),
        ("Validation", _side(sides, "validation")),
        ("Held out", _side(sides, "held_out")),
        ("Licences of what it was trained on", _tally(rights.get("licences"))),
        ("Consent", _tally(rights.get("consent"))),
        ("Licences of what only measured it", _tally(measured["licences"]) if measured.get("licences") else ""),
        ("Captions from", _tally(corpus["captions"]) if corpus.get("captions") else ""),
        ("Licence of the base", str(result.base.get("licence") or "unknown")),
        *((f"Licence of {name}", licence) for name, licence in result.foreign_licences.items()),
    ]
    return [(name, text) for name, text in rows if text]


def _side(sides: dict[str, Any], name: str) -> str:
    return _amount(sides[name]) + _names(sides.get(f"{name}_recordings")) if sides.get(name) else ""


def _names(recordings: Any) -> str:
    """`: first, second and 8 more`; empty for a mere count."""
    if not isinstance(recordings, list) or not recordings:
        return ""
    more = f" and {len(recordings) - MAX_NAMES} more" if len(recordings) > MAX_NAMES else ""
    return f": {', '.join(map(str, recordings[:MAX_NAMES]))}{more}"


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
    """`CC BY 4.0 (12), unknown (3)`; `unknown` if nothing is recorded."""
    if not isinstance(counts, dict):
        return str(counts or "unknown")
    texts = (f"{name} ({value})" if isinstance(value, int) else f"{name}: {value}" for name, value in counts.items())
    return ", ".join(texts) or "unknown"


def provenance_table(result: RunResults) -> TableRows:
    """Versions, seeds and fingerprints: where the numbers came from."""
    origin = result.facts.get("provenance") or result.scores.get("provenance") or {}
    libraries = origin.get("libraries") or {}
    rows = [
        ("Run", result.facts.get("run_id")),
        ("Seed", result.recipe.get("seed")),
        ("Base", result.base.get("name")),
        ("Commit of the base on the Hub", result.base.get("revision")),
        ("Fingerprint of the base", result.base.get("fingerprint")),
        *_adapter_rows("Adapter it began from", result.start),
        *_adapter_rows("Adapter", result.scored_adapter),
        ("Content hash of the corpus", result.facts.get("corpus_hash")),
        ("talim", " at commit ".join(str(v) for v in (origin.get("talim"), origin.get("commit")) if v)),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in libraries.items() if version)),
        ("Python", ", ".join(str(v) for v in (origin.get("python"), origin.get("platform")) if v)),
        ("Started", origin.get("time")),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _adapter_rows(title: str, facts: dict[str, Any]) -> list[tuple[str, Any]]:
    """Name, repository with commit, and content of a stored adapter."""
    if not facts:
        return []
    repository, revision = (str(facts.get(key) or "unknown") for key in ("repository", "revision"))
    return [
        (title, f"{facts.get('name')} ({facts.get('design')})"),
        (f"{title}: repository on the Hub", f"{repository}, commit {revision}"),
        (f"{title}: content hash", facts.get("hash")),
    ]
