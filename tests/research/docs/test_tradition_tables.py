"""The page's list of what is shipped is what is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from research.docs.tradition_tables import BEGIN, END, main, renew_catalogue
from talim.errors import TalimError, UsageError
from talim.traditions.tradition import load

PAGE = Path(__file__).parents[3] / "docs" / "traditions.md"


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text("utf-8")
    assert renew_catalogue(text) == text, "run: python -m research.docs.tradition_tables docs/traditions.md"


def test_the_page_lists_every_entry(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nstale\n{END}\nbelow\n", encoding="utf-8")
    main([str(page)])
    text = page.read_text("utf-8")
    assert "stale" not in text
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    for slug in ("hindustani", "makam"):
        tradition = load(slug)
        for entry in (*tradition.modes, *tradition.cycles, *tradition.ornaments):
            assert f"| {entry.name} |" in text
        assert all(source in text for source in tradition.facts["sources"])


def test_a_page_without_its_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no place for the catalogue"):
        renew_catalogue("nothing here")
    with pytest.raises(UsageError, match="name the page"):
        main([str(tmp_path / "none.md")])
