"""Comparison with reference implementations, on own-made stand-ins of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from research.validation import reference_implementations
from talim.metrics import distribution_distances, rhythm


def textbook_mmd2(within_one: np.ndarray, across: np.ndarray, within_other: np.ndarray) -> float:
    n = len(across)
    off_diagonal = [matrix.sum() - np.trace(matrix) for matrix in (within_one, within_other)]
    return float(sum(off_diagonal) / (n * (n - 1)) - 2 * across.mean())


def test_mmd2_of_distances_is_the_kernel_distance_and_not_its_biased_form() -> None:
    for one, other in list(reference_implementations.sets())[:3]:
        ours = distribution_distances.kernel_distance(one, other, width=1.0, scale=1.0)
        assert reference_implementations.mmd2_of_distances(textbook_mmd2, one, other) == pytest.approx(ours, abs=1e-12)
        biased = reference_implementations.mmd2_of_distances(
            lambda a, b, c: float(a.mean() + c.mean() - 2 * b.mean()), one, other
        )
        assert abs(biased - ours) > 1e-3


def textbook_detection(true: np.ndarray, weight: float, found: np.ndarray) -> tuple[float, bool, bool]:
    """The score of McKinney et al. 2007: the weight of the tempi that are met within 8 %."""
    met = [bool((abs(found - bpm) <= 0.08 * bpm).any()) for bpm in true]
    return weight * met[0] + (1 - weight) * met[1], any(met), all(met)


def test_tempo_hit_agrees_with_same_tempo_on_both_sides_of_every_edge() -> None:
    pairs = list(reference_implementations._tempo_edges())
    hits = [reference_implementations.tempo_hit(textbook_detection, *pair) for pair in pairs]
    assert hits == [rhythm.same_tempo(*pair) for pair in pairs]
    assert 0 < sum(hits) < len(hits)


def test_torch_fidelity_is_read_by_file_and_leaves_no_trace(tmp_path: Path) -> None:
    package = tmp_path / "torch_fidelity"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('needs image models')\n")
    (package / "helpers.py").write_text("def double(x): return 2 * x\n")
    (package / "metric_kid.py").write_text(
        "from torch_fidelity.helpers import double\nfrom torch_fidelity.utils import anything\nvalue = double(4)\n"
    )
    module = reference_implementations.torch_fidelity(tmp_path, "metric_kid")
    assert module.value == 8
    assert not [name for name in sys.modules if name.startswith("torch_fidelity")]


def test_tempi_of_a_fixture_leave_out_comments_and_invalid_ones(tmp_path: Path) -> None:
    file = tmp_path / "ref00.lab"
    file.write_text("# A comment\n60.0\t-120.0\t0.25\n")
    assert reference_implementations._tempi(file) == [60.0]


def test_main_without_checkouts_names_each_and_where_it_is_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mir_eval").mkdir()
    with pytest.raises(SystemExit):
        reference_implementations.main([str(tmp_path)])
    message = capsys.readouterr().err
    assert "torch-fidelity (github: toshas/torch-fidelity)" in message
    assert "clovaai/generative-evaluation-prdc" in message
    assert "mir-evaluation" not in message


def test_published_page_agrees_to_one_in_a_million_but_for_explained_ties() -> None:
    page = reference_implementations.PAGE.read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `") and line.count("|") > 5
    ]
    rows = [row for row in rows if len(row) == 5 and row[0] != "measure"]
    assert len(rows) >= 15
    for row in rows:
        difference = float(row[-1].removesuffix(" pairs"))
        assert difference < 1e-6 or "balls are open" in row[1], row
