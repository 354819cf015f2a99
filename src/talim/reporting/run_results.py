"""What a run folder holds, read for showing: plain values, empty where a stage has not been run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from talim.atomic_io import read_json, read_jsonl
from talim.backbones.registry import is_miniature
from talim.errors import TalimError
from talim.run import Run


@dataclass(frozen=True)
class SavedSample:
    """One sound of RUN/samples: its file, what it is (before, after, real), and how it came about."""

    path: Path
    role: str
    prompt: str
    seed: int | None = None
    recording: str = ""


@dataclass(frozen=True)
class RunResults:
    """A run as its files tell it; every mapping is empty where its file is missing."""

    folder: Path
    recipe: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # run.json: base, provenance, run id
    log: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)  # adapter/talim.json
    corpus: dict[str, Any] = field(default_factory=dict)  # the corpus's summary.json
    samples: list[SavedSample] = field(default_factory=list)

    @property
    def base(self) -> dict[str, Any]:
        """The base model's name, licence, fingerprint, as far as any file tells them."""
        told: dict[str, Any] = {"name": self.recipe.get("base", "unknown")}
        for source in (self.scores.get("base"), self.adapter.get("base"), self.facts.get("base")):
            told |= source if isinstance(source, dict) else {"name": source} if source else {}
        return told

    @property
    def miniature(self) -> bool:
        """True for the small base that ships with the package, whose sound is for trying the road only."""
        return bool(self.base.get("miniature", is_miniature(str(self.base["name"]))))

    @property
    def losses(self) -> dict[str, Any]:
        """scores.json's held-out loss: before, after and fall, or nothing."""
        return self.scores.get("held_out_loss") or {}

    @property
    def loss_unit(self) -> str:
        """What the loss is counted in: nats, or squared error."""
        return str(self.losses.get("loss_unit") or self.cost.get("loss_unit") or "nats")

    @property
    def split(self) -> dict[str, Any]:
        """By which step the corpus was split, with the explanation that belongs beside every score."""
        return self.scores.get("split") or self.corpus.get("split") or {}


def is_run(folder: Path) -> bool:
    """True where a stage has left one of a run's own files."""
    run = Run(folder)
    return any(path.is_file() for path in (run.recipe_file, run.cost, run.scores, run.log))


def find_runs(folder: Path) -> list[Path]:
    """The run that `folder` is, or the runs up to two levels below it; TalimError where there is none."""
    if not folder.is_dir():
        raise TalimError(f"{folder}: no such folder; give the folder that talim train or talim poc wrote")
    if is_run(folder):
        return [folder]
    inside = [path for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern)) if path.is_dir()]
    # talim poc puts runs that its changed inputs have outdated under earlier/
    found = [path for path in inside if is_run(path) and "earlier" not in path.relative_to(folder).parts]
    if not found:
        raise TalimError(
            f"{folder}: no run is here (no recipe.yaml, log.jsonl, cost.json or scores.json); "
            "give the folder that talim train or talim poc wrote"
        )
    return found


def read_result(folder: Path) -> RunResults:
    """Read whatever of a run is there; TalimError names a file that is damaged."""
    run = Run(folder)
    recipe = _read_recipe(run.recipe_file)
    scores = _read_mapping(run.scores)
    return RunResults(
        folder=folder,
        recipe=recipe,
        facts=_read_mapping(run.facts_file),
        log=read_jsonl(run.log) if run.log.is_file() else [],
        cost=_read_mapping(run.cost),
        scores=scores,
        adapter=_read_mapping(run.adapter / "talim.json"),
        corpus=_read_corpus(folder, recipe, scores),
        samples=_read_samples(run.samples),
    )


def _read_mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise TalimError(
            f"{path}: expected one JSON object; delete it and run the command that wrote it again"
        )
    return value


def _read_recipe(path: Path) -> dict[str, Any]:
    """The recipe as it was written; not validated, so that older runs can still be shown."""
    if not path.is_file():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TalimError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    return values if isinstance(values, dict) else {}


def _read_corpus(folder: Path, recipe: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """The corpus's summary: kept in the scores, else where the recipe says, else beside the run."""
    if isinstance(scores.get("corpus"), dict):
        return scores["corpus"]
    named = [Path(str(recipe["corpus"]))] if recipe.get("corpus") else []
    for place in (folder, *named, *(folder / path for path in named), folder.parent / "corpus"):
        if (place / "summary.json").is_file():
            return _read_mapping(place / "summary.json")
    return {}


def _read_samples(folder: Path) -> list[SavedSample]:
    if not (folder / "manifest.jsonl").is_file():
        return []
    rows = [row for row in read_jsonl(folder / "manifest.jsonl") if isinstance(row, dict) and row.get("file")]
    return [
        SavedSample(
            path=folder / str(row["file"]),
            role=str(row.get("role") or ("after" if row.get("adapter") else "before")),
            prompt=str(row.get("prompt") or ""),
            seed=row.get("seed"),
            recording=str(row.get("recording") or ""),
        )
        for row in rows
    ]
