"""Recognises the mode of a melody and its tonic.

A melody gives a histogram of intervals by pitch class (`note_transcription.interval_histogram`) and histograms of the
time on each degree at its beginning, in its middle and at its end. Every mode, at every tonic, gives them a likelihood
(`mode_model.transition_density`, `degree_density`, updated by labelled recordings where there are any:
`fitted_modes`); Bayes' rule with the modes' frequencies as prior gives the posterior. Steps of one melody are
correlated, so their mean log density is weighted as that of `effective_sample_size` independent steps: of few in a
short melody, of at most `EFFECTIVE_SAMPLE_SIZE`. Both numbers are fitted on real pitch tracks
(docs/reports/mode-recognition.md).

An unknown tonic is inferred from the notes on which phrases and the whole melody end and, in a tradition whose melodies
have their low end at a known place about the tonic (`Tradition.low_end_cents`), from the melody's own low end. A given
tonic is assumed to be wrong with probability `TONIC_ERROR_RATE`, as annotated tonics are in some of every hundred
recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import logsumexp

from talim.errors import TalimError
from talim.traditions import mode_model, note_transcription
from talim.traditions.fitted_modes import DEFAULT_FIT_SHAPE, PARTS, FitShape, FittedModes
from talim.traditions.mode_model import DEFAULT_HISTOGRAM_SHAPE, PitchHistogramShape
from talim.traditions.note_transcription import CLASSES, STEP_CENTS, NoteSequence
from talim.traditions.schema import Mode
from talim.traditions.tradition import Tradition

EFFECTIVE_SAMPLE_SIZE = 20.0  # of a long melody
HALF_SECONDS = 12.0  # of steady notes, with which a melody is worth half as many
DEGREE_WEIGHT = 0.3  # of the mean log density of the degrees of one part, against that of the steps
OFF_SCALE_TIME_FRACTION = 0.2  # of the time, uniformly distributed
TONIC_ERROR_RATE = 0.1
TONIC_SPREAD_CENTS = 10.0  # standard deviation of a correctly given tonic
REST_SECONDS = 0.4  # a silence that ends a phrase
LAST_NOTES = 4  # of the melody, which lead to its final
REST_SPREAD_CENTS = 25.0
MIN_REST_FRACTION = 0.002  # of resting time, for every pitch class
LOW_END_FRACTION = 0.05  # of its time, which a melody spends below its low end
LOW_END_SPREAD_CENTS = 150.0
LOW_END_EXCEPTIONS = 0.1  # of melodies, whose low end may lie anywhere: an instrument, a passage in a high register
MIN_NOTES = 8
RANGE_BELOW_TONIC_CENTS = 300.0  # a melody's median lies between this far below its tonic and an octave higher
DECISIVE_RATIO = 10.0  # times as probable: Jeffreys' "strong" evidence (Theory of Probability, 1961), fitted on nothing
MORE_NOTES = 2  # at most, that one of two modes of nearly the same notes has beyond those of the other


@dataclass(frozen=True)
class ModePosterior:
    """The probability of each of `modes` [m] and of each tonic [CLASSES].

    Tonics are STEP_CENTS apart, upwards from the pitch that the melody's cents are measured from.
    """

    modes: tuple[tuple[Tradition, Mode], ...]
    scores: np.ndarray
    tonics: np.ndarray

    def ranked_modes(self) -> list[tuple[Tradition, Mode, float]]:
        """Tradition, mode and probability, the most probable first."""
        order = np.argsort(-self.scores, kind="stable")
        return [(*self.modes[index], float(self.scores[index])) for index in order]

    def modes_alike(self, most: int) -> list[tuple[Tradition, Mode, float]]:
        """The most probable mode, and those that it is not DECISIVE_RATIO times as probable as and of nearly its notes.

        Every two have nearly the same notes: each has nearly those of all more probable ones among them. One alone is
        told apart; of more than `most` the most probable. The mode of the fewest notes is first, as the slides between
        notes add notes to a melody and take none away, which lets a larger scale look likelier.
        """
        ranked = self.ranked_modes()
        home, _, score = ranked[0]
        alike: list[tuple[Tradition, Mode, float]] = []
        for each in ranked:
            near = all(have_nearly_the_same_notes(each[1], mode) for _, mode, _ in alike)
            if near and each[0] is home and each[2] * DECISIVE_RATIO > score:
                alike.append(each)
        return sorted(alike[:most], key=lambda each: len(each[1].degrees_cents))


class ModeRecognizer:
    """The modes of some traditions, prepared for recognising many melodies."""

    def __init__(
        self,
        traditions: Sequence[Tradition],
        shape: PitchHistogramShape = DEFAULT_HISTOGRAM_SHAPE,
        *,
        use_note_weights: bool = True,
        use_mode_counts: bool = True,
        fitted: Sequence[FittedModes] = (),
        fit_shape: FitShape = DEFAULT_FIT_SHAPE,
        degree_weight: float = DEGREE_WEIGHT,
    ) -> None:
        """`use_note_weights`, `use_mode_counts`: use these usage statistics of the traditions where they exist.

        `fitted` are counts of labelled recordings, of any of the traditions. `degree_weight` weighs the degrees'
        histograms against the intervals'; 0 leaves them out.
        """
        self.traditions = tuple(traditions)
        self.modes = tuple((tradition, mode) for tradition in traditions for mode in tradition.modes)
        self.prior = np.concatenate([mode_log_prior(tradition, use_mode_counts) for tradition in traditions])
        self.prior -= np.log(len(traditions))
        counts = {(each.tradition, slug): found for each in fitted for slug, found in each.modes.items()}
        steps, degrees = [], []
        for tradition, mode in self.modes:
            usage = tradition.usage.get(mode.slug) if use_note_weights else None
            weights = usage.weights if usage else None
            transition = mode_model.transition_density(mode, weights, shape)
            degree = mode_model.degree_density(mode, weights, shape)
            degree = (1.0 - OFF_SCALE_TIME_FRACTION) * degree + OFF_SCALE_TIME_FRACTION / CLASSES
            if found := counts.get((tradition.slug, mode.slug)):
                transition = found.transition_density(transition, fit_shape)
                degree = found.degree_density(degree, fit_shape)
            steps.append(np.log(transition).astype(np.float32))
            degrees.append(np.log(np.broadcast_to(degree, (PARTS, CLASSES))))
        self._degree_weight = degree_weight
        self.step_log_density = np.stack(steps)  # [mode, pitch class, interval]
        self.degree_log_density = np.stack(degrees)  # [mode, part, pitch class]
        self._spectra = np.conj(np.fft.rfft(self.step_log_density, axis=1))
        self._degree_spectra = np.conj(np.fft.rfft(self.degree_log_density, axis=2))

    def fit(self, notes: NoteSequence) -> np.ndarray:
        """The mean log density of the melody's steps and weighted degrees, [tonic, mode]; TalimError: too few notes."""
        histogram = note_transcription.interval_histogram(notes)
        if notes.cents.size < MIN_NOTES or not histogram.any():
            raise TalimError(
                f"too little melody to tell a mode: steady notes: {notes.cents.size}, of at least {MIN_NOTES} that are "
                "needed; give a longer or a clearer recording"
            )
        spectrum = np.fft.rfft(histogram, axis=0)
        product = np.einsum("fi,mfi->mf", spectrum, self._spectra, optimize=True)
        parts = np.fft.rfft(note_transcription.degree_histograms(notes, PARTS), axis=1)
        product += self._degree_weight * np.einsum("pf,mpf->mf", parts, self._degree_spectra, optimize=True)
        return np.fft.irfft(product, n=CLASSES, axis=1).T

    def recognize(
        self,
        notes: NoteSequence,
        *,
        tonic_known: bool,
        most_steps: float = EFFECTIVE_SAMPLE_SIZE,
        half_seconds: float = HALF_SECONDS,
        tonic_error_rate: float = TONIC_ERROR_RATE,
    ) -> ModePosterior:
        """The posterior of mode and tonic; with `tonic_known`, the cents of `notes` are measured from the tonic.

        `most_steps` and `half_seconds` are those of `effective_sample_size`, which the probabilities of modes follow;
        with 0 `half_seconds` they compare short melodies as sharply as long ones, which a score wants.
        """
        fit = self.fit(notes)
        tonic_log = self.tonic_log_probs(notes)
        if tonic_known:
            offset_cents = mode_model.cents_distance(np.arange(CLASSES) * STEP_CENTS, 0.0)
            given = np.exp(-0.5 * (offset_cents / TONIC_SPREAD_CENTS) ** 2)
            given *= (1.0 - tonic_error_rate) / given.sum()
            tonic_log = np.log(given[:, None] + tonic_error_rate * np.exp(tonic_log) + 1e-30)
        whole = most_steps * fit + self.prior + tonic_log  # which finds the tonic of short melodies, too
        joint = effective_sample_size(notes, most_steps, half_seconds) * fit + self.prior + tonic_log
        joint -= np.asarray(logsumexp(joint))
        whole -= np.asarray(logsumexp(whole))
        return ModePosterior(self.modes, np.exp(logsumexp(joint, axis=0)), np.exp(logsumexp(whole, axis=1)))

    def tonic_log_probs(self, notes: NoteSequence) -> np.ndarray:
        """The log probability of each tonic before any mode is fitted, in the tradition of each mode: [tonic, mode]."""
        ends = tonic_log_prob(notes)
        logs = np.stack([ends + low_end_log_prob(notes, each.low_end_cents) for each in self.traditions], axis=1)
        logs -= np.asarray(logsumexp(logs, axis=0))
        return np.repeat(logs, [len(each.modes) for each in self.traditions], axis=1)


def have_nearly_the_same_notes(one: Mode, other: Mode) -> bool:
    """Whether the smaller of two scales lies within the larger, which has at most MORE_NOTES more.

    Notes that are no further apart than a note's spread in the model of a mode are one.
    """
    fewer, more = sorted((one.degrees_cents, other.degrees_cents), key=len)
    distance = np.abs(mode_model.cents_distance(np.array(fewer)[:, None], np.array(more)))
    return len(more) - len(fewer) <= MORE_NOTES and bool(
        (distance.min(1) <= DEFAULT_HISTOGRAM_SHAPE.spread_cents).all()
    )


def effective_sample_size(
    notes: NoteSequence, most_steps: float = EFFECTIVE_SAMPLE_SIZE, half_seconds: float = HALF_SECONDS
) -> float:
    """How many independent steps the melody is worth: half of `most_steps` with `half_seconds` of steady notes."""
    seconds = float(notes.seconds.sum())
    return most_steps * seconds / (seconds + half_seconds) if half_seconds else most_steps


def mode_log_prior(tradition: Tradition, use_mode_counts: bool = True) -> np.ndarray:
    """The log prior of each mode, from its count; modes without a count are as rare as the rarest counted one."""
    usages = [tradition.usage.get(mode.slug) for mode in tradition.modes]
    counts = [usage.count if usage else None for usage in usages]
    known = [count for count in counts if count]
    if not use_mode_counts or not known:
        return np.full(len(counts), -np.log(len(counts)))
    logs = np.log([count or min(known) for count in counts])
    return logs - logsumexp(logs)


def tonic_log_prob(notes: NoteSequence) -> np.ndarray:
    """The log probability of each tonic from the notes that end phrases and the melody, [CLASSES]."""
    ends_phrase = np.append(notes.gap_seconds[1:], np.inf) > REST_SECONDS
    is_last = np.arange(notes.cents.size) >= notes.cents.size - LAST_NOTES
    logs = sum(
        0.5 * np.log(pitch_class_histogram(notes, notes.seconds * resting) + MIN_REST_FRACTION)
        for resting in (ends_phrase, is_last)
    )
    return logs - logsumexp(logs)


def low_end_log_prob(notes: NoteSequence, low_end_cents: float | None) -> np.ndarray:
    """The log probability of each tonic from the melody's low end, which lies `low_end_cents` above it in any octave.

    [CLASSES]; uniform where `low_end_cents` is None, or without notes.
    """
    if low_end_cents is None or not notes.seconds.any():
        return np.full(CLASSES, -np.log(CLASSES))
    ascending = np.argsort(notes.cents)
    seconds = np.cumsum(notes.seconds[ascending])
    low_end = notes.cents[ascending][np.searchsorted(seconds, LOW_END_FRACTION * seconds[-1])]
    offset_cents = mode_model.cents_distance(low_end - np.arange(CLASSES) * STEP_CENTS, low_end_cents)
    density = np.exp(-0.5 * (offset_cents / LOW_END_SPREAD_CENTS) ** 2)
    return np.log((1.0 - LOW_END_EXCEPTIONS) * density / density.sum() + LOW_END_EXCEPTIONS / CLASSES)


def pitch_class_histogram(notes: NoteSequence, weights: np.ndarray) -> np.ndarray:
    """The distribution of `weights` [notes] over pitch classes: [CLASSES], smoothed, summing to 1 (or 0)."""
    classes = np.round(notes.cents / STEP_CENTS).astype(int) % CLASSES
    counts = np.bincount(classes, weights=weights, minlength=CLASSES)
    return gaussian_filter1d(counts, REST_SPREAD_CENTS / STEP_CENTS, mode="wrap") / max(counts.sum(), 1e-12)


def tonic_cents(posterior: ModePosterior, notes: NoteSequence) -> float:
    """The most probable tonic: tuned to the notes near it, in the octave below the melody's median."""
    coarse = float(np.argmax(posterior.tonics)) * STEP_CENTS
    offset = mode_model.cents_distance(notes.cents, coarse)
    near = np.abs(offset) < 2 * REST_SPREAD_CENTS
    tuned = coarse + (float(np.average(offset[near], weights=notes.seconds[near])) if near.any() else 0.0)
    median = float(np.median(np.repeat(notes.cents, np.ceil(notes.seconds / 0.05).astype(int))))
    return tuned + 1200.0 * np.floor((median + RANGE_BELOW_TONIC_CENTS - tuned) / 1200.0)
