"""The recordings that are set aside: the rule, the committed list, and the page of a small own-made set."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing

from research.validation import set_aside
from talim import audio
from talim.errors import TalimError
from talim.progress import Progress
from talim.synthesis.performer import perform
from talim.traditions.tradition import load

MAKAM = load("makam")
TONIC_HZ = 220.0
NAMES = [name for name in (f"recording-{n}" for n in range(40)) if set_aside.is_set_aside(name)][:6]


def test_a_third_is_set_aside_by_hash() -> None:
    assert [set_aside.is_set_aside(name) for name in ("Jog_0", "Bhup_25", "Marwa_7", "Malkauns_14")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert np.mean([set_aside.is_set_aside(str(n)) for n in range(3000)]) == pytest.approx(1 / 3, abs=0.03)


def test_the_committed_list_holds_identifiers_by_the_rule_and_nothing_else() -> None:
    lines = set_aside.LIST.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert len(set(lines)) == len(lines)
    for line in lines:
        collection, name = line.split("/")
        assert set_aside.is_set_aside(name)
        pattern = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}" if collection == "otmm" else r"[A-Z][A-Za-z_]+_\d+"
        assert re.fullmatch(pattern, name), line
    assert (len(set_aside.listed("otmm")), len(set_aside.listed("e2eraga"))) == (303, 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tracks of two makams and clips, in the layouts of what is chosen on and of what is set aside."""
    folder = tmp_path_factory.mktemp("data")
    rows, tonics = [], {}
    (folder / "makam_pitch" / "pitch").mkdir(parents=True)
    for number, makam in enumerate(("Rast", "Segah", "Rast")):
        cents = sing(MAKAM.mode(makam), number, phrases=15)
        np.savez(folder / "makam_pitch" / "pitch" / f"{number}.npz", cents=cents, hop_s=HOP_SECONDS, tonic_hz=TONIC_HZ)
        rows.append({"id": f"used-{number}", "file": f"pitch/{number}.npz", "makam": makam, "duration_s": "60"})
    with open(folder / "makam_pitch" / "metadata.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for number, name in enumerate(NAMES):
        makam = ("Rast", "Segah", "Saba")[number % 3]
        (folder / "otmm" / makam).mkdir(parents=True, exist_ok=True)
        cents = sing(MAKAM.mode(makam), 100 + number, phrases=15)
        at = np.arange(0, cents.size * 0.01 - 0.01, set_aside.SOURCE_HOP_SECONDS)
        hz = np.nan_to_num(TONIC_HZ * 2 ** (cents[np.round(at / 0.01).astype(int)] / 1200))
        (folder / "otmm" / makam / f"{name}.pitch").write_text("\n".join(f"{value:.2f}" for value in hz))
        about = {"releases": [{"mbid": "one release"}] if number < 2 else [], "works": [{"mbid": f"work {number}"}]}
        (folder / "otmm" / makam / f"{name}.json").write_text(json.dumps(about))
        tonics[name] = {"annotations": [{"value": TONIC_HZ}]}
    (folder / "tonics.json").write_text(json.dumps(tonics))
    for seed, place in enumerate(("audio/hindustani/x", "audio/makam/y", f"new/{NAMES[0]}", f"new/{NAMES[1]}")):
        piece = perform(700 + seed, "hindustani", 26.0)
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        audio.write(folder / f"{place}.wav", audio.Audio(piece.samples[None], piece.rate_hz))
    return folder


@pytest.fixture
def own_list(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(set_aside, "LIST", tmp_path / "list.txt")
    set_aside.main(["--list", "--chosen", str(data), "--otmm", str(data / "otmm"), "--excerpts", str(data / "new")])
    return tmp_path / "list.txt"


def test_the_list_leaves_out_what_was_used(data: Path, own_list: Path) -> None:
    assert set_aside.listed("otmm") == sorted(NAMES)
    assert set_aside.listed("e2eraga") == sorted(NAMES[:2])
    without = set_aside.make_list(data / "otmm", data / "new", {NAMES[0]})
    assert without.split() == [f"otmm/{name}" for name in sorted(NAMES[1:])] + [f"e2eraga/{NAMES[1]}"]


def test_tracks_have_their_pitch_and_group_and_lost_ones_are_named(data: Path, own_list: Path) -> None:
    own_list.write_text(own_list.read_text() + "otmm/lost\n")
    trials, missing = set_aside.read_set_aside(data / "otmm", data / "tonics.json", MAKAM, Progress())
    assert missing == ["lost"]
    by_name = {trial.name: trial for trial in trials}
    assert by_name[NAMES[0]].group == by_name[NAMES[1]].group != by_name[NAMES[2]].group
    sung = sing(MAKAM.mode("Rast"), 100, phrases=15)[: by_name[NAMES[0]].cents.size]
    both = np.isfinite(sung) & np.isfinite(by_name[NAMES[0]].cents)
    assert both.mean() > 0.5
    assert np.median(np.abs(sung - by_name[NAMES[0]].cents)[both]) < 2.0


def test_a_folder_without_the_recordings_is_refused(data: Path, own_list: Path, tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="none of the recordings of list"):
        set_aside.read_set_aside(tmp_path, data / "tonics.json", MAKAM, Progress())


def test_report_has_both_columns(data: Path, own_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_aside.metric_sensitivity, "CLIP_SECONDS", 5.0)
    page = set_aside.report(data, data / "otmm", data / "tonics.json", data / "new", tmp_path / "work", Progress())
    assert "| change | chosen on (3) | set aside (6) |" in page
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in page.splitlines() if line.startswith("| ")}
    assert [cell.split(" %")[0].strip() for cell in rows["shifted by 35 cents"]] == ["100.0", "100.0"]
    assert rows["noise"][0].strip() == "noise_db"
    assert [cell.strip().startswith("+") for cell in rows["noise"][1:]] == [True, True]
    assert len(rows["set aside"]) == 6
