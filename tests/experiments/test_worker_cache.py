"""What a process keeps between trials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from talim.experiments import worker_cache
from talim.experiments.trial import TrialJob
from talim.experiments.worker_cache import TrialWorkerCache
from talim.progress import Progress


def test_a_process_keeps_one_base_and_its_losses_until_another_is_asked_for(
    jobs: list[TrialJob], tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[str, str]] = []

    def load(name: str, precision: str, device: str) -> Any:
        loaded.append((name, precision))
        return SimpleNamespace(device=SimpleNamespace(type="meta"), dtype=torch.float32)

    computed: list[str] = []

    def losses(*arguments: Any) -> list[np.ndarray]:
        computed.append(arguments[-1])
        return [np.zeros(3)]

    monkeypatch.setattr("talim.backbones.load.load", load)
    monkeypatch.setattr(worker_cache, "frame_losses", losses)
    cache, recipe = TrialWorkerCache(), jobs[0].spec.recipe
    base = cache.base(recipe, "cpu")
    assert cache.base(jobs[1].spec.recipe, "cpu") is base  # another design, the same base
    for _ in range(2):
        cache.base_losses(("corpus", 2, False), base, [], 2, Progress())
    assert computed == ["loss without adapter"]
    cache.base_losses(("another corpus", 2, False), base, [], 2, Progress())
    assert len(computed) == 2
    corpora: list[Any] = [SimpleNamespace(hash=name) for name in ("corpus", "another corpus")]
    kept = [cache.base_results(corpus) for corpus in (*corpora, *corpora)]
    assert kept[0] is kept[2] is not kept[1] is kept[3]
    training = recipe.training.model_copy(update={"precision": "bf16"})
    assert cache.base(recipe.model_copy(update={"training": training}), "cpu") is not base
    cache.base_losses(("corpus", 2, False), base, [], 2, Progress())
    assert len(computed) == 3  # those of the released base are gone
    assert cache.base_results(corpora[0]) is not kept[0]
    assert loaded == [(str(tiny_base), "fp32"), (str(tiny_base), "bf16")]
