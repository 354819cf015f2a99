"""The sounds of a test: one loudness, one length, names that say nothing, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from talim import audio
from talim.audio import Audio
from talim.errors import TalimError
from talim.listening import protocol as p
from talim.listening.draft_protocol import protocol_folder, write_draft
from talim.listening.stimuli import low_pass_anchor, match_loudness, prepare
from talim.strict_yaml import build

Make = Callable[..., Path]


def test_every_sound_is_alike_but_for_its_music(make_test: Make) -> None:
    folder = make_test()
    material = prepare(folder, p.load(folder))
    assert material.items == ["item-01", "item-02", "item-03", "item-04"]
    assert next(iter(material.prompts.values())) == "slow flute"
    assert len(material.files) == 4 * 5  # four conditions and the spoiled sound of the checks
    loud = {audio.loudness_lufs(audio.read(material.path(*key))) for key in material.files}
    assert max(loud) - min(loud) < 0.1
    assert max(loud) == pytest.approx(-23, abs=0.1)
    assert len({material.path(*key).stat().st_size for key in material.files}) == 1
    names = " ".join(material.files.values())
    assert not any(word in names for word in ("linear", "conv", "real", "after", "item"))
    for key in material.files:
        assert audio.read_tags(material.path(*key)) == {}


def test_a_copied_folder_needs_no_runs_and_is_the_same_test(make_test: Make, tmp_path: Path) -> None:
    folder = make_test()
    protocol = p.load(folder)
    here = p.test_hash(protocol, prepare(folder, protocol).content_hashes)
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "runs")
    assert p.test_hash(p.load(copy), prepare(copy, p.load(copy)).content_hashes) == here


def test_made_again_from_the_same_runs_it_is_the_same_test(make_test: Make) -> None:
    folder = make_test()
    protocol = p.load(folder)
    first = prepare(folder, protocol)
    shutil.rmtree(folder / "stimuli")
    again = prepare(folder, protocol)
    assert first.content_hashes == again.content_hashes
    assert first.files != again.files  # the names are random


def test_a_changed_file_is_refused(make_test: Make) -> None:
    folder = make_test()
    material = prepare(folder, p.load(folder))
    path = material.path("item-01", "conv")
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    with pytest.raises(TalimError, match="missing or changed"):
        prepare(folder, p.load(folder))


def test_items_that_a_condition_lacks_are_left_out_and_said(make_test: Make) -> None:
    folder = make_test()
    shutil.rmtree(folder / "stimuli")
    table = folder / "runs/conv/samples/manifest.jsonl"
    table.write_text(table.read_text("utf-8").replace("slow flute", "another tune"), encoding="utf-8")
    material = prepare(folder, p.load(folder))
    assert list(material.prompts.values()) == ["fast drum", "low voice", "bright lute"]
    assert any("conv: 1 of 4" in note for note in material.notes)


def test_no_common_words_and_no_samples(make_test: Make) -> None:
    folder = make_test()
    shutil.rmtree(folder / "stimuli")
    table = folder / "runs/conv/samples/manifest.jsonl"
    text = table.read_text("utf-8")
    for number, words in enumerate(("slow flute", "fast drum", "low voice", "bright lute")):
        text = text.replace(words, f"other {number}")
    table.write_text(text, encoding="utf-8")
    with pytest.raises(TalimError, match="no prompt in common"):
        prepare(folder, p.load(folder))
    shutil.rmtree(folder / "runs/conv")
    with pytest.raises(TalimError, match="no folder of sounds"):
        prepare(folder, p.load(folder))


def test_plain_folders_are_matched_by_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for stem in ("x", "y"):
            noise = np.random.default_rng(len(stem + name)).standard_normal(8000) * 0.1
            soundfile.write(tmp_path / name / f"{stem}.wav", noise, 8000)
    conditions = [{"name": n, "source": n, "take": "files"} for n in ("one", "two")]
    assert prepare(tmp_path, build(p.Protocol, {"name": "t", "conditions": conditions}, p.FILE)).items == [
        "item-01",
        "item-02",
    ]


def test_loudness_gives_way_to_peaks() -> None:
    click = np.zeros(8000, dtype=np.float32)
    click[4000] = 0.9  # a click is quiet by the standard and cannot be made loud
    soft = 0.2 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000).astype(np.float32)
    silence = Audio(np.zeros(8000), 8000)
    keys = {("i", "click"): Audio(click, 8000), ("i", "soft"): Audio(soft, 8000), ("i", "none"): silence}
    reached, levelled = match_loudness(keys, -12.0)
    assert reached < -20
    assert levelled["i", "click"].peak == pytest.approx(10 ** (-1 / 20), rel=1e-4)
    assert audio.loudness_lufs(levelled["i", "soft"]) == pytest.approx(reached, abs=0.01)
    assert levelled["i", "none"].peak == 0


def test_the_anchor_loses_what_lies_above_its_corner() -> None:
    time = np.arange(32000) / 32000
    both = Audio(np.sin(2 * np.pi * 500 * time) + np.sin(2 * np.pi * 8000 * time), 32000)
    spectrum = np.abs(np.fft.rfft(low_pass_anchor(both, 3500).samples[0]))
    assert spectrum[500] > 1e4 * spectrum[8000]


def test_a_draft_over_runs_is_a_protocol(make_test: Make) -> None:
    folder = make_test() / "runs"
    assert write_draft(folder) == folder / "listening" == protocol_folder(folder)
    protocol = p.load(folder / "listening")
    assert protocol.names == ["conv", "linear", "untrained", "real"]
    assert protocol.reference == "untrained"
    assert len(prepare(folder / "listening", protocol).items) == 4


def test_nothing_to_draft_from(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="talim evaluate"):
        write_draft(tmp_path)
