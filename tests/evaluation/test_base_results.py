"""What a base makes alone is made once, and anew under other settings."""

from __future__ import annotations

from talim.evaluation.base_results import BaseResults


def test_a_result_is_made_once_and_anew_under_other_settings() -> None:
    kept, made = BaseResults(), []

    def make() -> int:
        made.append(1)
        return len(made)

    kept.use(("a", 1))
    assert [kept.get("x", make), kept.get("x", make), kept.get("y", make)] == [1, 1, 2]
    kept.use(("a", 1))
    assert kept.get("x", make) == 1
    kept.use(("a", 2))
    assert kept.get("x", make) == 3
