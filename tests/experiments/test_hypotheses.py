"""Claims files: messages for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.experiments.hypotheses import load

VALID = "measure: m, treatment: {kind: x}, control: {kind: y}, smallest_effect: 1"


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        ("measure: m, treatment: {mood: x}, control: {mood: y}, smallest_effect: 1", "mood is no factor"),
        ("measure: m, treatment: {kind: x}, control: {kind: x}, smallest_effect: 1", "are the same"),
        ("measure: m, treatment: {kind: x}, control: {site: x}, smallest_effect: 1", "same factors"),
        (VALID.replace("smallest_effect: 1", "smallest_effect: 0"), "smallest_effect"),
        (f"{VALID}, how: 2", "how"),
        (f"{VALID}, hypothesis: less", "hypothesis"),
    ],
)
def test_load_invalid_comparison_names_the_key(tmp_path: Path, comparison: str, message: str) -> None:
    text = f"claims: [{{id: a, statement: b, comparisons: [{{{comparison}}}]}}]"
    (tmp_path / "claims.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TalimError, match=message):
        load(tmp_path / "claims.yaml")


@pytest.mark.parametrize(("text", "message"), [("claims: [", "not a YAML file"), ("claims: []", "claims")])
def test_load_without_hypotheses_raises(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "claims.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TalimError, match=message):
        load(tmp_path / "claims.yaml")


def test_load_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no such file"):
        load(tmp_path / "none.yaml")
