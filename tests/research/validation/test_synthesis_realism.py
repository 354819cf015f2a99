"""The comparison with real players: its page, and how real tempi are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import synthesis_realism as report
from talim.errors import TalimError
from talim.synthesis.performer import performance_ground_truth
from talim.traditions.tradition import load

SHARED = Path(__file__).parents[4] / "shared" / "data"


def folder_of_tracks(folder: Path, tradition: str, table: str) -> Path:
    """Two performed tracks in the place of real ones, and a table of tempi."""
    folder.mkdir()
    for seed in (1, 2):
        cents = performance_ground_truth(seed, tradition, 20.0).voices[0].cents
        np.savez(folder / f"{seed}.npz", cents=cents, hop_s=0.01)
    (folder / "metadata.csv").write_text(table, encoding="utf-8")
    return folder


def test_the_page_is_made_from_two_folders(tmp_path: Path) -> None:
    one = folder_of_tracks(tmp_path / "h", "hindustani", "tala,tempo_mpm\nTeentaal,120\nNobody knows,90\n,\n")
    two = folder_of_tracks(
        tmp_path / "m", "makam", "usul_pulses,usul_mertebe,tempo_bpm,tempo_unit\n9,8,72,1/4\n"
    )
    out = tmp_path / "performer.md"
    folders = ["--hindustani", str(one), "--makam", str(two)]
    report.main([*folders, "--out", str(out), "--performances", "4", "--seconds", "20"])
    page = out.read_text(encoding="utf-8")
    assert "## Hindustani" in page
    assert "## Makam" in page
    assert "measures are inside" in page
    for name in (*report.METRIC_DESCRIPTIONS, *report.CYCLE_MEANING):
        assert page.count(f"| {name} |") == 3


def test_annotated_tempi_become_beats_and_cycles() -> None:
    hindustani, makam = load("hindustani"), load("makam")
    row = {"tempo_mpm": "120", "tala": "Teentaal"}
    assert report.annotated(row, hindustani) == {"tempo_bpm": 120, "cycle_seconds": 8}
    # Aksak, quarter = 72: 144 eighths a minute, nine of them in 3.75 s.
    row = {"tempo_bpm": "72", "tempo_unit": "1/4", "usul_pulses": "9", "usul_mertebe": "8"}
    assert report.annotated(row, makam) == {"tempo_bpm": 144, "cycle_seconds": 3.75}
    for bad in (
        {},
        {"tempo_mpm": "fast", "tala": "Teentaal"},
        {"tempo_mpm": "9", "tala": "xyzzy"},
        {"tempo_bpm": "9"},
    ):
        assert report.annotated(bad, hindustani) is None


def test_inside_means_the_median_lies_within_the_real_range() -> None:
    assert report.PercentileComparison("x", (1, 2, 3), (0, 2.9, 9)).inside
    assert not report.PercentileComparison("x", (1, 2, 3), (1, 3.1, 3)).inside
    assert report.percentile_range([1.0, float("nan"), 3.0])[1] == 2.0


def test_folders_without_tracks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no pitch tracks"):
        report.compare_tradition("makam", [tmp_path], 1, 5.0)
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(TalimError, match="cents and hop_s"):
        report.real_measures(tmp_path)


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real pitch tracks are not part of the project")
def test_performed_medians_lie_within_real_ranges() -> None:
    folders = {"hindustani": ["hindustani"], "makam": ["makam_pitch", "makam"]}
    for tradition, names in folders.items():
        rows, tracks = report.compare_tradition(tradition, [SHARED / name for name in names], 24, 60.0)
        assert tracks >= 48
        assert sum(row.inside for row in rows) >= len(rows) - 2, [row for row in rows if not row.inside]
