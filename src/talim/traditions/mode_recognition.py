"""Recognises the mode of a melody and its tonic.

A melody gives a histogram of intervals by pitch class (`note_transcription.interval_histogram`). Every mode, at every
tonic, gives it a likelihood (`mode_model.transition_log_density`); Bayes' rule with the modes' frequencies as prior
gives the posterior. Steps of one melody are correlated, so their mean log density is weighted as that of
`EFFECTIVE_SAMPLE_SIZE` independent steps, one number fitted on real pitch tracks (docs/reports/mode-recognition.md).

An unknown tonic is inferred from the notes on which phrases and the whole melody end. A given tonic is assumed to be
wrong with probability `TONIC_ERROR_RATE`, as annotated tonics are in some of every hundred recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import logsumexp

from talim.errors import TalimError
from talim.traditions import mode_model, note_transcription
from talim.traditions.mode_model import DEFAULT_HISTOGRAM_SHAPE, PitchHistogramShape
from talim.traditions.note_transcription import CLASSES, STEP_CENTS, NoteSequence
from talim.traditions.schema import Mode
from talim.traditions.tradition import Tradition

EFFECTIVE_SAMPLE_SIZE = 20.0
TONIC_ERROR_RATE = 0.1
TONIC_SPREAD_CENTS = 10.0  # standard deviation of a correctly given tonic
REST_SECONDS = 0.4  # a silence that ends a phrase
LAST_NOTES = 4  # of the melody, which lead to its final
REST_SPREAD_CENTS = 25.0
MIN_REST_FRACTION = 0.002  # of resting time, for every pitch class
MIN_NOTES = 8
RANGE_BELOW_TONIC_CENTS = 300.0  # a melody's median lies between this far below its tonic and an octave higher


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


class ModeRecognizer:
    """The modes of some traditions, prepared for recognising many melodies."""

    def __init__(
        self,
        traditions: Sequence[Tradition],
        shape: PitchHistogramShape = DEFAULT_HISTOGRAM_SHAPE,
        *,
        use_note_weights: bool = True,
        use_mode_counts: bool = True,
    ) -> None:
        """`use_note_weights`, `use_mode_counts`: use these usage statistics of the traditions where they exist."""
        self.modes = tuple((tradition, mode) for tradition in traditions for mode in tradition.modes)
        self.prior = np.concatenate([mode_log_prior(tradition, use_mode_counts) for tradition in traditions])
        self.prior -= np.log(len(traditions))
        tables = []
        for tradition, mode in self.modes:
            usage = tradition.usage.get(mode.slug) if use_note_weights else None
            tables.append(mode_model.transition_log_density(mode, usage.weights if usage else None, shape))
        self._spectra = np.conj(np.fft.rfft(np.stack(tables), axis=1))

    def fit(self, notes: NoteSequence) -> np.ndarray:
        """The mean log density of the melody's steps, [tonic, mode]; TalimError for too few notes."""
        histogram = note_transcription.interval_histogram(notes)
        if notes.cents.size < MIN_NOTES or not histogram.any():
            raise TalimError(
                f"too little melody to tell a mode: steady notes: {notes.cents.size}, of at least {MIN_NOTES} that are "
                "needed; give a longer or a clearer recording"
            )
        spectrum = np.fft.rfft(histogram, axis=0)
        product = np.einsum("fi,mfi->mf", spectrum, self._spectra, optimize=True)
        return np.fft.irfft(product, n=CLASSES, axis=1).T

    def recognize(
        self,
        notes: NoteSequence,
        *,
        tonic_known: bool,
        effective_sample_size: float = EFFECTIVE_SAMPLE_SIZE,
        tonic_error_rate: float = TONIC_ERROR_RATE,
    ) -> ModePosterior:
        """The posterior of mode and tonic; with `tonic_known`, the cents of `notes` are measured from the tonic."""
        tonic_log = tonic_log_prob(notes)
        if tonic_known:
            offset_cents = mode_model.cents_distance(np.arange(CLASSES) * STEP_CENTS, 0.0)
            given = np.exp(-0.5 * (offset_cents / TONIC_SPREAD_CENTS) ** 2)
            given *= (1.0 - tonic_error_rate) / given.sum()
            tonic_log = np.log(given + tonic_error_rate * np.exp(tonic_log) + 1e-30)
        joint = effective_sample_size * self.fit(notes) + self.prior + tonic_log[:, None]
        joint -= logsumexp(joint)
        return ModePosterior(self.modes, np.exp(logsumexp(joint, axis=0)), np.exp(logsumexp(joint, axis=1)))


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
