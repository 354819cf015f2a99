"""Selection criteria: parsing of options, and values out of range."""

from __future__ import annotations

import pytest

from talim.errors import UsageError
from talim.experiments.goals import SelectionCriteria, parse_criteria


def test_parse_criteria_reads_limits_with_units() -> None:
    assert parse_criteria(None, None, [], None) is None
    criteria = parse_criteria("jingle", "seconds", ["memory=6GB", "seconds=1.5h", "parameters=2M"], 0.05)
    assert criteria == SelectionCriteria("jingle", "seconds", {"memory": 6e9, "seconds": 5400, "parameters": 2e6}, 0.05)


@pytest.mark.parametrize("text", ["memory", "memory=six", "memory=6GiB", "beauty=3", "seconds=3M"])
def test_parse_criteria_invalid_limit_raises(text: str) -> None:
    with pytest.raises(UsageError, match="is no limit; write COST=NUMBER"):
        parse_criteria(None, None, [text], None)


@pytest.mark.parametrize("values", [{"goal": "fame"}, {"minimize": "love"}, {"tolerance": 0.0}, {"tolerance": 1.5}])
def test_selection_criteria_out_of_range_raises(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SelectionCriteria(**values)  # type: ignore[arg-type]
