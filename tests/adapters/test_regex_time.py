"""Regular expressions of foreign adapters: bounded time, wrong types, expressions that are none."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from peft import IA3Config, LoraConfig

from talim.adapters import regex_time
from talim.errors import TalimError

PATHS = [f"decoder.model.decoder.layers.{i}.self_attn.{x}_proj" for i in range(48) for x in "qkvo"]
SLOW = [r"(\w+\.?)+!", r"(a|\w|\.)*(b|\w|\.)*(\w|\.)*(\w|\.)*(\w|\.)*!", r"(?:(?:\w|\.)+)+$!", r"((\w|\.)(\w|\.)?)+!"]
QUICK = [
    r".*\.(q|v)_proj",
    r"decoder\.model\.decoder\.layers\.(?:[0-9]|1[0-9])\.self_attn\.(?:q|k)_proj",
    r"(?:.*?(?:decoder|text).*?(?:self_attn|mlp).*?(?:q_proj|fc1).*?)",
    r"^(?!.*encoder).*(?:self_attn|mlp).*(?:proj|fc\d+)$",
]


@pytest.mark.parametrize("seconds", [1, pytest.param(regex_time.CPU_SECONDS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pattern", SLOW)
def test_check_time_refuses_an_expression_that_does_not_end(
    pattern: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex_time, "WALL_SECONDS", 20.0)
    monkeypatch.setattr(regex_time, "CPU_SECONDS", seconds)
    start = time.monotonic()
    with pytest.raises(TalimError, match=f"takes longer than {seconds} s; an adapter with it is not loaded") as caught:
        regex_time.check_time(["layers", pattern], PATHS)
    assert pattern[:30] in str(caught.value).replace("\\\\", "\\")
    assert time.monotonic() - start < 40


def test_check_time_asks_again_only_what_did_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = ["0", "end"]
    asked: list[str] = []

    def run(*_: Any, **options: Any) -> Any:
        asked.append(options["input"])
        return SimpleNamespace(stdout="\n".join(printed))

    monkeypatch.setattr(regex_time.subprocess, "run", run)
    for path in ("once.q", "once.q", "twice.q"):
        regex_time.check_time([".*q"], [path])
    assert len(asked) == 2
    printed.pop()
    for _ in range(2):
        with pytest.raises(TalimError, match=r"the regular expression '\.\*k' .*takes longer than 5 s"):
            regex_time.check_time([".*k"], ["once.q"])
    assert len(asked) == 4


def test_check_time_has_seconds_for_a_busy_machine() -> None:
    assert 3 <= regex_time.CPU_SECONDS < regex_time.WALL_SECONDS


def test_check_time_passes_the_expressions_that_people_write() -> None:
    regex_time.check_time(QUICK, PATHS)


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
def test_expressions_of_patterns_by_key_are_those_that_peft_builds(field: str) -> None:
    config = LoraConfig(target_modules=r".*q", **{field: {r"layers\.\d+": 3}})
    assert regex_time.expressions(config) == [".*q", r"(.*\.)?(layers\.\d+)$"]


def test_expressions_of_lists_are_none() -> None:
    assert regex_time.expressions(LoraConfig(target_modules=["q_proj", "v_proj"])) == []
    assert regex_time.expressions(IA3Config(target_modules=["q"], feedforward_modules=["q"])) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target_modules": "("}, "is no regular expression"),
        ({"target_modules": 3}, "target_modules is 3; expected text"),
        ({"exclude_modules": [3]}, "exclude_modules"),
        ({"rank_pattern": [1]}, "rank_pattern is"),
        ({"rank_pattern": {"*": 1}}, "is no regular expression"),
        ({"layers_pattern": "["}, "is no regular expression"),
        ({"modules_to_save": ["("]}, "is no regular expression"),
        ({"target_modules": "a" * 300_000}, "300,000 characters"),
    ],
)
def test_expressions_wrong_type_or_syntax_raises_talim_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TalimError, match=message) as caught:
        regex_time.expressions(SimpleNamespace(**values))
    assert len(str(caught.value)) < 300
