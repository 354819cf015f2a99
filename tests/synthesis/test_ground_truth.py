"""The truth of performances: refrains come home and return in every window, ornaments are seen in the pitch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.ground_truth import HOP_SECONDS, FormSection, Voice
from talim.synthesis.performer import performance_ground_truth
from talim.traditions.tradition import load

SHIPPED = ("hindustani", "makam")


def statement(voice: Voice, section: FormSection) -> list[float]:
    """The notes of a section's own part that begin in it, up to the players' freedom of timing."""
    first, last = section.onset_seconds - 0.02, section.end_seconds - 0.02
    return [n.cents for n in voice.notes if n.part == section.name and first <= n.onset_seconds < last]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_hindustani_refrain_ends_at_sam(seed: int) -> None:
    """Every mukhra ends exactly on a sam, the same notes each time, and the same note stands on every sam."""
    truth = performance_ground_truth(seed, "hindustani", 24.0, PerformanceRequest(form="composition"))
    sams = truth.first_beats_seconds
    refrains = [s for s in truth.sections if s.kind == "refrain"]
    assert len(refrains) == len(sams) - 1 >= 2
    assert [s.occurrence for s in refrains] == list(range(1, len(refrains) + 1))
    for refrain, sam in zip(refrains, sams[1:], strict=True):
        assert refrain.end_seconds == pytest.approx(sam)
    notes = truth.voices[0].notes
    sung = [statement(truth.voices[0], refrain) for refrain in refrains]
    assert sung[0]
    assert all(a_value == sung[0] for a_value in sung)
    landings = [min(notes, key=lambda n, sam=sam: abs(n.onset_seconds - sam)) for sam in sams[1:]]
    assert all(abs(n.onset_seconds - sam) < 0.02 for n, sam in zip(landings, sams[1:], strict=True))
    assert len({round(n.cents, 3) for n in landings}) == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_makam_teslim_returns_unchanged_and_ends_on_final(seed: int) -> None:
    truth = performance_ground_truth(seed, "makam", 30.0, PerformanceRequest(form="composition", ensemble=2))
    final = load("makam").mode(truth.mode).final_cents
    metred = [s for s in truth.sections if s.kind in ("episode", "refrain")]
    assert [s.kind for s in metred] == ["episode", "refrain"] * (len(metred) // 2)
    notes = truth.voices[0].notes
    statements = [statement(truth.voices[0], refrain) for refrain in metred[1::2]]
    assert len(statements) >= 2
    assert all(a_value == statements[0] for a_value in statements)
    assert (statements[0][-1] - final) % 1200 == pytest.approx(0, abs=0.01)
    assert (notes[-1].cents - final) % 1200 == pytest.approx(0, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHIPPED), st.sampled_from([20.0, 31.0, 45.0]))
def test_window_request_contains_two_returns_of_cycle_and_refrain(seed: int, style: str, seconds: float) -> None:
    """Proved from the truth: wherever a nano window of 20 s lies, it holds three whole refrains and three cycles."""
    window = 20.0
    truth = performance_ground_truth(seed, style, seconds, PerformanceRequest(window_seconds=window))
    refrains = [(s.onset_seconds, s.end_seconds) for s in truth.sections if s.kind == "refrain"]
    sams = truth.first_beats_seconds
    starts = {0.0, seconds - window, *(b for b, _ in refrains), *(b + 1e-6 for b, _ in refrains)}
    for start in sorted(s for s in starts if 0 <= s <= seconds - window + 1e-9):
        inside = [1 for b, e in refrains if b >= start - 1e-9 and e <= start + window + 1e-9]
        assert len(inside) >= 3
        assert ((sams >= start - 1e-9) & (sams <= start + window + 1e-9)).sum() >= 3


@pytest.mark.parametrize("style", SHIPPED)
def test_ornaments_match_pitch_track(style: str) -> None:
    """Shakes and swings measured back: their rate by the spectrum's peak, their extent between extremes."""
    rates, extents = [], []
    for seed in range(20):
        truth = performance_ground_truth(seed, style, 20.0, PerformanceRequest(ensemble=1, form="free"))
        for voice in truth.voices:
            for ornament in voice.ornaments:
                if ornament.shape != "shake" or ornament.seconds < 0.6 or ornament.extent_cents < 50:
                    continue
                first = round(ornament.onset_seconds / HOP_SECONDS)
                piece = voice.cents[first : first + round(ornament.seconds / HOP_SECONDS)]
                if not np.isfinite(piece).all():
                    continue
                power = np.abs(np.fft.rfft(piece - piece.mean(), 4096))
                hz = np.fft.rfftfreq(4096, HOP_SECONDS)
                band = (hz > 2.5) & (hz < 15)
                rates.append(hz[band][np.argmax(power[band])] / ornament.rate_hz)
                inner = piece[piece.size // 5 : -piece.size // 5]
                extents.append((np.percentile(inner, 97) - np.percentile(inner, 3)) / ornament.extent_cents)
    assert len(rates) >= 8, len(rates)
    assert np.median(np.abs(np.array(rates) - 1)) < 0.06
    assert 0.85 < np.median(extents) < 1.25


def test_every_ornament_of_a_tradition_is_played() -> None:
    """Meend, gamak, kan, andolan, murki; çarpma, vibrato, tril, glissando, the comma inflection."""
    named = {
        "hindustani": {"meend", "gamak", "kan", "andolan", "murki"},
        "makam": {"carpma", "vibrato", "tril", "glissando", "perde-kaymasi"},
    }
    for style, expected in named.items():
        measured = {
            o.kind
            for seed in range(10)
            for v in performance_ground_truth(seed, style, 20.0).voices
            for o in v.ornaments
        }
        assert expected <= measured, expected - measured


def test_rising_lines_follow_ascent() -> None:
    """Bhimpalasi rises without its second and sixth degree: hardly any rising step may end on them."""
    mode = load("hindustani").mode("Bhimpalasi")
    ascent = {round(c % 1200) for c in mode.ascent_cents}
    phrases = {(round(a % 1200), round(b % 1200)) for p in mode.phrases_cents for a, b in itertools.pairwise(p)}
    left_out = {round(c) for c in mode.degrees_cents} - ascent
    assert left_out
    rises = against = 0
    for seed in range(6):
        notes = (
            performance_ground_truth(seed, "hindustani", 30.0, PerformanceRequest(mode="Bhimpalasi", ensemble=1))
            .voices[0]
            .notes
        )
        rising = [
            (round(a.cents % 1200), round(b.cents % 1200))
            for a, b in itertools.pairwise(notes)
            if b.cents > a.cents and b.onset_seconds - a.onset_seconds - a.seconds < 0.02
        ]
        rises += len(rising)
        against += sum(step[1] in left_out and step not in phrases for step in rising)
    assert rises > 60
    assert against / rises < 0.08


def test_times_match_pitch_frames() -> None:
    truth = performance_ground_truth(0, "makam", 2.0)
    assert truth.times()[[0, 1, -1]] == pytest.approx([0.0, 0.01, 1.99])
    assert truth.times().size == truth.voices[0].cents.size
