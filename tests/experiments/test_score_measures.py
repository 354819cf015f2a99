"""Scores of generated audio as a trial's measures."""

from __future__ import annotations

from typing import Any

import pytest

from talim.experiments.score_measures import score_measures

PROMPTS = [{"prompt": "p", "recording": name, "seed": n} for n, name in enumerate(("a", "b", "a", "c"))]


def row(name: str, value: float | None, unit: str = "fraction", **more: Any) -> dict[str, Any]:
    known = {"name": name, "value": value, "unit": unit, "direction": "match_reference", "sentence": f"{name}: {value}"}
    return known | {"reference": 0.5, "baseline": 0.25, "separation_p": 0.01} | more


def test_scores_of_single_clips_are_measures_by_recording_and_others_once() -> None:
    rows = [
        row("novelty", 0.3, per_prompt=[0.2, 0.5, 0.4, None]),
        row("kernel_distance_timbre", 12.0, "0 up", resynthesis=3.0, direction="lower_is_better"),
        row("copied_audio", 0.1, per_prompt=[0, 0, 1, 0]),
        row("beat_phase_coherence", 0.4, "1 at most", per_prompt=[0.4] * 4),
    ]
    found = score_measures({"prompts": PROMPTS, "scores": rows})
    assert found.measures["score.novelty"] == pytest.approx({"a": 0.3, "b": 0.5})
    assert found.measures["score.kernel_distance_timbre"] == {"run": 12.0}
    assert found.measures["score.copied_audio"] == {"run": 0.1}
    assert found.directions["score.kernel_distance_timbre"] == "lower_is_better"
    novelty = {"reference": 0.5, "baseline": 0.25, "separation_p": 0.01, "floor": 0.0, "ceiling": 1.0}
    assert found.facts["novelty"] == novelty
    assert found.facts["kernel_distance_timbre"] == {**novelty, "floor": 3.0, "ceiling": None}
    assert found.facts["beat_phase_coherence"] == {**novelty, "floor": None}
    assert found.notes == {}


def test_scores_without_a_value_or_a_decision_are_notes_and_no_measures() -> None:
    sentence = "outputs that fit: not measured, because the prompts do not differ in mode"
    rows = [
        row("adherence_mode", None, sentence=sentence),
        row("adherence_tempo", 0.6, undecided="not decided: 300 prompts would do", per_prompt=[0.6] * 4),
    ]
    found = score_measures({"prompts": PROMPTS, "scores": rows})
    assert found.measures == found.directions == found.facts == {}
    assert found.notes == {
        "score.adherence_mode": "the prompts do not differ in mode",
        "score.adherence_tempo": "not decided: 300 prompts would do",
    }
