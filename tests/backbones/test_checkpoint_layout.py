"""Which files are needed, of the listings of released repositories and of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.backbones import checkpoint_layout
from talim.backbones.checkpoint_layout import lacks_weights, layout, needed_files

SMALL_FILES = ["README.md", "config.json", "generation_config.json", "preprocessor_config.json"]
TOKENIZER = ["special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer_config.json"]
AUDIOCRAFT = ["compression_state_dict.bin", "state_dict.bin"]
SAFETENSORS_SHARDS = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
PICKLED_SHARDS = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
MUSTANGO = [
    *("config.json", "configs/main_config.json", "configs/music_diffusion_model_config.json"),
    *("configs/stft_config.json", "configs/vae_config.json", "ldm/pytorch_model_ldm.bin"),
    *("stft/pytorch_model_stft.bin", "vae/pytorch_model_vae.bin"),
]
PREDICTORS = ["beats/microsoft-deberta-v3-large.pt", "chords/flan-t5-large.bin"]

CASES = {
    "small": (["model.safetensors", "pytorch_model.bin", *AUDIOCRAFT], ["model.safetensors"]),
    "medium": (
        ["pytorch_model.bin.index.json", *PICKLED_SHARDS, *AUDIOCRAFT],
        ["pytorch_model.bin.index.json", *PICKLED_SHARDS],
    ),
    "pickled": (["pytorch_model.bin", *AUDIOCRAFT], ["pytorch_model.bin"]),
    "both in shards": (
        ["model.safetensors.index.json", *SAFETENSORS_SHARDS, "pytorch_model.bin.index.json", *PICKLED_SHARDS],
        ["model.safetensors.index.json", "pytorch_model.bin.index.json", *SAFETENSORS_SHARDS],
    ),
    "training left-overs": (
        [
            "model.safetensors",
            "optimizer.pt",
            "rng_state.pth",
            "training_args.bin",
            "onnx/decoder.onnx",
            "flax.msgpack",
        ],
        ["model.safetensors"],
    ),
    "shards beside left-overs": (
        ["pytorch_model.bin.index.json", *PICKLED_SHARDS, "optimizer.bin", "training_args.bin"],
        ["pytorch_model.bin.index.json", *PICKLED_SHARDS],
    ),
    "shards of other names": (
        ["model.safetensors.index.json", "a.safetensors", "b.safetensors", *AUDIOCRAFT],
        ["a.safetensors", "b.safetensors", "model.safetensors.index.json"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_needed_files_of_musicgen(case: str) -> None:
    weights, expected = CASES[case]
    names = [*SMALL_FILES, *TOKENIZER, ".gitattributes", *weights]
    assert needed_files(names) == sorted([*SMALL_FILES, *TOKENIZER, *expected])
    assert layout(names) == "transformers"
    assert not lacks_weights(names)


def test_needed_files_of_mustango_without_and_with_predictors() -> None:
    tokenizer = ["tokenizer/tokenizer.json", "beats-tokenizer/spm.model"]
    names = ["README.md", *MUSTANGO, *PREDICTORS, *tokenizer, "ldm/optimizer.bin"]
    assert needed_files(names) == sorted(["README.md", *MUSTANGO, tokenizer[0]])
    assert needed_files(names, predictors=True) == sorted(["README.md", *MUSTANGO, *PREDICTORS, *tokenizer])
    assert layout(names) == "mustango"
    assert not lacks_weights(names)


def test_needed_files_of_mustango_takes_safetensors_that_stand_alone() -> None:
    names = [name.replace("ldm.bin", "ldm.safetensors") for name in MUSTANGO]
    assert "ldm/pytorch_model_ldm.safetensors" in needed_files(names)
    assert not lacks_weights(names)


def test_audiocraft_files_alone_are_a_layout() -> None:
    names = ["README.md", *AUDIOCRAFT]
    assert layout(names) == "audiocraft"
    assert needed_files(names) == sorted(names)
    assert not lacks_weights(names)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["README.md"],
        ["config.json"],
        ["config.json", *AUDIOCRAFT],
        ["config.json", "pytorch_model.bin.index.json", PICKLED_SHARDS[1]],
        ["config.json", "model.safetensors.index.json", *SAFETENSORS_SHARDS[:2]],
        [name for name in MUSTANGO if not name.startswith("vae/")],
        ["compression_state_dict.bin"],
    ],
)
def test_lacks_weights(names: list[str]) -> None:
    assert lacks_weights(names)


def test_lacks_tokenizer_of_transformers_layouts_only() -> None:
    assert checkpoint_layout.lacks_tokenizer(["config.json", "model.safetensors", "tokenizers/tokenizer.json"])
    for name in ("tokenizer.json", "tokenizer_config.json", "spiece.model"):
        assert not checkpoint_layout.lacks_tokenizer(["config.json", name])
    assert not checkpoint_layout.lacks_tokenizer(MUSTANGO)


@pytest.mark.parametrize(
    ("text", "kind"),
    [('{"model_type": "opt"}', "opt"), ('{"model_type": "musicgen"}', ""), ("{}", ""), ("[1]", ""), ("{", "")],
)
def test_foreign_model_type(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert checkpoint_layout.foreign_model_type(tmp_path) == kind
