"""Which mode a melody is in, and where its tonic lies.

A melody is counted once (`transcription.steps`): how often each interval is taken from each pitch class. Under every
mode, and every place its tonic may have, that count has a probability (`grammar.table`); Bayes' rule turns it into
the probability of each mode, given how often modes are heard. Steps of one melody repeat one another, so that their
mean log density speaks as loud as `WITNESSES` independent ones would: one number, fitted on real tracks
(docs/modes.md).

Where the tonic is not known, phrases and the whole come to rest on it sooner than elsewhere. Where it is said, it is
believed but for `DOUBT`: annotated tonics are wrong in some of every hundred recordings.
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
from talim.traditions.tradition import Tradition, load_all_builtin

EFFECTIVE_SAMPLE_SIZE = 20.0
TONIC_ERROR_RATE = 0.1
TONIC_SPREAD_CENTS = 10.0  # of a tonic that is said rightly
REST_SECONDS = 0.4  # a silence that ends a phrase
LAST_NOTES = 4  # of the whole, which lead to its final
REST_SPREAD_CENTS = 25.0
MIN_REST_FRACTION = 0.002  # the share of rest that every pitch class has at least
MIN_NOTES = 8
RANGE_BELOW_TONIC_CENTS = (
    300.0  # the middle of a melody lies from this far below its tonic to an octave higher
)


@dataclass(frozen=True)
class ModePosterior:
    """What a melody is taken for: the probability of each of `modes` [m], and of each tonic [CLASSES].

    Tonics lie STEP_CENTS apart, upwards from the pitch that the melody's cents are measured from.
    """

    modes: tuple[tuple[Tradition, Mode], ...]
    scores: np.ndarray
    tonics: np.ndarray

    def ranked_modes(self) -> list[tuple[Tradition, Mode, float]]:
        """Tradition, mode and probability, the likeliest first."""
        order = np.argsort(-self.scores, kind="stable")
        return [(*self.modes[n], float(self.scores[n])) for n in order]


class ModeRecognizer:
    """Knows some traditions' modes and judges melodies; made once, used for many."""

    def __init__(
        self,
        traditions: Sequence[Tradition],
        shape: PitchHistogramShape = DEFAULT_HISTOGRAM_SHAPE,
        *,
        counted: bool = True,
        common: bool = True,
    ) -> None:
        """Learn the modes of `traditions`; without `counted` and `common`, from their grammar alone.

        `counted`: use the weights that practice gives the notes; `common`: how often modes are heard.
        """
        self.modes = tuple((tradition, mode) for tradition in traditions for mode in tradition.modes)
        self.prior = np.concatenate([mode_log_prior(tradition, common) for tradition in traditions])
        self.prior -= np.log(len(traditions))
        shares = [
            tradition.practice[mode.slug].shares if counted and mode.slug in tradition.practice else None
            for tradition, mode in self.modes
        ]
        tables = [
            mode_model.transition_log_density(mode, mine, shape)
            for (_, mode), mine in zip(self.modes, shares, strict=True)
        ]
        self.spectra = np.conj(np.fft.rfft(np.stack(tables), axis=1))

    def fit(self, heard: NoteSequence) -> np.ndarray:
        """The mean log density of the melody's steps, [tonic, mode]; TalimError where there are too few notes."""
        counts = note_transcription.interval_histogram(heard)
        if heard.cents.size < MIN_NOTES or not counts.any():
            raise TalimError(
                f"too little melody to tell a mode: {heard.cents.size} steady notes, at least {MIN_NOTES} are "
                "needed; give a longer or a clearer recording"
            )
        spectrum = np.fft.rfft(counts, axis=0)
        product = np.einsum("fi,mfi->mf", spectrum, self.spectra, optimize=True)
        return np.fft.irfft(product, n=CLASSES, axis=1).T

    def judge(
        self,
        heard: NoteSequence,
        *,
        tonic_known: bool,
        witnesses: float = EFFECTIVE_SAMPLE_SIZE,
        doubt: float = TONIC_ERROR_RATE,
    ) -> ModePosterior:
        """Judge a melody; where the tonic is known, its cents are measured from it."""
        where = tonic_log_prob(heard)
        if tonic_known:
            slip = np.exp(
                -0.5
                * (mode_model.cents_distance(np.arange(CLASSES) * STEP_CENTS, 0.0) / TONIC_SPREAD_CENTS) ** 2
            )
            where = np.log((1.0 - doubt) * slip / slip.sum() + doubt * np.exp(where) + 1e-30)
        joint = witnesses * self.fit(heard) + self.prior + where[:, None]
        joint -= logsumexp(joint)
        return ModePosterior(self.modes, np.exp(logsumexp(joint, axis=0)), np.exp(logsumexp(joint, axis=1)))


def mode_log_prior(tradition: Tradition, common: bool = True) -> np.ndarray:
    """The log probability of each mode before anything is heard; one that nobody counted is as rare as the rarest."""
    practice = [tradition.practice.get(mode.slug) for mode in tradition.modes]
    heard = [one.heard if one else None for one in practice]
    known = [count for count in heard if count]
    if not common or not known:
        return np.full(len(heard), -np.log(len(heard)))
    logs = np.log([count or min(known) for count in heard])
    return logs - logsumexp(logs)


def tonic_log_prob(heard: NoteSequence) -> np.ndarray:
    """The log probability of each tonic by where the melody comes to rest, [CLASSES]."""
    ends = np.append(heard.gap_seconds[1:], np.inf) > REST_SECONDS
    last = np.arange(heard.cents.size) >= heard.cents.size - LAST_NOTES
    logs = sum(
        0.5 * np.log(pitch_class_histogram(heard, heard.seconds * chosen) + MIN_REST_FRACTION)
        for chosen in (ends, last)
    )
    return logs - logsumexp(logs)


def pitch_class_histogram(heard: NoteSequence, weight: np.ndarray) -> np.ndarray:
    """How `weight` [notes] lies on the pitch classes: [CLASSES], summing to 1 (or 0)."""
    classes = np.round(heard.cents / STEP_CENTS).astype(int) % CLASSES
    counts = np.bincount(classes, weights=weight, minlength=CLASSES)
    return gaussian_filter1d(counts, REST_SPREAD_CENTS / STEP_CENTS, mode="wrap") / max(counts.sum(), 1e-12)


def rank_modes(
    cents: np.ndarray, hop_seconds: float, tradition: Tradition, *, tonic_known: bool = True
) -> list[tuple[Mode, float]]:
    """The modes of a tradition with their probabilities (they sum to 1), the likeliest first.

    `cents` [frames] is the melody above its tonic, NaN where unvoiced; above any fixed pitch, if `tonic_known` is
    false. Raises TalimError where there is too little melody.
    """
    judged = ModeRecognizer([tradition]).judge(
        note_transcription.transcribe_notes(cents, hop_seconds), tonic_known=tonic_known
    )
    return [(mode, score) for _, mode, score in judged.ranked_modes()]


def find_tonic(f0_hz: np.ndarray, hop_seconds: float, tradition: Tradition | None = None) -> float:
    """The tonic in Hz of a melody `f0_hz` [frames] (NaN or 0 where unvoiced), in any mode of the tradition.

    Without a tradition the modes of all shipped ones are tried. Raises TalimError where there is too little melody.
    """
    traditions = [tradition] if tradition else load_all_builtin()
    f0_hz = np.asarray(f0_hz, np.float64)
    voiced_hz = np.where(f0_hz > 0, f0_hz, np.nan)
    reference_hz = float(np.nanmedian(voiced_hz)) if np.isfinite(voiced_hz).any() else 440.0
    heard = note_transcription.transcribe_notes(1200 * np.log2(voiced_hz / reference_hz), hop_seconds)
    judged = ModeRecognizer(traditions).judge(heard, tonic_known=False)
    return reference_hz * 2 ** (tonic_cents(judged, heard) / 1200)


def tonic_cents(judged: ModePosterior, heard: NoteSequence) -> float:
    """The likeliest tonic: tuned to the notes that lie on it, in the octave below the melody's middle."""
    coarse = float(np.argmax(judged.tonics)) * STEP_CENTS
    off = mode_model.cents_distance(heard.cents, coarse)
    on_it = np.abs(off) < 2 * REST_SPREAD_CENTS
    tuned = coarse + (float(np.average(off[on_it], weights=heard.seconds[on_it])) if on_it.any() else 0.0)
    middle = float(np.median(np.repeat(heard.cents, np.ceil(heard.seconds / 0.05).astype(int))))
    return tuned + 1200.0 * np.floor((middle + RANGE_BELOW_TONIC_CENTS - tuned) / 1200.0)
