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
from talim.traditions import grammar, transcription
from talim.traditions.entries import Mode
from talim.traditions.grammar import SHAPE, Shape
from talim.traditions.tradition import Tradition, all_shipped
from talim.traditions.transcription import CLASSES, STEP_CENTS, Notes

WITNESSES = 20.0
DOUBT = 0.1
SLIP_CENTS = 10.0  # of a tonic that is said rightly
REST_SECONDS = 0.4  # a silence that ends a phrase
LAST_NOTES = 4  # of the whole, which lead to its final
REST_SPREAD_CENTS = 25.0
UNRESTED = 0.002  # the share of rest that every pitch class has at least
FEWEST_NOTES = 8
BELOW_CENTS = 300.0  # the middle of a melody lies from this far below its tonic to an octave higher


@dataclass(frozen=True)
class Judgement:
    """What a melody is taken for: the probability of each of `modes` [m], and of each tonic [CLASSES].

    Tonics lie STEP_CENTS apart, upwards from the pitch that the melody's cents are measured from.
    """

    modes: tuple[tuple[Tradition, Mode], ...]
    scores: np.ndarray
    tonics: np.ndarray

    def ranked(self) -> list[tuple[Tradition, Mode, float]]:
        """Tradition, mode and probability, the likeliest first."""
        order = np.argsort(-self.scores, kind="stable")
        return [(*self.modes[n], float(self.scores[n])) for n in order]


class Listener:
    """Knows some traditions' modes and judges melodies; made once, used for many."""

    def __init__(
        self,
        traditions: Sequence[Tradition],
        shape: Shape = SHAPE,
        *,
        counted: bool = True,
        common: bool = True,
    ) -> None:
        """Learn the modes of `traditions`; without `counted` and `common`, from their grammar alone.

        `counted`: use the weights that practice gives the notes; `common`: how often modes are heard.
        """
        self.modes = tuple((tradition, mode) for tradition in traditions for mode in tradition.modes)
        self.prior = np.concatenate([prior(tradition, common) for tradition in traditions])
        self.prior -= np.log(len(traditions))
        shares = [
            tradition.practice[mode.slug].shares if counted and mode.slug in tradition.practice else None
            for tradition, mode in self.modes
        ]
        tables = [
            grammar.table(mode, mine, shape) for (_, mode), mine in zip(self.modes, shares, strict=True)
        ]
        self.spectra = np.conj(np.fft.rfft(np.stack(tables), axis=1))

    def fit(self, heard: Notes) -> np.ndarray:
        """The mean log density of the melody's steps, [tonic, mode]; TalimError where there are too few notes."""
        counts = transcription.steps(heard)
        if heard.cents.size < FEWEST_NOTES or not counts.any():
            raise TalimError(
                f"too little melody to tell a mode: {heard.cents.size} steady notes, at least {FEWEST_NOTES} are "
                "needed; give a longer or a clearer recording"
            )
        spectrum = np.fft.rfft(counts, axis=0)
        product = np.einsum("fi,mfi->mf", spectrum, self.spectra, optimize=True)
        return np.fft.irfft(product, n=CLASSES, axis=1).T

    def judge(
        self, heard: Notes, *, tonic_known: bool, witnesses: float = WITNESSES, doubt: float = DOUBT
    ) -> Judgement:
        """Judge a melody; where the tonic is known, its cents are measured from it."""
        where = resting(heard)
        if tonic_known:
            slip = np.exp(
                -0.5 * (grammar.apart_cents(np.arange(CLASSES) * STEP_CENTS, 0.0) / SLIP_CENTS) ** 2
            )
            where = np.log((1.0 - doubt) * slip / slip.sum() + doubt * np.exp(where) + 1e-30)
        joint = witnesses * self.fit(heard) + self.prior + where[:, None]
        joint -= logsumexp(joint)
        return Judgement(self.modes, np.exp(logsumexp(joint, axis=0)), np.exp(logsumexp(joint, axis=1)))


def prior(tradition: Tradition, common: bool = True) -> np.ndarray:
    """The log probability of each mode before anything is heard; one that nobody counted is as rare as the rarest."""
    practice = [tradition.practice.get(mode.slug) for mode in tradition.modes]
    heard = [one.heard if one else None for one in practice]
    known = [count for count in heard if count]
    if not common or not known:
        return np.full(len(heard), -np.log(len(heard)))
    logs = np.log([count or min(known) for count in heard])
    return logs - logsumexp(logs)


def resting(heard: Notes) -> np.ndarray:
    """The log probability of each tonic by where the melody comes to rest, [CLASSES]."""
    ends = np.append(heard.gap_seconds[1:], np.inf) > REST_SECONDS
    last = np.arange(heard.cents.size) >= heard.cents.size - LAST_NOTES
    logs = sum(0.5 * np.log(spread(heard, heard.seconds * chosen) + UNRESTED) for chosen in (ends, last))
    return logs - logsumexp(logs)


def spread(heard: Notes, weight: np.ndarray) -> np.ndarray:
    """How `weight` [notes] lies on the pitch classes: [CLASSES], summing to 1 (or 0)."""
    classes = np.round(heard.cents / STEP_CENTS).astype(int) % CLASSES
    counts = np.bincount(classes, weights=weight, minlength=CLASSES)
    return gaussian_filter1d(counts, REST_SPREAD_CENTS / STEP_CENTS, mode="wrap") / max(counts.sum(), 1e-12)


def rank(
    cents: np.ndarray, hop_seconds: float, tradition: Tradition, *, tonic_known: bool = True
) -> list[tuple[Mode, float]]:
    """The modes of a tradition with their probabilities (they sum to 1), the likeliest first.

    `cents` [frames] is the melody above its tonic, NaN where unvoiced; above any fixed pitch, if `tonic_known` is
    false. Raises TalimError where there is too little melody.
    """
    judged = Listener([tradition]).judge(transcription.notes(cents, hop_seconds), tonic_known=tonic_known)
    return [(mode, score) for _, mode, score in judged.ranked()]


def find_tonic(f0_hz: np.ndarray, hop_seconds: float, tradition: Tradition | None = None) -> float:
    """The tonic in Hz of a melody `f0_hz` [frames] (NaN or 0 where unvoiced), in any mode of the tradition.

    Without a tradition the modes of all shipped ones are tried. Raises TalimError where there is too little melody.
    """
    traditions = [tradition] if tradition else all_shipped()
    f0_hz = np.asarray(f0_hz, np.float64)
    voiced_hz = np.where(f0_hz > 0, f0_hz, np.nan)
    reference_hz = float(np.nanmedian(voiced_hz)) if np.isfinite(voiced_hz).any() else 440.0
    heard = transcription.notes(1200 * np.log2(voiced_hz / reference_hz), hop_seconds)
    judged = Listener(traditions).judge(heard, tonic_known=False)
    return reference_hz * 2 ** (tonic_cents(judged, heard) / 1200)


def tonic_cents(judged: Judgement, heard: Notes) -> float:
    """The likeliest tonic: tuned to the notes that lie on it, in the octave below the melody's middle."""
    coarse = float(np.argmax(judged.tonics)) * STEP_CENTS
    off = grammar.apart_cents(heard.cents, coarse)
    on_it = np.abs(off) < 2 * REST_SPREAD_CENTS
    tuned = coarse + (float(np.average(off[on_it], weights=heard.seconds[on_it])) if on_it.any() else 0.0)
    middle = float(np.median(np.repeat(heard.cents, np.ceil(heard.seconds / 0.05).astype(int))))
    return tuned + 1200.0 * np.floor((middle + BELOW_CENTS - tuned) / 1200.0)
