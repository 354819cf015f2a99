"""Music from a hummed or played melody: what is read, said, recorded and refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures import released_musicgen
from fixtures.log_lines import Lines

from talim.audio import Audio
from talim.audio.write import write
from talim.backbones.musicgen.melody import MusicGenMelody
from talim.corpus.melody import tracked_classes
from talim.errors import TalimError, UsageError
from talim.generation.generate import Generation, generate_audio, generate_files
from talim.generation.melody import read_melodies
from talim.generation.sources import GenerationSource


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(released_musicgen.write(tmp_path_factory.mktemp("bases") / "tiny-melody", melody=True))


def tone(hz: float, seconds: float = 0.6, rate_hz: int = 16000) -> Audio:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    sound = sum(np.sin(2 * np.pi * k * hz * time) / k for k in (1, 2, 3)) * 0.3
    return Audio(np.asarray(sound, np.float32)[None], rate_hz)


def request(base: str, **more: Any) -> dict[str, Any]:
    return {"prompts": ["ney"], "source": GenerationSource(base), "seconds": 0.4, **more}


def sounds(base: str, **more: Any) -> list[np.ndarray]:
    return [clip.samples for clip in generate_audio(**request(base, **more))]


def test_pieces_follow_their_melodies(base: str) -> None:
    plain, low, high = (sounds(base, melodies=melodies)[0] for melodies in ([], [tone(220)], [tone(294)]))
    assert not np.array_equal(low, high)
    assert not np.array_equal(plain, low)
    assert np.array_equal(low, sounds(base, melodies=[tone(220)])[0])
    both = sounds(base, prompts=["ney", "ney"], melodies=[tone(220), tone(294)])
    assert np.array_equal(both[0], low)
    assert np.array_equal(both[1], high)
    shared = sounds(base, prompts=["ney", "ney"], melodies=[tone(220)])
    assert np.array_equal(shared[0], shared[1])


@pytest.mark.parametrize("source", ["pitch", "chroma"])
def test_melody_of_a_phrase_is_read_as_the_given_one(base: str, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """A tone over a louder drone: the chromagram and the tracked pitch differ, and each goes on with its own kind."""
    time = np.arange(round(0.6 * 16000)) / 16000
    drone: Any = sum(np.sin(2 * np.pi * hz * time) for hz in (131, 262, 65)) * 0.25
    phrase = Audio((tone(294).samples + drone.astype(np.float32)) / 2, 16000)
    given = []
    parts = MusicGenMelody.generate_parts

    def watch(self: MusicGenMelody, *args: object, **named: Any) -> object:
        used = self.context_seconds(phrase.seconds)
        heard = phrase.cut(phrase.seconds - used, phrase.seconds)
        read = {"pitch": tracked_classes(heard, self.melody_rate_hz), "chroma": self.encode_melody(heard)}
        given.append((named["melody"][0], read, round(used * self.melody_rate_hz)))
        return parts(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(MusicGenMelody, "generate_parts", watch)
    sounds(base, phrases=[phrase], melodies=[tone(440)], melody_from=source)
    melody, read, frames = given[0]
    assert frames >= 3
    assert read["pitch"][:frames].tolist() != read["chroma"][:frames].tolist()
    assert melody[:frames].tolist() == read[source][:frames].tolist()


def test_pitch_and_chroma_are_told_apart(base: str) -> None:
    """A melody over a drone: the chromagram gives the drone."""
    melody, time = tone(294, 1.2), np.arange(round(1.2 * 16000)) / 16000
    drone: Any = sum(np.sin(2 * np.pi * hz * time) for hz in (131, 262, 65)) * 0.25
    mixed = Audio((melody.samples + drone.astype(np.float32)) / 2, 16000)
    chroma, pitched = (sounds(base, melodies=[mixed], melody_from=source)[0] for source in ("chroma", "pitch"))
    assert not np.array_equal(chroma, pitched)
    assert np.array_equal(pitched, sounds(base, melodies=[melody], melody_from="pitch")[0])


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_files_record_their_melody_and_what_was_used_is_said(base: str, tmp_path: Path, suffix: str) -> None:
    hum, log = tmp_path / f"hum{suffix}", Lines()
    write(hum, tone(220, 1.5))
    rows = generate_files(tmp_path / "out.flac", **request(base, melodies=[hum], progress=log))
    assert rows[0]["melody"] == f"hum{suffix}"
    assert rows[0]["melody_from"] == "chroma"
    assert len(rows[0]["melody_sha256"]) == 64
    assert rows[0]["melody_rights"] == "given by the user, not checked by talim"
    assert any(f"melody hum{suffix}: 1.5" in line and "after 0.40 s is left out" in line for line in log.lines)
    short = Lines()
    generate_files(tmp_path / "long.flac", **request(base, seconds=2.0, melodies=[hum], progress=short))
    assert any("the melody begins anew after its end" in line for line in short.lines)


def test_a_melody_is_part_of_the_request(base: str) -> None:
    keys = {
        Generation(**request(base, melodies=melodies, melody_from=source)).pieces[0].key
        for melodies, source in (([], None), ([tone(220)], None), ([tone(294)], None), ([tone(220)], "pitch"))
    }
    assert len(keys) == 4
    first, same = (
        Generation(**request(base, melodies=[tone(220)], melody_from=s)).pieces[0].key for s in (None, "chroma")
    )
    assert first == same


def test_continuation_follows_a_melody(base: str) -> None:
    phrase = tone(330, 0.3)
    plain, followed = (sounds(base, phrases=[phrase], melodies=melodies)[0] for melodies in ([], [tone(220)]))
    assert plain.shape == followed.shape
    assert not np.array_equal(plain, followed)


@pytest.mark.parametrize("name", ["nano-musicgen", "nano-mustango"])
def test_a_melody_for_another_base_is_refused_before_it_is_loaded(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} takes no melody: MusicGen-melody does \(--base musicgen-melody\)"):
        Generation(**request(name, melodies=[tone(220)]))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"melody_from": "pitch"}, "add --melody with the file of one"),
        ({"melodies": [tone(220)], "melody_from": "stems"}, "must be one of chroma, pitch"),
        ({"melodies": [tone(220), tone(330)]}, "given 2 times for 1 piece"),
        ({"melodies": [Audio(np.zeros((1, 800), np.float32), 800)]}, "is silent"),
        ({"melodies": [Audio(np.zeros((1, 0), np.float32), 800)]}, "holds no samples"),
        ({"melodies": [Audio(np.full((1, 99), np.nan, np.float32), 800)]}, "NaN or infinity"),
        ({"melodies": ["no-such-hum.wav"]}, "no-such-hum.wav"),
    ],
)
def test_wrong_melodies_are_refused_before_the_base_is_loaded(base: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(TalimError, match=message):
        Generation(**request(base, **more))


def test_a_melody_without_pitch_is_refused_where_its_pitch_is_asked_for(base: str) -> None:
    knocks = np.zeros(16000, np.float32)
    knocks[[2000, 7000, 12000]] = 0.9
    with pytest.raises(UsageError, match="no pitch was found"):
        sounds(base, melodies=[Audio(knocks[None], 16000)], melody_from="pitch")
    assert sounds(base, melodies=[Audio(knocks[None], 16000)])[0].size


def test_a_melody_file_that_is_too_long_is_refused_before_it_is_decoded(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "concert.wav"
    soundfile.write(path, np.resize(np.int16([9999, -9999]), 3_605_000), 1000)
    monkeypatch.setattr(sys.modules["talim.audio.read"], "decode_blocks", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UsageError, match=r"--melody: concert\.wav is 3605\.0 s long; .* up to 3600 s: cut it"):
        read_melodies(base, [path], None)
    with pytest.raises(UsageError, match=r"--melody: a sound in memory is 3605\.0 s long"):
        read_melodies(base, [Audio(np.ones((1, 3_605_000), np.float32), 1000)], None)
