"""The record of a study's tuning: what it holds, and how it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.atomic_io import write_json
from talim.errors import TalimError
from talim.experiments.tuning import RATE, RECORD, TunedCandidate, TunedFamily, family_of, read_tuning

ALPHA = "kind_options.lora.alpha_per_rank"


def candidate(loss: float | None, rate: float, **more: float) -> TunedCandidate:
    return TunedCandidate(values={RATE: rate, **more}, loss=loss)


def family(*candidates: TunedCandidate) -> TunedFamily:
    return TunedFamily(
        base="nano-musicgen",
        group="makam",
        family="lora",
        corpora=("makam-solo", "makam-ensemble"),
        designs=("lora@all:2%", "lora@deep:2%"),
        representative="lora@all:2%",
        tuned_on=("makam-solo",),
        seeds=(100,),
        candidates=candidates,
        chosen={RATE: 0.001},
        inside=True,
    )


def test_rates_and_losses_take_the_best_of_the_other_settings() -> None:
    grid = [(2.0, 0.003, 2), (1.5, 0.001, 1), (1.4, 0.001, 2), (None, 0.009, 1), (1.6, 0.003, 1)]
    tuned = family(*(candidate(loss, rate, **{ALPHA: alpha}) for loss, rate, alpha in grid))
    assert tuned.rates == [0.001, 0.003, 0.009]
    assert tuned.losses == [1.4, 1.6, None]


def test_read_tuning_returns_what_was_written(tmp_path: Path) -> None:
    assert read_tuning(tmp_path) == []
    tuned = family(candidate(1.5, 0.001), candidate(None, 0.003))
    write_json(tmp_path / RECORD, {"families": [tuned.model_dump(mode="json")]})
    assert read_tuning(tmp_path) == [tuned]
    assert family_of([tuned], "nano-musicgen", "makam-ensemble", "lora@deep:2%") == tuned
    assert family_of([tuned], "nano-musicgen", "makam-ensemble", "conv@deep:2%") is None
    assert family_of([tuned], "nano-musicgen", "hindustani", "lora@deep:2%") is None


@pytest.mark.parametrize("content", [{}, [], {"families": [{"base": "x"}]}, {"families": 3}])
def test_read_tuning_damaged_record_raises(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / RECORD, content)
    with pytest.raises(TalimError, match=f"{RECORD}: is damaged"):
        read_tuning(tmp_path)
