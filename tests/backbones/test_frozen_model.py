"""Tests of talim.backbones.frozen_model: what both families share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from talim.backbones.load import load
from talim.backbones.protocol import Backbone


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> Backbone:
    return load(tiny_base, precision="fp32", device="cpu")


def test_encode_text_of_a_prompt_does_not_depend_on_the_others(base: Backbone) -> None:
    together = base.encode_text(["slow glide", "a", "slow glide, low voice, and more"])
    for prompt, states in zip(("slow glide", "a", "slow glide, low voice, and more"), together, strict=True):
        (alone,) = base.encode_text([prompt])
        assert states.dtype == np.float32
        assert np.array_equal(states, alone)
    assert len({states.shape[0] for states in together}) == 3


def test_encode_text_of_equal_prompts_is_one_array(base: Backbone) -> None:
    first, second = base.encode_text(["a", "a"])
    assert first is second


def test_generate_gives_a_clip_of_the_length_per_prompt(base: Backbone) -> None:
    clips = base.generate(["a", "b"], 0.5, seed=1)
    assert [clip.seconds for clip in clips] == pytest.approx([0.5, 0.5], abs=0.05)
    again = base.generate(["a", "b"], 0.5, seed=1)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(clips, again, strict=True))


def test_model_holds_its_public_name_and_no_path(base: Backbone, tiny_base: Path) -> None:
    assert base.name == "tiny"
    assert base.model.name_or_path.removeprefix("./") == "tiny"
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


def test_text_encoder_hash_follows_the_text_encoder_only(base: Backbone, tiny_base: Path) -> None:
    other = load(tiny_base, precision="fp32", device="cpu")
    assert other.text_encoder_hash == base.text_encoder_hash
    changed = type(base)(
        other.model,
        lambda *_, **__: {"input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 2)},
        name="x",
        licence="y",
    )
    assert changed.text_encoder_hash != base.text_encoder_hash
