"""Settings stored by audiocraft: references are followed, functions are not called, what cannot be done is refused."""

from __future__ import annotations

import pytest
from fixtures import audiocraft_musicgen
from transformers import EncodecConfig

from talim.backbones.musicgen.audiocraft_settings import (
    Settings,
    codec_settings,
    decoder_settings,
    melody_settings,
    text_encoder_name,
)
from talim.errors import TalimError


def lm(text: str) -> dict[str, object]:
    return decoder_settings(Settings(text, "file"), 768)


TEXT = audiocraft_musicgen.settings(1024, 16, 24)


def test_get_follows_references_and_reports_what_it_cannot_evaluate() -> None:
    settings = Settings("a: ${b.c}\nb:\n  c: ${d}\nd: 7\ne: ${oc.env:HOME}\nf: ${f}\ng: ???\nh: x${d}", "file")
    assert settings.get("a") == 7
    assert settings.get("missing", 3) == settings.get("g", 3) == 3
    for path, message in {"e": "does not evaluate", "f": "circle", "g": "lack g", "h": "does not evaluate"}.items():
        with pytest.raises(TalimError, match=message):
            settings.get(path)


def test_decoder_settings_of_a_stereo_model() -> None:
    values = lm(audiocraft_musicgen.settings(1536, 24, 48, channels=2))
    assert (values["hidden_size"], values["num_codebooks"], values["audio_channels"]) == (1536, 8, 2)
    assert (values["ffn_dim"], values["num_attention_heads"], values["num_hidden_layers"]) == (6144, 24, 48)


def test_decoder_settings_of_the_first_exports_have_another_pattern_key() -> None:
    text = TEXT.replace("  modeling: delay\n", "  modeling: null\n").replace("    delays: [0, 1, 2, 3]\n", "")
    assert lm(text.replace("transformer_lm:\n", "transformer_lm:\n  q_modeling: delay\n")) == lm(TEXT)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("norm_first: true", "norm_first: false", r"norm_first is False.*only do True"),
        ("  norm_first: true\n", "", r"norm_first is False"),  # audiocraft's default
        ("positional_embedding: sin", "positional_embedding: rope", "positional_embedding is 'rope'"),
        ("prepend: []", "prepend: [description]", r"fuser\.prepend"),
        ("prepend: []", "prepend: [description, self_wav]", r"fuser\.cross is \['description'\]"),
        ("cross: [description]", "cross: []", r"fuser\.cross is \[\]"),
        ("delays: [0, 1, 2, 3]", "delays: [0, 0, 0, 0]", r"pattern delay \[0, 0, 0, 0\]"),
        ("  modeling: delay", "  modeling: parallel", "pattern parallel"),
        ("normalize_text: false", "normalize_text: true", "normalize_text"),
        ("lm_model: transformer_lm", "lm_model: transformer_lm_magnet", "transformer_lm_magnet"),
        ("per_timestep: false", "per_timestep: true", "per_timestep"),
        ("dim: 1024", "dim: 768", "768 channels.*no projection"),
        ("num_heads: 16", "num_heads: many", "num_heads is 'many'; expected a number"),
        ("n_q: 4", "n_q: 0", "n_q is 0"),
        ("  num_layers: 24\n", "", "lack transformer_lm.num_layers"),
        ("activation: gelu", "activation: silu", "activation 'silu'"),
    ],
)
def test_decoder_settings_refuse_what_transformers_cannot_do(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(TalimError, match=message):
        lm(TEXT.replace(old, new))


def test_melody_settings_are_those_of_the_released_feature_extractor() -> None:
    settings = Settings(audiocraft_musicgen.settings(1536, 24, 48, melody=True), "file")
    assert melody_settings(settings) == {"sampling_rate": 32000, "n_fft": 16384, "hop_length": 4096, "num_chroma": 12}
    assert melody_settings(Settings(TEXT, "file")) is None


def test_melody_settings_refuse_another_chromagram() -> None:
    text = audiocraft_musicgen.settings(1536, 24, 48, melody=True).replace("argmax: true", "argmax: false")
    with pytest.raises(TalimError, match="argmax is False"):
        melody_settings(Settings(text, "file"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("renormalize: false", "renormalize: true", "renormalize"),
        ("final_activation: null", "final_activation: Tanh", "final_activation"),
        ("  channels: ${channels}\n  causal: false", "  channels: 2\n  causal: false", r"encodec\.channels is 2"),
        ("quantizer: rvq", "quantizer: no_quant", "quantizer"),
        ("  ratios: [8, 5, 4, 4]\n", "", r"lack seanet\.ratios"),
        ("ratios: [8, 5, 4, 4]", "ratios: [7, 5, 4, 4]", "no whole number of frames"),
    ],
)
def test_codec_settings_refuse_what_transformers_cannot_do(old: str, new: str, message: str) -> None:
    text = audiocraft_musicgen.codec_settings()
    assert old in text
    with pytest.raises(TalimError, match=message):
        codec_settings(Settings(text.replace(old, new), "file"))


@pytest.mark.parametrize("bins", [32, 1000, 1024, 2048])
@pytest.mark.parametrize("codebooks", [1, 3, 4, 7, 12, 32])
def test_codec_settings_give_transformers_the_number_of_codebooks(bins: int, codebooks: int) -> None:
    """Transformers derives it from a bandwidth."""
    text = audiocraft_musicgen.codec_settings(bins=bins).replace("  n_q: 4", f"  n_q: {codebooks}")
    config = EncodecConfig(**codec_settings(Settings(text, "file")))
    assert config.num_quantizers == codebooks


def test_text_encoder_name_is_no_path() -> None:
    assert text_encoder_name(Settings(TEXT, "file")) == "t5-base"
    for name in ("../t5", "/etc", "a/b/c", "[1]"):
        with pytest.raises(TalimError, match="expected a name such as t5-base"):
            text_encoder_name(Settings(TEXT.replace("name: t5-base", f"name: {name}"), "file"))


@pytest.mark.parametrize("text", [None, 3, "a: [1", "- 1", "just text"])
def test_settings_of_another_form_are_refused(text: object) -> None:
    with pytest.raises(TalimError, match=r"xp\.cfg"):
        Settings(text, "file")
