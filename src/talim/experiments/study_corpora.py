"""The corpora of a study: performed or prepared once, shared by all trials; and the truth of what was performed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare_corpus
from talim.corpus.synthetic import FIRST_SEED, perform_corpus
from talim.errors import TalimError
from talim.experiments.study_file import CorpusSpec, SyntheticCorpusSpec
from talim.progress import Progress, prepare_progress

if TYPE_CHECKING:
    from talim.synthesis.ground_truth import GroundTruth

SEEDS_APART = 10_000  # between the first pieces of two performed corpora with neighbouring seeds


def corpus_path(source: CorpusSpec, name: str, out: Path, beside: Path) -> Path:
    """The folder of the prepared corpus; paths in the YAML are relative to the folder `beside` it."""
    return beside / source.prepared if source.prepared else out / "corpora" / name / "corpus"


def build_corpus(source: CorpusSpec, name: str, out: Path, beside: Path, progress: Progress) -> Corpus:
    """The corpus, prepared if it is not yet. TalimError where its content has changed since the study began."""
    place = corpus_path(source, name, out, beside)
    stamp, identity = out / "corpora" / name / "made.json", source.identity()
    known = read_json(stamp) if stamp.is_file() else None
    if known is not None and known["source"] != identity:
        raise TalimError(
            f"{stamp.parent}: made from another source than corpora.{name} now says; choose another --out "
            "or give the corpus a new name"
        )
    if source.prepared or (known is not None and source.perform):
        corpus = Corpus.load(place)
    else:
        corpus = prepare_corpus(
            _recordings(source, name, out, beside, progress),
            place,
            clip_seconds=source.clip_seconds,
            rate_hz=source.rate_hz,
            channels=source.channels,
            held_out_share=source.held_out_share,
            progress=prepare_progress(progress),
        )
    if known is not None and known["hash"] != corpus.hash:
        raise TalimError(
            f"corpora.{name}: its recordings have changed since this study began; choose another --out"
        )
    if known is None:
        write_json(stamp, {"source": identity, "hash": corpus.hash})
    return corpus


def ground_truth_of(source: CorpusSpec, corpus: Corpus) -> dict[str, GroundTruth]:
    """What was played in each held-out recording; nothing where that is not on record."""
    if source.perform is None:
        return {}
    from talim.synthesis.performer import performance_ground_truth

    played, found = source.perform, {}
    for clip in corpus.held_out:
        number = int(Path(clip.source_file).stem.removeprefix("piece-")) - 1
        found[clip.recording] = performance_ground_truth(
            first_seed(played) + number, played.tradition, played.seconds, _arrangement_options(played)
        )
    return found


def first_seed(played: SyntheticCorpusSpec) -> int:
    """The performer's seed of the first piece."""
    return FIRST_SEED + SEEDS_APART * played.seed


def _recordings(source: CorpusSpec, name: str, out: Path, beside: Path, progress: Progress) -> Path:
    if source.folder is not None:
        return beside / source.folder
    from talim.synthesis.performer import perform

    folder, played = out / "corpora" / name / "recordings", source.perform
    assert played is not None  # a source has one of three
    if not folder.is_dir():
        play: Any = partial(perform, wishes=_arrangement_options(played))
        seeds = first_seed(played)
        perform_corpus(folder, play, progress, played.pieces, played.seconds, played.tradition, seeds)
    return folder


def _arrangement_options(played: SyntheticCorpusSpec) -> Any:
    from talim.synthesis.arrangement import PerformanceRequest

    return PerformanceRequest(ensemble=played.players)
