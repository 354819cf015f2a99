"""Which errors of the libraries mean that memory ran out, of this machine or of a GPU."""

from __future__ import annotations

import errno
import re

# How the libraries say that memory could not be had; only CUDA's error has a class of its own.
MEMORY_WORDS = re.compile(
    r"out of memory|can.t allocate memory|cannot allocate memory|bad_alloc|(unable|failed) to allocate|alloc_cpu",
    re.IGNORECASE,
)


def memory_that_ran_out(error: BaseException) -> str:
    """ "the memory of the GPU" or "the memory of this machine"; empty for an error of another kind."""
    name, text = type(error).__name__, str(error)
    if name == "OutOfMemoryError" or (isinstance(error, RuntimeError) and "CUDA" in text and MEMORY_WORDS.search(text)):
        return "the memory of the GPU"
    is_memory = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if is_memory or (isinstance(error, RuntimeError) and MEMORY_WORDS.search(text)):
        return "the memory of this machine"
    return ""
