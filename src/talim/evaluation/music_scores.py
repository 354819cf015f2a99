"""Scores of generated music: clips with and without the adapter against real held-out clips.

All clips are mixed down, resampled to 16 kHz and cut to one length before anything is measured, and no distance
depends on loudness, so that bases of different sample rates are compared fairly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from talim.atomic_io import write_text
from talim.audio import Audio
from talim.corpus.manifest import Clip, Corpus
from talim.errors import TalimError, UsageError
from talim.evaluation import clip_measures, copy_report, copy_scores, score_table
from talim.evaluation.adherence_scores import prompt_adherence_scores
from talim.evaluation.protocol import score_protocol
from talim.evaluation.sample_pairs import SamplePair
from talim.evaluation.score_table import ClipSet, Estimate, Measure, ScoreRow, score_page, score_row
from talim.evaluation.tradition_scores import prompt_tempo, tradition_scores
from talim.html.formatting import format_counted
from talim.metrics import clap, embeddings, pitch
from talim.metrics.cache import MetricCache
from talim.metrics.distribution_distances import frechet_distance, split_half_distance
from talim.progress import Progress, counted
from talim.run import Run
from talim.training.batches import stratified_sample

PROTOCOLS = ("default", "paper")
PAPER_EMBEDDINGS = {"fad_vggish": "vggish", "fd_panns": "panns"}
MAX_REAL_CLIPS = 60
MAX_RESYNTHESIZED = 20  # of them through the codec; the distance has no bias from their number
LENGTH_TOLERANCE = 0.05  # seconds: codec frames do not divide every length


def score_music(  # noqa: PLR0913
    run: Run,
    corpus: Corpus,
    pairs: Sequence[SamplePair],
    *,
    seconds: float,
    seed: int,
    protocol: str = "default",
    num_workers: int = 1,
    codec_tokens: tuple[Sequence[np.ndarray], Sequence[np.ndarray], float] | None = None,
    resynthesis: Sequence[tuple[Clip, Audio]] = (),
    held_out_loss: Mapping[str, Any] | None = None,
    not_compared_with: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`protocol`, `scores`, `prompts`, `warnings` and `copies` of a run; writes RUN/scores.html and RUN/copies.html.

    Scores of single clips have their values by prompt, in the order of `prompts` (words, recording and seed).

    `codec_tokens`: tokens [K, frames] of the training clips and of up to 60 held-out clips, and frames per second,
    for bases that generate tokens; memorised fragments are then searched for. `resynthesis`: held-out clips, and each
    through the base's codec and `as_compared`. `held_out_loss` is shown on the page. `not_compared_with` says what
    music the adapter was trained on that no copies are looked for in. CLAP is loaded from the Hugging Face cache,
    else its row says that it is not available. UsageError for an unknown protocol; TalimError if the weights of the
    paper's embeddings cannot be loaded.
    """
    check_protocol(protocol)
    progress = progress or Progress()
    clap_model = clap.load_clap_if_available()
    prompt_clips = [pair.clip for pair in pairs]
    real_clips = choose_real_clips(corpus.held_out, seconds)
    read = counted(map(corpus.read_clip, real_clips), len(real_clips), progress, "reading held-out clips")
    sets = [
        (*_lengths_and_clips(read, seconds), real_clips),
        (*_lengths_and_clips((pair.adapted.audio for pair in pairs), seconds), prompt_clips),
        (*_lengths_and_clips((pair.base.audio for pair in pairs), seconds), prompt_clips),
    ]
    shortest_seconds, length_note = _common_length(seconds, [(lengths, labels) for lengths, _, labels in sets])
    cache = MetricCache(run.metrics_cache)
    titles = (f"measuring clips {name}" for name in ("held out", "with adapter", "without adapter"))
    real, generated, base = (
        load_inputs(clips, labels, shortest_seconds, cache, num_workers, progress, title)
        for (_, clips, labels), title in zip(sets, titles, strict=True)
    )
    facts = {
        "corpus": corpus.hash,
        "kind": protocol,
        "seconds": round(shortest_seconds, 3),
        "rate_hz": pitch.RATE_HZ,
        "generated": len(pairs),
        "given": "captions alone",
        "real": len(real_clips),
        "seed": seed,
        "clap": None if isinstance(clap_model, str) else clap_model.audio_embedding.identity,
    }
    rng = np.random.default_rng(seed)
    through_codec = _through_codec(resynthesis, shortest_seconds)
    distances, warnings = score_table.distance_rows(generated, real, base, cache, rng, through_codec, progress)
    warnings = [*filter(None, [length_note]), *warnings]
    tokens = _token_matcher(pairs, codec_tokens)
    others = clips_beside(corpus, seconds)
    copy_rows, copies = copy_scores.copy_scores(corpus, generated, base, real, tokens, cache, others, progress)
    copies["not_compared_with"] = not_compared_with
    copies["sentence"] = copy_scores.copies_sentence(copies)
    rows = [
        *score_table.clip_measure_rows(generated, real, base),
        *tradition_scores(prompt_clips, generated, base, real_clips, real),
        *distances,
        *prompt_adherence_scores(prompt_clips, generated, base, real_clips, real, cache, clap_model),
        *copy_rows,
        *(paper_distance_scores(generated, real, base, cache, rng, through_codec) if protocol == "paper" else []),
    ]
    warnings += [f"{row.name}: {row.undecided}" for row in rows if row.undecided]
    if (again := len(pairs) - len({clip.id for clip in prompt_clips})) > 0:
        warnings.append(
            f"{again} of {format_counted(len(pairs), 'prompt')} are captions that are asked for again, with other seeds"
        )
    prompts = [{"prompt": pair.prompt, "recording": pair.clip.sound_group, "seed": pair.seed} for pair in pairs]
    result = {"protocol": score_protocol(facts), "scores": score_table.rows_as_json(rows)}
    result |= {"warnings": warnings, "prompts": prompts}
    write_text(run.folder / "scores.html", score_page("Scores", {**result, "held_out_loss": held_out_loss}))
    for row in copies["clips"]:
        row["clip"] = str(run.samples / row["clip"])
    write_text(run.folder / "copies.html", copy_report.copy_report(copies))
    return {**result, "copies": copies}


def _through_codec(resynthesis: Sequence[tuple[Clip, Audio]], seconds: float) -> ClipSet | None:
    """The sounds, which are `as_compared`, in one length, with the recordings that they come from; None without any."""
    clips = [sound.cut(0, seconds) for _, sound in resynthesis]
    return ClipSet(clips, [], [clip.sound_group for clip, _ in resynthesis]) if clips else None


def choose_real_clips(held_out: Sequence[Clip], seconds: float, max_clips: int = MAX_REAL_CLIPS) -> list[Clip]:
    """The held-out clips that generated ones of `seconds` are compared with: of each recording those that are as long.

    A recording without any is represented by its longest, so that the end of a recording, cut where it ends, shortens
    no comparison.
    """
    longest: dict[str, float] = {}
    for clip in held_out:
        longest[clip.sound_group] = max(clip.seconds, longest.get(clip.sound_group, 0.0))
    enough = [clip for clip in held_out if clip.seconds >= min(seconds, longest[clip.sound_group]) - LENGTH_TOLERANCE]
    return stratified_sample(enough, max_clips)


def clips_beside(corpus: Corpus, seconds: float) -> list[Clip]:
    """The clips of the corpus beside the held-out ones, validation first, for `copy_scores.null_similarities`."""
    return [*choose_real_clips(corpus.validation, seconds), *choose_real_clips(corpus.train, seconds)]


def as_compared(clip: Audio, seconds: float) -> Audio:
    """The clip as scores compare it, one channel at 16 kHz of at most `seconds`, which holds no other samples."""
    part = clip.mono().resample(pitch.RATE_HZ).cut(0, seconds)
    return Audio(part.samples.copy(), part.rate_hz)


def _lengths_and_clips(clips: Iterable[Audio], seconds: float) -> tuple[list[float], list[Audio]]:
    """The length of each clip in seconds, and the clip `as_compared`; one whole clip is held at a time."""
    lengths, compared = [], []
    for clip in clips:
        lengths.append(clip.seconds)
        compared.append(as_compared(clip, seconds))
    return lengths, compared


def _common_length(seconds: float, sets: Sequence[tuple[Sequence[float], Sequence[Clip]]]) -> tuple[float, str]:
    """The length that all clips have, at most `seconds`, and why it is less than that.

    `sets` are real clips, then generated ones: the length of each in seconds, and what they are clips of.
    """
    lengths = [(length, number, clip) for number, pairs in enumerate(sets) for length, clip in zip(*pairs, strict=True)]
    shortest, number, clip = min(lengths, key=lambda each: each[0])
    if shortest >= seconds - LENGTH_TOLERANCE:
        return min(seconds, shortest), ""
    what = f"the held-out clip {clip.file} of {clip.recording}" if number == 0 else "a generated clip"
    return shortest, (
        f"{seconds:g} s were asked for, but the scores compare the first {shortest:.3g} s of every clip, because "
        f"{what} is only that long; the samples in the folder have their full length"
    )


def check_protocol(protocol: str) -> None:
    """UsageError for a protocol other than PROTOCOLS."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"no protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")


def _token_matcher(
    pairs: Sequence[SamplePair], codec_tokens: tuple[Sequence[np.ndarray], Sequence[np.ndarray], float] | None
) -> copy_scores.TokenMatcher | str:
    """First codebooks of everything that is compared, or the reason why there are none."""
    if codec_tokens is None:
        return "this base generates no tokens"
    training, held_out, frame_rate_hz = codec_tokens
    generated = [pair.adapted.targets[0] for pair in pairs]
    base = [pair.base.targets[0] for pair in pairs]
    longest = max(map(len, generated))  # longer null clips would share longer runs by chance
    return copy_scores.TokenMatcher(
        [row[0] for row in training], [row[0][:longest] for row in held_out], generated, base, frame_rate_hz
    )


def load_inputs(
    clips: Sequence[Audio],
    labels: Sequence[Clip],
    seconds: float,
    cache: MetricCache,
    num_workers: int,
    progress: Progress | None = None,
    title: str = "measuring clips",
) -> ClipSet:
    """Clips that are `as_compared`, in one length, with their measures, and recordings and tempi of their labels."""
    uniform = [clip.cut(0, seconds) for clip in clips]
    measures = clip_measures.measure_clips(uniform, cache.folder, num_workers, progress, title)
    return ClipSet(uniform, measures, [clip.sound_group for clip in labels], [prompt_tempo(clip) for clip in labels])


def paper_distance_scores(
    generated: ClipSet,
    real: ClipSet,
    base: ClipSet | None,
    cache: MetricCache,
    rng: np.random.Generator,
    resynthesis: ClipSet | None = None,
) -> list[ScoreRow]:
    """The two Fréchet distances of the paper. TalimError if the weights of an embedding cannot be loaded.

    `resynthesis` is real music that went through the base's codec.
    """
    rows = []
    for name, model in PAPER_EMBEDDINGS.items():
        try:
            extractor = embeddings.load(model)
        except TalimError as error:
            raise TalimError(f"--protocol paper needs {model}: {error}") from error
        real_rows, generated_rows = (embeddings.embed(part.clips, extractor, cache) for part in (real, generated))
        baseline = None if base is None else frechet_distance(real_rows, embeddings.embed(base.clips, extractor, cache))
        meaning = f"Fréchet distance to the real music in {model}, biased upwards in small sets"
        measure = Measure(name, "lower_is_better", f"{model} squared", meaning)
        estimate = Estimate(frechet_distance(real_rows, generated_rows), None, len(generated_rows))
        reference = split_half_distance(frechet_distance, real_rows, real.recordings, rng)
        row = score_row(measure, estimate, reference, baseline, reference_requirement=score_table.SPLIT_REQUIREMENT)
        if resynthesis is not None and len(resynthesis.clips) > 1:
            limit = frechet_distance(real_rows, embeddings.embed(resynthesis.clips, extractor, cache))
            row = score_table.with_resynthesis(row, limit, f"{limit:.3g}")
        rows.append(row)
    return rows
