"""Degradations, counting of detected ornaments, and the verdicts of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import degradations, metric_sensitivity, metric_sensitivity_page, ornament_detection
from research.validation.mode_dataset import load_trials
from research.validation.ornament_detection import OrnamentTrial
from talim.atomic_io import write_json
from talim.errors import TalimError
from talim.metrics import intonation, ornaments
from talim.metrics.ornaments import OrnamentEvent
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.ground_truth import FormSection
from talim.synthesis.performer import performance_ground_truth
from talim.traditions.tradition import load

SHARED = Path(__file__).parents[4] / "shared" / "data"
RNG = np.random.default_rng


def tone(seconds: float = 2.0) -> np.ndarray:
    at = np.arange(round(seconds * degradations.RATE_HZ)) / degradations.RATE_HZ
    return (0.3 * np.sin(2 * np.pi * 440 * at) + 0.1 * np.sin(2 * np.pi * 4400 * at)).astype(np.float32)


def test_audio_degradations_change_what_they_name() -> None:
    clean = tone()
    added = degradations.add_noise(clean, RNG(0)) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(added**2)) == pytest.approx(20, abs=0.2)
    assert (degradations.drop_frames(clean) == 0).mean() == pytest.approx(0.2, abs=0.01)
    assert np.abs(degradations.clip_samples(clean)).max() == 1
    spectrum = np.abs(np.fft.rfft(degradations.low_pass(clean)))
    before = np.abs(np.fft.rfft(clean))
    assert spectrum[8800] < 0.05 * before[8800]  # 4400 Hz
    assert spectrum[880] == pytest.approx(before[880], rel=0.05)
    coded = degradations.transcode(clean)
    assert coded.size == clean.size
    assert np.corrcoef(coded[4000:-4000], clean[4000:-4000])[0, 1] > 0.99


def test_contour_degradations_change_what_they_name() -> None:
    line = np.repeat([0.0, 200, 400, 200], 50)
    swung = line + 60 * np.sin(2 * np.pi * 6 * np.arange(line.size) / 100)
    assert np.ptp(degradations.flatten_pitch(np.concatenate([line, swung, line]))[:40]) < 10
    assert np.ptp(degradations.smooth_pitch(swung)[10:40]) < 0.3 * np.ptp(swung[10:40])
    assert sorted(degradations.shuffle_segments(line, RNG(0), 0.5)) == sorted(line)
    assert (degradations.loop_segment(line, 0.5) == 0).all()
    refrains = [FormSection("r", "refrain", 0.5 * n, 0.5, n + 1) for n in (0, 2)]
    assert degradations.drop_repeated_sections(line, refrains).tolist() == np.delete(line, slice(100, 150)).tolist()


def test_counts_ignores_optional_ornaments() -> None:
    truth = [
        OrnamentTrial("shake", 1.0, 0.5, True),
        OrnamentTrial("shake", 3.0, 0.5, False),
        OrnamentTrial("shake", 5.0, 0.5, True),
    ]
    detected = [OrnamentEvent("shake", at, 0.4, 100, 6) for at in (1.05, 3.0, 8.0)]
    assert ornament_detection.counts(truth, detected, "shake").tolist() == [1, 1, 1]
    assert ornament_detection.counts(truth, detected, "glide").tolist() == [0, 0, 0]
    assert ornament_detection.f1(1, 1, 1) == 0.5


@pytest.mark.parametrize("slug", ["hindustani", "makam"])
def test_ornament_detection_on_true_contours_reaches_its_f1(slug: str) -> None:
    total = dict.fromkeys(("glide", "shake", "touch", "turn"), np.zeros(3))
    for seed in range(9100, 9104):
        truth = performance_ground_truth(seed, slug, 20.0, PerformanceRequest(ensemble=2))
        detected = ornaments.find_ornaments(truth.voices[0].cents.astype(float), 0.01)
        for kind in total:
            total[kind] = total[kind] + ornament_detection.counts(
                ornament_detection.reference_ornaments(truth), detected, kind
            )
    for kind, counted in total.items():
        assert ornament_detection.f1(*counted) >= 0.6, (kind, counted)


def test_page_marks_scores_that_should_move_and_should_not(tmp_path: Path) -> None:
    for seed in range(4):
        clean = dict.fromkeys(
            ("noise_db", "silent_fraction", "timbre_moved", "clipped_fraction", "tempo_drift"), float(seed)
        )
        moved = {name: {**clean, "noise_db": seed + 5.0} for name in ("noise", "gain of -6 dB")}
        once = {**clean, "clipped_fraction": seed + float(seed == 0)}  # of one recording alone
        write_json(tmp_path / f"audio-makam-{seed}.json", {"clean": clean, **moved, "silence": clean, "clipping": once})
    page = metric_sensitivity_page.page(tmp_path)
    assert "| noise | noise_db | 1.5 | +5 | +5 to +5 | 4 | moves |" in page
    assert "| silence | silent_fraction | 1.5 | +0 | +0 to +0 | 4 | **stands still** |" in page
    (clipped,) = [
        line for line in page.splitlines() if line.startswith("| clipping | clipped_fraction | 1.5 | +0.25 |")
    ]
    assert clipped.endswith("| 4 | **not shown** |")
    assert "| gain of -6 dB | noise_db | 1.5 | +5 | +5 to +5 | 4 | **moves** |" in page
    assert "| gain of -6 dB | silent_fraction | 1.5 | +0 | +0 to +0 | 4 | still |" in page


@pytest.mark.real
@pytest.mark.parametrize(("slug", "part"), [("hindustani", "hindustani"), ("makam", "makam_pitch")])
def test_shift_ranks_on_real_tracks_prefers_the_unshifted(slug: str, part: str) -> None:
    if not (SHARED / part).is_dir():
        pytest.skip(f"the real pitch tracks (shared/data/{part}) are not here")
    tradition = load(slug)
    trials, _ = load_trials(SHARED / part, tradition)
    fractions = metric_sensitivity.shift_ranks(trials, tradition)
    assert fractions["shifted by 20 cents"] >= 0.92
    assert fractions["shifted by 35 cents"] >= 0.98
    assert np.isfinite(
        intonation.intonation_z_rms(trials[0].cents, metric_sensitivity.intonation_profiles(trials[:1], tradition)[0])
    )


def test_performance_ground_truth_with_a_requested_ornament_has_more_of_it() -> None:
    truths = [
        performance_ground_truth(9200, "makam", 20.0, PerformanceRequest(ensemble=2, ornament=name))
        for name in (None, "titretme")
    ]
    counts = [sum(ornament.kind == "vibrato" for ornament in truth.voices[0].ornaments) for truth in truths]
    assert counts[1] > counts[0]
    assert not any(ornament.kind == "tril" for ornament in truths[1].voices[0].ornaments)
    with pytest.raises(TalimError, match="ornament"):
        performance_ground_truth(9200, "makam", 20.0, PerformanceRequest(ornament="grace"))


def test_add_tempo_drift_shortens_the_clip_and_raises_its_end() -> None:
    faster = degradations.add_tempo_drift(tone(20.0), 0.3)
    # 20 s of music take 60 / 0.3 * ln(1 + 0.3 / 60 * 20) s while the tempo grows by 0.3 per minute.
    assert faster.size / degradations.RATE_HZ == pytest.approx(200 * np.log(1.1), abs=0.01)
    last = np.abs(np.fft.rfft(faster[-degradations.RATE_HZ :] * np.hanning(degradations.RATE_HZ)))
    assert last.argmax() == pytest.approx(440 * 1.1, rel=0.01)


def test_page_ignores_inaudible_changes(tmp_path: Path) -> None:
    for seed in range(3):
        clean = dict.fromkeys(("silent_fraction", "noise_db", "timbre_moved", "clipped_fraction"), 0.0)
        write_json(
            tmp_path / f"audio-makam-{seed}.json",
            {"clean": clean, "offset of 1 s": {**clean, "silent_fraction": 0.004, "noise_db": 0.004}},
        )
    page = metric_sensitivity_page.page(tmp_path)
    assert "| offset of 1 s | silent_fraction | 0 | +0.004 | +0.004 to +0.004 | 3 | still |" in page
    assert "| offset of 1 s | noise_db | 0 | +0.004 | +0.004 to +0.004 | 3 | **moves** |" in page
