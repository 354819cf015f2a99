"""Resolving base model names: registry, folders, Hub ids, licences, and one-line errors with advice."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from fixtures import released_musicgen

from talim.backbones import load as loading
from talim.backbones import resolve
from talim.backbones.load import load
from talim.errors import TalimError


def refuse(*_: object, **__: object) -> None:
    raise OSError("Name or service not known")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released_musicgen.write(tmp_path / "tiny")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(resolve, "is_cached", lambda hub_id: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(resolve.urllib.request, "getproxies", dict)


def test_licence_is_read_from_the_model_card(folder: Path) -> None:
    assert load(folder, device="cpu").licence == "unknown"
    card = "---\ntags:\n- x\nlicense: cc-by-4.0\n---\nlicense: nonsense\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    assert load(folder, device="cpu").licence == "cc-by-4.0"


@pytest.mark.parametrize("name", ["facebook/musicgen-melody", "musicgen-stereo-melody-large"])
def test_load_melody_model_raises_talim_error(name: str) -> None:
    with pytest.raises(TalimError, match=r"melody.*not supported yet"):
        load(name)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("musicgen-smal", "did you mean musicgen-small"),
        ("nano-musicgn", "did you mean nano-musicgen"),
        ("./no/such/folder", "hf download"),
        ("gibberish", "use nano-musicgen"),
    ],
)
def test_load_unknown_base_raises_a_one_line_error_with_advice(name: str, advice: str) -> None:
    with pytest.raises(TalimError, match=advice) as caught:
        load(name)
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)


@pytest.mark.usefixtures("offline")
def test_load_hub_model_without_network_raises_at_once() -> None:
    with pytest.raises(TalimError, match=r"huggingface\.co cannot be reached.*hf download") as caught:
        load("musicgen-small")
    assert "\n" not in str(caught.value)
    with pytest.raises(TalimError, match="did you mean musicgen-small"):
        load("facebok/musicgen-smal")


def test_friendly_load_errors_of_the_hub_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "check_reachable", lambda source: None)
    monkeypatch.setattr(loading, "read_config", refuse)
    with pytest.raises(TalimError, match="could not be fetched from the Hugging Face Hub") as caught:
        load("facebook/musicgen-large")
    assert "Name or service not known" in str(caught.value)


def test_check_reachable_cached_model_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(resolve, "is_cached", lambda hub_id: True)
    resolve.check_reachable(resolve.ModelSource("facebook/musicgen-small", "x", False, None))


def test_load_nano_without_its_files_raises_talim_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "NANO_FOLDER", tmp_path)
    with pytest.raises(TalimError, match="missing from this installation"):
        load()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["facebook/musicgen-small", "somebody/some-model", "mustango"])
def test_check_base_without_network_says_so_before_any_work(name: str) -> None:
    with pytest.raises(TalimError, match=r"cannot be reached.*copy that folder here.*or use nano-musicgen") as caught:
        resolve.check_base(name)
    assert "a Hub id such as" not in str(caught.value)


def test_check_base_with_the_hub_switched_off_names_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TalimError, match="HF_HUB_OFFLINE is set"):
        resolve.check_base("somebody/some-model")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "x" * 300,
        "x/" + "y" * 300,
        "!!python/object:x",
        "a/b/c",
        "t\udcff",
        "~no-such-user/x",
        "é/x",
        "a/..",
        "\0",
    ],
)
def test_check_base_of_a_name_that_is_none_is_a_talim_error(name: str) -> None:
    with pytest.raises(TalimError, match=r"is no name of a model|is no known model and no folder"):
        resolve.check_base(name)


def test_check_base_of_an_unknown_hub_id_is_told_from_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        from huggingface_hub.errors import EntryNotFoundError

        raise EntryNotFoundError("404")

    monkeypatch.setattr(resolve, "check_reachable", lambda source: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", missing)
    with pytest.raises(TalimError, match=r"somebody/typo.*the Hub has no such model"):
        resolve.check_base("somebody/typo")


def test_friendly_load_errors_leave_a_lack_of_memory_as_it_is() -> None:
    source = resolve.resolve_source("nano-musicgen")
    with pytest.raises(RuntimeError, match="Cannot allocate memory"), resolve.friendly_load_errors(source):
        raise RuntimeError("unable to mmap 20 bytes from file <x>: Cannot allocate memory (12)")
