"""The rule: met, not met, not decided; and the business's own indicators from a CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.brief_folder import brief_of

from talim.briefs import decision_rule
from talim.briefs.decision_rule import INDICATORS
from talim.errors import UsageError

SKIPS = [{"name": "skips", "unit": "%", "better": "lower"}]
CHEAP = {"value": 10.0, "low": 5.0, "high": 20.0}


def ends(low: float | None, value: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def measured(acceptance: dict, cost: dict = CHEAP) -> dict[str, Any]:
    return {"acceptance": acceptance, "cost_per_accepted_piece": cost, "cost_per_accepted_minute": cost}


@pytest.mark.parametrize(
    ("acceptance", "cost", "judged_on", "answer"),
    [
        (ends(0.3, 0.5, 0.7), CHEAP, "interval", "go"),
        (ends(0.2, 0.5, 0.7), CHEAP, "interval", "open"),
        (ends(0.2, 0.5, 0.7), CHEAP, "value", "go"),
        (ends(0.0, 0.1, 0.2), CHEAP, "interval", "no-go"),
        (ends(0.0, 0.1, 0.2), CHEAP, "value", "no-go"),
        (ends(0.3, 0.5, 0.7), ends(200, 300, None), "interval", "no-go"),
        (ends(0.3, 0.5, 0.7), ends(100, 150, 300), "interval", "open"),
        (ends(0.3, 0.5, 0.7), ends(100, None, None), "interval", "open"),
        (ends(0.3, 0.5, 0.7), ends(100, None, None), "value", "no-go"),
        (ends(None, None, None), ends(None, None, None), "interval", "open"),
        (ends(None, None, None), ends(None, None, None), "value", "open"),
    ],
)
def test_apply_decision_rule_intervals_decide(acceptance: dict, cost: dict, judged_on: str, answer: str) -> None:
    rule = {"acceptance_at_least": 0.25, "cheaper_than_status_quo": True, "judged_on": judged_on}
    output = decision_rule.apply_decision_rule(measured(acceptance, cost), {}, brief_of(decision_rule=rule))
    assert output["answer"] == answer
    assert len(output["conditions"]) == 2


def test_apply_decision_rule_without_conditions_is_open() -> None:
    assert (
        decision_rule.apply_decision_rule(measured(ends(0.9, 1, 1)), {}, brief_of(decision_rule={}))["answer"] == "open"
    )


def test_apply_decision_rule_cost_per_minute_is_compared_with_bound() -> None:
    brief = brief_of(decision_rule={"cost_per_minute_at_most": 20.0})
    assert decision_rule.apply_decision_rule(measured(ends(0, 0, 0)), {}, brief)["answer"] == "go"


def write(folder: Path, text: str) -> Path:
    (folder / INDICATORS).write_text(text, encoding="utf-8")
    return folder


def test_apply_decision_rule_indicator_follows_its_direction(tmp_path: Path) -> None:
    current = "".join(f"skips,status_quo,{value}\n" for value in (30, 31, 29, 32))
    new = "".join(f"skips,New,{value}\n" for value in (20, 21, 19, 22))
    write(tmp_path, "\ufeffindicator,when,value,who\n" + current + new)
    for better, answer in (("lower", "go"), ("higher", "no-go")):
        brief = brief_of(indicators=[SKIPS[0] | {"better": better}], decision_rule={"indicators_better": ["skips"]})
        output = decision_rule.read_indicators(tmp_path, brief)
        assert output["skips"]["difference"]["value"] == pytest.approx(-10.0)
        assert output["skips"]["status_quo"]["count"] == 4
        assert decision_rule.apply_decision_rule(measured(ends(0, 0, 0)), output, brief)["answer"] == answer


def test_apply_decision_rule_indicator_without_values_is_undecided(tmp_path: Path) -> None:
    brief = brief_of(indicators=SKIPS, decision_rule={"indicators_better": ["skips"]})
    assert decision_rule.write_indicators(tmp_path, brief) == tmp_path / INDICATORS
    output = decision_rule.read_indicators(tmp_path, brief)
    assert output["skips"]["new"]["value"] is None
    assert decision_rule.apply_decision_rule(measured(ends(0, 0, 0)), output, brief)["answer"] == "open"


def test_write_indicators_keeps_existing_table(tmp_path: Path) -> None:
    write(tmp_path, "indicator,when,value\nskips,new,1\n")
    decision_rule.write_indicators(tmp_path, brief_of(indicators=SKIPS))
    assert "skips,new,1" in (tmp_path / INDICATORS).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("indicator,value\n", "lacks the column when"),
        ("indicator,when,value\nclicks,new,1\n", "line 2: 'clicks' is not an indicator"),
        ("indicator,when,value\nskips,later,1\n", "line 2: when is 'later'"),
        ("indicator,when,value\nskips,new,1\nskips,new,many\n", "line 3: value is 'many'"),
        ("indicator,when,value\nskips,new,inf\n", "value is 'inf'"),
        ("indicator,when,value\nskips,new\n", "value is None"),
    ],
)
def test_read_indicators_wrong_row_raises_error_with_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as result:
        decision_rule.read_indicators(write(tmp_path, text), brief_of(indicators=SKIPS))
    assert message in str(result.value)
