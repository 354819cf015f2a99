"""Scores of different protocols are not compared."""

from __future__ import annotations

import pytest

from talim.errors import TalimError
from talim.evaluation.protocol import require_same_protocol, score_protocol


def test_require_same_protocol_of_equal_tables_passes() -> None:
    protocol = score_protocol({"seconds": 10})
    require_same_protocol({})
    require_same_protocol({"a": protocol})
    require_same_protocol({"a": protocol, "b": dict(protocol), "c": protocol})


def test_require_same_protocol_of_different_tables_names_both_and_what_differs() -> None:
    long, short = (score_protocol({"seconds": seconds, "seed": 0}) for seconds in (10, 5))
    with pytest.raises(TalimError) as error:
        require_same_protocol({"run-a": long, "run-b": long, "run-c": short})
    for part in ("run-b", "run-c", long["hash"], short["hash"], "differ in seconds;"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_score_protocol_hash_depends_on_every_fact() -> None:
    hashes = {
        score_protocol(facts)["hash"]
        for facts in ({"seconds": 10, "corpus": "a"}, {"seconds": 10, "corpus": "b"}, {"seconds": 5, "corpus": "a"})
    }
    assert len(hashes) == 3
