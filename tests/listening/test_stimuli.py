"""The sounds of a test: one loudness, one length, names that say nothing, and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from talim import audio
from talim.atomic_io import read_json, read_jsonl, write_json, write_jsonl
from talim.audio import Audio
from talim.errors import TalimError
from talim.listening import protocol as p
from talim.listening.stimuli import low_pass_anchor, match_loudness, prepare, weak_material
from talim.strict_yaml import build

Make = Callable[..., Path]


def test_prepare_stimuli_have_equal_loudness_length_and_format(make_test: Make) -> None:
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


def test_prepare_says_which_real_stimuli_are_generated(make_test: Make) -> None:
    folder = make_test()
    for made in (folder / "runs").rglob("*.*"):
        if "real" not in made.name and made.suffix in (".flac", ".wav"):
            audio.write(made, audio.read(made), {"ai_generated": "AI-generated"})
    assert p.load(folder).reference == "untrained"
    assert not any("AI-generated" in note for note in prepare(folder, p.load(folder)).notes)
    shutil.rmtree(folder / "stimuli")
    for real in (folder / "runs").rglob("*real*.*"):
        audio.write(real, audio.read(real), {"ai_generated": "AI-generated"})
    (note,) = [note for note in prepare(folder, p.load(folder)).notes if "AI-generated" in note]
    assert note.startswith("real: 4 files are AI-generated: ")
    assert note.endswith("listeners hear them in the place of real music")


def test_prepare_copied_folder_works_without_runs(make_test: Make, tmp_path: Path) -> None:
    folder = make_test()
    protocol = p.load(folder)
    here = p.test_hash(protocol, prepare(folder, protocol).content_hashes)
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "runs")
    assert p.test_hash(p.load(copy), prepare(copy, p.load(copy)).content_hashes) == here


def test_prepare_again_from_same_runs_gives_same_hash(make_test: Make) -> None:
    folder = make_test()
    protocol = p.load(folder)
    first = prepare(folder, protocol)
    shutil.rmtree(folder / "stimuli")
    again = prepare(folder, protocol)
    assert first.content_hashes == again.content_hashes
    assert first.files != again.files  # the names are random


def test_prepare_changed_stimulus_raises_error(make_test: Make) -> None:
    folder = make_test()
    material = prepare(folder, p.load(folder))
    path = material.path("item-01", "conv")
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    with pytest.raises(TalimError, match="missing or changed"):
        prepare(folder, p.load(folder))


def test_prepare_of_two_conditions_that_sound_the_same_is_refused_and_some_items_are_told(make_test: Make) -> None:
    folder = make_test()
    shutil.rmtree(folder / "stimuli")
    linear, conv = (folder / f"runs/{name}/samples" for name in ("linear", "conv"))
    after = [row["file"] for row in read_jsonl(linear / "manifest.jsonl") if row["role"] == "after"]
    shutil.copyfile(linear / after[1], conv / after[1])
    (note,) = [note for note in prepare(folder, p.load(folder)).notes if "same sound" in note]
    assert note.startswith("warning: linear and conv are the same sound in 1 of 4 items (item-02 'fast drum'): ")
    shutil.rmtree(folder / "stimuli")
    for name in after:
        shutil.copyfile(linear / name, conv / name)
    with pytest.raises(TalimError, match="linear and conv are the same sound in all of 4 items"):
        prepare(folder, p.load(folder))
    assert not (folder / "stimuli").exists()


def test_prepare_items_missing_in_a_condition_are_left_out_and_noted(make_test: Make) -> None:
    folder = make_test()
    shutil.rmtree(folder / "stimuli")
    table = folder / "runs/conv/samples/manifest.jsonl"
    table.write_text(table.read_text("utf-8").replace("slow flute", "another tune"), encoding="utf-8")
    material = prepare(folder, p.load(folder))
    assert list(material.prompts.values()) == ["fast drum", "low voice", "bright lute"]
    assert any("conv: 1 of 4" in note for note in material.notes)


def test_prepare_without_common_prompts_or_samples_raises_error(make_test: Make) -> None:
    folder = make_test()
    shutil.rmtree(folder / "stimuli")
    table = folder / "runs/conv/samples/manifest.jsonl"
    text = table.read_text("utf-8")
    for number, message in enumerate(("slow flute", "fast drum", "low voice", "bright lute")):
        text = text.replace(message, f"other {number}")
    table.write_text(text, encoding="utf-8")
    with pytest.raises(TalimError, match="no prompt in common"):
        prepare(folder, p.load(folder))
    shutil.rmtree(folder / "runs/conv")
    with pytest.raises(TalimError, match="conv: no folder"):
        prepare(folder, p.load(folder))


def test_prepare_plain_folders_match_files_by_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for stem in ("x", "y"):
            noise = np.random.default_rng([ord(stem), len(name), ord(name[0])]).standard_normal(8000) * 0.1
            soundfile.write(tmp_path / name / f"{stem}.wav", noise, 8000)
    conditions = [{"name": n, "source": n, "take": "files"} for n in ("one", "two")]
    assert prepare(tmp_path, build(p.Protocol, {"name": "t", "conditions": conditions}, p.FILE)).items == [
        "item-01",
        "item-02",
    ]


def test_prepare_continued_phrases_of_runs_go_by_their_recordings(tmp_path: Path) -> None:
    """Clips without words: files of the same recording belong together, phrases alone are not stimuli."""
    folder = tmp_path / "run" / "continuations"
    folder.mkdir(parents=True)
    rows = []
    for number, recording in enumerate(("take one", "take two")):
        for role in ("phrase", "real", "before", "after"):
            noise = np.random.default_rng(len(rows)).standard_normal(8000) * 0.1
            soundfile.write(folder / f"{number}-{role}.wav", noise, 8000)
            rows.append({"file": f"{number}-{role}.wav", "role": role, "prompt": "", "recording": recording})
    write_jsonl(folder / "manifest.jsonl", rows)
    source = "run/continuations"
    conditions = [{"name": take, "source": source, "take": take} for take in ("adapter", "base", "real")]
    material = prepare(tmp_path, build(p.Protocol, {"name": "t", "conditions": conditions}, p.FILE))
    assert [*material.prompts.values()] == ["take one", "take two"]
    assert len({material.hashes[item, take] for item in material.items for take in ("adapter", "base", "real")}) == 6


def test_match_loudness_is_limited_by_peaks() -> None:
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


def test_low_pass_anchor_removes_high_frequencies() -> None:
    time = np.arange(32000) / 32000
    both = Audio(np.sin(2 * np.pi * 500 * time) + np.sin(2 * np.pi * 8000 * time), 32000)
    spectrum = np.abs(np.fft.rfft(low_pass_anchor(both, 3500).samples[0]))
    assert spectrum[500] > 1e4 * spectrum[8000]


@pytest.mark.parametrize(
    "changes", [{"prompts": None}, {"notes": 3}, {"stimuli": "x"}, {"stimuli": [None]}, {"stimuli": [{"item": 1}]}]
)
def test_prepare_of_a_damaged_table_says_what_to_delete(make_test: Make, changes: dict[str, object]) -> None:
    folder = make_test()
    prepare(folder, p.load(folder))
    table = folder / "stimuli" / "stimuli.json"
    write_json(table, read_json(table) | changes)
    with pytest.raises(
        TalimError, match=r"stimuli\.json: .* is missing or not as talim wrote it; delete .*stimuli and"
    ):
        prepare(folder, p.load(folder))
    table.write_text("[]")
    with pytest.raises(TalimError, match="stimuli is missing or not as talim wrote it"):
        prepare(folder, p.load(folder))


@pytest.mark.parametrize(
    ("items", "seconds", "told"),
    [
        (1, 5.0, ["one item only: .* talim evaluate RUN --num-prompts 8"]),
        (4, 1.024, ["the shortest sounds last 1 s, .* talim evaluate RUN --seconds 8"]),
        (1, 2.5, ["one item only", "last 2.5 s"]),
        (4, 3.0, []),
    ],
)
def test_weak_material_says_what_would_help(items: int, seconds: float, told: list[str]) -> None:
    notes = weak_material([{"seconds": 9.0}, {"seconds": seconds}], items)
    assert len(notes) == len(told)
    assert all(re.search(text, note) for text, note in zip(told, notes, strict=True))
