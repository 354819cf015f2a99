"""Learning curves on a study's page: one plot for each corpus, a legend, and the same in numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from talim.experiments.learning_curves import plateau_fraction
from talim.experiments.preliminary_trials import RAISED, Decision, Pilot, Plateau
from talim.experiments.study_file import StudyChoices
from talim.experiments.tuning import TunedCandidate, TunedFamily
from talim.html.design_charts import STYLES
from talim.reporting.study_curves import choices, learning_curves
from talim.reporting.study_report import study_report

FALLING = [(0, 5.0), (40, 4.0), (80, 4.0), (100, 4.0)]
STILL_FALLING = [(0, 5.0), (40, 4.6), (80, 4.2), (100, 4.0)]
RISING = [(0, 5.0), (40, 5.1), (80, 5.3), (100, 5.4)]


def base(designs: dict[str, list], corpora: tuple[str, ...] = ("ney", "sitar"), unit: str = "nats") -> dict[str, Any]:
    rows = [
        {"design": design, "kind": design.partition("@")[0], "curve": curve, "last_fifth": plateau_fraction(curve)}
        for design, curve in designs.items()
    ]
    return {"unit": unit, "tables": [{"corpus": corpus, "designs": rows} for corpus in corpora]}


def test_learning_curves_have_a_plot_for_each_corpus_and_one_legend() -> None:
    found = learning_curves(base({"conv@all:2%": FALLING, "linear@all:2%": STILL_FALLING}))
    assert len(found["plots"]) == 2
    assert "Validation loss over optimiser steps, ney" in found["plots"][0]
    assert "conv@all:2% from 5.000 to 4.000" in found["plots"][0]
    assert "validation loss, nats" in found["plots"][0]
    assert [name for _, name in found["legend"]] == ["conv@all:2%", "linear@all:2%"]
    assert all("<svg" in sample for sample, _ in found["legend"])
    assert found["by"] == "design"


def test_learning_curves_of_many_designs_share_a_line_by_kind() -> None:
    designs = {f"{kind}@all:{n}%": FALLING for kind in ("conv", "linear") for n in range(len(STYLES))}
    found = learning_curves(base(designs))
    assert (found["by"], [name for _, name in found["legend"]]) == ("kind", ["conv", "linear"])
    assert len(found["rows"]) == 2 * len(designs)
    kinds = {f"kind{n}@all:1%": FALLING for n in range(len(STYLES) + 3)}
    legend = learning_curves(base(kinds))["legend"]
    assert len(legend) == len(STYLES)  # no two lines of the legend look alike
    assert legend[-1][1] == ", ".join(f"kind{n}" for n in range(len(STYLES) - 1, len(STYLES) + 3))


def test_learning_curves_say_whether_each_is_flat() -> None:
    rows = learning_curves(base({"a@all:1%": FALLING, "b@all:1%": STILL_FALLING, "c@all:1%": RISING}, ("ney",)))["rows"]
    assert [row["end"] for row in rows] == ["0.0\u202f%, flat", "20\u202f%, not flat", "no gain"]
    assert rows[2]["least"] == "5.000 at step 0"
    assert learning_curves(base({"a@all:1%": FALLING[:2]}, ("ney",)))["rows"][0]["end"] == "cannot be told"


def test_learning_curves_without_curves_are_empty() -> None:
    assert learning_curves({"unit": "", "tables": [{"corpus": "ney", "designs": [{"design": "a", "kind": "a"}]}]}) == {}


@pytest.mark.parametrize("curves", [True, False])
def test_page_and_json_have_the_mean_curve_of_the_seeds(tmp_path: Path, curves: bool) -> None:
    rows = [
        {
            "id": f"{seed}", "status": "done", "design": "conv@all:2%", "seed": seed, "corpus": "ney",
            "factors": {"base": "nano-musicgen", "kind": "conv", "site": "all", "size_fraction": 0.02},
            "parameters": 10, "settings_hash": "s", "measures": {"loss_reduction": {"r": 0.1 + seed, "q": 0.2}},
        }
        | ({"curve": [[step, loss + seed] for step, loss in FALLING]} if curves else {})
        for seed in (0, 1)
    ]  # fmt: skip
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = study_report(tmp_path, audio=False)
    design = json.loads(page.with_name("study.json").read_text(encoding="utf-8"))["bases"][0]["tables"][0]["designs"][0]
    html = page.read_text(encoding="utf-8")
    assert ("Learning curves" in html) == curves
    if curves:
        assert design["curve"] == [[0, 5.5], [40, 4.5], [80, 4.5], [100, 4.5]]
        assert design["last_fifth"] == 0
        assert len(re.findall(r'class="legend"', html)) == 1


def test_page_has_a_table_of_tuning_and_of_pilots(tmp_path: Path) -> None:
    rate = "training.learning_rate"
    tried = [TunedCandidate(values={rate: r}, loss=loss) for r, loss in ((0.001, 3.5), (0.003, 3.25), (0.009, None))]
    family = TunedFamily(
        base="nano-musicgen", group="ney", family="conv", corpora=("ney",), designs=("conv@all:2%",),
        representative="conv@all:2%", tuned_on=("ney",), seeds=(100,), candidates=tuple(tried),
        chosen={rate: 0.003}, inside=True,
    )  # fmt: skip
    edge = family.model_copy(update={"family": "linear", "inside": False, "note": "0.003 is the greatest tried"})
    curve = ((0, 5.0), (200, 4.0))
    pilots = [
        Pilot(base="nano-musicgen", corpus="ney", design=d, seed=1, curve=curve, flat_from=n)
        for d, n in (("conv@all:2%", 120), ("full@all", None))
    ]
    plateau = Plateau(max_steps=200, steps=200, flat=False, pilots=tuple(pilots))
    assert choices(tmp_path) == {}
    Decision(StudyChoices(200, (family, edge)), plateau=plateau).write(tmp_path)
    (tmp_path / "results.jsonl").write_text("", encoding="utf-8")
    html = study_report(tmp_path, audio=False).read_text(encoding="utf-8")
    for text in (
        "<strong>0.003: 3.250</strong>", "0.001: 3.500<br>", "0.009: diverged", "<td>inside</td>",
        "not inside: 0.003 is the greatest tried", "All trials train 200 steps", "<strong>Not flat</strong>",
        ">step 120</td>", ">never</td>", "conv@all:2% on ney, seed 100",
    ):  # fmt: skip
        assert text in html
    assert RAISED not in html
    raised = plateau.model_copy(update={"flat": True, "raised_from": 60})
    Decision(StudyChoices(200, (family,)), plateau=raised).write(tmp_path)
    html = study_report(tmp_path, audio=False).read_text(encoding="utf-8")
    assert f"are not 60, from where on all pilots are flat: {RAISED}." in html
