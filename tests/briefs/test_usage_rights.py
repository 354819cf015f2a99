"""What a candidate may be used for: the strictest licence of base and recordings counts."""

from __future__ import annotations

from pathlib import Path

from fixtures.run_folder import make_run

from talim.briefs import usage_rights
from talim.run import Run


def test_the_strictest_counts() -> None:
    told = {"base": "b", "base_licence": "MIT", "recordings": {"CC0-1.0": 3, "unknown": 2}, "consent": {}}
    assert usage_rights.usage_allowed(told) == {"commercial": "unknown", "reasons": ["2 recordings: unknown"]}
    told["base_licence"] = "CC-BY-NC-4.0"
    assert usage_rights.usage_allowed(told) == {
        "commercial": "forbidden",
        "reasons": ["the base b: CC-BY-NC-4.0"],
    }
    free = told | {"base_licence": "MIT", "recordings": {"CC0-1.0": 3}}
    assert usage_rights.usage_allowed(free)["commercial"] == "allowed"


def test_a_run_tells_its_rights_and_one_that_does_not_is_unknown(tmp_path: Path) -> None:
    found = usage_rights.run_rights(Run(make_run(tmp_path / "run", seconds=0)))
    assert found["base_licence"] == "Apache-2.0"
    assert found["recordings"] == {"CC BY 4.0": 9, "unknown": 6}
    bare = usage_rights.run_rights(Run(tmp_path / "elsewhere" / "nothing"))
    assert usage_rights.usage_allowed(bare)["commercial"] == "unknown"
