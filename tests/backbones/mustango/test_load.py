"""Loading the released layout: every weight, conversion, one-line errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import released_mustango, t5_tokenizer
from torch import Tensor

from talim.backbones import hub_errors, hub_repository, load, registry, resolve
from talim.backbones.mustango import load as mustango_load
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.checkpoint_files import LDM, STFT, VAE, VAE_CONFIG, CheckpointFiles
from talim.errors import TalimError
from talim.generation.generate import Generation
from talim.generation.sources import GenerationSource

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released_mustango.write(tmp_path_factory.mktemp("pristine") / "tiny-mustango")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "tiny-mustango"))


def opened(folder: Path, precision: str = "fp32") -> Mustango:
    return load.load(folder, precision=precision, device="cpu")  # type: ignore[return-value]


def edit(path: Path, change: Change) -> None:
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


def test_base_reader_says_how_much_of_a_text_is_read(folder: Path) -> None:
    assert load.base_reader(str(folder)).max_tokens == opened(folder).reader.max_tokens == 512


def test_load_reads_every_weight(folder: Path) -> None:
    stored = torch.load(folder / LDM, weights_only=True)
    model = opened(folder).model
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    encoder = model.text_encoder
    assert encoder.encoder.embed_tokens.weight is encoder.shared.weight


def test_load_converts_once_and_reads_the_conversion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(folder).fingerprint
    assert (folder / LDM).with_suffix(".safetensors").is_file()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled again"))
    (folder / STFT).unlink()
    assert opened(folder).fingerprint == first
    (folder / LDM).unlink()
    (folder / VAE).unlink()
    assert opened(folder).fingerprint == first


def test_load_changed_file_converts_again(folder: Path) -> None:
    first = opened(folder).fingerprint
    edit(folder / LDM, lambda tensors: tensors["unet.conv_in.bias"].add_(1))
    assert opened(folder).fingerprint != first


def test_load_damaged_conversion_converts_again(folder: Path) -> None:
    first = opened(folder).fingerprint
    (folder / LDM).with_suffix(".safetensors").write_bytes(b"torn")
    assert opened(folder).fingerprint == first


def test_load_in_bf16_casts_only_the_unet(folder: Path) -> None:
    full, half = opened(folder), opened(folder, "bf16")
    assert half.dtype == torch.bfloat16
    assert half.model.beat_embedding_layer.beat_ffn.weight.dtype == torch.float32
    assert half.model.text_encoder.shared.weight.dtype == torch.float32
    assert next(half.mel_vae.vae.parameters()).dtype == torch.float32
    for name in ("fingerprint", "codec_hash", "text_encoder_hash"):
        assert getattr(half, name) == getattr(full, name)
    half_tokens, full_tokens = (m.generate_tokens(["a"], 0.3, seed=0, sampling_steps=3) for m in (half, full))
    assert abs(half_tokens - full_tokens).max() < 0.2


DELETED, ADDED, SHORT = "unet.conv_in.weight", "unet.extra.weight", "unet.conv_out.bias"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (LDM, lambda t: t.pop(DELETED), f"{LDM} lacks 1 weight .{DELETED}.*download"),
        (LDM, lambda t: t.pop("beat_embedding_layer.beat_ffn.weight"), "lacks 1 weight .beat_embedding"),
        (LDM, lambda t: t.update({ADDED: torch.zeros(1)}), f"has 1 weight .{ADDED}. that this model does not"),
        (LDM, lambda t: t.update({SHORT: torch.zeros(3)}), r"conv_out.bias has the shape \[3\], expected \[8\]"),
        (LDM, lambda t: t.update({"FME.translation_bias": torch.zeros(1, 24)}), "differ, but they are one"),
        (LDM, lambda t: t.update({"beat_embedding_layer.beat_ffn.weight": torch.zeros(8, 31)}), "U-Net attends"),
        (VAE, lambda t: t.pop("vocoder.conv_post.bias"), f"{VAE} lacks 1 weight .conv_post.bias"),
        (VAE, lambda t: t.pop("encoder.down.0.block.0.norm1.bias"), "lacks 1 weight"),
        (VAE, lambda t: t.update({"loss.logvar": torch.zeros(1)}), "has 1 weight .loss.logvar"),
        (STFT, lambda t: t.update({"other": torch.zeros(1)}), "does not know: other"),
        (STFT, lambda t: t["mel_basis"].mul_(2), "mel basis is not the one"),
    ],
)
def test_load_faulty_files_raises_a_one_line_error(folder: Path, file: str, change: Change, message: str) -> None:
    edit(folder / file, change)
    with pytest.raises(TalimError, match=message) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


class Trap:
    """Executes code on unpickling."""

    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code was run')",))


def test_load_file_with_code_raises_talim_error(folder: Path) -> None:
    torch.save({"unet.conv_in.weight": Trap()}, folder / LDM)
    with pytest.raises(TalimError, match="files with code are rejected"):
        opened(folder)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 1}])
def test_load_file_without_tensors_raises_talim_error(folder: Path, content: Any) -> None:
    torch.save(content, folder / LDM)
    with pytest.raises(TalimError, match="expected tensors by name"):
        opened(folder)


@pytest.mark.parametrize("missing", [LDM, VAE, VAE_CONFIG])
def test_load_missing_file_raises_talim_error(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(TalimError, match=missing):
        opened(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subband": 2}, "subband=2"),
        ({"embed_dim": 4}, "embed_dim 4"),
        ({"ddconfig": released_mustango.VAE["ddconfig"] | {"attn_resolutions": [16]}}, "attn_resolutions"),
    ],
)
def test_load_unsupported_vae_raises_talim_error(folder: Path, change: dict[str, Any], message: str) -> None:
    (folder / VAE_CONFIG).write_text(json.dumps(released_mustango.VAE | change), encoding="utf-8")
    with pytest.raises(TalimError, match=message):
        opened(folder)


def test_load_with_root_configuration_only(folder: Path) -> None:
    (folder / "configs/main_config.json").unlink()
    assert CheckpointFiles(folder).main["text_encoder_name"] == "google/flan-t5-large"
    assert opened(folder).family == "mustango"
    (folder / "config.json").unlink()
    with pytest.raises(TalimError, match="main_config"):
        opened(folder)


@pytest.fixture
def without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cached, and the Hub cannot be reached."""

    def unreachable(*_: Any, **__: Any) -> Any:
        raise hub_errors.HubUnreachableError("a host cannot be reached")

    monkeypatch.setattr(hub_repository, "cached_folder", lambda *_: None)
    monkeypatch.setattr(hub_repository, "ask", unreachable)


@pytest.mark.usefixtures("without_hub")
def test_load_missing_tokenizer_says_how_to_get_it_before_weights_are_read(folder: Path) -> None:
    (folder / "tokenizer").rename(folder / "elsewhere")
    (folder / LDM).write_bytes(b"never read")
    with pytest.raises(TalimError, match="google/flan-t5-large is not on this machine") as caught:
        opened(folder)
    assert "hf download google/flan-t5-large --include" in str(caught.value)
    assert f"--local-dir {folder / 'tokenizer'}" in str(caught.value)


@pytest.mark.usefixtures("without_hub")
@pytest.mark.parametrize(
    ("part", "repository"),
    [("beats-tokenizer", "microsoft/deberta-v3-large"), ("chords-tokenizer", "google/flan-t5-large")],
)
def test_predictor_tokenizers_are_read_before_the_networks_are_fetched(
    mustango_folder: Path, tmp_path: Path, part: str, repository: str
) -> None:
    for name in mustango_load.PREDICTOR_TOKENIZERS:
        if name != part:
            shutil.copytree(mustango_folder / name, tmp_path / name)
    with pytest.raises(TalimError, match=f"{repository} is not on this machine") as caught:
        mustango_load.read_predictors(tmp_path, lambda: pytest.fail("fetched"), torch.device("cpu"))
    assert f"--local-dir {tmp_path / part}" in str(caught.value)


@pytest.mark.usefixtures("without_hub")
def test_prediction_is_refused_before_the_base_is_read(folder: Path, tmp_path: Path) -> None:
    (folder / LDM).write_bytes(b"never read")
    with pytest.raises(TalimError, match=r"microsoft/deberta-v3-large is not on this machine.*--local-dir"):
        Generation(prompts=["slow waltz"], source=GenerationSource(str(folder)), predict_beats_chords=True)


def test_prediction_by_a_base_without_networks_is_left_to_the_base() -> None:
    load.check_predictors("nano-mustango")
    load.check_predictors("nano-musicgen")


@pytest.mark.parametrize("kept", [("config.json", "spm.model", "tokenizer_config.json"), ("spm.model",)])
def test_the_beat_tokenizer_is_read_from_spm_model_alone(
    mustango_folder: Path, tmp_path: Path, kept: tuple[str, ...]
) -> None:
    for part in ("beats-tokenizer", "chords-tokenizer"):
        shutil.copytree(mustango_folder / part, tmp_path / part)
    for file in (tmp_path / "beats-tokenizer").iterdir():
        if file.name not in kept:
            file.unlink()
    beats, chords = mustango_load.read_predictor_tokenizers(tmp_path)
    assert [type(tokenizer).__name__ for tokenizer in (beats, chords)] == ["DebertaV2Tokenizer", "T5Tokenizer"]
    ids = beats(["slow waltz"])["input_ids"][0]
    assert (ids[0], ids[-1], beats.unk_token_id, beats.pad_token_id) == (1, 2, 3, 0)
    assert beats.convert_tokens_to_string(beats.convert_ids_to_tokens(ids[1:-1])).strip() == "slow waltz"


def test_another_beat_tokenizer_is_refused(mustango_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(mustango_folder, tmp_path / "other"))
    shutil.rmtree(other / "chords-tokenizer")
    t5_tokenizer.copy_deberta_to(other / "chords-tokenizer")
    with pytest.raises(TalimError, match="this tokenizer has eos token id 2, but the text encoder's is 1"):
        mustango_load.read_predictors(other, lambda: other, torch.device("cpu"))


def test_find_model_of_mustango_names() -> None:
    for name in ("mustango", "declare-lab/mustango", "declare-lab/mustango-pretrained"):
        entry = registry.find_model(name)
        assert entry is not None
        assert (entry.family, entry.licence) == ("mustango", "Apache-2.0")
        assert resolve.source_family(resolve.resolve_source(name)) == "mustango"
    assert resolve.source_family(resolve.resolve_source("musicgen-small")) == "musicgen"


def test_load_float16_files_gives_float32(folder: Path) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].half()

    edit(folder / LDM, halve)
    assert {weight.dtype for weight in opened(folder).model.parameters()} == {torch.float32}
