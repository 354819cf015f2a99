"""Tests of talim.generation.generate: reproducible seeds, provenance tags, early refusals."""

from __future__ import annotations

import math
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.log_lines import Lines

from talim import audio
from talim.atomic_io import read_jsonl
from talim.backbones.musicgen import codec_blocks
from talim.backbones.musicgen.backbone import MusicGen
from talim.beats_chords import BeatsAndChords
from talim.errors import TalimError, UsageError
from talim.generation import generate
from talim.generation.generate import Generation, GenerationOptions, generate_audio, generate_files, read_beats_chords
from talim.generation.phrase import PhraseOptions
from talim.generation.sources import GenerationSource, choose_source
from talim.progress import Progress
from talim.run import Run


def write(out: Path, source: Any, **changes: Any) -> list[dict[str, Any]]:
    return generate_files(out, **{"prompts": ["slow glide"], "source": source, "seconds": 1.0, **changes})


def test_generate_with_the_same_seed_gives_the_same_audio(tmp_path: Path, tiny_base: Path) -> None:
    source = GenerationSource(str(tiny_base))
    pieces = []
    for number, seed in enumerate((4, 4, 5)):
        write(tmp_path / f"{number}.flac", source, seed=seed)
        pieces.append(audio.read(tmp_path / f"{number}.flac").samples)
    assert np.array_equal(pieces[0], pieces[1])
    assert not np.array_equal(pieces[0], pieces[2])


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".mp3"])
def test_generate_files_writes_provenance_tags(tmp_path: Path, finished_run: Run, suffix: str) -> None:
    source = choose_source(finished_run.folder, None, [], no_adapter=False)
    rows = write(tmp_path / f"a{suffix}", source, seed=3, options=GenerationOptions(2.0, 0.9, 50))
    tags = audio.read_tags(tmp_path / f"a{suffix}")
    assert tags["ai_generated"] == "AI-generated"
    assert (tags["prompt"], tags["seed"], tags["base"]) == ("slow glide", "3", "tiny")
    assert (tags["adapter"], tags["adapter_design"]) == ("run/adapter", "linear@all:10%")
    assert (tags["guidance_scale"], tags["temperature"], tags["top_k"]) == ("2.0", "0.9", "50")
    assert tags["base_licence"] == "cc-by-nc-4.0"
    assert rows[0]["base_fingerprint"] == tags["base_fingerprint"]
    assert audio.read(tmp_path / f"a{suffix}").seconds == pytest.approx(1.0, abs=0.05)


def test_generate_with_adapter_differs_from_the_base(tmp_path: Path, finished_run: Run, tiny_base: Path) -> None:
    for name, source in {
        "with": choose_source(finished_run.folder, None, [], no_adapter=False),
        "same": choose_source(None, str(tiny_base), [finished_run.adapter], no_adapter=False),
        "without": choose_source(finished_run.folder, None, [], no_adapter=True),
        "base": choose_source(None, str(tiny_base), [], no_adapter=False),
    }.items():
        # an adapter stores its base by name; here the base is a folder
        named = GenerationSource(str(tiny_base), source.adapters)
        write(tmp_path / f"{name}.flac", named, seed=1)
    samples = {n: audio.read(tmp_path / f"{n}.flac").samples for n in ("with", "same", "without", "base")}
    assert np.array_equal(samples["with"], samples["same"])
    assert np.array_equal(samples["without"], samples["base"])
    assert not np.array_equal(samples["with"], samples["without"])


def test_generate_files_of_several_pieces_writes_a_folder_with_a_manifest(tmp_path: Path, tiny_base: Path) -> None:
    rows = write(tmp_path / "many", GenerationSource(str(tiny_base)), prompts=["a", "b"], num_samples=2, seed=7)
    manifest = read_jsonl(tmp_path / "many" / "manifest.jsonl")
    assert [(r["prompt"], r["seed"]) for r in manifest] == [("a", 7), ("a", 8), ("b", 7), ("b", 8)]
    assert all((tmp_path / "many" / r["file"]).is_file() for r in manifest)
    pieces = list(
        generate_audio(prompts=["a", "b"], source=GenerationSource(str(tiny_base)), seconds=1.0, num_samples=2, seed=7)
    )
    for row, piece in zip(rows, pieces, strict=True):
        np.testing.assert_allclose(audio.read(row["file"]).samples, piece.samples, atol=2**-15)
        assert (piece.tags["prompt"], piece.tags["ai_generated"]) == (row["prompt"], "AI-generated")
    assert [r["file"] for r in rows] == [str(tmp_path / "many" / r["file"]) for r in manifest]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": -3.0}, "--seconds is -3"),
        ({"seconds": 0.0}, "--seconds is 0"),
        ({"seconds": 1e9}, "between 0.1 and 3600"),
        ({"seconds": float("nan")}, "--seconds is nan"),
        ({"prompts": []}, "--prompt is missing"),
        ({"num_samples": 0}, "--num-samples is 0"),
        ({"num_samples": 2}, "pieces need a folder"),
        ({"prompts": ["caf\udce9"]}, "holds bytes that are no letters"),
        ({"prompts": ["la " * 5000]}, "--prompt has 15000 letters"),
        ({"device": "tpu"}, "--device is 'tpu'; it must be auto, cpu"),
        ({"seed": -1}, "--seed is -1"),
        ({"out": Path("a.ogg")}, r"\.flac, \.wav or \.mp3"),
        ({"out": Path("a")}, r"\.flac, \.wav or \.mp3"),
    ],
)
def test_generate_with_invalid_request_is_refused_before_loading(tmp_path: Path, changes: dict, message: str) -> None:
    def never() -> GenerationSource:
        raise AssertionError("the source was asked for")

    with pytest.raises(UsageError, match=message):
        write(**{"out": tmp_path / "a.flac", "source": never, **changes})
    assert list(tmp_path.iterdir()) == []


def test_an_empty_prompt_is_music_without_condition_and_that_is_told(tmp_path: Path, tiny_base: Path) -> None:
    lines: list[str] = []

    class Lines(Progress):
        def log(self, text: str) -> None:
            lines.append(text)

    out = tmp_path / "a.flac"
    (row,) = write(out=out, prompts=["  "], source=GenerationSource(str(tiny_base)), seconds=0.5, progress=Lines())
    assert (row["prompt"], row["title"]) == ("", "without a prompt")
    (told,) = [line for line in lines if "the prompt is empty" in line]
    assert "has nothing to act on and is skipped" in told
    assert audio.read_tags(out)["title"] == "without a prompt"
    (again,) = write(out=out, prompts=[""], source=GenerationSource(str(tiny_base)), seconds=0.5, progress=Lines())
    assert again["request"] == row["request"]  # the file was used again


def test_read_beats_chords_repeats_single_texts_and_refuses_unequal_numbers() -> None:
    pairs = read_beats_chords(["60 bpm"], ["C@0", "G@0"], 2.0)
    assert [str(pair.beats) for pair in pairs] == ["1@0 2@1"] * 2
    assert [str(pair.chords) for pair in pairs] == ["C@0", "G@0"]
    assert read_beats_chords([], [], 2.0) == []
    for seconds in (1e7, float("inf"), float("nan"), 1e308):
        with pytest.raises(UsageError, match="--seconds is"):
            read_beats_chords(["400 bpm"], [], seconds)
    with pytest.raises(UsageError, match="--beats was given 2 times and --chords 3 times"):
        read_beats_chords(["60 bpm"] * 2, ["C@0"] * 3, 2.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guidance_scale": 0.5}, "--guidance-scale"),
        ({"temperature": -1.0}, "--temperature"),
        ({"top_k": -1}, "--top-k"),
        ({"sampling_steps": 0}, "--sampling-steps"),
        ({"sampler": "heun"}, "--sampler"),
    ],
)
def test_generation_options_out_of_range_raise_usage_error(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GenerationOptions(**values)


def test_generate_files_to_unwritable_output_is_refused_before_loading(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TalimError, match="cannot be written"):
        write(tmp_path / "file" / "a.flac", GenerationSource("never-looked-at"))


@pytest.fixture
def phrase_file(tmp_path: Path) -> Path:
    samples = np.random.default_rng(2).normal(0, 0.1, (2, 33_075)).astype(np.float32)
    return audio.Audio(samples, 44_100).save(tmp_path / "my alap.wav")


def test_generate_files_goes_on_from_a_phrase_and_records_it(
    tmp_path: Path, tiny_base: Path, phrase_file: Path
) -> None:
    source, out = GenerationSource(str(tiny_base)), tmp_path / "out"
    kept = write(tmp_path / "a.flac", source, phrases=[phrase_file])[0]
    piece, own = audio.read(kept["file"]), audio.read(phrase_file).resample(16_000).mono()
    assert piece.seconds == pytest.approx(1.75, abs=1e-4)
    exact = own.frames - 640
    np.testing.assert_allclose(piece.samples[:, :exact], own.samples[:, :exact], atol=2**-15)
    tags = audio.read_tags(kept["file"])
    assert (tags["phrase"], tags["phrase_kept"], tags["prompt"]) == ("my alap.wav", "yes", "slow glide")
    assert tags["phrase_sha256"] == audio.content_hash(audio.read(phrase_file))
    assert tags["ai_generated_from_seconds"] == "0.750"
    assert (kept["phrase"], kept["phrase_sha256"]) == (tags["phrase"], tags["phrase_sha256"])
    alone = write(tmp_path / "b.flac", source, phrases=[phrase_file], phrase_options=PhraseOptions(keep=False))[0]
    assert audio.read(alone["file"]).seconds == pytest.approx(1.0)
    rows = write(out, source, phrases=[phrase_file, tmp_path / "a.flac"], num_samples=2)
    manifest = read_jsonl(out / "manifest.jsonl")
    assert [(row["phrase"], row["seed"]) for row in manifest] == [
        ("my alap.wav", 0),
        ("my alap.wav", 1),
        ("a.flac", 0),
        ("a.flac", 1),
    ]
    assert manifest[2]["phrase_ai_generated"] == "AI-generated"
    assert len({row["request"] for row in [*rows, kept, alone]}) == 5  # one of them is asked for twice


def test_generate_files_tells_how_the_phrase_is_used(tmp_path: Path, tiny_base: Path, phrase_file: Path) -> None:
    said: list[str] = []

    class Listening(Progress):
        def log(self, text: str) -> None:
            said.append(text)

    source = GenerationSource(str(tiny_base))
    options = PhraseOptions(seconds=5.0)
    write(tmp_path / "a.flac", source, phrases=[phrase_file], phrase_options=options, progress=Listening())
    (line,) = [text for text in said if text.startswith("phrase my alap.wav: ")]
    for part in (
        "all of its 0.75 s (it is shorter than --continue-seconds 5)",
        "2 channels become 1",
        "resampled from 44100 to 16000 Hz",
        "the music goes on from it, and comes after it",
    ):
        assert part in line
    loud = audio.Audio(np.sign(audio.read(phrase_file).samples) * 1.5, 44_100)
    write(tmp_path / "b.flac", source, phrases=[loud], progress=Listening())
    assert any("turned down by" in text for text in said)
    assert audio.read(tmp_path / "b.flac").peak <= 1.0


def test_pieces_from_several_phrases_are_made_in_one_batch_and_are_those_of_each_alone(
    tmp_path: Path, tiny_base: Path, phrase_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One phrase's end beside all of another, two seeds of each."""
    source = GenerationSource(str(tiny_base))
    short = audio.Audio(np.random.default_rng(4).normal(0, 0.1, (1, 4000)).astype(np.float32), 16_000)
    request: dict[str, Any] = {"prompts": ["slow", "ney"], "source": source, "seconds": 0.6, "num_samples": 2}
    alone = [
        piece
        for prompt, phrase in (("slow", phrase_file), ("ney", short))
        for piece in generate_audio(**{**request, "prompts": [prompt]}, phrases=[phrase], seed=3)
    ]
    calls: list[int] = []
    parts = MusicGen.generate_parts
    monkeypatch.setattr(
        MusicGen, "generate_parts", lambda *a, **named: (calls.append(len(a[1])), parts(*a, **named))[1]
    )
    together = list(generate_audio(**request, phrases=[phrase_file, short], seed=3))
    assert calls == [4]
    for found, expected in zip(together, alone, strict=True):
        assert np.array_equal(found.samples, expected.samples)
        assert found.tags == expected.tags
    assert len({piece.samples.tobytes() for piece in together}) == 4


def test_generate_audio_of_a_variation_is_as_long_as_its_phrase(phrase_file: Path) -> None:
    request = {"prompts": ["a"], "source": GenerationSource("nano-mustango"), "options": GenerationOptions(1.0)}
    request["options"] = GenerationOptions(1.0, sampling_steps=2)
    options, log = PhraseOptions(0.5, strength=0.5), Lines()
    (piece,) = generate_audio(**request, phrases=[phrase_file], phrase_options=options, progress=log)
    assert any("nano-mustango varies it (strength 0.5), it does not go on from it" in line for line in log.lines)
    assert piece.seconds == pytest.approx(0.5)
    assert (piece.tags["phrase_use"], piece.tags["strength"]) == ("varied", "0.5")
    assert piece.tags["ai_generated"] == "AI-generated"


def test_beats_and_chords_after_the_end_of_a_variation_are_not_recorded_and_chords_are_told(phrase_file: Path) -> None:
    said: list[str] = []

    class Listening(Progress):
        def log(self, text: str) -> None:
            said.append(text)

    given = BeatsAndChords.parse("120 bpm 4/4", "Gm@0 C@30", 60.0)
    (piece,) = generate_audio(
        prompts=["a"],
        source=GenerationSource("nano-mustango"),
        options=GenerationOptions(1.0, sampling_steps=2),
        beats_chords=[given],
        phrases=[phrase_file],
        phrase_options=PhraseOptions(0.7, strength=0.5),
        progress=Listening(),
    )
    assert (piece.tags["beats"], piece.tags["chords"]) == ("1@0 2@0.5", "Gm@0")
    assert any("1 chord left out, after the phrase's 0.70 s" in text for text in said)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phrases": ["missing.wav"]}, "missing.wav: cannot be read"),
        ({"phrase_options": PhraseOptions(keep=False)}, "--leave-out-phrase says how a phrase is used"),
        ({"phrases": ["a.wav"], "phrase_options": PhraseOptions(strength=0.5)}, "--strength is no option"),
    ],
)
def test_generate_with_an_invalid_phrase_is_refused_before_loading(
    tmp_path: Path, tiny_base: Path, changes: dict, message: str
) -> None:
    with pytest.raises(TalimError, match=message):
        write(tmp_path / "out.flac", GenerationSource(str(tiny_base)), **changes)
    assert not (tmp_path / "out.flac").exists()


@pytest.mark.parametrize("phrase", [False, True])
def test_sound_is_there_while_tokens_are_still_made_and_is_that_of_the_whole(
    tiny_base: Path, phrase_file: Path, phrase: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_blocks, "_BLOCK_FRAMES", 16)
    request: dict[str, Any] = {"prompts": ["slow glide"], "source": GenerationSource(str(tiny_base)), "seconds": 8.0}
    request |= {"phrases": [phrase_file]} if phrase else {}
    monkeypatch.setattr(
        MusicGen, "generate_parts", partialmethod(parts := MusicGen.generate_parts, part_frames=math.inf)
    )
    (whole,) = generate_audio(**request)
    monkeypatch.setattr(MusicGen, "generate_parts", partialmethod(parts, part_frames=5))
    made: list[int] = []
    titles: set[str] = set()

    class Watch(Progress):
        def step(self, title: str, done: int, total: int, facts: str = "") -> None:
            titles.add(title)
            if title.startswith("generating"):
                assert facts.endswith("times real time")
                made.append(done)

    generation = Generation(**request, progress=Watch())
    ((_, clip),) = generation.generate([0])
    begun, blocks = [], []
    for block in clip.blocks():
        begun.append(made[-1])
        blocks.append(block)
    assert begun[0] < begun[len(begun) // 2] < begun[-1] == 8
    assert titles == {"generating audio, seconds", "decoding audio"}
    samples = np.concatenate(blocks, axis=1)
    peak = max(1.0, float(np.abs(samples).max()))
    assert np.array_equal(samples / peak if peak > 1 else samples, whole.samples)
    steps = len(made)
    assert np.array_equal(np.concatenate([*clip.blocks()], axis=1), samples)
    assert len(made) == steps  # nothing is made a second time


def test_the_text_that_the_model_is_told_is_told_and_the_end_is_decoded_in_sight(
    tmp_path: Path, tiny_base: Path
) -> None:
    class Steps(Lines):
        def step(self, title: str, done: int, total: int, facts: str = "") -> None:
            steps.append((title, done, total))

    steps: list[tuple[str, int, int]] = []
    write(tmp_path / "a.flac", GenerationSource(str(tiny_base)), prompts=["slow alap"], progress=(said := Steps()))
    (line,) = (line for line in said.lines if "nothing else" in line)
    assert line.startswith("the model is told this text and nothing else: 'slow alap'; a raga, tala or instrument")
    begun = steps.index(("decoding audio", 0, 1))
    assert set(steps[: begun - 1]) == {("generating audio, seconds", 0, 1)}
    assert (steps[begun - 1], steps[-1]) == (("generating audio, seconds", 1, 1), ("decoding audio", 1, 1))


def test_a_long_piece_is_told_where_it_is_while_it_is_written(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "LONG_SECONDS", 0.5)
    said = Lines()
    write(tmp_path / "long.flac", GenerationSource(str(tiny_base)), progress=said)
    (line,) = (line for line in said.lines if "can be played" in line)
    assert str(tmp_path / ".long.flac.") in line
    write(tmp_path / "short.flac", GenerationSource(str(tiny_base)), seconds=0.4, progress=(said := Lines()))
    assert not [line for line in said.lines if "can be played" in line]
