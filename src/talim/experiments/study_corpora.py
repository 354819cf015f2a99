"""The corpora of a study: synthesised or prepared once, shared by all trials; and their ground truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.atomic_io import read_json, write_json
from talim.audio import Audio
from talim.corpus.manifest import Clip, Corpus
from talim.corpus.prepare import prepare
from talim.corpus.synthetic import FIRST_SEED, perform_corpus
from talim.errors import TalimError
from talim.experiments.study_file import CorpusSpec, SyntheticCorpusSpec
from talim.path_suggestions import did_you_mean
from talim.progress import Progress

if TYPE_CHECKING:
    from talim.synthesis.ground_truth import GroundTruth

SEED_STRIDE = 10_000  # between the first pieces of two synthetic corpora with consecutive seeds
SUMMARY = "summary.json"  # of a prepared corpus
STAMP_FILE = "corpus.json"  # what the corpus was built from, and its content hash


def missing_source(spec: CorpusSpec, name: str, base_folder: Path) -> str:
    """Why the corpus `name` cannot be built from what it names; empty if the source is there or is synthesised."""
    if spec.corpus is not None and not (base_folder / spec.corpus / SUMMARY).is_file():
        path = base_folder / spec.corpus
        return f"corpora.{name}: {path} is no prepared corpus{did_you_mean(path)}; make it with talim prepare first"
    if spec.recordings is not None and not (base_folder / spec.recordings).exists():
        path = base_folder / spec.recordings
        return f"corpora.{name}: {path}: no such folder of recordings{did_you_mean(path)}"
    return ""


def build_corpus(
    spec: CorpusSpec, name: str, out: Path, base_folder: Path, progress: Progress, held_out: Collection[str] = ()
) -> Corpus:
    """The corpus `name` of the study in `out`, prepared if it is not yet; paths are relative to `base_folder`.

    `held_out` names the recordings to hold out, instead of a drawn fraction. TalimError if its definition or its
    content has changed since the study began.
    """
    own_folder, identity = out / "corpora" / name, spec.identity()
    folder = base_folder / spec.corpus if spec.corpus else own_folder / "corpus"
    stamp_file = own_folder / STAMP_FILE
    stamp = read_json(stamp_file) if stamp_file.is_file() else None
    if stamp is not None and stamp["spec"] != identity:
        raise TalimError(
            f"{own_folder}: was built from another definition of corpora.{name}; choose another --out or give the "
            "corpus a new name"
        )
    if spec.corpus or (stamp is not None and spec.synthesize):
        corpus = Corpus.load(folder)
    else:
        corpus = prepare(
            _recordings(spec, own_folder, base_folder, progress),
            folder,
            clip_seconds=spec.clip_seconds,
            sample_rate=spec.rate_hz,
            channels=spec.channels,
            held_out_fraction=None if held_out else spec.held_out_fraction,
            held_out=held_out,
            progress=progress,
        )
    if missed := sorted(set(held_out) - {clip.recording for clip in corpus.held_out}):
        raise TalimError(
            f"corpora.{name}: {missed[0]} is held out in the corpus that it is compared with; choose another --out"
        )
    if stamp is not None and stamp["hash"] != corpus.hash:
        raise TalimError(f"corpora.{name}: its recordings have changed since this study began; choose another --out")
    if stamp is None:
        write_json(stamp_file, {"spec": identity, "hash": corpus.hash})
    return corpus


def ground_truth_of(spec: CorpusSpec, corpus: Corpus) -> dict[str, GroundTruth]:
    """The ground truth of each held-out recording; empty for a corpus that is not synthetic."""
    if spec.synthesize is None:
        return {}
    from talim.synthesis.performer import performance_ground_truth

    settings = (spec.synthesize.tradition, spec.synthesize.seconds, _performance_request(spec.synthesize))
    seeds = {clip.recording: int(clip.extra["seed"]) for clip in corpus.held_out}
    return {recording: performance_ground_truth(seed, *settings) for recording, seed in seeds.items()}


def perform_otherwise(spec: CorpusSpec, clip: Clip, **changes: Any) -> Audio:
    """The sound of a clip of a synthetic corpus as its piece is performed with other options (`PerformanceRequest`)."""
    from talim.synthesis.performer import perform

    assert spec.synthesize is not None
    request = replace(_performance_request(spec.synthesize), **changes)
    performance = perform(int(clip.extra["seed"]), spec.synthesize.tradition, spec.synthesize.seconds, request)
    sound = Audio(np.atleast_2d(performance.samples), performance.rate_hz)
    return sound.to_channels(spec.channels).resample(spec.rate_hz).cut(clip.start_seconds, clip.seconds)


def _recordings(spec: CorpusSpec, own_folder: Path, base_folder: Path, progress: Progress) -> Path:
    if spec.recordings is not None:
        return base_folder / spec.recordings
    from talim.synthesis.performer import perform

    folder, synthetic = own_folder / "recordings", spec.synthesize
    assert synthetic is not None  # a spec has one of three sources
    if not folder.is_dir():
        play: Any = partial(perform, request=_performance_request(synthetic))
        first_seed = FIRST_SEED + SEED_STRIDE * synthetic.seed
        perform_corpus(folder, play, progress, synthetic.count, synthetic.seconds, synthetic.tradition, first_seed)
    return folder


def _performance_request(synthetic: SyntheticCorpusSpec) -> Any:
    from talim.synthesis.arrangement import PerformanceRequest

    return PerformanceRequest(
        ensemble=synthetic.ensemble_size, ornaments=synthetic.ornaments, returns=synthetic.returns
    )
