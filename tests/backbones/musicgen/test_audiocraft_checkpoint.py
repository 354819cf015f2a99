"""MusicGens in audiocraft's files: the same logits and codec tokens, every key accounted for, nothing executed."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import audiocraft_musicgen, released_musicgen
from stand_in_hub import checkpoints
from transformers import EncodecConfig, EncodecModel, MusicgenConfig, MusicgenForConditionalGeneration

from talim.audio import Audio
from talim.backbones.load import load
from talim.backbones.meta_models import load_on_meta
from talim.backbones.musicgen import audiocraft_names, audiocraft_settings, delay_pattern
from talim.backbones.musicgen.audiocraft_checkpoint import AudiocraftCheckpoint, is_audiocraft
from talim.backbones.musicgen.chroma import ChromaSettings
from talim.errors import TalimError
from talim.planning.base_facts import base_model_facts

SIZES = {"small": (1024, 16, 24), "medium": (1536, 24, 48), "large": (2048, 32, 48)}
RELEASED = {  # every name: its size, its channels, whether it hears a melody
    **{f"musicgen-{size}": (size, 1, False) for size in SIZES},
    **{f"musicgen-stereo-{size}": (size, 2, False) for size in SIZES},
    "musicgen-melody": ("medium", 1, True),
    "musicgen-melody-large": ("large", 1, True),
    "musicgen-stereo-melody": ("medium", 2, True),
    "musicgen-stereo-melody-large": ("large", 2, True),
}

QUICK = ("musicgen-small", "musicgen-stereo-small", "musicgen-melody")


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> EncodecModel:
    """A small codec whose codebooks are heard."""
    folder = released_musicgen.write(tmp_path_factory.mktemp("codec") / "tiny")
    base: Any = load(folder, precision="fp32", device="cpu")
    codec = base.model.audio_encoder
    config = EncodecConfig(**(codec.config.to_dict() | {"pad_mode": "constant"}))
    same = EncodecModel(config).eval()
    same.load_state_dict(codec.state_dict())
    return same


@pytest.fixture(scope="module", params=[(1, 0), (2, 0), (1, 12), (2, 12)], ids=["mono", "stereo", "melody", "both"])
def language_model(request: pytest.FixtureRequest) -> audiocraft_musicgen.LanguageModel:
    return audiocraft_musicgen.random_language_model(*request.param)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, language_model: audiocraft_musicgen.LanguageModel, codec: EncodecModel
) -> Path:
    """A checkpoint in audiocraft's layout (do not modify)."""
    return audiocraft_musicgen.write(tmp_path_factory.mktemp("audiocraft") / "mine", language_model, codec, half=False)


@pytest.fixture
def modifiable(tmp_path: Path, codec: EncodecModel) -> Path:
    """A mono checkpoint that a test may modify."""
    return audiocraft_musicgen.write(tmp_path / "mine", audiocraft_musicgen.random_language_model(), codec)


def inputs_of(base: Any) -> Any:
    """A batch with random codes, text states and, for a melody model, pitch classes."""
    draw = np.random.default_rng(5)
    items = [
        (
            draw.integers(0, audiocraft_musicgen.CARD, (base.codebooks, 11)).astype(np.int16),
            draw.standard_normal((4, 24)).astype(np.float32),
            *([draw.integers(0, 12, base.melody_frames).astype(np.int8)] if hasattr(base, "melody_frames") else []),
        )
        for _ in range(3)
    ]
    return base.collate(items, [False] * 3)


def expected_logits(model: audiocraft_musicgen.LanguageModel, base: Any, batch: Any) -> torch.Tensor:
    codes = delay_pattern.apply_delay_pattern(batch.targets, audiocraft_musicgen.CARD, base.delays)[..., :-1]
    melody = torch.nn.functional.one_hot(batch.melody, 12).float() if hasattr(base, "melody_frames") else None
    with torch.no_grad():
        return model(codes, batch.states, melody)


def test_load_gives_the_logits_of_torchs_own_attention(
    folder: Path, language_model: audiocraft_musicgen.LanguageModel
) -> None:
    base: Any = load(folder, precision="fp32", device="cpu")
    batch = inputs_of(base)
    expected = expected_logits(language_model, base, batch)
    with torch.no_grad():
        actual = base.logits(batch)
    assert expected.std() > 0.3
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", list(itertools.permutations(audiocraft_names.FUSED_ORDER))[1:], ids="-".join)
def test_another_order_of_the_fused_projections_would_show(
    order: tuple[str, ...], modifiable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The golden test above can fail."""
    monkeypatch.setattr(audiocraft_names, "FUSED_ORDER", order)
    base: Any = load(modifiable, precision="fp32", device="cpu")
    batch = inputs_of(base)
    expected = expected_logits(audiocraft_musicgen.random_language_model(), base, batch)
    with torch.no_grad():
        assert (base.logits(batch) - expected).abs().max() > 0.05


def test_load_gives_the_codecs_own_tokens_and_sound(folder: Path, codec: EncodecModel) -> None:
    base: Any = load(folder, precision="fp32", device="cpu")
    samples = released_musicgen.noise(1.0, base.channels)
    tokens = base.encode(Audio(samples, base.rate_hz))
    values = torch.from_numpy(samples)[:, None]
    with torch.no_grad():
        encoded: Any = codec.encode(values, torch.ones_like(values, dtype=torch.bool))
        expected = encoded.audio_codes[0]  # [C, K, T]
        decoded: Any = codec.decode(expected[None], [None])  # type: ignore[arg-type]
        sound = decoded.audio_values[:, 0].numpy()
    assert len(np.unique(tokens)) > 10
    assert np.array_equal(tokens, expected.transpose(0, 1).reshape(base.codebooks, -1).numpy())
    np.testing.assert_allclose(base.decode(tokens).samples, sound, atol=1e-5)


def test_loaded_base_has_the_facts_of_its_settings(folder: Path) -> None:
    base: Any = load(folder, precision="fp32", device="cpu")
    facts = base_model_facts(str(folder))
    assert (base.name, base.is_local, base.licence) == ("mine", True, "unknown")
    assert (base.rate_hz, base.frame_rate_hz, base.window_seconds) == (800, 50, 0.5)
    assert (facts.frame_rate_hz, facts.window_seconds) == (50, 0.5)
    assert facts.shape.sites() == base.sites()
    assert facts.shape.decoder_parameters == base.num_parameters  # type: ignore[union-attr]
    meta = load_on_meta(folder, torch.float32)
    assert {k: v.shape for k, v in meta.model.state_dict().items()} == {
        k: v.shape for k, v in base.model.state_dict().items()
    }


def test_text_states_are_those_of_the_text_encoder_in_the_folder(folder: Path) -> None:
    from transformers import AutoTokenizer, T5EncoderModel

    base: Any = load(folder, precision="fp32", device="cpu")
    tokens = AutoTokenizer.from_pretrained(folder / "t5-base")(["tabla"], return_tensors="pt")
    with torch.no_grad():
        expected = T5EncoderModel.from_pretrained(folder / "t5-base")(**tokens).last_hidden_state[0]
    assert np.array_equal(base.encode_text(["tabla"])[0], expected.numpy())


def test_weights_in_half_precision_give_the_fingerprint_of_the_same_model_in_transformers_layout(
    modifiable: Path, tmp_path: Path
) -> None:
    """An adapter for the one fits the other, as for the released files, which are one model in two layouts."""
    first: Any = load(modifiable, precision="fp32", device="cpu")
    config = MusicgenConfig(**AudiocraftCheckpoint(modifiable).config)
    model = MusicgenForConditionalGeneration(config)
    model.load_state_dict(first.model.state_dict())
    model.save_pretrained(tmp_path / "theirs")
    for file in (modifiable / "t5-base").glob("*token*"):
        (tmp_path / "theirs" / file.name).write_bytes(file.read_bytes())
    released_musicgen.as_released(tmp_path / "theirs")
    second = load(tmp_path / "theirs", precision="bf16", device="cpu")
    assert second.fingerprint == first.fingerprint
    assert second.codec_hash == first.codec_hash


def test_a_codec_may_be_named_instead_of_stored(modifiable: Path, codec: EncodecModel) -> None:
    stored: Any = load(modifiable, precision="fp32", device="cpu")
    codec.save_pretrained(modifiable / "encodec_32khz")
    torch.save(
        {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"},
        modifiable / "compression_state_dict.bin",
    )
    named: Any = load(modifiable, precision="fp32", device="cpu")
    assert named.codec_hash == stored.codec_hash
    assert named.window_seconds == stored.window_seconds


def test_what_is_read_besides_the_files_is_said(modifiable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(modifiable, device="cpu")
    assert f"text encoder and tokenizer from {modifiable / 't5-base'}" in capsys.readouterr().err
    torch.save({"pretrained": "facebook/encodec_32khz"}, modifiable / "compression_state_dict.bin")
    with pytest.raises(TalimError, match=r"needs facebook/encodec_32khz, as \S*mine/encodec_32khz or from the Hub"):
        load(modifiable, device="cpu")
    (modifiable / "t5-base").rename(modifiable / "elsewhere")
    sources = AudiocraftCheckpoint(modifiable).sources
    assert sources.endswith("text encoder and tokenizer from google-t5/t5-base, codec from facebook/encodec_32khz")


def test_a_trained_text_encoder_is_read_from_the_file(modifiable: Path) -> None:
    package = torch.load(modifiable / "state_dict.bin", weights_only=True)
    from transformers import T5EncoderModel

    trained = T5EncoderModel.from_pretrained(modifiable / "t5-base")
    prefix = "condition_provider.conditioners.description.t5."
    for name, value in trained.state_dict().items():
        package["best_state"][prefix + name] = value + 0.01
    torch.save(package, modifiable / "state_dict.bin")
    base: Any = load(modifiable, precision="fp32", device="cpu")
    assert torch.equal(base.model.text_encoder.shared.weight, trained.shared.weight + 0.01)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RELEASED]
)
def test_every_key_of_the_released_models_is_accounted_for(name: str) -> None:
    size, channels, melody = RELEASED[name]
    dim, heads, layers = SIZES[size]
    with torch.device("meta"):
        model = audiocraft_musicgen.LanguageModel(dim, heads, layers, 4 * channels, 2048, 768, 12 * melody)
    settings = audiocraft_settings.Settings(audiocraft_musicgen.settings(dim, heads, layers, channels, melody), "file")
    decoder = audiocraft_settings.decoder_settings(settings, 768)
    converted = audiocraft_names.language_model_weights(model.state_dict(), "file")
    expected: Any = load_on_meta(name, torch.float32)
    parts = ("decoder.", "enc_to_dec_proj.", "audio_enc_to_dec_proj.")
    shapes = {k: v.shape for k, v in expected.model.state_dict().items() if k.startswith(parts)}
    assert {name: tensor.shape for name, tensor in converted.items()} == shapes
    assert decoder.pop("talim_window_seconds") == expected.window_seconds == 30.0
    assert decoder.pop("model_type") == "musicgen_decoder"
    assert {name: getattr(expected.config.decoder, name) for name in decoder} == decoder
    chroma = audiocraft_settings.melody_settings(settings)
    assert (chroma is not None) == melody
    if chroma:
        assert expected.chroma == ChromaSettings.of(chroma, 32000, chroma["num_chroma"])


def test_every_key_of_the_released_codec_is_accounted_for() -> None:
    settings = audiocraft_settings.Settings(audiocraft_musicgen.codec_settings(), "file")
    config = EncodecConfig(**audiocraft_settings.codec_settings(settings))
    assert (config.num_quantizers, config.frame_rate, config.target_bandwidths) == (4, 50, [2.2])
    with torch.device("meta"):
        codec = EncodecModel(config)
    theirs = audiocraft_musicgen.codec_weights(codec)
    assert {"encoder.model.13.lstm.weight_ih_l1", "decoder.model.15.conv.conv.weight_v"} <= set(theirs)
    converted = audiocraft_names.codec_weights(theirs, "file")
    assert len(converted) == len(theirs) == len(codec.state_dict())
    released = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        )
        for name in codec.state_dict()
    }
    assert set(converted) == {f"audio_encoder.{name}" for name in released}


def test_is_audiocraft_prefers_the_layout_of_transformers(modifiable: Path) -> None:
    assert is_audiocraft(modifiable)
    (modifiable / "config.json").write_text("{}", encoding="utf-8")
    assert not is_audiocraft(modifiable)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("file", ["state_dict.bin", "compression_state_dict.bin"])
def test_code_in_a_file_is_not_run(modifiable: Path, file: str, tmp_path: Path) -> None:
    package = torch.load(modifiable / file, weights_only=True)
    torch.save(package | {"xp.cfg": Harmful(tmp_path / "harm")}, modifiable / file)
    with pytest.raises(TalimError, match=r"without running code in it .*export"):
        load(modifiable, device="cpu")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["best_state"].pop("emb.0.weight"), r"lacks 1 weight.*embed_tokens\.0"),
        (lambda p: p["best_state"].update({"linears.0.bias": torch.zeros(32)}), "linears.0.bias"),
        (
            lambda p: p["best_state"].update({"transformer.layers.0.self_attn.in_proj_bias": torch.zeros(48)}),
            "in_proj_bias",
        ),
        (lambda p: p.pop("best_state"), "no weights by name.*export_lm"),
        (lambda p: p.update({"best_state": {"model": p["best_state"]}}), "no weights by name"),
        (lambda p: p.pop("xp.cfg"), "xp.cfg"),
        (lambda p: p.update({"xp.cfg": "a: [1"}), "no YAML"),
        (lambda p: p["best_state"].pop("condition_provider.conditioners.description.output_proj.weight"), "hears text"),
    ],
    ids=["missing", "unknown", "bias", "no weights", "not exported", "no settings", "no yaml", "no text"],
)
def test_what_does_not_fit_is_one_line(modifiable: Path, change: Any, message: str) -> None:
    package = torch.load(modifiable / "state_dict.bin", weights_only=True)
    change(package)
    torch.save(package, modifiable / "state_dict.bin")
    with pytest.raises(TalimError, match=message) as caught:
        load(modifiable, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_missing_codec_file_is_named(modifiable: Path) -> None:
    (modifiable / "compression_state_dict.bin").unlink()
    with pytest.raises(TalimError, match=r"lacks compression_state_dict\.bin, the codec"):
        load(modifiable, device="cpu")


def test_a_text_encoder_of_another_width_is_refused(modifiable: Path) -> None:
    audiocraft_musicgen.write_text_encoder(modifiable / "t5-base", width=32)
    with pytest.raises(TalimError, match=r"24 channels.*32.*trained with"):
        load(modifiable, device="cpu")


def test_a_text_encoder_with_missing_weights_is_refused(modifiable: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = modifiable / "t5-base" / "model.safetensors"
    weights = load_file(file)
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(TalimError, match=r"lacks 1 weight .*final_layer_norm"):
        load(modifiable, device="cpu")


def test_load_from_the_hub_fetches_the_text_encoder_that_the_file_names(
    stand_in_hub: Any, modifiable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = torch.load(modifiable / "state_dict.bin", weights_only=True)
    package["xp.cfg"] = package["xp.cfg"].replace("name: t5-base", "name: someone/small-t5")
    torch.save(package, modifiable / "state_dict.bin")
    text_encoder = (modifiable / "t5-base").rename(tmp_path / "small-t5")
    local: Any = load_with_text_encoder(modifiable, text_encoder)
    stand_in_hub.publish("someone/export", modifiable)
    converted = stand_in_hub.publish("someone/small-t5", text_encoder, branch="conversion")
    stand_in_hub.publish("someone/small-t5", checkpoints.as_pickle(text_encoder), pull_request=converted)
    base: Any = load("someone/export", precision="fp32", device="cpu")
    assert (base.fingerprint, base.text_encoder_hash) == (local.fingerprint, local.text_encoder_hash)
    said = capsys.readouterr().err
    assert "text encoder and tokenizer from someone/small-t5" in said
    assert f"{stand_in_hub.url}/someone/small-t5 (commit " in said  # not by transformers, which would convert it
    assert not [path for _, path in stand_in_hub.requests if "discussions" in path]
    assert {"state_dict.bin", "compression_state_dict.bin"} <= set(stand_in_hub.fetched("someone/export"))
    facts = base_model_facts("someone/export")
    assert facts.shape.sites() == base.sites()


def load_with_text_encoder(folder: Path, text_encoder: Path) -> Any:
    """The base with its text encoder in the folder, which is as before afterwards."""
    beside = folder / text_encoder.name
    shutil.copytree(text_encoder, beside)
    base = load(folder, precision="fp32", device="cpu")
    shutil.rmtree(beside)
    return base
