"""What would fit where nothing does: smaller bases for the same use, and GPUs that hold the design."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.fake_pipeline import short_options

from talim.corpus.manifest import Corpus
from talim.poc import fitting
from talim.poc.options import build_recipes
from talim.progress import Progress
from talim.reporting.catalogue import in_languages


def test_smaller_bases_are_for_the_same_use() -> None:
    below_large = fitting.smaller_bases(short_options(base="musicgen-large"))
    assert below_large[:3] == ["musicgen-melody-large", "musicgen-medium", "mustango"]
    commercial = fitting.smaller_bases(short_options(base="mustango", license_use="commercial"))
    assert commercial == ["nano-musicgen", "nano-mustango"]
    assert fitting.smaller_bases(short_options(base="nano-musicgen")) == []


def test_fitting_advice_names_options_of_poc_and_a_gpu(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = in_languages("fit_settings", settings="--set training.batch_size=1", memory="20.0 GB", other="")
    monkeypatch.setattr(fitting, "_fitting_change", lambda *_: change)
    options = short_options(base="mustango", designs=("linear@all:2.7%",))
    rows = [{"design": "linear@all:2.7%", "memory_bytes": 30e9}, {"design": "full@all", "memory_bytes": 90e9}]
    corpus = Corpus.load(corpus_folder)
    advice = fitting.fitting_advice(build_recipes(options, tmp_path), rows, corpus, options, 22e9, Progress())
    alone, fits, smaller, rented = (text["en"] for text in advice)
    assert alone == "linear@all:2.7% alone needs 30.00 GB"
    assert fits == "with --set training.batch_size=1 (20.0 GB) it fits"
    assert "--base musicgen-small" in smaller
    assert smaller.endswith(" or --base nano-mustango (a miniature)")
    assert "talim plan --base mustango --design linear@all:2.7% --gpu " in rented
    assert advice[0]["ja"] == "linear@all:2.7%だけで30.00 GB必要です"
    unknown = [row | {"memory_bytes": None} for row in rows]
    (advice,) = fitting.fitting_advice(build_recipes(options, tmp_path), unknown, corpus, options, 22e9, Progress())
    assert "talim plan" in advice["en"]
