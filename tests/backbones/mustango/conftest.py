"""A small Mustango in the released layout, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures import released_mustango

from talim.backbones.load import load
from talim.backbones.mustango.backbone import Mustango


@pytest.fixture(scope="session")
def mustango_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, with networks that predict beats and chords (do not modify)."""
    return released_mustango.write(tmp_path_factory.mktemp("released") / "tiny-mustango", predictors=True)


@pytest.fixture(scope="session")
def _loaded(mustango_folder: Path) -> Mustango:
    torch.set_num_threads(1)
    return load(mustango_folder, precision="fp32", device="cpu")  # type: ignore[return-value]


@pytest.fixture
def tiny(_loaded: Mustango) -> Mustango:
    """The model, in evaluation mode and with its initial settings at the start of every test."""
    _loaded.model.eval()
    _loaded.model.unet.set_checkpointing(False)
    _loaded.loss_weighting = "min_snr_v"
    return _loaded
