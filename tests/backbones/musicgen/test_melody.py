"""MusicGen-melody as a Backbone: its melodies, and generation against transformers' own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import released_musicgen

from talim.audio import Audio
from talim.backbones import meta_models, registry
from talim.backbones.load import load
from talim.backbones.musicgen import chroma, prepended_conditions, sampling
from talim.backbones.musicgen.melody import MusicGenMelody
from talim.errors import UsageError

MELODY = np.array([0, 4, 7, 11, 2, 9, 5, 1, 8], np.int8)  # longer than the seven frames that the decoder takes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released_musicgen.write(tmp_path_factory.mktemp("bases") / "tiny", melody=True)


@pytest.fixture(scope="module")
def base(folder: Path) -> MusicGenMelody:
    """Do not modify."""
    return load(folder, precision="fp32", device="cpu")  # type: ignore[return-value]


def greedy(
    base: MusicGenMelody,
    prompts: list[str],
    seconds: float,
    melody: list[np.ndarray | None] | None,
    guidance: float = 3.0,
) -> np.ndarray:
    return base.generate_tokens(prompts, seconds, seed=0, guidance_scale=guidance, temperature=0, melody=melody)


def transformers_tokens(base: MusicGenMelody, prompt: str, melody: np.ndarray | None, guidance: float) -> np.ndarray:
    """The window of 25 frames by plain generate()."""
    ids, mask = base._tokenize([prompt])
    features = {}
    if melody is not None:
        features = {"input_features": torch.eye(12)[torch.from_numpy(melody.astype(np.int64))][None]}
    with sampling.capture_codes(base.model, base.codebooks) as caught:
        base.model.generate(
            input_ids=ids, attention_mask=mask, max_length=29, do_sample=False, guidance_scale=guidance, **features
        )
    return caught[0][0].numpy()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("melody", [None, MELODY, MELODY[:3]], ids=["none", "long", "short"])
def test_greedy_tokens_equal_transformers_generate(
    base: MusicGenMelody, melody: np.ndarray | None, guidance: float
) -> None:
    expected = transformers_tokens(base, "ney, slow", melody, guidance)
    assert np.array_equal(greedy(base, ["ney, slow"], 0.5, [melody], guidance)[0], expected)


def test_tokens_follow_the_melody_and_no_melody_is_the_first_class(base: MusicGenMelody) -> None:
    prompts = ["ney, slow"]
    null, first = greedy(base, prompts, 0.5, None), greedy(base, prompts, 0.5, [np.zeros(5, np.int8)])
    assert np.array_equal(null, first)
    assert not np.array_equal(null, greedy(base, prompts, 0.5, [MELODY]))


def test_generate_batch_with_melodies_equals_single_prompts(base: MusicGenMelody) -> None:
    prompts, melodies = ["ney, slow", "tabla and voice, fast", "ney, fast"], [MELODY, None, MELODY[:2]]
    together = greedy(base, prompts, 0.7, melodies)
    for row, prompt, melody in zip(together, prompts, melodies, strict=True):
        assert np.array_equal(row, greedy(base, [prompt], 0.7, [melody])[0])


def test_each_window_is_given_its_part_of_the_melody(base: MusicGenMelody, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 25 frames with an overlap of 10 begin at frames 0, 15 and 30: 0, 3.75 and 7.5 frames of melody."""
    given = []
    rows = prepended_conditions.condition_rows

    def watch(model: object, batch: object) -> object:
        given.append(batch.melody.tolist())  # type: ignore[attr-defined]
        return rows(model, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(prepended_conditions, "condition_rows", watch)
    greedy(base, ["ney"], 1.0, [MELODY])
    repeated = np.tile(MELODY, 3)
    expected = [[repeated[first : first + 7].tolist(), [0] * 7] for first in (0, 4, 8)]  # and guidance's null
    assert given == expected


def test_continuation_is_given_the_phrases_melody_then_the_new_one(
    base: MusicGenMelody, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    parts = MusicGenMelody.generate_parts

    def watch(self: MusicGenMelody, *args: object, **named: object) -> object:
        given.append(named["melody"])
        return parts(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(MusicGenMelody, "generate_parts", watch)
    phrase = Audio(released_musicgen.noise(0.32), 800)
    base.generate_from(phrase, "ney", 0.4, seed=0, melody=[MELODY]).read()
    base.generate_from(phrase, "ney", 0.4, seed=0).read()
    own = base.encode_melody(phrase)[:4]  # 0.32 s at 12.5 frames a second
    assert given[0][0][:4].tolist() == own.tolist()
    assert given[0][0][4:15].tolist() == np.resize(MELODY, 11).tolist()
    assert given[1] is None
    read = np.array([5, 7, 9, 11, 2, 2], np.int8)  # as another reader hears the phrase
    base.generate_from(phrase, "ney", 0.4, seed=0, melody=[MELODY], melody_of_phrase=lambda sound: read).read()
    assert given[2][0][:5].tolist() == [5, 7, 9, 11, MELODY[0]]


def test_phrases_in_a_batch_follow_each_its_own_melody(base: MusicGenMelody) -> None:
    phrases = [Audio(released_musicgen.noise(seconds), 800) for seconds in (0.32, 0.6, 0.32)]
    melodies, seconds, seeds = [MELODY, None, MELODY[::-1].copy()], [0.4, 0.9, 0.4], [0, 1, 0]
    rows = dict(base.generate_from_each(phrases, ["ney", "oud", "ney"], seconds, seeds, melody=melodies))
    for row, melody in enumerate(melodies):
        given = (phrases[row], ["ney", "oud", "ney"][row], seconds[row], seeds[row])
        alone = base.generate_from(*given, melody=[melody])
        assert np.array_equal(rows[row].read().samples, alone.read().samples), row
    assert not np.array_equal(rows[0].read().samples, rows[2].read().samples)


def test_encode_melody_of_any_rate_and_channels(base: MusicGenMelody) -> None:
    time = np.arange(2 * 44100) / 44100
    tone = np.sin(2 * np.pi * 220 * time).astype(np.float32)  # an A
    classes = base.encode_melody(Audio(np.stack([tone, tone]), 44100))
    assert len(classes) == 1 + 2 * 800 // 64
    assert np.mean(classes == 9) > 0.9
    expected = chroma.pitch_classes(Audio(tone[None], 44100).resample(800).samples[0], base.chroma)
    assert np.array_equal(classes, expected)


def test_settings_come_from_the_preprocessors_file(folder: Path, tmp_path: Path, base: MusicGenMelody) -> None:
    assert base.melody_settings == {"rate_hz": 800, "hop_length": 64, "n_fft": 256, "num_chroma": 12}
    assert (base.melody_rate_hz, base.melody_frames) == (12.5, 7)
    bare = released_musicgen.write(tmp_path / "bare", melody=True)
    (bare / "preprocessor_config.json").unlink()
    assert load(bare, device="cpu").melody_settings["hop_length"] == 4096


def test_fingerprint_changes_with_the_length_of_the_melody(folder: Path, tmp_path: Path, base: MusicGenMelody) -> None:
    other = released_musicgen.write(tmp_path / "other", melody=True)
    text = (other / "config.json").read_text(encoding="utf-8")
    (other / "config.json").write_text(text.replace('"chroma_length": 7', '"chroma_length": 8'), encoding="utf-8")
    assert load(folder, precision="bf16", device="cpu").fingerprint == base.fingerprint
    assert load(other, device="cpu").fingerprint != base.fingerprint


@pytest.mark.parametrize("melody", [False, True])
def test_a_melody_is_refused_by_other_models_only(base: MusicGenMelody, tmp_path: Path, melody: bool) -> None:
    if melody:
        assert base.generate_tokens(["a"], 0.1, seed=0, melody=[MELODY]).shape == (1, 4, 5)
        return
    other = load(released_musicgen.write(tmp_path / "tiny"), device="cpu")
    sound = Audio(released_musicgen.noise(0.5), 800)
    with pytest.raises(UsageError, match="takes no melody: MusicGen-melody does"):
        other.generate_tokens(["a"], 0.1, seed=0, melody=[MELODY])
    with pytest.raises(UsageError, match="takes no melody"):
        other.encode_melody(sound)
    assert other.generate_tokens(["a"], 0.1, seed=0, melody=[None]).shape == (1, 4, 5)


# 1.56e9 is what the Hub's page of facebook/musicgen-melody counts; the others follow from the released dimensions
@pytest.mark.parametrize(
    ("name", "hidden", "codebooks", "total_billions"),
    [
        ("musicgen-melody", 1536, 4, 1.56),
        ("musicgen-stereo-melody", 1536, 8, 1.58),
        ("musicgen-melody-large", 2048, 4, 2.62),
        ("musicgen-stereo-melody-large", 2048, 8, 2.66),
    ],
)
def test_released_sizes_on_the_meta_device(name: str, hidden: int, codebooks: int, total_billions: float) -> None:
    entry = registry.MODELS[name]
    assert (entry.licence, registry.unsupported_reason(entry.hub_id)) == ("CC-BY-NC-4.0", "")
    base = meta_models.load_on_meta(name, torch.float32)
    assert isinstance(base, MusicGenMelody)
    assert (base.melody_rate_hz, base.melody_frames, base.codebooks) == (7.8125, 235, codebooks)
    layer = 4 * hidden**2 + 2 * 4 * hidden**2 + 4 * hidden  # one attention, feed-forward, two norms
    tables = codebooks * (2049 + 2048) * hidden
    assert base.num_parameters == 48 * layer + 2 * hidden + tables == entry.shape.decoder_parameters  # type: ignore[union-attr]
    total = sum(weight.numel() for weight in base.model.parameters())
    # the table of positions and the codec's codebooks are stored with the weights
    stored = total + sum(buffer.numel() for buffer in base.model.buffers())
    assert round(stored / 1e9, 2) == total_billions
    assert entry.download_gb == pytest.approx(4 * stored / 1e9, abs=0.06)
    projections = (768 * hidden + hidden) + (12 * hidden + hidden)
    parts = base.model.text_encoder, base.model.audio_encoder
    rest = sum(weight.numel() for part in parts for weight in part.parameters())
    assert total == base.num_parameters + rest + projections
    assert math.isclose(base.window_seconds * base.melody_rate_hz, 234.375)
