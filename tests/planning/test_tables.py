"""Tests of talim.planning.tables: the tables fit the terminal, and nothing is cut off."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from fixtures.japanese_block import foreign_words

from talim.planning.design_costs import design_costs
from talim.planning.tables import format_si, render_designs, render_plan


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("columns", [60, 80, 99, 100, 240])
@pytest.mark.parametrize(("base", "budget"), [("musicgen-large", "2M"), ("nano-musicgen", "40M")])
def test_render_designs_fits_the_terminal(
    base: str, budget: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    found = design_costs(base, [budget])
    text = render_designs(found)
    assert max(len(line) for line in text.splitlines()) <= min(max(columns, 80), 100)
    for row in found["designs"]:
        name = row["design"].partition(":")[0]
        lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert len(lines) == 1
        if row["parameters"] is not None:
            assert f" {row['parameters']:,} " in lines[0]
    words = text.split()
    wider = sum("wider than the layer" in row["note"] for row in found["designs"])
    assert words.count("wider") == words.count("layer") == wider
    assert ("percent" in words) == (columns >= 100)


def test_render_designs_groups_rows_by_budget() -> None:
    lines = render_designs(design_costs("musicgen-small", ["2M", "2.5%"])).splitlines()
    first, second = lines.index("2M"), lines.index("2.5% of the base")
    assert lines[first + 1].startswith("linear@conditioner ")
    assert lines[second - 1] == ""
    assert second - first == 5 * 6 + 2
    assert lines[second + 5 * 6 + 1] == ""  # kinds without a size come last
    assert [line.split("@")[0] for line in lines[second + 5 * 6 + 2 : -2]] == ["ia3"] * 6 + ["full"] * 6
    assert lines[-2:] == ["", "next: talim plan --base musicgen-small --design linear@all:2M"]


def test_render_designs_explains_impossible_designs_below_the_table() -> None:
    text = render_designs(design_costs("musicgen-large", ["2M"]))
    assert "lora@all" in text
    assert "impossible, see below" in text
    assert "- lora@all:2M is a budget of 2,000,000 parameters, but lora needs at least" in text
    assert "Impossible" not in render_designs(design_costs("musicgen-large", ["40M"]))


def test_render_designs_puts_parts_of_a_combination_on_lines_of_their_own() -> None:
    found = design_costs("nano-musicgen", designs=["conv@shallow:2%+full@layers[4-5]", "linear@all:width8"])
    lines = render_designs(found).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("conv@"))
    assert lines[at].split()[0] == "conv@shallow:2%+"
    assert lines[at + 1].split()[0] == "full@layers[4-5]"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 "), (918, "918 "), (999.6, "1 k"), (85_300_000, "85.3 M"), (7.254e9, "7.25 G"), (2e13, "20 T")],
)
def test_format_si_has_three_digits_and_a_prefix(number: float, text: str) -> None:
    assert format_si(number) == text


PLANNED: dict[str, Any] = {
    "base": "musicgen-medium",
    "base_option": "musicgen-medium",
    "hardware": "rtx-3060",
    "hardware_note": "published rates",
    "memory_limit_bytes": 12e9,
    "precision": "bf16",
    "asked_precision": None,
    "gradient_checkpointing": False,
    "crop_seconds": 30.0,
    "batch_size": 4,
    "steps": 300,
    "default_training": {"crop_seconds": 10.0, "batch_size": 8, "steps": 300},
}


def planned_row(design: str, **changes: Any) -> dict[str, Any]:
    ratios = {"time": 0.3, "memory": 0.2, "storage": 0.01, "money": None}
    numbers = {"memory_bytes": 31.4e9, "step_seconds": 0.123, "hours": 12.3, "file_bytes": 1.6e9}
    rest = {"energy_joules": None, "money": None, "fits": True, "suggestion": None, "note": "", "ratios": ratios}
    return {"design": design, **numbers, **rest, **changes}


@pytest.mark.parametrize("columns", [40, 90, 200])
def test_render_plan_cuts_no_design_off(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Designs are there to be copied: a terminal that is too narrow wraps a line, and nothing ends in dots."""
    monkeypatch.setenv("COLUMNS", str(columns))
    long = "transformer@conditioner:2.75%+full@layers[40-47]+linear@layers[0-39]:width128+conv@post:2.5%"
    energy = {"energy_joules": 3.6e9, "money": 1234567.89}
    text = render_plan({**PLANNED, "designs": [planned_row("full@all", **energy), planned_row(long, **energy)]})
    assert "…" not in text
    assert any(line.startswith(f"{long} ") and "1234567.89" in line for line in text.splitlines())


def test_render_plan_with_music_tells_passes_and_a_full_training() -> None:
    music = {"hours": 2.0, "passes": 10 / 3, "full_passes": 30, "full_steps": 2700}
    rows = [planned_row("full@all", full_hours=200.0), planned_row("conv@all:2.7%", full_hours=110.75)]
    text = " ".join(render_plan({**PLANNED, "music": music, "designs": rows}).split())
    assert "That is 3.3 passes over 2 h 00 min of training music. Memory limit" in text
    full = "30 passes, as the paper trained (arXiv 2506.21298), are 2\u202f700 steps: conv@all:2.7% 110 h 45 min."
    assert " ".join(full.split()) in text
    assert "pass" not in render_plan({**PLANNED, "designs": rows})


@pytest.mark.parametrize(
    ("note", "meaning"),
    [
        ("wider than the layer", "more inner units than the layer has outputs; a smaller size may do the same)"),
        ("nearest possible: +9.1%; rank above the matrix", "the rank beyond the matrix's adds nothing)"),
        ("nearest possible: +9.1%", "nearest possible: +9.1%"),
    ],
)
def test_render_plan_says_what_follows_from_a_size_that_is_too_large(note: str, meaning: str) -> None:
    text = render_plan({**PLANNED, "designs": [planned_row("full@all"), planned_row("conv@all:2.7%", note=note)]})
    assert f"conv@all:2.7%: {note}" in " ".join(text.split())
    assert meaning in " ".join(text.split())
    assert text.count("it trains") == (meaning != note)


def test_render_plan_says_once_why_there_is_no_energy_and_what_to_type() -> None:
    rows = [planned_row("full@all", fits=False), planned_row("conv@all:2.7%")]
    text = render_plan({**PLANNED, "designs": rows})
    assert text.count("Energy") == 1
    assert "--watts" in text
    command = shlex.split(text.splitlines()[-1].removeprefix("next: ").partition(" (")[0])
    assert command[:6] == ["talim", "train", "--base", "musicgen-medium", "--design", "conv@all:2.7%"]
    assert "training.batch_size=4" in command
    assert "--steps" not in command  # as many as usual
    assert not any("training.precision" in word for word in command)
    given = render_plan({**PLANNED, "asked_precision": "fp32", "designs": rows}).splitlines()[-1]
    assert " --set training.precision=fp32 --corpus " in given
    usual = {**PLANNED, **PLANNED["default_training"], "designs": rows}
    assert "300 steps of 8 clips of 10 s, as talim train and talim poc do" in " ".join(render_plan(usual).split())
    assert "conv@all:2.7% --corpus my-corpus" in render_plan(usual).splitlines()[-1]  # nothing to set
    own = render_plan({**usual, "corpus": "my takes"}).splitlines()[-1]
    assert own.endswith("--design conv@all:2.7% --corpus 'my takes' --out my-run")  # the corpus that was asked for
    known = [planned_row("full@all", energy_joules=7.2e6), planned_row("conv@all:2.7%", energy_joules=3.6e6)]
    assert "--watts" not in render_plan({**PLANNED, "designs": known})
    smaller = {"options": "", "settings": "", "memory_bytes": 1e9, "step_seconds": 0.1, "design": "conv@deep:2.7%"}
    smaller |= {"batch_size": 1, "crop_seconds": 15.0, "gradient_checkpointing": True}
    tight = [planned_row("full@all", fits=False), planned_row("conv@all:2.7%", fits=False, suggestion=smaller)]
    changed = render_plan({**PLANNED, "designs": tight}).splitlines()[-1]
    assert "--design conv@deep:2.7% --set training.batch_size=1 --set training.crop_seconds=15 --steps 2400 " in changed
    assert " --set training.gradient_checkpointing=true --corpus" in changed  # the same music: an eighth in each step
    assert changed.endswith(", which is another design than asked for")
    nothing = render_plan({**PLANNED, "designs": [planned_row("full@all", fits=False)]})
    assert nothing.splitlines()[-1].startswith("next: plan a smaller base")
    smallest = render_plan({**PLANNED, "base": "nano-musicgen", "designs": [planned_row("full@all", fits=False)]})
    assert smallest.splitlines()[-1] == "next: plan a larger machine (--gpu)"


def test_render_plan_tells_a_change_as_options_of_both_commands() -> None:
    change = {"options": "--batch-size 1", "settings": "--set training.batch_size=1", "design": "conv@all:2.7%"}
    change |= {"memory_bytes": 5e9, "step_seconds": 0.1, "batch_size": 1, "crop_seconds": 30.0}
    change |= {"gradient_checkpointing": False}
    row = planned_row("conv@all:2.7%", fits=False, suggestion=change)
    text = render_plan({**PLANNED, "designs": [planned_row("full@all"), row]})
    assert "It would with --batch-size 1 (of talim train: --set training.batch_size=1): 5.00 GB" in " ".join(
        text.split()
    )


CHANGE: dict[str, Any] = {"options": "--design D", "settings": "--design D", "memory_bytes": 1e9, "step_seconds": 0.1}
CHANGE |= {"batch_size": 4, "crop_seconds": 30.0, "gradient_checkpointing": False}


def said_of(*rows: dict[str, Any]) -> tuple[str, str]:
    """What a plan says of designs that do not fit, in one line, and what it says comes next."""
    *lines, last = render_plan({**PLANNED, "designs": [*rows]}).splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("! ")), len(lines))
    return " ".join(" ".join(lines[first:]).split()), last


def test_render_plan_says_that_a_change_is_another_design() -> None:
    full = planned_row("full@all", fits=False, suggestion=CHANGE | {"design": "full@post"})
    misfit, last = said_of(
        full, planned_row("linear@all:2%", fits=False, suggestion=CHANGE | {"design": "linear@post:2%"})
    )
    assert misfit.startswith(
        "! full@all, with which the others are compared, does not fit. ! linear@all:2% does not fit."
    )
    assert "(of talim train: --design D), which is another design than asked for: 1.00 GB" in misfit
    assert "--design linear@post:2% " in last
    assert last.endswith(", which is another design than asked for")
    misfit, last = said_of(full)  # asked for itself
    assert "full@all does not fit. It would with --design D" in misfit
    assert "--design full@post " in last
    assert last.endswith(", which is another design than asked for")


def test_render_plan_proposes_no_design_of_another_kind_than_asked_for() -> None:
    full = planned_row("full@all", fits=False, suggestion=CHANGE | {"design": "full@post"})
    misfit, last = said_of(full, planned_row("linear@all:2%", fits=False))
    assert "linear@all:2% does not fit, and no change that was tried makes it fit." in misfit
    assert last == "next: plan a smaller base, or a larger machine (--gpu)"
    _, last = said_of(
        planned_row("full@all"), planned_row("conv@all:2%", fits=False, suggestion=CHANGE | {"design": "conv@all:2%"})
    )
    assert "--design conv@all:2% " in last
    assert "another design" not in last


NOTE = "published rates, of which 50% (matrix products) and 70% (memory) are assumed; power is the board's limit"
CPU = "Some CPU, 2 threads, measured here; this CPU has bf16 instructions (avx512_bf16)"


@pytest.mark.parametrize("note", [NOTE, CPU])
def test_render_plan_in_japanese_leaves_no_english_but_commands(note: str) -> None:
    change = CHANGE | {"design": "conv@post:2%"}
    rows = [planned_row("full@all", full_hours=200.0, fits=False), planned_row("linear@all:2%", full_hours=2.0)]
    rows.append(planned_row("conv@all:2%", full_hours=3.0, fits=False, suggestion=change, money=1.0))
    rows.append(
        planned_row("lora@all:2%", full_hours=4.0, fits=False, note="nearest possible: +9.1%; rank above the matrix")
    )
    rows.append(planned_row("conv@post:2%", full_hours=4.0, note="wider than the layer"))
    music = {"hours": 2.0, "passes": 10 / 3, "full_passes": 30, "full_steps": 2700}
    usual = {**PLANNED, **PLANNED["default_training"], "hardware": "this CPU", "hardware_note": note, "music": music}
    text = render_plan({**usual, "designs": rows, "gradient_checkpointing": True}, "ja")
    head = next(line for line in text.splitlines() if line.startswith("方式"))
    assert head.split() == ["方式", "メモリー", "1ステップ", "合計", "ファイル", "金額"]
    assert "学習用の音楽2時間を3.3回通す量です。" in text
    assert text.splitlines()[-1].startswith("次：talim train --base musicgen-medium --design linear@all:2% ")
    assert "my-corpus を作るコマンド" in text.splitlines()[-1]  # a command stays in one line
    names = [*(row["design"] for row in rows), "full@all", "musicgen-medium", "Some CPU", "avx512_bf16", "bf16"]
    names += ["talim train", "talim poc", "arXiv 2506.21298", "ms", "conv@post", "linear@all"]
    said = "\n".join(line.partition("talim train --base")[0] for line in text.splitlines())
    assert foreign_words(said, names) == []
    lost = render_plan({**PLANNED, "designs": [planned_row("full@all", fits=False)]}, "ja").splitlines()[-1]
    assert lost == "次：より小さなベースモデルか、より大きな計算機（--gpu）で見積もってください"


def test_plans_and_designs_of_a_folder_name_it_with_its_path(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_base.parent)
    text = render_designs(design_costs(tiny_base.name, designs=["conv@all:10%"]))
    assert text.startswith(f"tiny ({tiny_base.resolve()}): ")
    assert f"talim plan --base {shlex.quote(str(tiny_base.resolve()))} " in text
    assert render_designs(design_costs("nano-musicgen", designs=["conv@all:10%"])).startswith("nano-musicgen: ")
    option = str(tiny_base.resolve())
    text = render_plan({**PLANNED, "base": "tiny", "base_option": option, "designs": [planned_row("conv@all:2%")]})
    assert f"tiny ({option}) on " in " ".join(text.split())
    assert text.splitlines()[-1].startswith(f"next: talim train --base {shlex.quote(option)} ")
