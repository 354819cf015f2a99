"""Pickled weights: tensors in both formats of torch, code in a pickle, a damaged file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from talim.backbones.pickled_weights import read_pickled
from talim.errors import TalimError


@pytest.mark.parametrize("zipped", [True, False])
def test_read_pickled_tensors_of_new_and_old_files(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.bin"
    torch.save({"a": torch.arange(3.0)}, path, _use_new_zipfile_serialization=zipped)
    assert read_pickled(path, "read", "advice")["a"].tolist() == [0.0, 1.0, 2.0]


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the code ran')",)


@pytest.mark.parametrize("content", [Harmful(), b"no pickle at all"])
def test_read_pickled_code_or_damage_is_an_error_with_the_advice(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"a": content}, path)
    with pytest.raises(TalimError, match=r"weights.bin cannot be read as weights \(.+\); fetch it again"):
        read_pickled(path, "read as weights", "fetch it again")
