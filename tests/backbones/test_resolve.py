"""Resolving base model names: registry, folders, Hub ids, licences, and one-line errors with advice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fixtures import released_musicgen
from stand_in_hub import checkpoints
from stand_in_hub.server import StandInHub

from talim.backbones import hub_repository, resolve
from talim.backbones.load import base_reader, load
from talim.errors import TalimError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released_musicgen.write(tmp_path / "tiny")


@pytest.fixture
def offline(stand_in_hub: StandInHub) -> str:
    """The host of a Hub that cannot be reached any more."""
    stand_in_hub.stop()
    return stand_in_hub.url.removeprefix("http://")


def test_licence_is_read_from_the_model_card(folder: Path) -> None:
    assert load(folder, device="cpu").licence == "unknown"
    card = "---\ntags:\n- x\nlicense: cc-by-4.0\n---\nlicense: nonsense\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    assert load(folder, device="cpu").licence == "cc-by-4.0"


def test_takes_melody_by_name_or_folder_without_loading(folder: Path, tmp_path: Path) -> None:
    melody = released_musicgen.write(tmp_path / "tiny-melody", melody=True)
    expected = {str(folder): False, str(melody): True, "nano-musicgen": False, "nano-mustango": False}
    assert {name: resolve.takes_melody(name) for name in expected} == expected


def test_takes_melody_of_a_released_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "check_reachable", lambda source: None)
    expected = {"facebook/musicgen-melody": True, "musicgen-stereo-melody-large": True, "musicgen-small": False}
    expected["mustango"] = False
    assert {name: resolve.takes_melody(name) for name in expected} == expected


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


def test_load_hub_model_without_network_raises_at_once(offline: str) -> None:
    with pytest.raises(TalimError, match=f"{offline} cannot be reached.*hf download") as caught:
        load("musicgen-small")
    assert "\n" not in str(caught.value)
    with pytest.raises(TalimError, match="did you mean musicgen-small"):
        load("facebok/musicgen-smal")


def test_load_nano_without_its_files_raises_talim_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "NANO_FOLDER", tmp_path)
    with pytest.raises(TalimError, match="missing from this installation"):
        load()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["facebook/musicgen-small", "somebody/some-model", "mustango"])
def test_check_base_without_network_says_so_before_any_work(name: str) -> None:
    with pytest.raises(TalimError, match=r"cannot be reached.*copy that folder here.*or use nano-mus") as caught:
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


def test_friendly_load_errors_of_the_hub_are_one_line() -> None:
    source = resolve.resolve_source("facebook/musicgen-large")
    with (
        pytest.raises(TalimError, match=r"could not be fetched from the Hugging Face Hub \(a b\); use nano-musicgen"),
        resolve.friendly_load_errors(source),
    ):
        raise ValueError("a\nb")


def test_friendly_load_errors_leave_a_lack_of_memory_as_it_is() -> None:
    source = resolve.resolve_source("nano-musicgen")
    with pytest.raises(RuntimeError, match="Cannot allocate memory"), resolve.friendly_load_errors(source):
        raise RuntimeError("unable to mmap 20 bytes from file <x>: Cannot allocate memory (12)")


# the Hub


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write_repository(tmp_path_factory.mktemp("released") / "musicgen-tiny")


@pytest.fixture
def pinned(stand_in_hub: StandInHub, released: Path) -> str:
    """The commit of facebook/musicgen-small that the registry knows, on the Hub, and a later one."""
    entry = resolve.registry.MODELS["musicgen-small"]
    commit = stand_in_hub.publish(entry.hub_id, released, commit=entry.revision)
    newer = {**checkpoints.read_folder(released), "README.md": b"---\nlicense: mit\n---\n"}
    stand_in_hub.publish(entry.hub_id, newer)
    return commit


def test_load_released_base_by_name_is_pinned_and_says_its_commit(pinned: str, stand_in_hub: StandInHub) -> None:
    base = load("musicgen-small", device="cpu")
    assert (base.name, base.revision, base.is_local) == ("facebook/musicgen-small", pinned, False)
    assert base.model.name_or_path == "facebook/musicgen-small"
    stand_in_hub.stop()
    assert load("facebook/musicgen-small", device="cpu").fingerprint == base.fingerprint


def test_load_without_the_hub_uses_the_commit_that_another_program_fetched(
    stand_in_hub: StandInHub, released: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hf download` and transformers take the newest commit, which need not be the pinned one."""
    from huggingface_hub import snapshot_download

    name = "facebook/musicgen-small"
    commit = stand_in_hub.publish(name, released)
    snapshot_download(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    resolve.check_base("musicgen-small")
    assert base_reader("musicgen-small").can_read("music")
    assert load("musicgen-small", device="cpu").revision == commit
    assert f"the files that were fetched before are used (commit {commit})" in capsys.readouterr().err


def test_load_at_a_revision(pinned: str, stand_in_hub: StandInHub) -> None:
    newest = stand_in_hub.repositories["facebook/musicgen-small"].branches["main"]
    assert newest != pinned
    assert load("musicgen-small@main", device="cpu").revision == newest
    assert load(f"facebook/musicgen-small@{pinned}", device="cpu").revision == pinned


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("musicgen-small@", "'' is no revision"),
        ("musicgen-small@a b", "is no revision"),
        ("someone/x@../y", "is no revision"),
        ("nano-musicgen@main", "ships with talim and has no revisions"),
    ],
)
def test_resolve_source_of_a_wrong_revision_is_an_error(name: str, message: str) -> None:
    with pytest.raises(TalimError, match=message):
        resolve.resolve_source(name)


def test_resolve_source_of_a_folder_at_a_revision_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="is a folder and has no revisions"):
        resolve.resolve_source(f"{tmp_path}@main")


def test_resolve_source_of_a_folder_with_an_at_sign(folder: Path, tmp_path: Path) -> None:
    here = folder.rename(tmp_path / "take@home")
    assert resolve.resolve_source(str(here)).local


@pytest.mark.usefixtures("stand_in_hub")
def test_a_folder_of_a_released_name_comes_before_the_hub_and_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = folder.rename(folder.parent / "musicgen-small")
    monkeypatch.chdir(here.parent)
    assert resolve.resolve_source("musicgen-small").local
    said = "the folder musicgen-small here is used, not facebook/musicgen-small of the Hub; for that give"
    assert said in capsys.readouterr().err
    assert not resolve.resolve_source("facebook/musicgen-small").local
    assert not resolve.resolve_source("musicgen-small@main").local
    assert resolve.resolve_source("./musicgen-small").local
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("stand_in_hub")
def test_a_folder_that_is_not_used_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "musicgen-small").mkdir()
    folder.rename(tmp_path / "nano-musicgen")
    monkeypatch.chdir(tmp_path)
    assert not resolve.resolve_source("musicgen-small").local
    assert "musicgen-small here is not used, as it holds no base model" in capsys.readouterr().err
    assert resolve.resolve_source("nano-musicgen").entry is not None
    assert "but the model that ships with talim; for it give ./nano-musicgen" in capsys.readouterr().err


def test_licence_of_a_hub_base_is_read_from_its_card(stand_in_hub: StandInHub, released: Path) -> None:
    files = checkpoints.read_folder(released)
    stand_in_hub.publish("someone/open", {**files, "README.md": b"---\nlicense: apache-2.0\n---\n"})
    stand_in_hub.publish("someone/silent", {**files, "README.md": b"music"})
    for name, licence in (("someone/open", "apache-2.0"), ("someone/silent", "unknown")):
        source = resolve.resolve_source(name)
        assert resolve.source_licence(source) == licence
        assert resolve.source_licence(resolve.fetched(source)) == licence
    assert load("someone/open", device="cpu").licence == "apache-2.0"


def test_licence_of_a_hub_base_that_cannot_be_asked_for_is_an_error(offline: str) -> None:
    with pytest.raises(TalimError, match=f"{offline} cannot be reached"):
        resolve.source_licence(resolve.resolve_source("someone/x"))


def test_described_fetches_no_weights(stand_in_hub: StandInHub, released: Path) -> None:
    stand_in_hub.publish("someone/tiny", released)
    source = resolve.described(resolve.resolve_source("someone/tiny"))
    assert (Path(source.path_or_id) / "config.json").is_file()
    assert resolve.source_family(source) == "musicgen"
    assert "model.safetensors" not in stand_in_hub.fetched()
    assert not hub_repository.lacks_weights(os.listdir(released))


def test_check_base_of_another_kind_of_model_fetches_no_weights(stand_in_hub: StandInHub, released: Path) -> None:
    stand_in_hub.publish("someone/opt", {**checkpoints.read_folder(released), "config.json": b'{"model_type": "opt"}'})
    with pytest.raises(TalimError, match="is a model of the type opt"):
        resolve.check_base("someone/opt")
    assert "model.safetensors" not in stand_in_hub.fetched()
