"""Comparison of synthetic with real melodies: the page, and reading of annotated tempi."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import synthesis_realism
from talim.errors import TalimError
from talim.synthesis.performer import performance_ground_truth
from talim.traditions.tradition import load

SHARED = Path(__file__).parents[4] / "shared" / "data"


def folder_of_tracks(folder: Path, tradition: str, table: str) -> Path:
    """Two synthetic tracks instead of real ones, and a table of tempi."""
    folder.mkdir()
    for seed in (1, 2):
        cents = performance_ground_truth(seed, tradition, 20.0).voices[0].cents
        np.savez(folder / f"{seed}.npz", cents=cents, hop_s=0.01)
    (folder / "metadata.csv").write_text(table, encoding="utf-8")
    return folder


def test_main_writes_a_section_for_each_tradition(tmp_path: Path) -> None:
    one = folder_of_tracks(tmp_path / "h", "hindustani", "tala,tempo_mpm\nTeentaal,120\nNobody knows,90\n,\n")
    two = folder_of_tracks(tmp_path / "m", "makam", "usul_pulses,usul_mertebe,tempo_bpm,tempo_unit\n9,8,72,1/4\n")
    out = tmp_path / "page.md"
    folders = ["--hindustani", str(one), "--makam", str(two)]
    synthesis_realism.main([*folders, "--out", str(out), "--performances", "4", "--seconds", "20"])
    page = out.read_text(encoding="utf-8")
    assert "## Hindustani" in page
    assert "## Makam" in page
    assert "measures are inside" in page
    for name in (*synthesis_realism.METRIC_DESCRIPTIONS, *synthesis_realism.CYCLE_MEASURES):
        assert page.count(f"| {name} |") == 3


def test_annotated_cycle_reads_both_notations_and_rejects_others() -> None:
    hindustani, makam = load("hindustani"), load("makam")
    row = {"tempo_mpm": "120", "tala": "Teentaal"}
    assert synthesis_realism.annotated_cycle(row, hindustani) == {"tempo_bpm": 120, "cycle_seconds": 8}
    # Aksak, quarter = 72: 144 eighths per minute, nine of them in 3.75 s.
    row = {"tempo_bpm": "72", "tempo_unit": "1/4", "usul_pulses": "9", "usul_mertebe": "8"}
    assert synthesis_realism.annotated_cycle(row, makam) == {"tempo_bpm": 144, "cycle_seconds": 3.75}
    for bad in ({}, {"tempo_mpm": "fast", "tala": "Teentaal"}, {"tempo_mpm": "9", "tala": "xyzzy"}, {"tempo_bpm": "9"}):
        assert synthesis_realism.annotated_cycle(bad, hindustani) is None


def test_inside_is_true_for_a_median_within_the_real_range() -> None:
    assert synthesis_realism.PercentileComparison("x", (1, 2, 3), (0, 2.9, 9)).inside
    assert not synthesis_realism.PercentileComparison("x", (1, 2, 3), (1, 3.1, 3)).inside
    assert synthesis_realism.percentile_range([1.0, float("nan"), 3.0])[1] == 2.0


def test_compare_tradition_without_tracks_fails(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no pitch tracks"):
        synthesis_realism.compare_tradition("makam", [tmp_path], 1, 5.0)
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(TalimError, match="cents and hop_s"):
        synthesis_realism.real_measures(tmp_path)


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real pitch tracks are not part of the project")
def test_synthetic_medians_lie_within_real_ranges() -> None:
    folders = {"hindustani": ["hindustani"], "makam": ["makam_pitch", "makam"]}
    for tradition, names in folders.items():
        rows, tracks = synthesis_realism.compare_tradition(tradition, [SHARED / name for name in names], 24, 60.0)
        assert tracks >= 48
        assert sum(row.inside for row in rows) >= len(rows) - 2, [row for row in rows if not row.inside]
