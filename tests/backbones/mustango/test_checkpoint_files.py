"""Tests of talim.backbones.mustango.checkpoint_files: configurations, conversion, files with code or lies in them."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from talim.backbones.mustango.checkpoint_files import LDM, CheckpointFiles
from talim.errors import TalimError


class Payload:
    """Would make a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def checkpoint(tmp_path: Path) -> CheckpointFiles:
    (tmp_path / "ldm").mkdir()
    return CheckpointFiles(tmp_path)


def test_main_configuration_is_found_in_either_place(checkpoint: CheckpointFiles) -> None:
    with pytest.raises(TalimError, match="expected a Mustango checkpoint"):
        _ = checkpoint.main
    (checkpoint.folder / "config.json").write_text('{"a": 1}')
    assert checkpoint.main == {"a": 1}
    (checkpoint.folder / "configs").mkdir()
    (checkpoint.folder / "configs" / "main_config.json").write_text('{"a": 2}')
    assert checkpoint.main == {"a": 2}


def test_weights_are_converted_once_and_again_when_the_file_changes(checkpoint: CheckpointFiles) -> None:
    path = checkpoint.folder / LDM
    converted = path.with_suffix(".safetensors")
    torch.save({"w": torch.zeros(3)}, path)
    assert checkpoint.weights(LDM)["w"].tolist() == [0.0] * 3
    first = converted.stat().st_mtime_ns
    assert checkpoint.weights(LDM)["w"].tolist() == [0.0] * 3
    assert converted.stat().st_mtime_ns == first
    torch.save({"w": torch.ones(4)}, path)
    assert checkpoint.weights(LDM)["w"].tolist() == [1.0] * 4
    assert checkpoint.weights(LDM)["w"].data_ptr() % 64 == 0


def test_weights_missing_file_asks_for_the_download(checkpoint: CheckpointFiles) -> None:
    with pytest.raises(TalimError, match="is the download complete"):
        checkpoint.weights(LDM)


def test_weights_of_a_file_with_code_are_refused_and_run_nothing(checkpoint: CheckpointFiles, tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-file"
    for write in (
        lambda path: torch.save({"w": Payload(target)}, path),
        lambda path: path.write_bytes(pickle.dumps(Payload(target))),
    ):
        write(checkpoint.folder / LDM)
        with pytest.raises(TalimError, match="files with code are rejected"):
            checkpoint.weights(LDM)
        assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"PK\x03\x04" + bytes(100), bytes(range(256))])
def test_weights_of_a_damaged_file_raise_talim_error(checkpoint: CheckpointFiles, content: bytes) -> None:
    (checkpoint.folder / LDM).write_bytes(content)
    with pytest.raises(TalimError, match=r"cannot be read as plain weights|holds no plain weights"):
        checkpoint.weights(LDM)


@pytest.mark.parametrize("shape", [[10**12], [2**62, 2**62], [-1], [3, 3]])
def test_weights_of_a_safetensors_file_with_a_lying_shape_raise_talim_error(
    checkpoint: CheckpointFiles, shape: list[int]
) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(4)
    (checkpoint.folder / LDM).with_suffix(".safetensors").write_bytes(data)
    with pytest.raises(TalimError, match="cannot be read"):
        checkpoint.weights(LDM)
