"""The page of coverage: what it says of the older and the used intervals."""

from __future__ import annotations

import pytest

from research.validation import interval_coverage


@pytest.mark.parametrize("law", ["normal", "log-normal"])
def test_coverage_row_tells_the_percentile_bootstrap_from_the_used_interval(law: str) -> None:
    name, count, percentile, of_t, used, width = interval_coverage.coverage_row(law, (1, 4), 0.95, 250)
    assert (name, count) == (law, "4")
    assert float(percentile) < 86 < 90 < float(used)
    assert float(percentile) < float(of_t) <= float(used)
    assert 1 < float(width) < 3


def test_pairs_that_share_a_seed_are_not_independent() -> None:
    differ, seeds, recordings, independent, used = interval_coverage.paired_row((3, 11, 4), "seeds", 0.95, 60)
    assert (differ, seeds, recordings) == ("seeds", "3 x 11", "4")
    assert float(independent) < 80
    assert float(used) >= 90


def test_few_seeds_that_differ_are_missed_by_two_and_not_by_four_on_two_corpora() -> None:
    shape, share, one_of_two, _ = interval_coverage.few_seeds_row((2, 62), 0.9, 0.95, 300)
    assert (shape, share) == ("2 x 62", "90 %")
    *_, one_of_four, two_of_four = interval_coverage.few_seeds_row((4, 62), 0.9, 0.95, 300)
    assert float(one_of_two) < 92 < float(one_of_four)
    assert float(two_of_four) > 93


def test_two_bases_on_one_corpus_are_not_independent() -> None:
    alike, seeds, recordings, independent, used = interval_coverage.two_bases_row((2, 12), 1.0, 0.95, 150)
    assert (alike, seeds, recordings) == ("1", "2 x 2", "12")
    assert float(independent) + 4 < float(used)
    assert float(used) >= 93


def test_page_has_every_number_of_recordings_at_both_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval_coverage, "RESAMPLES", 20)
    text = interval_coverage.page(4)
    assert text.count("| log-normal | 20 |") == 2
    assert text.count("| normal | 8 x 50 |") == 2
    assert text.count("| seeds | 3 x 11 | 8 |") == 2
    assert text.count("| 4 x 62 | 75 % |") == 2
    assert text.count("| 0.5 | 8 x 2 | 20 |") == 2
    assert text.count("| Gumbel | 10 |") == 1
    assert all(line.count("|") in (5, 6, 7) for line in text.splitlines() if line.startswith("|"))
