"""The catalogue in docs/reference/traditions.md equals the built-in traditions."""

from __future__ import annotations

from pathlib import Path

import pytest

from research.docs.tradition_tables import BEGIN, END, PAGE, main, replace_catalogue
from talim.errors import TalimError, UsageError
from talim.traditions.tradition import load

ROOT = Path(__file__).parents[3]


def test_replace_catalogue_of_the_committed_page_changes_nothing() -> None:
    text = (ROOT / PAGE).read_text("utf-8")
    assert replace_catalogue(text) == text, "run: python -m research.docs.tradition_tables"


def test_main_lists_every_entry(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nstale\n{END}\nbelow\n", encoding="utf-8")
    main(["--out", str(page)])
    text = page.read_text("utf-8")
    assert "stale" not in text
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    for slug in ("hindustani", "makam"):
        tradition = load(slug)
        for entry in (*tradition.modes, *tradition.cycles, *tradition.ornaments):
            assert f"| {entry.name} |" in text
        assert all(source in text for source in tradition.facts["sources"])


def test_replace_catalogue_without_marks_fails(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no catalogue marks"):
        replace_catalogue("nothing here")
    with pytest.raises(UsageError, match="no such file"):
        main(["--out", str(tmp_path / "none.md")])
