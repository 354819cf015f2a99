"""Where an adapter is found: folders, runs, the cache of huggingface_hub, the Hub; what is said where none is."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_in_hub.server import StandInHub

from talim.backbones import hub_repository
from talim.backbones.adapter_folder import AdapterFolder, find_adapter
from talim.errors import TalimError
from talim.run import Run

NAME = "someone/musicgen-qawwali-lora"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "adapter_config.json": b'{"peft_type": "LORA"}',
    "adapter_model.safetensors": b"weights" * 100,
    "README.md": b"---\nlicense: cc-by-4.0\n---\n",
    "optimizer.pt": b"not needed" * 100,
    "training_args.bin": b"neither",
}


def write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_bytes(FILES["adapter_config.json"])
    return folder


def test_find_adapter_in_a_folder_or_a_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "lora")
    assert find_adapter(folder) == AdapterFolder(folder)
    assert (AdapterFolder(folder).name, AdapterFolder(folder).licence) == ("lora", "unknown")
    run = Run(tmp_path / "run")
    write(run.adapter)
    run.recipe_file.write_text("corpus: c\n", encoding="utf-8")
    assert find_adapter(run.folder) == find_adapter(str(run.adapter)) == AdapterFolder(run.adapter)
    assert AdapterFolder(run.adapter).name == "run/adapter"
    (run.adapter / "adapter_config.json").unlink()
    with pytest.raises(TalimError, match=r"--init-from .*run: its training is not finished; continue with: talim"):
        find_adapter(run.folder, "--init-from")


def test_find_adapter_tells_where_downloaded_files_came_from(tmp_path: Path) -> None:
    cached = write(tmp_path / f"models--{NAME.replace('/', '--')}" / "snapshots" / COMMIT)
    assert find_adapter(cached) == AdapterFolder(cached, NAME, COMMIT)
    local = write(tmp_path / "local-dir")  # as hf download --local-dir leaves it
    record = local / ".cache" / "huggingface" / "download" / "adapter_config.json.metadata"
    record.parent.mkdir(parents=True)
    record.write_text(f"{COMMIT}\nc0ffee\n1700000000.5\n", encoding="utf-8")
    assert find_adapter(local) == AdapterFolder(local, "", COMMIT)
    record.write_text("main\n", encoding="utf-8")
    assert find_adapter(local) == AdapterFolder(local)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lor", r"no adapter folder is here; did you mean lora\?; a run keeps its own in RUN/adapter"),
        ("runs/lor", r"no adapter folder is here; did you mean runs/lora\?"),
        ("../x/y/z", "no adapter folder is here"),
        ("runs", r"holds no adapter \(adapter_config\.json is missing\), but runs/lora do; give the folder that"),
        ("file", "no adapter folder is here"),
        ("a--b/c", "no adapter folder is here"),
        ("someone/lora@../../x", "no adapter folder is here"),
    ],
)
def test_find_adapter_says_what_is_wrong_and_asks_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("talim.backbones.adapter_folder._fetch", lambda *_: pytest.fail("asked the Hub"))
    write(tmp_path / "lora")
    write(tmp_path / "runs" / "lora")
    (tmp_path / "file").touch()
    with pytest.raises(TalimError, match=message) as caught:
        find_adapter(name, "--init-from")
    assert str(caught.value).startswith("--init-from ")
    assert "\n" not in str(caught.value)


def test_find_adapter_of_the_hub_is_fetched_once_with_what_is_needed(
    stand_in_hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = stand_in_hub.publish(NAME, FILES)
    found = find_adapter(NAME)
    assert (found.repository, found.revision, found.name, found.licence) == (NAME, first, NAME, "cc-by-4.0")
    assert sorted(file.name for file in found.folder.iterdir()) == sorted(list(FILES)[:3])
    assert f"adapter '{NAME}': fetching it from {stand_in_hub.url}/{NAME}" in capsys.readouterr().err
    requests = len(stand_in_hub.requests)
    assert find_adapter(NAME) == find_adapter(f"{NAME}@{first}") == find_adapter(found.folder) == found
    assert len(stand_in_hub.requests) == requests  # nothing more is asked
    second = stand_in_hub.publish(NAME, FILES | {"adapter_config.json": b'{"peft_type": "IA3"}'})
    assert find_adapter(NAME).revision == first
    assert find_adapter(f"{NAME}@main").revision == second
    stand_in_hub.status = 503
    hub_repository._ask.cache_clear()  # answers are kept for a minute
    assert find_adapter(NAME).revision == second  # what main is by now
    assert find_adapter(f"{NAME}@main").revision == second
    assert "the files that were fetched before are used" in capsys.readouterr().err
    write(tmp_path / NAME)
    assert find_adapter(NAME) == AdapterFolder(Path(NAME))  # a folder comes first


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/nothing", r"adapter 'someone/nothing': .* has no model someone/nothing, or it is private"),
        ("someone/closed", "adapter 'someone/closed': someone/closed is gated: accept its conditions"),
        (f"{NAME}@v9", f"adapter '{NAME}': {NAME} has no revision 'v9'"),
        ("someone/base", r"--adapter someone/base: this repository holds no adapter of PEFT \(adapter_config\.json is"),
    ],
)
def test_find_adapter_of_the_hub_that_is_none(
    stand_in_hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stand_in_hub.publish(NAME, FILES)
    stand_in_hub.publish("someone/closed", FILES, gated=True)
    stand_in_hub.publish("someone/base", {"config.json": b"{}", "README.md": b"text"})
    with pytest.raises(TalimError, match=message) as caught:
        find_adapter(name)
    assert "\n" not in str(caught.value)


def test_find_adapter_of_the_hub_without_a_connection(
    stand_in_hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stand_in_hub.status = 503
    with pytest.raises(TalimError, match=r"no such folder is here, and as an adapter of the Hub it is not on this ma"):
        find_adapter(NAME)
