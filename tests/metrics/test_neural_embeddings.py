"""Neural embeddings are pinned, and weights that do not fit are refused; the contract is in test_embeddings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fixtures.tiny_clap import save_clap

from talim.errors import TalimError
from talim.metrics import embeddings, neural_embeddings


def test_load_of_weights_that_do_not_fit_names_the_missing_ones(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_clap(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["audio_projection.linear1.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TalimError, match=r"1 weight missing, such as audio_projection\.linear1\.weight"):
        embeddings.load("clap", tmp_path)


def test_load_keeps_transformers_from_a_second_download_in_another_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    switches, loaded = [], transformers.ClapModel.from_pretrained

    def load_seen(*args: Any, **settings: Any) -> Any:
        switches.append(os.environ.get("DISABLE_SAFETENSORS_CONVERSION"))
        return loaded(*args, **settings)

    save_clap(tmp_path)
    monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "")  # so that it is as before afterwards
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION")
    monkeypatch.setattr(transformers.ClapModel, "from_pretrained", load_seen)
    embeddings.load("clap", tmp_path)
    assert switches == ["1"]


def test_every_neural_embedding_is_pinned() -> None:
    for model in neural_embeddings.MODELS.values():
        assert len(model.revision) >= 10
