"""Recognition of mode and tonic on melodies generated from the modes' own lines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing
from scipy.special import logsumexp

from talim.errors import TalimError
from talim.traditions import mode_recognition, note_transcription
from talim.traditions.mode_model import cents_distance
from talim.traditions.mode_recognition import ModePosterior, ModeRecognizer
from talim.traditions.tradition import Mode, Tradition, load

HINDUSTANI, MAKAM = load("hindustani"), load("makam")
NOTATED_ONLY = {
    tradition.slug: ModeRecognizer([tradition], use_note_weights=False, use_mode_counts=False)
    for tradition in (HINDUSTANI, MAKAM)
}


def ranked_slugs(recognizer: ModeRecognizer, notes: note_transcription.NoteSequence, **options: float) -> list[str]:
    """Slugs of the modes, the most probable first, of a melody above its tonic."""
    posterior = recognizer.recognize(notes, tonic_known=True, **options)
    return [mode.slug for _, mode, _ in posterior.ranked_modes()]


def rank_modes(cents: np.ndarray, tradition: Tradition, tonic_known: bool = True) -> list[tuple[Mode, float]]:
    """The modes with their probabilities, the most probable first."""
    notes = note_transcription.transcribe_notes(cents, HOP_SECONDS)
    posterior = ModeRecognizer([tradition]).recognize(notes, tonic_known=tonic_known)
    return [(mode, score) for _, mode, score in posterior.ranked_modes()]


def first(tradition: Tradition, cents: np.ndarray) -> str:
    return rank_modes(cents, tradition)[0][0].slug


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("tradition", [HINDUSTANI, MAKAM], ids=lambda tradition: tradition.slug)
def test_recognize_of_generated_melodies_finds_most_modes(tradition: Tradition, every: int) -> None:
    ranks = []
    for seed, mode in list(enumerate(tradition.modes))[::every]:
        notes = note_transcription.transcribe_notes(sing(mode, seed), HOP_SECONDS)
        slugs = [
            candidate.slug
            for _, candidate, _ in NOTATED_ONLY[tradition.slug].recognize(notes, tonic_known=True).ranked_modes()
        ]
        ranks.append(slugs.index(mode.slug) + 1)
    assert np.mean(np.array(ranks) <= 3) >= 0.93
    assert np.mean(np.array(ranks) == 1) >= 0.75


@pytest.mark.parametrize(
    ("tradition", "names"),
    [
        (HINDUSTANI, ("Bhupali", "Deshkar")),
        (HINDUSTANI, ("Marwa", "Puriya", "Sohni")),
        (MAKAM, ("Rast", "Mahur")),
        (MAKAM, ("Uşşak", "Hüseyni", "Beyati")),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_recognize_distinguishes_modes_of_the_same_notes(
    tradition: Tradition, names: tuple[str, ...], seed: int
) -> None:
    rivals = [tradition.mode(name) for name in names]
    for mode in rivals:
        notes = note_transcription.transcribe_notes(sing(mode, seed), HOP_SECONDS)
        ranked = [
            candidate.slug
            for _, candidate, _ in NOTATED_ONLY[tradition.slug].recognize(notes, tonic_known=True).ranked_modes()
        ]
        assert min(rivals, key=lambda rival: ranked.index(rival.slug)).slug == mode.slug


def posterior(tradition: Tradition, scores: dict[str, float]) -> ModePosterior:
    """Of modes by their names; the others have what is left."""
    rest = (1 - sum(scores.values())) / (len(tradition.modes) - len(scores))
    by_slug = {tradition.mode(name).slug: score for name, score in scores.items()}
    modes = tuple((tradition, mode) for mode in tradition.modes)
    return ModePosterior(modes, np.array([by_slug.get(mode.slug, rest) for _, mode in modes]), np.ones(1))


@pytest.mark.parametrize(
    ("tradition", "scores", "alike"),
    [
        (
            HINDUSTANI,
            {"Shuddha Kalyan": 0.6, "Bhupali": 0.2, "Deshkar": 0.1},
            ["bhoopali", "deshkar", "shuddha-kalyan"],
        ),
        (HINDUSTANI, {"Bhupali": 0.9, "Deshkar": 0.05, "Shuddha Kalyan": 0.04}, ["bhoopali"]),
        (HINDUSTANI, {"Marwa": 0.5, "Puriya": 0.3, "Sohini": 0.1, "Todi": 0.1}, ["marwa", "puriya", "sohini"]),
        (MAKAM, {"Rast": 0.5, "Mahur": 0.4, "Hicaz": 0.1}, ["rast", "mahur"]),
        (MAKAM, {"Bayati": 0.5, "Uşşak": 0.4, "Segah": 0.1}, ["beyati", "ussak"]),
        (MAKAM, {"Hicaz": 0.5, "Rast": 0.5}, ["hicaz"]),
    ],
)
def test_modes_alike_are_those_of_nearly_the_same_notes_and_less_than_ten_times_as_likely(
    tradition: Tradition, scores: dict[str, float], alike: list[str]
) -> None:
    found = posterior(tradition, scores).modes_alike(5)
    assert [mode.slug for _, mode, _ in found] == alike


def test_modes_alike_of_more_than_asked_for_are_the_most_probable_ones() -> None:
    found = posterior(HINDUSTANI, {"Shuddha Kalyan": 0.6, "Deshkar": 0.1, "Bhupali": 0.2}).modes_alike(2)
    assert [mode.slug for _, mode, _ in found] == ["bhoopali", "shuddha-kalyan"]


def test_modes_alike_have_nearly_the_notes_of_each_other_not_only_of_the_most_probable_one() -> None:
    found = posterior(HINDUSTANI, {"Shankara": 0.4, "Nand": 0.3, "Hamsadhwani": 0.2}).modes_alike(5)
    assert [mode.slug for _, mode, _ in found] == ["shankara", "nand"]


@pytest.mark.parametrize("seed", range(3))
def test_modes_alike_of_a_melody_whose_slides_sound_like_notes_have_the_smaller_scale_first(seed: int) -> None:
    bhoopali, larger = HINDUSTANI.mode("Bhoopali"), HINDUSTANI.mode("Shuddha Kalyan")
    slid = replace(
        bhoopali, descent_cents=larger.descent_cents, phrases_cents=(*bhoopali.phrases_cents, larger.descent_cents)
    )
    notes = note_transcription.transcribe_notes(sing(slid, seed, phrases=30), HOP_SECONDS)
    found = ModeRecognizer([HINDUSTANI]).recognize(notes, tonic_known=True)
    assert found.ranked_modes()[0][1] is larger
    assert [mode for _, mode, _ in found.modes_alike(5)] == [bhoopali, larger]
    clear = note_transcription.transcribe_notes(sing(HINDUSTANI.mode("Malkauns"), seed, phrases=30), HOP_SECONDS)
    assert len(ModeRecognizer([HINDUSTANI]).recognize(clear, tonic_known=True).modes_alike(5)) == 1


def test_recognize_gives_sorted_probabilities() -> None:
    ranked = rank_modes(sing(HINDUSTANI.mode("Yaman"), 1), HINDUSTANI)
    scores = [score for _, score in ranked]
    assert len(ranked) == len(HINDUSTANI.modes)
    assert sum(scores) == pytest.approx(1)
    assert scores == sorted(scores, reverse=True)


def test_recognize_is_robust_to_octaves_and_gaps() -> None:
    cents = sing(HINDUSTANI.mode("Todi"), 2)
    assert first(HINDUSTANI, cents) == first(HINDUSTANI, cents + 1200) == first(HINDUSTANI, cents - 2400) == "todi"
    gaps = cents.copy()
    gaps[np.random.default_rng(0).random(cents.size) < 0.01] = np.nan
    assert first(HINDUSTANI, gaps) == "todi"


@pytest.mark.parametrize("shift_cents", [0.0, 137.0, -431.0, 702.0])
def test_recognize_without_tonic_is_transposition_invariant(shift_cents: float) -> None:
    cents = sing(MAKAM.mode("Hicazkâr"), 4)
    plain, moved = (
        {mode.slug: score for mode, score in rank_modes(track, MAKAM, tonic_known=False)}
        for track in (cents, cents + shift_cents)
    )
    assert max(plain, key=plain.__getitem__) == max(moved, key=moved.__getitem__)


TUNES = [("Yaman", 0), ("Bhairav", 1), ("Malkauns", 2), ("Des", 3)]
TONICS_HZ = [131.0, 146.8, 233.1]


@pytest.mark.parametrize(
    ("name", "seed", "tonic_hz"),
    [
        pytest.param(name, seed, tonic_hz, marks=() if number == seed % len(TONICS_HZ) else pytest.mark.slow)
        for name, seed in TUNES
        for number, tonic_hz in enumerate(TONICS_HZ)
    ],
)
def test_tonic_cents_is_within_fifteen_cents(name: str, seed: int, tonic_hz: float) -> None:
    f0_hz = tonic_hz * 2 ** (sing(HINDUSTANI.mode(name), seed) / 1200)
    reference_hz = np.nanmedian(f0_hz)
    notes = note_transcription.transcribe_notes(1200 * np.log2(f0_hz / reference_hz), HOP_SECONDS)
    posterior = ModeRecognizer([HINDUSTANI]).recognize(notes, tonic_known=False)
    off = mode_recognition.tonic_cents(posterior, notes) + 1200 * np.log2(reference_hz / tonic_hz)
    assert abs((off + 600) % 1200 - 600) < 15


def test_a_short_melody_is_worth_few_steps_and_a_long_one_all() -> None:
    notes = note_transcription.transcribe_notes(sing(HINDUSTANI.mode("Yaman"), 1, phrases=40), HOP_SECONDS)
    seconds = float(notes.seconds.sum())
    short = replace(notes, **{name: getattr(notes, name)[:12] for name in ("cents", "seconds", "onset_seconds")})
    short = replace(short, gap_seconds=notes.gap_seconds[:12])
    sizes = [mode_recognition.effective_sample_size(each) for each in (short, notes)]
    assert sizes[1] == pytest.approx(20 * seconds / (seconds + 12))
    assert sizes[0] < 10 < sizes[1] < 20
    recognizer = ModeRecognizer([HINDUSTANI])
    as_calibrated, as_before = (
        recognizer.recognize(short, tonic_known=True, half_seconds=half).scores.max() for half in (12.0, 0.0)
    )
    assert as_calibrated < as_before  # the same notes, less sure


@pytest.mark.parametrize("name", ["Gavati", "Bilawal", "Khamaj"])
def test_a_long_stay_on_the_tonic_is_not_a_strong_note_of_another_mode(name: str) -> None:
    sung = note_transcription.transcribe_notes(sing(HINDUSTANI.mode(name), 1, phrases=12), HOP_SECONDS)
    held = note_transcription.NoteSequence(  # the melody in the middle of a minute of the tonic and its drone
        cents=np.concatenate([np.zeros(30), sung.cents, np.zeros(30)]),
        seconds=np.concatenate([np.ones(30), sung.seconds, np.ones(30)]),
        onset_seconds=np.arange(60.0 + sung.cents.size),
        gap_seconds=np.zeros(60 + sung.cents.size),
    )
    recognizer = ModeRecognizer([replace(HINDUSTANI, low_end_cents=None)])
    likelihood = logsumexp(mode_recognition.effective_sample_size(held) * recognizer.fit(held), axis=1)
    assert cents_off(int(np.argmax(likelihood))) <= 25.0


def cents_off(tonic: int) -> float:
    """How far a class is from the true tonic, class 0, in any octave."""
    return abs(float(cents_distance(tonic * note_transcription.STEP_CENTS, 0.0)))


WHOLE_TONE = {"name": "Custom", "mode_words": ["mode"], "cycle_words": ["round"], "unit_cents": 100}


def whole_tone(folder: Path, **keys: float) -> Tradition:
    """A tradition of one mode whose six notes are alike: nothing but its register tells the tonic."""
    folder.mkdir()
    modes = [{"name": "Even", "degrees": "0 2 4 6 8 10", "ascent": "0 2 4 6 8 10 12", "descent": "12 10 8 6 4 2 0"}]
    for name, content in (("tradition", {**WHOLE_TONE, **keys}), ("modes", modes), ("cycles", []), ("ornaments", [])):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return load(folder)


@pytest.mark.parametrize("low_end_cents", [0.0, -400.0, 800.0])
def test_the_low_end_of_a_melody_tells_its_tonic(tmp_path: Path, low_end_cents: float) -> None:
    steps = np.tile(np.r_[np.arange(0, 1400, 200.0), np.arange(1000, 0, -200.0)], 8)  # from 0 up an octave, and back
    notes = note_transcription.transcribe_notes(np.repeat(steps, 30), HOP_SECONDS)
    tonic = ModeRecognizer([whole_tone(tmp_path / "known", low_end_cents=low_end_cents)]).tonic_log_probs(notes)[:, 0]
    ends = mode_recognition.tonic_log_prob(notes)
    gain = tonic - ends  # which is the register's alone
    assert cents_distance(np.argmax(gain) * 10.0, -low_end_cents) == pytest.approx(0.0, abs=10.0)
    unknown = ModeRecognizer([whole_tone(tmp_path / "unknown")]).tonic_log_probs(notes)[:, 0]
    np.testing.assert_allclose(unknown, ends, atol=1e-9)


def test_the_low_end_is_the_traditions_own(tmp_path: Path) -> None:
    notes = note_transcription.transcribe_notes(sing(MAKAM.mode("Rast"), 3), HOP_SECONDS)
    both = ModeRecognizer([HINDUSTANI, MAKAM]).tonic_log_probs(notes)
    makam = ModeRecognizer([MAKAM]).tonic_log_probs(notes)
    assert both.shape == (note_transcription.CLASSES, len(HINDUSTANI.modes) + len(MAKAM.modes))
    np.testing.assert_allclose(both[:, len(HINDUSTANI.modes) :], makam)
    assert np.exp(both).sum(0) == pytest.approx(np.ones(both.shape[1]))


def test_recognize_with_a_wrong_tonic_uses_the_error_rate() -> None:
    rast = MAKAM.mode("Rast")
    notes = note_transcription.transcribe_notes(sing(rast, 5) + 500, HOP_SECONDS)  # the given tonic is a fourth too low
    slugs = [mode.slug for _, mode, _ in ModeRecognizer([MAKAM]).recognize(notes, tonic_known=True).ranked_modes()]
    trusting = [
        mode.slug
        for _, mode, _ in ModeRecognizer([MAKAM])
        .recognize(notes, tonic_known=True, tonic_error_rate=0.0)
        .ranked_modes()
    ]
    assert slugs.index("rast") < trusting.index("rast")


@pytest.mark.parametrize("cents", [np.empty(0), np.full(1000, np.nan), np.zeros(400), np.arange(0, 4000.0, 9)])
def test_recognize_of_too_little_melody_raise(cents: np.ndarray) -> None:
    for tradition, tonic_known in ((HINDUSTANI, True), (MAKAM, False)):
        with pytest.raises(TalimError, match="too little melody"):
            rank_modes(cents, tradition, tonic_known)


def test_recognize_of_a_custom_tradition_needs_no_usage_statistics(tmp_path: Path) -> None:
    head = {"name": "Custom", "mode_words": ["mode"], "cycle_words": ["round"], "unit_cents": 100}
    modes = [
        {"name": "Dorian", "degrees": "0 2 3 5 7 9 10", "ascent": "0 2 3 5 7 9 10 12", "descent": "12 10 9 7 5 3 2 0"},
        {"name": "Lydian", "degrees": "0 2 4 6 7 9 11", "ascent": "0 2 4 6 7 9 11 12", "descent": "12 11 9 7 6 4 2 0"},
    ]
    cycles = [{"name": "Four", "beats": 4}]
    ornaments = [{"name": "Trill", "shape": "shake", "seconds": [0.1, 1], "extent_cents": [50, 200]}]
    for name, content in (("tradition", head), ("modes", modes), ("cycles", cycles), ("ornaments", ornaments)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    custom = load(tmp_path)
    assert not custom.usage
    for seed, mode in enumerate(custom.modes):
        assert first(custom, sing(mode, seed)) == mode.slug


def test_mode_log_prior_follows_mode_counts() -> None:
    prior = np.exp(mode_recognition.mode_log_prior(MAKAM))
    slugs = [mode.slug for mode in MAKAM.modes]
    assert prior.sum() == pytest.approx(1)
    assert prior[slugs.index("hicaz")] / prior[slugs.index("tahir")] == pytest.approx(157 / 31)
    assert np.ptp(mode_recognition.mode_log_prior(replace(MAKAM, usage={}))) == 0
