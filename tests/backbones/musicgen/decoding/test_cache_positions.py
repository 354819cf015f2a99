"""Buffers that are written round and round: what each row may see."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from talim.backbones.musicgen.decoding.cache_positions import History, read, write


def test_write_and_read_at_a_number_and_at_a_tensor() -> None:
    buffer = torch.zeros(2, 3, 4)
    values = torch.arange(8.0).view(2, 1, 4)
    write(buffer, 1, 2, values)
    write(buffer, 1, torch.tensor([0]), values + 1)
    assert torch.equal(read(buffer, 1, torch.tensor([2])), values)
    assert torch.equal(read(buffer, 1, 0), values + 1)
    assert not buffer[:, 1].any()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=12), st.integers(6, 9))
def test_each_row_sees_its_own_last_steps(events: list[tuple[int, int]], size: int) -> None:
    """Rows begin again at any time, with a past of up to 5 steps; the reference keeps sets of times."""
    rows, now = 3, 5
    history = History(rows, size, torch.device("cpu"))
    seen: list[set[int]] = [set() for _ in range(rows)]
    for row in range(rows):
        history.begin(row, now, now)
    for steps, past in events:
        row = steps % rows
        history.begin(row, now - past, now)
        seen[row] = set(range(now - past, now))
        for _ in range(min(steps, size - past)):
            history.step(now % size)
            for times in seen:
                times.add(now)
            visible = history.visible(now, copies=2)
            for index, times in enumerate(seen):
                recent = {time for time in times if now - time < size}
                expected = {time % size for time in recent}
                if len(times) > size:
                    continue  # longer than a buffer: no row of a decoder is
                mask = torch.ones(visible.stop - visible.start, dtype=torch.bool)
                mask = mask if visible.mask is None else visible.mask[index, 0, 0]
                found = {visible.start + place for place in mask.nonzero()[:, 0].tolist()}
                assert found == expected
            assert visible.mask is None or visible.mask.shape[0] == 2 * rows
            now += 1
