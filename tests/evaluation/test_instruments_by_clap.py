"""Instruments by CLAP: the nearest sentence names them; nothing is suggested that is not likelier than all others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from fixtures.log_lines import Lines

from talim.audio import Audio
from talim.audio.write import write
from talim.evaluation import suggested_labels
from talim.evaluation.instruments_by_clap import SENTENCE, InstrumentClassifier
from talim.metrics.clap import ClapModel

RATE_HZ = 8000
NAMES = ("sitar", "ney", "voice")


def clap_that_hears(closeness: dict[str, float]) -> ClapModel:
    """Each name's sentence is an axis; every sound lies as near to each as given."""
    axes = {SENTENCE.format(name): np.eye(len(NAMES), dtype=np.float32)[n] for n, name in enumerate(NAMES)}
    sound = np.array([closeness[name] for name in NAMES], np.float32)
    model = SimpleNamespace(audio_embedding=lambda audio: np.stack([sound, sound]), embed_text=axes.__getitem__)
    return cast(ClapModel, model)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("takes") / "take 1.wav"
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, 2 * RATE_HZ))
    write(path, Audio(samples.astype(np.float32), RATE_HZ))
    return path


def test_the_nearest_sentence_names_the_instrument(file: Path) -> None:
    result = InstrumentClassifier(clap_that_hears({"sitar": 0.1, "ney": 0.9, "voice": 0.2}), NAMES)(file)
    assert result.names == "ney"
    assert [name for name, _ in result.ranked] == ["ney", "voice", "sitar"]
    assert sum(probability for _, probability in result.ranked) == pytest.approx(1)
    assert result.origin.startswith("sound (CLAP): ney 100%")


def test_an_instrument_no_likelier_than_the_others_is_told_but_not_suggested(file: Path) -> None:
    result = InstrumentClassifier(clap_that_hears({"sitar": 0.5, "ney": 0.5, "voice": 0.5}), NAMES)(file)
    assert result.names == ""
    assert result.origin == "sound (CLAP): sitar 33%, ney 33%, voice 33%"


@pytest.mark.parametrize("there", [True, False])
def test_suggested_labels_ask_clap_where_nothing_is_written(
    file: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    def classifier(_: Any) -> InstrumentClassifier:
        return InstrumentClassifier(clap_that_hears({"sitar": 0.9, "ney": 0.1, "voice": 0.2}), NAMES)

    monkeypatch.setattr(suggested_labels, "InstrumentClassifier", classifier)
    given = clap_that_hears(dict.fromkeys(NAMES, 0.0)) if there else "CLAP's weights are not available"
    monkeypatch.setattr(suggested_labels, "load_clap_if_available", lambda: given)
    log = Lines()
    (row,) = suggested_labels.suggest_labels(file.parent, "makam", log)
    if there:
        assert row["suggested_instruments"] == "sitar"
        assert row["suggested_instruments_from"].startswith("sound (CLAP): sitar")
    else:
        assert "suggested_instruments" not in row
        assert any("a listening model, CLAP (800 MB, optional), which is not on this" in line for line in log.lines)
