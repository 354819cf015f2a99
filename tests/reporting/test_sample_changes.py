"""What became better and worse in the samples: by direction, next to real music, and what was not measured."""

from __future__ import annotations

from typing import Any

import pytest

from talim.reporting.sample_changes import BETTER, SAME, WORSE, got_worse, sample_changes, samples_sentence


def scores(*rows: dict[str, Any], generated: int = 3) -> dict[str, Any]:
    return {"scores": list(rows), "protocol": {"generated": generated}}


def row(
    name: str, direction: str, value: float | None, baseline: float | None, reference: float | None
) -> dict[str, Any]:
    return {"name": name, "direction": direction, "value": value, "baseline": baseline, "reference": reference}


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (("pitched_fraction", "match_reference", 0.05, 0.71, 0.8), WORSE),
        (("pitched_fraction", "match_reference", 0.79, 0.99, 0.8), BETTER),
        (("pitched_fraction", "match_reference", 0.05, 0.71, None), WORSE),  # without real music less is worse
        (("adherence_tempo", "higher_is_better", 0.67, 1.0, 1.0), WORSE),
        (("adherence_mode", "higher_is_better", 0.0, 0.5, 1.0), WORSE),
        (("kernel_distance_timbre", "lower_is_better", 21.9, 29.5, 11.7), BETTER),
        (("clipped_fraction", "lower_is_better", 0.0, 0.0, 0.0), SAME),
        (("pitched_fraction", "match_reference", 0.5001, 0.5, 0.8), SAME),  # equal as printed
    ],
)
def test_sample_changes_verdict(values: tuple[Any, ...], verdict: str) -> None:
    (change,) = sample_changes(scores(row(*values)))
    assert change.verdict == verdict
    assert bool(got_worse(scores(row(*values)))) == (verdict == WORSE)


def test_samples_sentence_names_worse_before_better_with_values() -> None:
    text = samples_sentence(
        scores(
            row("kernel_distance_timbre", "lower_is_better", 21.9, 29.5, 11.7),
            row("pitched_fraction", "match_reference", 0.23, 0.91, 0.95),
        )
    )
    assert text.startswith(
        "In 3 generated clips, worse than the untrained base: time in which a pitch is heard 23\u202f% "
        "(untrained base 91\u202f%, real music 95\u202f%). Better: distance to real music in timbre 21.9"
    )


def test_samples_sentence_of_nothing_is_no_clearance() -> None:
    missing = row("adherence_mode", "higher_is_better", None, 0.5, None)
    for each in ({}, {"scores": []}, scores(missing), scores(row("ornaments", "match_reference", 1.0, 2.0, 1.0))):
        assert samples_sentence(each).endswith("was not measured: listen to it.")
