"""Steps as captured graphs, on a stand-in of CUDA's: it records the operations of a step and runs just them again.

What a real graph would get wrong is wrong here too: a number of Python that changes from step to step keeps the value
of the recorded one, and a tensor that was replaced is not seen. Reading a tensor's value in the step is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import adapter_designs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.decoding import Piece, PieceDecoder, fused_steps

BaseWith = Callable[..., MusicGen]
PROMPTS = ["slow", "a lively dance with drums and a long caption", "ney", ""]
WARM_UP_STEPS = 3


@pytest.fixture(autouse=True)
def adapters_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where nothing is compiled."""
    monkeypatch.setattr(fused_steps, "MOST_WEIGHTS", 0)


class Recorder(TorchDispatchMode):
    """Records every operation on tensors, with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise RuntimeError(f"{func} waits for the device inside a captured step")
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result


class FakeGraphs:
    """Captures as CUDA does: a warm-up that runs, a recording that (unlike CUDA's) also runs, and replays."""

    def __init__(self) -> None:
        self.captured = 0

    def __call__(self, step: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        for _ in range(WARM_UP_STEPS):
            step()
        with Recorder() as recorder:
            step()
        return lambda: replay(recorder.operations)


def replay(operations: list[tuple[Any, Any, Any, Any]]) -> None:
    """Run the operations again, into the tensors that they gave when they were recorded."""
    for func, args, kwargs, before in operations:
        result = func(*args, **kwargs)
        for old, new in zip(tree_flatten(before)[0], tree_flatten(result)[0], strict=True):
            if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                old.copy_(new)


def pieces_of(base: MusicGen, seconds: list[float], guided: bool = True) -> list[Piece]:
    every = base._piece_conditions(PROMPTS, None, guided)
    start = torch.zeros(base.codebooks, 0, dtype=torch.long)
    return [
        Piece(sampling.split_into_windows(length, 50, base.window_seconds), seed, start, **conditions)
        for seed, (length, conditions) in enumerate(zip(seconds, every, strict=True))
    ]


def decoded(base: MusicGen, pieces: list[Piece], rows: int, capture: Any, **options: Any) -> dict[int, np.ndarray]:
    chosen = sampling.SamplingOptions(**{"seconds": 1.0, "seed": 0, **options})
    with sampling.inference_mode(base.model):
        going = PieceDecoder(base._decoder(), pieces, rows, chosen, base.delays, base.special_token, capture)
        found: dict[int, np.ndarray] = {}
        while going.waiting or going.under_way:
            found |= dict(going.advance())
    return found


@pytest.mark.parametrize("kind", adapter_designs.BY_KIND)
@pytest.mark.parametrize("melody", [False, True])
def test_captured_steps_give_the_same_codes(base_with: BaseWith, kind: str, melody: bool) -> None:
    """Pieces of unequal length in two rows, beyond the window, with an empty prompt among them."""
    base, graphs = base_with(adapter_designs.BY_KIND[kind], melody=melody), FakeGraphs()
    pieces = pieces_of(base, [0.9, 0.3, 0.5, 0.2])
    expected, found = decoded(base, pieces, 2, None), decoded(base, pieces, 2, graphs)
    assert sorted(found) == sorted(expected)
    for index, codes in expected.items():
        assert np.array_equal(found[index], codes), index
    assert graphs.captured == 1


def test_a_step_is_captured_once_for_other_prompts_and_lengths(base_with: BaseWith) -> None:
    design = "conv@all:width8+transformer@post:width8"
    base, plain, graphs = base_with(design), base_with(design), FakeGraphs()
    for seconds, temperature in (([0.9, 0.3, 0.5, 0.2], 1.0), ([0.2, 0.2, 0.7, 1.4], 1.0), ([0.3, 0.2, 0.7, 0.2], 0.5)):
        found = decoded(base, pieces_of(base, seconds), 2, graphs, temperature=temperature)
        expected = decoded(plain, pieces_of(plain, seconds), 2, None, temperature=temperature)
        for index, codes in expected.items():
            assert np.array_equal(found[index], codes), (seconds, index)
        assert graphs.captured == (1 if temperature == 1.0 else 2)


def test_the_stand_in_sees_a_number_that_changes() -> None:
    """So that the tests above can fail."""
    total, counter = torch.zeros(1), [0]

    def step() -> None:
        counter[0] += 1
        total.add_(counter[0])

    again = FakeGraphs()(step)
    total.zero_()
    again()
    again()
    assert total.item() == 2 * (WARM_UP_STEPS + 1)
    with pytest.raises(RuntimeError, match="waits for the device"):
        FakeGraphs()(lambda: total.fill_(total.item()))  # type: ignore[arg-type, return-value]
