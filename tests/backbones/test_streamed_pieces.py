"""Pieces in parts and codes that a codec waits for: nothing is asked for before it is needed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from talim.backbones.streamed_pieces import StreamedCodes, StreamedPieces

Part = tuple[int, np.ndarray, bool]


def parts_of(order: str, given: list[int]) -> Iterator[Part]:
    """A part of one number for each letter, of the piece a, b or c; notes how many were asked for."""
    for number, letter in enumerate(order):
        given.append(number)
        yield ord(letter) - ord("a"), np.array([[number]]), letter not in order[number + 1 :]


def heard(pieces: StreamedPieces, index: int) -> list[int]:
    return [int(part[0, 0]) for part in pieces.parts_of(index)]


def test_parts_are_asked_for_as_they_are_needed_and_kept_for_the_other_pieces() -> None:
    given: list[int] = []
    pieces = StreamedPieces(parts_of("abcabca", given), 3)
    assert given == [0]  # what is wrong with a request is told at once
    parts = pieces.parts_of(0)
    assert [int(next(parts)[0, 0]) for _ in range(2)] == [0, 3]
    assert given == [0, 1, 2, 3]
    assert (pieces.ended(0), pieces.ended(1)) == (False, False)
    assert heard(pieces, 0) == [0, 3, 6]
    assert (pieces.ended(0), pieces.ended(1), pieces.ended(2)) == (True, True, True)
    assert [heard(pieces, 1), heard(pieces, 2), heard(pieces, 0)] == [[1, 4], [2, 5], [0, 3, 6]]
    assert given == [0, 1, 2, 3, 4, 5, 6]


def test_each_gives_what_is_there_before_what_is_waited_for() -> None:
    pieces = StreamedPieces(parts_of("abcbac", []), 3)
    order = []
    for index in pieces.each():
        order.append(index)
        pieces.complete(index)
    assert order == [0, 1, 2]
    pieces = StreamedPieces(parts_of("acbcacb", []), 3)
    each = pieces.each()
    assert next(each) == 0
    pieces.complete(2)
    assert [*each] == [2, 1]


def test_an_error_of_the_first_part_is_raised_at_once_and_a_later_one_where_it_is_needed() -> None:
    def fail(after: int) -> Iterator[Part]:
        for _ in range(after):
            yield 0, np.zeros((1, 1)), False
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        StreamedPieces(fail(0), 1)
    parts = StreamedPieces(fail(1), 1).parts_of(0)
    next(parts)
    with pytest.raises(ValueError, match="no"):
        next(parts)


@pytest.mark.parametrize("sizes", [(7,), (1, 1, 5), (3, 4), (2, 2, 2, 1)])
def test_codes_in_parts_equal_those_in_one(sizes: tuple[int, ...]) -> None:
    whole, asked = torch.arange(14).view(1, 2, 7), []

    def parts() -> Iterator[torch.Tensor]:
        for part in whole.split(list(sizes), -1):
            asked.append(part.shape[-1])
            yield part

    codes = StreamedCodes(parts())
    assert codes.until(1) == 1
    assert asked == [sizes[0]]
    assert torch.equal(codes.part(0, 2), whole[..., :2])
    assert sum(asked) == min(total for total in np.cumsum(sizes) if total >= 2)
    assert torch.equal(codes.part(1, 6), whole[..., 1:6])
    assert (codes.until(7), codes.until(9)) == (7, 7)
    assert torch.equal(codes.part(5, 20), whole[..., 5:])
    assert torch.equal(codes.all(), whole)
    assert StreamedCodes.of(codes) is codes
    assert torch.equal(StreamedCodes.of(whole).all(), whole)
