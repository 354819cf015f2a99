"""Arrays in a temporary file, mapped one at a time: memory does not grow with their number."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from talim.atomic_io import friendly_os_errors

_ALIGNMENT = 64  # bytes, of the beginning of an array


class ArrayStore(Sequence[np.ndarray]):
    """A sequence of arrays that lie in an unnamed file of the system's folder for temporary files.

    An item is a read-only map of the file, whose memory is given up with it. TalimError where the file cannot be
    written, for example on a full disk.
    """

    def __init__(self, arrays: Iterable[np.ndarray] = ()) -> None:
        self._folder = Path(tempfile.gettempdir())
        with friendly_os_errors(self._folder):
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (closed with the store)
        self._places: list[tuple[int, tuple[int, ...], np.dtype]] = []
        self.nbytes = 0
        for array in arrays:
            self.append(array)

    def append(self, array: np.ndarray) -> None:
        """Write another array behind the others."""
        data = np.ascontiguousarray(array)
        offset = -(-self.nbytes // _ALIGNMENT) * _ALIGNMENT
        with friendly_os_errors(self._folder):
            self._file.seek(offset)
            self._file.write(data.data)
            self._file.flush()
        self._places.append((offset, array.shape, data.dtype))
        self.nbytes = offset + data.nbytes

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of an array, which is not read."""
        return self._places[index][1]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        offset, shape, dtype = self._places[index]
        if 0 in shape:  # nothing can be mapped
            return np.zeros(shape, dtype)
        return np.memmap(self._file, dtype, "r", offset, shape)
