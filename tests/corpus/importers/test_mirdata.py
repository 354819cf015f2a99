"""The mirdata importer, on doubles with the same attributes as tracks and on mirdata itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.importer_sources import IDS, sound

from talim.audio import write
from talim.corpus.importers import mirdata as importers_mirdata
from talim.corpus.importers.protocol import ImportRequest
from talim.errors import TalimError, UsageError

DUNYA = {
    "mbid": IDS[0],
    "title": "Aahir Bhairon",
    "raags": [{"uuid": "u", "common_name": "Ahir bhairon", "name": "Ahira bhairav"}],
    "taals": [{"common_name": "Jhaptaal", "name": "Jhaptāl"}, {"common_name": "Teentaal", "name": "Tīntāl"}],
    "layas": [{"common_name": "Madhya", "name": "Madhya"}],
    "forms": [{"common_name": "Khayal", "name": "Khayāl"}],
    "artists": [
        {"artist": {"mbid": "t", "name": "Tabla Player"}, "instrument": {"name": "Tabla"}, "lead": False},
        {"artist": {"mbid": "v", "name": "Lead Singer"}, "instrument": {"name": "Voice"}, "lead": True},
    ],
    "release": [{"mbid": "rel", "title": "Concert"}],
    "works": [{"mbid": "wrk", "title": "Albela"}],
}


class Dataset:
    """The part of mirdata.core.Dataset that is used."""

    version = "1.5"
    _license_info = "CC BY-NC-SA 4.0"

    def __init__(self, tracks: dict[str, Any]) -> None:
        self._tracks = tracks
        self.track_ids = [*tracks]

    def track(self, key: str) -> Any:
        return self._tracks[key]


def saraga(folder: Path) -> Dataset:
    write(folder / "a.wav", sound(0, 3))
    sections = SimpleNamespace(intervals=np.array([[0, 60.0], [60, 90.0]]), labels=["Ālāp", "Khyal (madhya jhaptal)"])
    track = SimpleNamespace(audio_path=str(folder / "a.wav"), tonic=138.59, sections=sections, metadata=DUNYA)
    return Dataset({"0_Aahir": track, "1_Gone": SimpleNamespace(audio_path=str(folder / "gone.mp3"), metadata=None)})


def test_dataset_recordings_of_saraga_gives_row_sections_and_skipped(folder: Path, out: Path) -> None:
    imported = importers_mirdata.dataset_recordings(saraga(folder), "saraga_hindustani", folder, out)
    (file,) = imported.files
    assert file.row == {
        "artists": "Lead Singer | Tabla Player",
        "form": "Khayal",
        "instruments": "Tabla | Voice",
        "laya": "Madhya",
        "lead_instrument": "Voice",
        "lead_performer": "Lead Singer",
        "licence": "CC BY-NC-SA 4.0",
        "mbid": IDS[0],
        "raga": "Ahir bhairon",
        "release": "Concert",
        "release_mbid": "rel",
        "source": "mirdata saraga_hindustani 1.5",
        "tala": "Jhaptaal | Teentaal",
        "title": "Aahir Bhairon",
        "tonic_hz": "138.59",
        "tradition": "hindustani",
        "work": "Albela",
        "work_mbid": "wrk",
    }
    assert [(part.start_seconds, part.seconds, part.name) for part in file.sections] == [
        (0, 60, "Ālāp"),
        (60, 30, "Khyal (madhya jhaptal)"),
    ]
    assert imported.skipped == ({"file": "1_Gone", "reason": "its audio file is missing: gone.mp3"},)


def test_dataset_recordings_without_audio_joins_own_files(folder: Path, out: Path) -> None:
    tags = {"title": "T", "usul": [{"mb_attribute": "Aksak"}], "artists": [], "releases": [], "works": []}
    tracks = {mbid: SimpleNamespace(makam="Hicaz", tonic=220.0, mbid=mbid, mb_tags=tags) for mbid in IDS}
    with pytest.raises(TalimError, match="no audio; put your own files"):
        importers_mirdata.dataset_recordings(Dataset(tracks), "compmusic_otmm_makam", folder, out)
    write(folder / f"{IDS[1]}.wav", sound(0, 3))
    (file,) = importers_mirdata.dataset_recordings(Dataset(tracks), "compmusic_otmm_makam", folder, out).files
    assert (file.row["makam"], file.row["usul"], file.row["tradition"]) == ("Hicaz", "Aksak", "makam")


def test_dataset_recordings_with_unreadable_annotation_notes_it(folder: Path, out: Path) -> None:
    class Track:
        audio_path = str(write_sound(folder / "r.wav"))
        raga, artist, concert, tradition, mbid = "Todi", "Somebody", "Live", "hindustani", None

        @property
        def tonic(self) -> float:
            raise ValueError("no\nfloat")

    imported = importers_mirdata.dataset_recordings(Dataset({"one": Track()}), "compmusic_raga", folder, out)
    row = imported.files[0].row
    assert (row["raga"], row["artist"], row["release"], row["recording"]) == ("Todi", "Somebody", "Live", "one")
    assert imported.notes == ({"file": "one", "note": "tonic cannot be read: no float"},)


def test_dataset_recordings_with_annotations_of_a_label_s_name_notes_them(folder: Path, out: Path) -> None:
    """Loaders give beats as `taala` and probabilities as `instruments`: no words of a label."""
    path = str(write_sound(folder / "r.wav"))
    track = SimpleNamespace(audio_path=path, taala=object(), instruments={"flute": 0.2}, raga=["Todi", "Asavari"])
    imported = importers_mirdata.dataset_recordings(Dataset({"one": track}), "other", folder, out)
    assert imported.files[0].row["raga"] == "Todi | Asavari"
    assert not {"tala", "instruments"} & set(imported.files[0].row)
    assert [each["note"] for each in imported.notes] == [
        "taala is no label but a object; it is not used",
        "instruments is no label but a dict; it is not used",
    ]


@pytest.mark.parametrize("name", ["split", "subset"])
def test_dataset_recordings_passes_the_official_side(folder: Path, out: Path, name: str) -> None:
    track = SimpleNamespace(audio_path=str(write_sound(folder / "r.wav")), **{name: "validation"})
    imported = importers_mirdata.dataset_recordings(Dataset({"one": track}), "other", folder, out)
    assert imported.files[0].row["split"] == "validation"


def test_dataset_recordings_takes_the_sound_of_the_whole_track(folder: Path, out: Path) -> None:
    path = str(write_sound(folder / "r.wav"))
    tracks = {
        "microphone": SimpleNamespace(audio_path=None, audio_hex_path=str(folder / "hex.wav"), audio_mic_path=path),
        "stereo": SimpleNamespace(audio_path_mono=str(folder / "mono.wav"), audio_path_stereo=path),
        "singers": SimpleNamespace(audio_dyn_path=path, audio_paths=[path]),
    }
    imported = importers_mirdata.dataset_recordings(Dataset(tracks), "other", folder, out)
    assert [file.path.name for file in imported.files] == ["r.wav", "r.wav"]
    (skipped,) = imported.skipped
    assert skipped == {
        "file": "singers",
        "reason": "of its sounds none is that of the whole: audio_dyn_path, audio_paths",
    }
    only_parts = Dataset({"singers": tracks["singers"]})
    with pytest.raises(TalimError, match="several sounds and none of the whole, such as singers: audio_dyn_path"):
        importers_mirdata.dataset_recordings(only_parts, "other", folder, out)


def test_initialize_a_loader_that_needs_another_package_says_what_to_type(folder: Path) -> None:
    def initialize(name: str, data_home: str, version: str) -> None:
        raise ModuleNotFoundError("No module named 'DALI'", name="DALI")

    with pytest.raises(TalimError, match=r"loader dali needs the package DALI; type: pip install 'mirdata\[dali\]'"):
        importers_mirdata.initialize(SimpleNamespace(initialize=initialize), "dali", folder)


def write_sound(path: Path) -> Path:
    write(path, sound(3, 3))
    return path


def test_list_recordings_without_loader_or_mirdata_says_what_to_type(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="mirdata:saraga_hindustani"):
        importers_mirdata.list_recordings(ImportRequest(str(folder), out))
    monkeypatch.setitem(__import__("sys").modules, "mirdata", None)
    with pytest.raises(TalimError, match=r"pip install '\.\[mirdata\]'"):
        importers_mirdata.list_recordings(ImportRequest(str(folder), out, "saraga_hindustani"))


def fake_saraga_home(folder: Path) -> dict[str, Any]:
    """A data home as saraga_hindustani lays it out, and its index."""
    base = folder / "saraga1.5_hindustani" / "Concert" / "Aahir Bhairon"
    base.mkdir(parents=True)
    write(base / "Aahir Bhairon.mp3", sound(1, 3).resample(44100))
    (base / "Aahir Bhairon.json").write_text(json.dumps(DUNYA), encoding="utf-8")
    (base / "Aahir Bhairon.ctonic.txt").write_text("138.591315\n")
    (base / "Aahir Bhairon.sections-manual-p.txt").write_text("0.0,1,60.0,Alap\n60.0,2,30.0,Khyal (vilambit jhaptal)\n")
    names = {"audio": "mp3", "ctonic": "ctonic.txt", "sections": "sections-manual-p.txt", "metadata": "json"}
    kinds = ("audio", "ctonic", "pitch", "tempo", "sama", "sections", "phrases", "metadata")
    inside = "saraga1.5_hindustani/Concert/Aahir Bhairon/Aahir Bhairon"
    files = {kind: [f"{inside}.{names[kind]}", "0"] if kind in names else [None, None] for kind in kinds}
    return {"version": "1.5", "tracks": {"1_Aahir_Bhairon": files}}


def test_dataset_recordings_of_a_real_mirdata_loader(folder: Path, out: Path) -> None:
    mirdata = pytest.importorskip("mirdata")
    index = fake_saraga_home(folder)
    dataset = mirdata.initialize("saraga_hindustani", data_home=str(folder))
    dataset.__dict__["_index"] = index
    imported = importers_mirdata.dataset_recordings(dataset, "saraga_hindustani", folder, out)
    (file,) = imported.files
    assert file.name == "saraga1.5_hindustani/Concert/Aahir Bhairon/Aahir Bhairon.mp3"
    assert (file.row["raga"], file.row["tonic_hz"]) == ("Ahir bhairon", "138.591315")
    assert [part.name for part in file.sections] == ["Alap", "Khyal (vilambit jhaptal)"]
    assert "Creative Commons" in file.row["licence"]
    assert sum(block.seconds for block in file.audio.blocks([])) == pytest.approx(3, abs=0.1)


def test_list_recordings_with_unknown_loader_or_missing_index_raises(folder: Path, out: Path) -> None:
    pytest.importorskip("mirdata")
    with pytest.raises(UsageError, match="no loader 'saraga'"):
        importers_mirdata.list_recordings(ImportRequest(str(folder), out, "saraga"))
    with pytest.raises(TalimError, match=r"download\(\['index'\]\)"):
        importers_mirdata.list_recordings(ImportRequest(str(folder), out, "saraga_hindustani"))
