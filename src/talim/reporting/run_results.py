"""Reads a run folder for reports: plain values, empty where a command has not been run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json, read_jsonl
from talim.backbones.registry import is_miniature
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.inside_folder import resolve_inside
from talim.path_suggestions import did_you_mean
from talim.run import Run
from talim.strict_yaml import YAML_FAULTS, load_yaml, yaml_fault


@dataclass(frozen=True)
class SavedSample:
    """One audio file of RUN/samples: its role (before, after, real), prompt, seed and recording."""

    path: Path
    role: str
    prompt: str
    seed: int | None = None
    recording: str = ""


@dataclass(frozen=True)
class RunResults:
    """A run as read from its files; every mapping is empty if its file is missing."""

    folder: Path
    recipe: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # run.json: base, provenance, run id
    log: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)  # adapter/talim.json
    corpus: dict[str, Any] = field(default_factory=dict)  # the summary of the corpus that it was trained on
    corpus_note: str = ""  # where the corpus's folder holds something else now, or the run did not record it
    samples: list[SavedSample] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether training is complete: cost.json is the last file that it writes, and scores need a finished run."""
        return bool(self.cost or self.scores)

    @property
    def steps_done(self) -> int:
        """Training steps so far."""
        logged = (int(row["step"]) for row in self.log if row.get("split") == "train" and "step" in row)
        return int(self.cost.get("steps") or max(logged, default=0))

    @property
    def steps_asked(self) -> int | None:
        """Training steps of the recipe, where it says so."""
        training = self.recipe.get("training")
        steps = training.get("steps") if isinstance(training, dict) else None
        return steps if isinstance(steps, int) else None

    @property
    def validated_steps(self) -> list[int]:
        """Training steps after which the validation loss was measured; not 0, where training began."""
        rows = (row for row in self.log if row.get("split") == "validation")
        return sorted({step for row in rows if isinstance(step := row.get("step"), int) and step})

    @property
    def start(self) -> dict[str, Any]:
        """The facts of the adapter that training began from; empty where it began anew."""
        return _mapping(self.facts.get("init_from"))

    @property
    def scored_adapter(self) -> dict[str, Any]:
        """The facts of an adapter that was scored without a run of its own; empty for a run."""
        return _mapping(self.facts.get("adapter"))

    @property
    def foreign_licences(self) -> dict[str, str]:
        """Licences of adapters that others may hold rights in, by what they are called in sentences."""
        named = {"the adapter it began from": self.start, "the adapter": self.scored_adapter}
        return {f"{what}, {facts.get('name')}": str(facts.get("licence")) for what, facts in named.items() if facts}

    @property
    def design(self) -> str:
        """The design as an expression, as far as it is known."""
        return str(self.recipe.get("design") or self.scores.get("design") or self.scored_adapter.get("design") or "")

    @property
    def training_music(self) -> dict[str, Any]:
        """What it trains on (`talim.corpus.attribution.training_music`), as far as known."""
        if self.scored_adapter:
            return {}
        recorded = self.facts.get("trained_on") or (self.corpus.get("split") or {}).get("train")
        return recorded if isinstance(recorded, dict) else {}

    @property
    def kept_out(self) -> dict[str, Any]:
        """How many recordings only chose its weights and measured it, and their rights."""
        return _mapping(self.facts.get("kept_out"))

    @property
    def base(self) -> dict[str, Any]:
        """The base model's name, licence and fingerprint, as far as known."""
        base: dict[str, Any] = {"name": self.recipe.get("base", "unknown")}
        for source in (self.scores.get("base"), self.adapter.get("base"), self.facts.get("base")):
            base |= source if isinstance(source, dict) else {"name": source} if source else {}
        return base

    @property
    def miniature(self) -> bool:
        """True for a base that ships with the package to test the pipeline."""
        return bool(self.base.get("miniature", is_miniature(str(self.base["name"]))))

    @property
    def losses(self) -> dict[str, Any]:
        """The held-out losses of scores.json: base_loss, adapted_loss and loss_reduction, or nothing."""
        return self.scores.get("held_out_loss") or {}

    @property
    def loss_unit(self) -> str:
        """The unit of the loss: nats, or squared error."""
        return str(self.losses.get("loss_unit") or self.cost.get("loss_unit") or "nats")

    @property
    def split(self) -> dict[str, Any]:
        """The strategy by which the corpus was split, and its explanation."""
        return self.scores.get("split") or self.corpus.get("split") or {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def is_run(folder: Path) -> bool:
    """True if the folder holds one of a run's own files."""
    run = Run(folder)
    return any(path.is_file() for path in (run.recipe_file, run.cost, run.scores, run.log))


def find_runs(folder: Path) -> list[Path]:
    """The folder itself if it is a run, else the runs up to two levels below it; TalimError if there is none."""
    if not folder.is_dir():
        near = did_you_mean(folder)
        raise TalimError(f"{folder}: no such folder{near}; give the folder that talim train or talim poc wrote")
    if is_run(folder):
        return [folder]
    inside = [path for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern)) if path.is_dir()]
    # talim poc moves results of other configurations to earlier/
    runs = [path for path in inside if is_run(path) and "earlier" not in path.relative_to(folder).parts]
    if not runs:
        raise TalimError(
            f"{folder}: holds no run (no recipe.yaml, log.jsonl, cost.json or scores.json); "
            "give the folder that talim train or talim poc wrote"
        )
    return runs


def read_result(folder: Path) -> RunResults:
    """Read the files that a run has; TalimError names a damaged one."""
    run = Run(folder)
    recipe = _read_recipe(run.recipe_file)
    scores, facts = read_mapping(run.scores), read_mapping(run.facts_file)
    corpus, corpus_note = _read_corpus(folder, recipe, facts, scores)
    return RunResults(
        folder=folder,
        recipe=recipe,
        facts=facts,
        log=read_jsonl(run.log) if run.log.is_file() else [],
        cost=read_mapping(run.cost),
        scores=scores,
        adapter=read_mapping(run.adapter / "talim.json"),
        corpus=corpus,
        corpus_note=corpus_note,
        samples=_read_samples(run.samples),
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a JSON file, nothing if it is missing; TalimError if it is no mapping."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise TalimError(f"{path}: expected one JSON object; delete it and run the command that wrote it again")
    return value


def _read_recipe(path: Path) -> dict[str, Any]:
    """The recipe as written; not validated, so that older runs can still be reported."""
    if not path.is_file():
        return {}
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, *YAML_FAULTS) as error:
        raise TalimError(f"{path}: not a YAML file ({yaml_fault(error)})") from None
    return values if isinstance(values, dict) else {}


def _read_corpus(
    folder: Path, recipe: dict[str, Any], facts: dict[str, Any], scores: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """The summary of the corpus that the run was trained on, and a note where its folder is no proof of it.

    The run's own record comes first: its folder may have been prepared again since.
    """
    recorded = next((each for each in (facts.get("corpus"), scores.get("corpus")) if isinstance(each, dict)), None)
    expected = facts.get("corpus_hash")
    hashes = {there: _content_hash(there) for there in _corpus_folders(folder, recipe)}
    if not hashes:
        return recorded or {}, ""
    there, now = next((pair for pair in hashes.items() if expected and pair[1] == expected), next(iter(hashes.items())))
    if recorded is not None:
        if not expected or now in (expected, None):
            return recorded, ""
        return recorded, f"{there} has changed since: described here is the music that this run was trained on."
    if expected and now == expected:
        return read_mapping(there / "summary.json"), ""
    if expected and now:
        return {}, f"{there} has changed since this run was trained, and the run did not record what it held then."
    note = f"As {there} describes it today; whether this run was trained on the same is not recorded."
    return read_mapping(there / "summary.json"), note


def _corpus_folders(folder: Path, recipe: dict[str, Any]) -> list[Path]:
    """Where the corpus of a run may be now: by the recipe, else the folder `corpus` beside the run."""
    named = [Path(str(recipe["corpus"]))] if recipe.get("corpus") else []
    candidates = (folder, *named, *(folder / path for path in named), folder.parent / "corpus")
    return [each for each in candidates if (each / "summary.json").is_file()]


def _content_hash(corpus: Path) -> str | None:
    """`Corpus.hash` of the folder; None where it cannot be read."""
    try:
        return Corpus.load(corpus).hash
    except TalimError:
        return None


def _read_samples(folder: Path) -> list[SavedSample]:
    if not (folder / "manifest.jsonl").is_file():
        return []
    rows = [row for row in read_jsonl(folder / "manifest.jsonl") if isinstance(row, dict) and row.get("file")]
    return [
        SavedSample(
            path=resolve_inside(folder, str(row["file"])),
            role=str(row.get("role") or ("after" if row.get("adapter") else "before")),
            prompt=str(row.get("prompt") or ""),
            seed=row.get("seed"),
            recording=str(row.get("recording") or ""),
        )
        for row in rows
    ]
