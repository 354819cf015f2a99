"""The table of controls: its columns, figures and reasons."""

from __future__ import annotations

from typing import Any

from talim.reporting.study_controls import control_table, figure


def control(name: str, passed: bool | None, corpus: str = "makam", **more: Any) -> dict[str, Any]:
    values = {"base": "tiny", "value": 0.5, "threshold": 0.0, "low": None, "high": None, "reason": f"{name} says."}
    return {"name": name, "passed": passed, "corpus": corpus, "measure": "", "relative_to": "", **values, **more}


def test_control_table_has_a_row_for_each_control_and_a_column_for_each_corpus() -> None:
    table = control_table(
        [
            control("unigram", True, low=0.4, high=0.6),
            control("unigram", False, "hindustani"),
            control("planted", None, measure="loss_reduction", value=None),
            control("planted", True, "hindustani", measure="loss_reduction"),
            control("equal", True, measure="loss_reduction_ornaments", relative_to="loss_reduction_plain", value=0.031),
        ]
    )
    assert table["columns"] == ["makam", "hindustani"]
    assert [row["name"] for row in table["rows"]] == ["unigram", "planted"]
    assert table["rows"][0]["cells"] == [("0.500 (0.400 to 0.600)", "passed"), ("0.500", "not passed")]
    assert table["rows"][1]["cells"] == [("–", "not known"), ("0.500", "passed")]
    assert [row["measure"] for row in table["more"]] == [
        "loss reduction on ornaments minus loss reduction on plain notes"
    ]
    assert table["more"][0]["cells"][1] == ("–", "")
    assert table["reasons"] == [
        ("unigram: unigram says.", "hindustani"),
        ("planted, loss reduction: planted says.", "makam"),
    ]


def test_control_table_names_bases_where_there_are_several_and_each_reason_once() -> None:
    rows = [control("rate", None), control("rate", None, "hindustani"), control("rate", None, base="other")]
    table = control_table(rows)
    assert table["columns"] == ["tiny, makam", "tiny, hindustani", "other, makam"]
    assert table["reasons"] == [("rate: rate says.", "makam, hindustani")]
    assert control_table([]) == {"columns": [], "rows": [], "more": [], "reasons": []}


def test_figure_shows_fractions_in_per_cent_and_p_values() -> None:
    assert figure(control("curve", True, value=0.012)) == "1.2\u202f%"
    assert figure(control("equal", True, value=0.03, low=0.0, high=0.2)) == "3.0\u202f% (20\u202f% or less)"
    score = control("separation", True, measure="score.novelty", value=0.02, threshold=0.05)
    assert figure(score) == "p 0.020"
    assert figure(score | {"value": 0.99, "threshold": None}) == "0.990"
