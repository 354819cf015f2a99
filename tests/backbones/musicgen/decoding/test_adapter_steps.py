"""Adapters a frame at a time against their kinds' full pass: any options, rows that begin and end at any time."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from talim.backbones.musicgen.decoding import fused_steps
from talim.backbones.musicgen.decoding.adapter_steps import AdapterStep
from talim.backbones.musicgen.decoding.cache_positions import History
from talim.backbones.musicgen.decoding.decoder import StaticStep, Step
from talim.backbones.musicgen.decoding.layer_steps import adapter_step
from talim.design.adapter_kinds import Conv, Kind, Linear, Transformer

BaseWith = Callable[..., Any]
FEATURES, WIDTH, SIZE = 6, 5, 40
CPU = torch.device("cpu")


@pytest.fixture(params=["compiled", "projections by torch", "torch"])
def one_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compiled, without large projections, or by torch with one thread, as a layer runs larger adapters of few rows."""
    if request.param == "projections by torch":
        monkeypatch.setattr(fused_steps, "MOST_WEIGHTS_OF_ONE_THREAD", 0)
    if request.param == "torch":
        monkeypatch.setattr(fused_steps, "MOST_WEIGHTS", 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def block_of(kind: type[Kind], seed: int = 0, **options: Any) -> Kind:
    block = kind(FEATURES, WIDTH, **options).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for weight in block.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5)
    return block


class RowsUnderWay:
    """Rows under way: the decoder's counters around one adapter."""

    def __init__(self, block: Kind, scale: float, rows: int, now: int, static: bool) -> None:
        self.step: AdapterStep = adapter_step(block, scale, "x")
        self.step.allocate(rows, SIZE)
        self.history, self.frames = History(rows, SIZE, CPU), [0] * rows
        self.now, self.static = now, static

    def begin(self, row: int, states: Tensor) -> Tensor:
        """A row begins after states [T, D]; the output for them."""
        rows, frames = torch.tensor([row]), states.shape[0]
        self.step.begin(rows)
        self.history.begin(row, self.now - frames, self.now)
        self.frames[row] = frames
        return self.step.prefill(states[None], rows, self.now, SIZE)[0] if frames else states

    def advance(self, states: Tensor) -> Tensor:
        self.history.step(self.now % SIZE)
        moment: Any
        if self.static:
            clock, frames = torch.tensor([self.now]), torch.tensor(self.frames)
            around = {"clock": clock, "frames_behind": frames, "copies": 1, "size": SIZE}
            moment = StaticStep(SimpleNamespace(**around, whole=self.history, music=self.history))  # type: ignore[arg-type]
        else:
            seen = self.history.visible(self.now, 1)
            moment = Step(self.now, self.now % SIZE, seen, seen, self.frames, 1, CPU)
        output = self.step.step(states.clone(), moment)
        self.now += 1
        self.frames = [frames + 1 for frames in self.frames]
        return output


KINDS = st.one_of(
    st.builds(dict, kind=st.just(Linear)),
    st.builds(dict, kind=st.just(Transformer), num_heads=st.integers(1, 3)),
    st.builds(
        dict,
        kind=st.just(Conv),
        kernel_size=st.integers(1, 4),
        dilations=st.lists(st.integers(1, 4), max_size=3).map(tuple),
        se_update_every=st.integers(1, 5),
    ),
)


NO_CONVOLUTION = {"kind": Conv, "kernel_size": 1, "dilations": (), "se_update_every": 1}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(chosen=NO_CONVOLUTION, rows=[(0, 0)] * 5, scale=1.0, static=False, later=15)  # last digits of gates
@given(
    chosen=KINDS,
    rows=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 10)), min_size=1, max_size=5),
    scale=st.sampled_from([1.0, 0.3]),
    static=st.booleans(),
    later=st.integers(0, 20),
)
def test_steps_equal_the_full_pass(
    one_thread: None, chosen: dict[str, Any], rows: list[tuple[int, int]], scale: float, static: bool, later: int
) -> None:
    """Each row begins after some given frames at a time of its own; alone it is the same, bit for bit."""
    block = block_of(**chosen)
    frames = torch.randn(len(rows), 30, FEATURES, generator=torch.Generator().manual_seed(1))
    first = max(past for past, _ in rows) + later

    def outputs(indices: list[int]) -> list[Tensor]:
        run = RowsUnderWay(block, scale, len(indices), first, static)
        parts: dict[int, list[Tensor]] = {index: [] for index in indices}
        for time in range(22):
            now: list[Tensor] = []
            for place, index in enumerate(indices):
                past, start = rows[index]
                if time == start:
                    begun = run.begin(place, frames[index, :past])
                    parts[index].append(begun)
                now.append(frames[index, past + time - start] if 0 <= time - start < 22 else torch.zeros(FEATURES))
            step = run.advance(torch.stack(now))
            for place, index in enumerate(indices):
                if time >= rows[index][1]:
                    parts[index].append(step[place : place + 1])
        return [torch.cat(parts[index]) for index in indices]

    together = outputs(list(range(len(rows))))
    for index, found in enumerate(together):
        expected = frames[index] + scale * block(frames[index][None])[0]
        torch.testing.assert_close(found, expected[: len(found)], atol=2e-5, rtol=1e-4)
        by_torch = fused_steps.MOST_WEIGHTS == 0  # whose attention sums over other places beside other rows
        if not static and not (by_torch and chosen["kind"] is Transformer):
            assert torch.equal(outputs([index])[0][rows[index][0] :], found[rows[index][0] :])


@pytest.mark.parametrize("kind", [Conv, Transformer])
def test_rows_that_remain_keep_their_past(one_thread: None, kind: type[Kind]) -> None:
    block = block_of(kind)
    frames = torch.randn(5, 20, FEATURES)
    run = RowsUnderWay(block, 1.0, 5, 0, static=False)
    for row in range(5):
        run.begin(row, frames[row, :0])
    kept = [1, 4]
    found = [run.advance(frames[:, time])[kept] for time in range(9)]
    run.step.keep(kept)
    run.history.keep(kept)
    run.frames = run.frames[:2]
    found += [run.advance(frames[kept, time]) for time in range(9, 20)]
    torch.testing.assert_close(torch.stack(found, 1), frames[kept] + block(frames[kept]), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [Conv, Transformer])
def test_what_a_row_left_behind_does_not_reach_the_next_one(one_thread: None, kind: type[Kind]) -> None:
    block = block_of(kind)
    frames = torch.randn(6, FEATURES)
    run = RowsUnderWay(block, 1.0, 1, 10, static=False)
    run.begin(0, torch.full((9, FEATURES), float("nan")))
    run.advance(frames[:1])
    begun = run.begin(0, frames[:4])
    found = torch.cat([begun, run.advance(frames[4:5]), run.advance(frames[5:])])
    torch.testing.assert_close(found, frames + block(frames[None])[0], atol=2e-5, rtol=1e-4)


class Doubling(Kind):
    """A kind of another package that looks at single frames."""

    def build(self, width: int, causal: bool, **options: Any) -> None:
        self.scale = nn.Parameter(torch.tensor(2.0))

    def bottleneck_forward(self, hidden: Tensor, state: Any, mask: Any) -> Tensor:
        return hidden * self.scale


def test_another_kind_runs_its_own_pass(one_thread: None) -> None:
    block = Doubling(FEATURES, WIDTH).eval().requires_grad_(False)
    nn.init.normal_(block.up.weight)
    states = torch.randn(3, FEATURES)
    found = RowsUnderWay(block, 0.5, 3, 0, static=False).advance(states)
    torch.testing.assert_close(found, states + 0.5 * block.up(block.down(states) * 2.0))


def test_few_rows_take_one_thread_and_give_the_others_back(
    base_with: BaseWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_steps, "MOST_WEIGHTS", 0)
    base = base_with("conv@all:width8")
    base.generate_tokens(["slow"], 0.02, seed=0)
    layer: Any = base._kept_decoder[1].layers[0]
    seen: list[int] = []

    def step(states: Tensor, moment: Any) -> Tensor:
        seen.append(torch.get_num_threads())
        if len(seen) == 3:
            raise RuntimeError("broken")
        return states

    threads, states = torch.get_num_threads(), torch.zeros(2, 16)
    assert layer.one_thread
    layer.adapters = [SimpleNamespace(step=step)]
    torch.set_num_threads(3)
    try:
        layer.adapted(states, None)
        layer.one_thread = False
        layer.adapted(states, None)
        layer.one_thread = True
        with pytest.raises(RuntimeError, match="broken"):
            layer.adapted(states, None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert seen == [1, 3, 1]


def test_adapters_of_many_rows_take_all_threads_and_compiled_ones_leave_them_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = adapter_step(block_of(Linear), 1.0, "x")
    monkeypatch.setattr(fused_steps, "MOST_WEIGHTS", 0)
    large = adapter_step(block_of(Linear), 1.0, "x")
    for rows, expected in ((2, (False, True)), (8, (False, True)), (9, (False, False)), (32, (False, False))):
        small.allocate(rows, SIZE)
        large.allocate(rows, SIZE)
        assert (small.one_thread, large.one_thread) == expected
