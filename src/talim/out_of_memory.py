"""Which errors of the libraries mean that memory ran out, of this machine or of a GPU."""

from __future__ import annotations

import errno
import re

from talim.terminal_text import one_line

# How the libraries say that memory could not be had; only CUDA's allocator has a class of its own for it.
MEMORY_WORDS = re.compile(
    r"out of memory|can.t allocate memory|cannot allocate memory|bad_alloc|(unable|failed) to (allocate|mmap)|alloc_cpu"
    r"|failed to map segment|can.t start new thread|status_alloc_failed|invalid buffer size",
    re.IGNORECASE,
)
# in what libraries of GPUs say; "invalid buffer size" is Apple's word for a tensor that is larger than a buffer can be
GPU_WORDS = re.compile(r"cuda|cublas|cudnn|nccl|\bhip\b|MPS|invalid buffer size", re.IGNORECASE)
GPU_AMOUNTS = (r"Tried to allocate [\d.]+ \w+", r"total capacity of [\d.]+ \w+ of which [\d.]+ \w+ is free")
RAISED_FOR_MEMORY = (RuntimeError, ImportError, OSError)  # among much else; safetensors has a class of its own


def memory_that_ran_out(error: BaseException) -> str:
    """ "the memory of the GPU" or "the memory of this machine", by the error or its causes; empty for others."""
    return next((place for each in _with_causes(error) if (place := _place(each))), "")


def memory_detail(error: BaseException) -> str:
    """What the error that says that memory ran out says first, with what a GPU was asked for and has, in one line."""
    text = str(next((each for each in _with_causes(error) if _place(each)), error))
    amounts = [match[0].strip() for pattern in GPU_AMOUNTS if (match := re.search(pattern, text))]
    return "; ".join(filter(None, [one_line(text.split(". ")[0], 160), *amounts])) or "out of memory"


def _with_causes(error: BaseException) -> list[BaseException]:
    """The error, and what it was raised from."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    return chain


def _place(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    ran_out_on_gpu = isinstance(error, RuntimeError) and MEMORY_WORDS.search(text) and GPU_WORDS.search(text)
    if name == "OutOfMemoryError" or ran_out_on_gpu:
        return "the memory of the GPU"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "the memory of this machine"
    if (isinstance(error, RAISED_FOR_MEMORY) or name == "SafetensorError") and MEMORY_WORDS.search(text):
        return "the memory of this machine"
    return ""
