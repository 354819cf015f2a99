"""A step as one CUDA graph: recorded once for its shapes, then replayed without any work of Python."""

from __future__ import annotations

from collections.abc import Callable

import torch

Capture = Callable[[Callable[[], None]], Callable[[], None]]
WARM_UP_STEPS = 3  # CUDA's libraries choose their kernels in the first calls


def capture_on_gpu(step: Callable[[], None]) -> Callable[[], None]:
    """Record the kernels of `step`, which is not run by that; calling the result runs them on the same tensors."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
