"""What a candidate may be used for: the strictest licence of base and recordings counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.brief_folder import RIGHTS
from fixtures.run_folder import FACTS, make_run

from talim.briefs import delivery, usage_rights
from talim.reporting import commercial_use
from talim.run import Run

CLEAR = {name: RIGHTS[name] for name in ("recordings", "consent", "attributions")}


def test_usage_allowed_is_what_every_page_says() -> None:
    result = {"base": "b", "base_licence": "MIT", **CLEAR, "recordings": {"CC0-1.0": 3, "unknown": 2}}
    unknown = usage_rights.usage_allowed(result)
    assert (unknown["commercial"], unknown["reasons"]) == ("unknown", ["recordings under 'unknown'"])
    assert [unknown["sentence"], unknown["sentence_translated"]["ja"]] == [*commercial_use.sentence(result).values()]
    result["base_licence"] = "CC-BY-NC-4.0"
    assert usage_rights.usage_allowed(result)["commercial"] == "forbidden"
    free = {"base": "b", "base_licence": "MIT", **CLEAR}
    assert usage_rights.usage_allowed(free)["commercial"] == "allowed"
    assert usage_rights.usage_allowed(free | {"consent": {"unknown": 3}})["commercial"] == "unknown"


@pytest.mark.parametrize(
    ("licence", "use"), [("unknown", "unknown"), ("cc-by-nc-4.0", "forbidden"), ("mit", "allowed")]
)
def test_licence_of_the_adapter_that_training_began_from_counts(tmp_path: Path, licence: str, use: str) -> None:
    start = {"name": "someone/lora", "licence": licence, "design": "lora@adapter"}
    run = Run(make_run(tmp_path / "run", seconds=0, run=FACTS | {"init_from": start}))
    rights = usage_rights.run_rights(run) | CLEAR
    allowed = usage_rights.usage_allowed(rights)
    assert allowed["commercial"] == use
    if use != "allowed":
        assert allowed["reasons"] == [f"the adapter it began from, someone/lora ({licence})"]
    notice = delivery.delivery_notice([{"contender": "a", "rights": rights}], "not for commercial use")
    assert f"Its training began from the adapter someone/lora, licence {licence}." in notice


def test_run_rights_without_facts_are_unknown(tmp_path: Path) -> None:
    trained_on = {"rights": {"licences": {"CC BY 4.0": 9}, "consent": {"given": 9}}, "attributions": []}
    output = usage_rights.run_rights(Run(make_run(tmp_path / "run", seconds=0, run=FACTS | {"trained_on": trained_on})))
    assert output["base_licence"] == "Apache-2.0"
    assert output["recordings"] == {"CC BY 4.0": 9}  # of the corpus, some are unknown; none of these was trained on
    bare = usage_rights.run_rights(Run(tmp_path / "elsewhere" / "nothing"))
    assert usage_rights.usage_allowed(bare)["commercial"] == "unknown"
