"""Tests of talim.out_of_memory: how libraries say that memory ran out."""

from __future__ import annotations

import errno

import pytest
import torch

from talim.errors import TalimError
from talim.out_of_memory import memory_detail, memory_that_ran_out


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (MemoryError(), "the memory of this machine"),
        (MemoryError("Unable to allocate 3.2 GiB for an array"), "the memory of this machine"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
            "the memory of this machine",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "the memory of this machine"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), "the memory of the GPU"),
        (RuntimeError("CUDA error: out of memory"), "the memory of the GPU"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "the memory of the GPU",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "the memory of the GPU"),
        (
            RuntimeError("NCCL error: unhandled cuda error. Last error: Cuda failure 2 'out of memory'"),
            "the memory of the GPU",
        ),
        (RuntimeError("HIP error: out of memory"), "the memory of the GPU"),
        (RuntimeError("Invalid buffer size: 24.00 GiB"), "the memory of the GPU"),  # of an Apple GPU
        (RuntimeError("CUDA error: device-side assert triggered"), ""),
        (RuntimeError("MPS: unsupported operation"), ""),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "the memory of this machine"),
        (RuntimeError("can't start new thread"), "the memory of this machine"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ""),
        (OSError(errno.ENOSPC, "No space left on device"), ""),
        (ValueError("out of memory"), ""),
    ],
)
def test_memory_that_ran_out_names_the_memory(error: Exception, place: str) -> None:
    assert memory_that_ran_out(error) == place


def test_memory_that_ran_out_looks_at_what_an_error_was_raised_from() -> None:
    inner = RuntimeError("unable to mmap 20 bytes from file <x>: Cannot allocate memory (12). More")
    outer, other = TalimError("base 'x' cannot be read"), TalimError("base 'x' cannot be read")
    outer.__cause__, other.__cause__ = inner, ValueError("header too large")
    assert (memory_that_ran_out(outer), memory_that_ran_out(other)) == ("the memory of this machine", "")
    assert memory_detail(outer) == "unable to mmap 20 bytes from file <x>: Cannot allocate memory (12)"
    assert memory_detail(MemoryError()) == "out of memory"
    inner.__cause__ = outer  # a circle ends
    assert memory_that_ran_out(outer) == "the memory of this machine"


def test_memory_that_ran_out_knows_a_real_failure_of_torch() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory_that_ran_out(caught.value) == "the memory of this machine"


def test_memory_detail_has_the_amounts_of_a_gpu() -> None:
    text = (
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.06 GiB is "
        "free. Process 1 has 78.04 GiB memory in use."
    )
    detail = memory_detail(torch.OutOfMemoryError(text))
    assert detail == (
        "CUDA out of memory; Tried to allocate 2.50 GiB; total capacity of 79.10 GiB of which 1.06 GiB is free"
    )


def test_memory_of_an_apple_gpu_is_a_gpus() -> None:
    error = RuntimeError(
        "MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB). Tried to allocate 1 MB"
    )
    assert memory_that_ran_out(error) == "the memory of the GPU"
