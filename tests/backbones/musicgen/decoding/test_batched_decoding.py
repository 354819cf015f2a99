"""Many pieces at once: each is as it is alone, whatever its length, seed and start, and whoever stands beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from talim.backbones.musicgen import decoding
from talim.backbones.musicgen.backbone import MusicGen

BaseWith = Callable[..., MusicGen]
PROMPTS = ["slow", "a lively dance with drums and a long caption", "ney", "", "two words", "slow"]
SECONDS = [0.9, 0.1, 0.5, 1.3, 0.02, 0.7]
SEEDS = [5, 6, 7, 5, 1, 6]


@pytest.fixture(
    scope="module", params=["", "conv@all:width8+transformer@deep:width8", "melody", "int8", "bf16", "int8 melody"]
)
def base(request: pytest.FixtureRequest, base_with: BaseWith) -> MusicGen:
    words = request.param.split()
    melody = "melody" in words
    designs = {"melody": "conv@all:width8+transformer@post:width4", "int8": "transformer@deep:width8", "bf16": ""}
    design = designs.get(words[-1], request.param) if words else ""
    base = base_with(design, melody=melody, precision="bf16" if "bf16" in words else "fp32")
    base.int8 = "int8" in words
    return base


def alone(base: MusicGen, index: int, **more: Any) -> np.ndarray:
    return base.generate_tokens([PROMPTS[index]], SECONDS[index], [SEEDS[index]], **more)[0]


@pytest.mark.parametrize("rows", [1, 2, 3, 6])
def test_pieces_of_unequal_length_equal_those_alone(base: MusicGen, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More pieces than rows: one that ends makes room for the next."""
    monkeypatch.setattr(decoding, "rows_that_fit", lambda *_: rows)
    found = dict(base.generate_each(PROMPTS, SECONDS, SEEDS))
    assert sorted(found) == list(range(len(PROMPTS)))
    for index, tokens in found.items():
        expected = alone(base, index, guidance_scale=3.0)
        assert tokens.shape == expected.shape
        assert np.array_equal(tokens, expected), index


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(drawn=[(0, 32, 0), (0, 32, 0), (1, 1, 0)])  # the row that ends first has the longest conditions
@given(drawn=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40), st.integers(0, 50)), min_size=1, max_size=5))
def test_starts_of_any_length_equal_those_alone(base: MusicGen, drawn: list[tuple[int, int, int]]) -> None:
    rng = np.random.default_rng(0)
    starts = [rng.integers(0, 32, (base.codebooks, frames)).astype(np.int16) for *_, frames in drawn]
    prompts, seconds = [PROMPTS[prompt] for prompt, *_ in drawn], [frames / 50 for _, frames, _ in drawn]
    found = dict(base.generate_each(prompts, seconds, 9, start=starts))
    for index, (prompt, length, start) in enumerate(zip(prompts, seconds, starts, strict=True)):
        expected = base.generate_tokens([prompt], length, [9 + index], start=[start])[0]
        assert np.array_equal(found[index], expected)


def test_a_row_that_ends_beside_pieces_of_many_windows_is_not_counted_on(
    base_with: BaseWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of three rows is not worth dropping; alone it would come to the end of the table of positions."""
    base = base_with("")
    monkeypatch.setattr(base, "window_seconds", 0.4)
    highest: list[int] = []
    decode = decoding.Decoder.step

    def step(decoder: Any, tokens: Any) -> Any:
        highest.append(int(decoder.position.max()) - decoder.size)
        return decode(decoder, tokens)

    monkeypatch.setattr(decoding.Decoder, "step", step)
    tokens = base.generate_tokens(PROMPTS[:1] * 2, 4.0, [1, 2])
    together = dict(base.generate_each(PROMPTS[:1] * 3, [0.02, 4.0, 4.0], [3, 1, 2]))
    assert max(highest) < 0
    assert np.array_equal(together[1], tokens[0])
    assert np.array_equal(together[2], tokens[1])


def test_several_seeds_equal_several_calls(base: MusicGen) -> None:
    together = base.generate_tokens(PROMPTS[:1] * 3, 0.6, seed=5)
    for row in range(3):
        assert np.array_equal(together[row], base.generate_tokens(PROMPTS[:1], 0.6, seed=5 + row)[0])
    assert not np.array_equal(together[0], together[1])


def test_pieces_come_as_soon_as_they_are_there(base: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "rows_that_fit", lambda *_: 2)
    done: list[int] = []
    rows = base.generate_each(["a", "b", "c"], [1.0, 0.2, 0.2], 0, progress=lambda frames, _: done.append(frames))
    first, _ = next(rows)
    assert first == 1
    assert done[-1] < 70
    assert [index for index, _ in rows] == [2, 0]
    assert done[-1] == 70
    assert done == sorted(done)


def test_a_generation_that_is_given_up_leaves_nothing_behind(base: MusicGen) -> None:
    expected = base.generate_tokens(PROMPTS[:2], 0.5, seed=1)
    base.model.train()
    modes = [module.training for module in base.model.modules()]
    rows = base.generate_each(PROMPTS, SECONDS, SEEDS)
    next(rows)
    rows.close()
    assert [module.training for module in base.model.modules()] == modes
    base.model.eval()
    assert np.array_equal(base.generate_tokens(PROMPTS[:2], 0.5, seed=1), expected)


@pytest.mark.parametrize("size", [1, 7])
def test_parts_follow_each_other_and_make_the_whole(base: MusicGen, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "rows_that_fit", lambda *_: 2)
    expected = dict(base.generate_each(PROMPTS, SECONDS, SEEDS))
    found: dict[int, list[np.ndarray]] = {}
    ended: list[int] = []
    for index, part, last in base.generate_parts(PROMPTS, SECONDS, SEEDS, part_frames=size):
        assert index not in ended
        found.setdefault(index, []).append(part)
        ended += [index] * last
        assert part.shape[1] == size or last
    assert sorted(ended) == list(range(len(PROMPTS)))
    for index, parts in found.items():
        assert np.array_equal(np.concatenate(parts, 1), expected[index]), index


def test_a_frame_is_given_as_soon_as_its_last_code_is_there(base: MusicGen) -> None:
    begun: list[int] = []
    parts = base.generate_parts(["a"], 0.5, 0, part_frames=1, progress=lambda frames, _: begun.append(frames))
    for frame, (_, part, last) in enumerate(parts):
        assert part.shape[1] == 1
        assert begun[-1] == min(frame + 1 + max(base.delays), 25)
        assert last == (frame == 24)


def test_a_call_between_two_parts_of_another_changes_nothing(base: MusicGen) -> None:
    expected = base.generate_tokens(["a"], 0.5, 3)[0]
    parts = base.generate_parts(["a"], 0.5, 3, part_frames=4)
    found = [next(parts)[1]]
    base.generate_tokens(["b"], 0.5, 4)
    found += [part for _, part, _ in parts]
    assert np.array_equal(np.concatenate(found, 1), expected)
