"""mirdata's loaders on own-made resources, with a stand-in of mirdata."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.importer_sources import sound

from research.validation import mirdata_loaders
from talim.audio import write


class Package:
    """The part of mirdata that is used, with loaders of every outcome."""

    def __init__(self, folder: Path) -> None:
        write(folder / "a.wav", sound(0, 2))
        (folder / "b.wav").write_bytes(b"no sound")
        whole = {"raga": "Todi", "tonic": 146.8}
        self.tracks: dict[str, dict[str, Any]] = {
            "good": {
                "1": {"audio_path": str(folder / "a.wav"), **whole},
                "2": {"audio_path": str(folder / "gone.wav")},
            },
            "gone": {"1": {"audio_path": str(folder / "gone.wav")}},
            "damaged": {"1": {"audio_path": str(folder / "b.wav")}},
            "parts": {"1": {"audio_dyn_path": "x"}},
        }

    def list_datasets(self) -> list[str]:
        return [*self.tracks, "needy", "broken"]

    def initialize(self, name: str, data_home: str, version: str) -> Any:
        if name == "needy":
            raise ImportError
        if name == "broken":
            raise ValueError("no such\nversion")
        assert version == "test"
        tracks = {key: SimpleNamespace(**values) for key, values in self.tracks[name].items()}
        return SimpleNamespace(track_ids=[*tracks], track=tracks.__getitem__)


def test_run_loader_tells_every_outcome_apart(tmp_path: Path) -> None:
    package = Package(tmp_path)
    found = {name: mirdata_loaders.run_loader(package, name, tmp_path) for name in package.list_datasets()}
    assert found["good"] == mirdata_loaders.LoaderOutcome("good", "imported", 1, 1, ("raga", "tonic_hz"))
    assert found["gone"].outcome == "its sounds are not in the resources: named, left out"
    assert found["damaged"].outcome == "**failed**: no sound in b.wav"
    assert found["parts"].outcome == mirdata_loaders.REFUSALS["several sounds and none of the whole"]
    assert found["needy"].outcome == mirdata_loaders.REFUSALS["needs"]
    assert found["broken"].outcome == "**failed**: ValueError: no such version"
    page = mirdata_loaders.page([*found.values()], "1.0")
    assert "| **failed** | 2 |" in page
    assert "| `good` | 1 | 1 | raga, tonic_hz |" in page


def test_main_without_a_checkout_says_where_it_is_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mirdata_loaders.main([str(tmp_path)])
    assert "mir-dataset-loaders/mirdata" in capsys.readouterr().err


def test_published_page_has_no_failure() -> None:
    assert "**failed**" not in mirdata_loaders.PAGE.read_text(encoding="utf-8")
