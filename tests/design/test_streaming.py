"""Streaming state on transformers' cache objects: creation, batch operations, errors."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from transformers import DynamicCache

from talim.design.streaming import StreamingState, check_weights, get_state, past_frames
from talim.errors import TalimError


def filled_cache(batch: int = 3, frames: int = 4) -> DynamicCache:
    cache = DynamicCache()
    cache.update(torch.randn(batch, 1, frames, 2), torch.randn(batch, 1, frames, 2), 0)
    return cache


def test_select_reorders_tensors_and_lists_of_tensors() -> None:
    state = StreamingState()
    rows = torch.arange(3.0)[:, None]
    state.tensors = {"last": rows, "taps": [rows, -rows], "scalar": torch.tensor(7.0)}
    state.select(torch.tensor([2, 0]))
    assert state.tensors["last"].flatten().tolist() == [2.0, 0.0]
    assert state.tensors["taps"][1].flatten().tolist() == [-2.0, 0.0]
    assert state.tensors["scalar"].item() == 7.0


def test_get_state_is_new_at_the_start_and_kept_afterwards() -> None:
    cache = filled_cache()
    state = get_state(cache, ("layer", 0), (0,))
    state.frames = 4
    assert get_state(cache, ("layer", 0), (4,)) is state
    assert get_state(cache, ("layer", 1), (0,)) is not state
    assert get_state(cache, ("layer", 0), (0,)) is not state  # a new generation
    assert past_frames(cache, 0, 1, started=False) == (3,)


def test_get_state_of_another_length_than_the_cache_raises_talim_error() -> None:
    with pytest.raises(TalimError, match="seen 0 frames of a generation that is 4 frames long"):
        get_state(filled_cache(), ("layer", 0), (4,))


def test_more_frames_than_the_cache_holds_raise_talim_error() -> None:
    with pytest.raises(TalimError, match=r"was given 12 frames, of which the cache holds 4: .* use the kind linear"):
        past_frames(filled_cache(), 0, 12, started=False)


def test_cache_operations_apply_to_the_state() -> None:
    cache = filled_cache()
    state = get_state(cache, ("layer", 0), (0,))
    state.tensors["last"] = torch.arange(3.0)[:, None]
    cache.reorder_cache(torch.tensor([2, 1, 0]))
    assert state.tensors["last"].flatten().tolist() == [2.0, 1.0, 0.0]
    cache.batch_repeat_interleave(2)
    assert state.tensors["last"].flatten().tolist() == [2.0, 2.0, 1.0, 1.0, 0.0, 0.0]
    cache.batch_select_indices(torch.tensor([0, 5]))
    assert state.tensors["last"].flatten().tolist() == [2.0, 0.0]
    with pytest.raises(TalimError, match="cannot be cropped"):
        cache.crop(2)
    cache.reset()
    assert get_state(cache, ("layer", 0), (0,)) is not state


def test_pickled_and_copied_caches_keep_their_own_state_and_methods() -> None:
    cache = filled_cache()
    state = get_state(cache, ("layer", 0), (0,))
    state.tensors["last"], state.frames = torch.arange(3.0)[:, None], 4
    for twin in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
        twin.reorder_cache(torch.tensor([2, 1, 0]))
        assert get_state(twin, ("layer", 0), (4,)).tensors["last"].flatten().tolist() == [2.0, 1.0, 0.0]
    assert state.tensors["last"].flatten().tolist() == [0.0, 1.0, 2.0]


def test_scale_or_weights_changed_within_a_generation_raise_talim_error() -> None:
    def optimiser_step(block: nn.Module) -> None:
        with torch.no_grad():
            block[0].weight.mul_(2)  # type: ignore[index,operator]

    def loaded_in_place_of_the_weights(block: nn.Module) -> None:
        weights = nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 2)).requires_grad_(False)
        weights[2].weight.add_(1)
        block.load_state_dict(weights.state_dict(), assign=True)

    for change in (optimiser_step, loaded_in_place_of_the_weights):
        block, state = nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 2)), StreamingState()
        check_weights(state, 1.0, block)
        check_weights(state, 1.0, block)
        with pytest.raises(TalimError, match="changed within a generation"):
            check_weights(state, 0.5, block)
        change(block)
        with pytest.raises(TalimError, match="changed within a generation"):
            check_weights(state, 1.0, block)
        check_weights(pickle.loads(pickle.dumps(state)), 1.0, block)  # its weights may count their versions anew
