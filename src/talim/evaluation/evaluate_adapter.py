"""Evaluation of an adapter without a run, from a folder or the Hub, on the held-out recordings of a corpus."""

from __future__ import annotations

import hashlib
import inspect
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim.adapters.serialization import base_to_load, check_adapter
from talim.atomic_io import check_writable, read_json, write_json
from talim.corpus.attribution import training_music
from talim.corpus.manifest import Corpus
from talim.errors import TalimError, UsageError
from talim.evaluation.evaluate import ScoredAdapter, check_request, score_adapter
from talim.generation.generate import GenerationOptions
from talim.html.formatting import format_setting
from talim.progress import Progress
from talim.recipe import Recipe, Training
from talim.run import Run, provenance
from talim.training import start_adapter
from talim.training.start_adapter import StoredAdapter, stored_adapter

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

SCORED = "adapter"  # in run.json: what was scored, where nothing was trained
UNTRAINED = Training(frozen_cache="off")  # only the adapter's own files say which layers it leaves as they are


def evaluate_adapter(  # noqa: PLR0913
    adapter: Path | str,
    corpus_folder: Path | str,
    out: Path | str,
    progress: Progress | None = None,
    *,
    base: str | None = None,
    num_prompts: int = 3,
    num_continuations: int | None = None,
    seconds: float = 10.0,
    seed: int = 0,
    options: GenerationOptions | None = None,
    device: str = "auto",
    protocol: str = "default",
    num_workers: int = 1,
) -> dict[str, Any]:
    """Score an adapter of talim or of PEFT as `evaluate` scores a run; results go into the folder `out`.

    `base` is the one that the adapter names, if not given. Nothing is written into the adapter's folder. TalimError
    where the adapter does not fit its base, or `out` holds something else.
    """
    from talim.backbones.load import load

    progress, options = progress or Progress(), options or GenerationOptions()
    corpus, found = Corpus.load(corpus_folder), stored_adapter(adapter, "--adapter")
    if not corpus.held_out:
        raise TalimError(f"{corpus.folder}: no held-out clips to score the adapter on; prepare more recordings")
    name = base or base_to_load(found.folder)
    # what a run's recipe would have told; nothing is trained
    recipe = Recipe(base=name, corpus=corpus.folder, design=found.design, init_from=str(adapter), training=UNTRAINED)
    check_request(recipe, options, protocol)
    run = Run(out)
    run.adapter = found.folder
    _check_out(run, found, corpus)
    check_writable(run.facts_file)
    backbone = load(name, device=device)
    check_adapter(backbone, found.folder)  # before anything is said of it or written
    for line in found.lines(backbone.name):
        progress.log(line)
    seen = start_adapter.seen_before(found.trained_on, corpus.held_out, found.source.name)
    identity = {"run_id": _identity(found, corpus), "corpus_hash": corpus.hash}
    with run.lock():
        write_json(run.facts_file, {**identity, **_facts(found, corpus, backbone)})
        asked = {"base": base, "num_prompts": num_prompts, "num_continuations": num_continuations, "seconds": seconds}
        asked |= {"sampling_steps": options.sampling_steps, "sampler": options.sampler, "seed": seed}
        command = _command(adapter, corpus_folder, out, asked | {"protocol": protocol})
        facts = {"run_id": identity["run_id"], "command": command}
        return score_adapter(
            ScoredAdapter(run, recipe, corpus, seen, facts),
            backbone,
            progress,
            num_prompts=num_prompts,
            num_continuations=num_continuations,
            seconds=seconds,
            seed=seed,
            options=options,
            protocol=protocol,
            num_workers=num_workers,
        )


def _command(adapter: Path | str, corpus: Path | str, out: Path | str, asked: Mapping[str, Any]) -> str:
    """The command that does it again, with the options that differ from their defaults."""
    words = ["talim", "evaluate", "--adapter", str(adapter), "--corpus", str(corpus), "--out", str(out)]
    defaults = inspect.signature(evaluate_adapter).parameters
    for name, value in asked.items():
        if value != (defaults[name].default if name in defaults else None):
            text = format_setting(value) if isinstance(value, float) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def _facts(found: StoredAdapter, corpus: Corpus, backbone: Backbone) -> dict[str, Any]:
    base = {name: getattr(backbone, name) for name in ("name", "licence", "fingerprint", "miniature")}
    base |= {"parameters": backbone.num_parameters, "precision": backbone.precision_reason}
    base |= {"revision": backbone.revision} if backbone.revision else {}
    music = {"corpus": corpus.summary, "kept_out": training_music([], corpus.held_out)["kept_out"]}
    return {"base": base, SCORED: found.facts(), "provenance": provenance(), **music}


def _identity(found: StoredAdapter, corpus: Corpus) -> str:
    return hashlib.sha256(f"{found.hash} {corpus.hash}".encode()).hexdigest()[:12]


def _check_out(run: Run, found: StoredAdapter, corpus: Corpus) -> None:
    """UsageError where the folder holds anything but earlier scores of the same adapter on the same corpus."""
    if not run.folder.exists():
        return
    if not run.folder.is_dir():
        raise UsageError(f"--out {run.folder}: is a file; give a new folder for the scores, samples and pages")
    facts = read_json(run.facts_file) if run.facts_file.is_file() else {}
    if isinstance(facts, dict) and SCORED in facts and facts.get("run_id") == _identity(found, corpus):
        return
    if any(path.name != ".lock" for path in run.folder.iterdir()):
        what = "scores of another adapter or corpus" if SCORED in facts else "something else"
        raise UsageError(f"--out {run.folder}: holds {what}, which is not overwritten; give a new folder")
