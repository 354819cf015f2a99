"""Fetching bases from a Hub on the loopback interface: what is asked and said, breaks, full disks, revisions."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in_hub.checkpoints import AUDIOCRAFT_FILES
from stand_in_hub.server import StandInHub

from talim.backbones import checkpoint_layout, hub_download, hub_repository, registry, resolve
from talim.backbones.hub_download import HubBase
from talim.errors import TalimError
from talim.progress import Progress

NAME = "someone/musicgen-tiny"
WEIGHTS = bytes(range(256)) * 2000  # 512 kB
FILES = {
    "config.json": b'{"model_type": "musicgen"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"model": {}}',
    "README.md": b"---\nlicense: cc-by-nc-4.0\n---\n",
    ".gitattributes": b"*.bin filter=lfs",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": WEIGHTS[::-1],
    **AUDIOCRAFT_FILES,
}
BASE = HubBase(NAME, NAME)
DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_download, "PAUSE_SECONDS", 0.0)


def test_fetch_asks_only_for_the_files_that_loading_reads(stand_in_hub: StandInHub) -> None:
    commit = stand_in_hub.publish(NAME, FILES)
    folder = hub_download.fetch(BASE)
    assert folder.name == commit
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "generation_config.json", "tokenizer.json", "README.md", "model.safetensors"
    }  # fmt: skip
    assert "pytorch_model.bin" not in stand_in_hub.fetched()
    assert "state_dict.bin" not in stand_in_hub.fetched()


def test_fetch_says_size_place_licence_and_what_is_left_before_the_download(
    stand_in_hub: StandInHub, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = stand_in_hub.publish(NAME, FILES)
    hub_download.fetch(BASE)
    said = capsys.readouterr().err
    assert f"fetching 512 kB from {stand_in_hub.url}/{NAME} (commit {commit})" in said
    assert "hub-cache" in said
    assert " GB are free" in said
    assert "licence of the weights: cc-by-nc-4.0 (non-commercial: neither adapters nor music" in said
    left = "compression_state_dict.bin, pytorch_model.bin, state_dict.bin (526 kB)"
    assert f"not fetched, as loading does not read it: {left}" in said


def test_fetch_says_that_a_licence_is_not_known(stand_in_hub: StandInHub, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in_hub.publish(NAME, {name: data for name, data in FILES.items() if name != "README.md"})
    hub_download.fetch(BASE)
    assert "licence of the weights: unknown (find out what it allows before you publish" in capsys.readouterr().err


def test_fetch_of_cached_files_asks_nothing(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, FILES)
    folder = hub_download.fetch(BASE)
    stand_in_hub.requests.clear()
    assert hub_download.fetch(BASE) == folder
    assert stand_in_hub.requests == []


@pytest.mark.parametrize("kept", [1, 100_000, len(WEIGHTS) - 1])
def test_fetch_goes_on_from_what_an_earlier_process_left(
    stand_in_hub: StandInHub, capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    stand_in_hub.publish(NAME, FILES)
    blob = hub_download._store(NAME) / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.with_name(blob.name + hub_download.PART_SUFFIX).write_bytes(WEIGHTS[:kept])
    folder = hub_download.fetch(BASE)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert stand_in_hub.storage_headers[-1]["range"] == f"bytes={kept}-"
    said = capsys.readouterr().err
    assert "of them are here from an interrupted download" in said
    assert f"checking {hub_download.size_text(kept)} of model.safetensors, which an earlier call left" in said
    assert not list(blob.parent.glob("*.talim-part"))


def test_fetch_that_breaks_off_goes_on_and_says_so(
    stand_in_hub: StandInHub, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in_hub.publish(NAME, FILES)
    stand_in_hub.breaks["model.safetensors"] = [200_000, 0, 100_000]
    folder = hub_download.fetch(BASE)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    said = capsys.readouterr().err
    assert said.count("the download of model.safetensors broke off at") == 3
    assert said.index("fetching 512 kB from") < said.index("broke off")  # what is fetched is said before
    ranges = [headers["range"] for headers in stand_in_hub.storage_headers if "range" in headers]
    assert ranges == ["bytes=200000-", "bytes=200000-", "bytes=300000-"]  # nothing is fetched twice
    assert "Trying to resume" not in said


@pytest.mark.parametrize("status", [403, 500, 503])
def test_fetch_goes_on_where_the_storage_refuses_for_a_moment(
    stand_in_hub: StandInHub, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    stand_in_hub.publish(NAME, FILES)
    stand_in_hub.storage_statuses += [status, status]
    assert (hub_download.fetch(BASE) / "model.safetensors").read_bytes() == WEIGHTS
    assert capsys.readouterr().err.count(f"has an error of its own (HTTP {status})); going on from there") == 2


def test_fetch_that_breaks_off_again_and_again_is_an_error_that_keeps_what_arrived(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, FILES)
    stand_in_hub.breaks["model.safetensors"] = [200_000] + [0] * 20
    with pytest.raises(TalimError, match=r"broke off 6 times, last at 200 kB of 512 kB .*run this again to go on"):
        hub_download.fetch(BASE)
    stand_in_hub.breaks.clear()
    hub_download.fetch(BASE)
    assert stand_in_hub.storage_headers[-1]["range"] == "bytes=200000-"


def test_fetch_from_a_server_without_ranges_begins_anew(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_hub.publish(NAME, FILES)
    stand_in_hub.ignores_ranges = True
    stand_in_hub.breaks["model.safetensors"] = [200_000]
    blocks = []
    monkeypatch.setattr(hub_download._DownloadReport, "add", lambda _, size, fetched=True: blocks.append(size))
    assert (hub_download.fetch(BASE) / "model.safetensors").read_bytes() == WEIGHTS
    assert -200_000 in blocks  # what had arrived came again


def test_fetch_of_damaged_bytes_is_an_error_and_leaves_none(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, FILES)
    stand_in_hub.spoiled.add("model.safetensors")
    with pytest.raises(TalimError, match=r"model\.safetensors arrived damaged"):
        hub_download.fetch(BASE)
    stand_in_hub.spoiled.clear()
    assert (hub_download.fetch(BASE) / "model.safetensors").read_bytes() == WEIGHTS


def test_fetch_to_a_small_disk_is_refused_with_both_figures(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_hub.publish(NAME, FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10**9, 0, 20_000_000))
    for act in (hub_download.fetch, hub_download.check):
        with pytest.raises(TalimError, match=r"needs 51 MB on the disk, and 20 MB are free in .*hub-cache"):
            act(BASE)
    assert stand_in_hub.fetched() == []


def test_fetch_on_a_disk_that_fills_up_keeps_what_arrived(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_hub.publish(NAME, FILES)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub_download.os, "fsync", full)
    with pytest.raises(TalimError, match=r"cannot be written into .*No space left on device.*what has arrived is kept"):
        hub_download.fetch(BASE)
    assert list(hub_download._store(NAME).rglob("*.talim-part"))


def test_fetch_sends_no_token_to_the_storage(stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_hub.publish(NAME, FILES, gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_allowed")
    hub_download.fetch(BASE)
    assert stand_in_hub.storage_headers
    assert all("authorization" not in headers for headers in stand_in_hub.storage_headers)


@pytest.mark.parametrize(
    ("token", "advice"), [("", r"accept its conditions.*hf auth login"), ("hf_other", "no access")]
)
def test_fetch_of_a_gated_base_says_where_to_accept_its_conditions(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch, token: str, advice: str
) -> None:
    stand_in_hub.publish(NAME, FILES, gated=True)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(TalimError, match=advice):
        hub_download.check(BASE)
    with pytest.raises(TalimError, match=advice) as caught:
        hub_download.fetch(BASE)
    assert f"{stand_in_hub.url}/{NAME}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "hf_allowed"])
def test_fetch_of_a_misspelt_base_proposes_one(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    wrong = "facebok/musicgen-smal"
    with pytest.raises(TalimError, match=r"has no model facebok/musicgen-smal.*did you mean musicgen-small"):
        hub_download.check(HubBase(wrong, wrong))


def test_fetch_of_a_repository_without_a_base_lists_what_it_holds(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, {"data.csv": b"", "README.md": b""})
    with pytest.raises(TalimError, match=r"holds no checkpoint that talim knows \(there are: README.md, data.csv\)"):
        hub_download.check(BASE)


def test_fetch_of_another_kind_of_model_is_refused_before_its_weights(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, FILES | {"config.json": b'{"model_type": "opt"}'})
    with pytest.raises(TalimError, match="is a model of the type opt; expected MusicGen or Mustango"):
        hub_download.fetch(BASE)
    assert "model.safetensors" not in stand_in_hub.fetched()


def test_fetch_of_audiocraft_files_takes_both(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, {"README.md": b"", **AUDIOCRAFT_FILES})
    assert (hub_download.fetch(BASE) / "state_dict.bin").is_file()
    assert {"state_dict.bin", "compression_state_dict.bin"} <= set(stand_in_hub.fetched())


# revisions


def test_fetch_without_a_revision_stays_at_the_first_commit(stand_in_hub: StandInHub) -> None:
    first = stand_in_hub.publish(NAME, FILES)
    assert hub_download.fetch(BASE).name == first
    second = stand_in_hub.publish(NAME, FILES | {"model.safetensors": WEIGHTS[:-1]})
    hub_repository._ask.cache_clear()
    assert hub_download.fetch(BASE).name == first
    assert hub_download.fetch(HubBase(NAME, NAME, "main")).name == second
    assert hub_download.fetch(HubBase(NAME, NAME, first)).name == first


@pytest.mark.parametrize("fetch", [hub_download.fetch, hub_download.fetch_description])
def test_fetch_takes_the_files_of_the_commit(stand_in_hub: StandInHub, fetch: Callable[[HubBase], Path]) -> None:
    """Pinned, asked for, and the newest: a folder's name is its commit, and so is what lies in it."""
    newer = FILES | {"generation_config.json": b'{"top_k": 1}', "model.safetensors": WEIGHTS[:-1]}
    pinned, newest = stand_in_hub.publish(NAME, FILES), stand_in_hub.publish(NAME, newer)
    for base, commit, files in (
        (HubBase(NAME, NAME, pinned=pinned), pinned, FILES),
        (HubBase(NAME, NAME, pinned), pinned, FILES),
        (HubBase(NAME, NAME, "main", pinned), newest, newer),
    ):
        folder = fetch(base)
        assert folder.name == commit
        assert {file.name: file.read_bytes() for file in folder.iterdir()}.items() <= files.items()
        assert (folder / "generation_config.json").is_file()


def test_fetch_from_a_mirror_without_the_pinned_commit_says_so(
    stand_in_hub: StandInHub, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = stand_in_hub.publish(NAME, FILES)
    base = HubBase(NAME, NAME, pinned="a" * 40)
    assert hub_download.fetch(base).name == commit
    assert f"has no commit {'a' * 40} of {NAME}, which talim knows; main is used instead" in capsys.readouterr().err
    stand_in_hub.status = 503
    hub_repository._ask.cache_clear()
    assert hub_download.fetch(base).name == commit


def test_fetch_of_an_unknown_revision_is_an_error(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, FILES)
    for revision in ("no-such-branch", "b" * 40):
        with pytest.raises(TalimError, match=f"has no revision '{revision}'; give a branch"):
            hub_download.fetch(HubBase(NAME, NAME, revision))


def test_registered_revisions_are_whole_commits() -> None:
    pinned = [entry for entry in registry.MODELS.values() if entry.revision]
    assert len(pinned) >= 3
    assert all(hub_download.is_commit(entry.revision) and entry.hub_id for entry in pinned)


# without the Hub


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_fetch_of_the_newest_while_the_hub_is_out_of_order_uses_what_is_here(
    stand_in_hub: StandInHub, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    commit = stand_in_hub.publish(NAME, FILES)
    hub_download.fetch(BASE)
    hub_repository._ask.cache_clear()
    stand_in_hub.status = status
    stand_in_hub.requests.clear()
    capsys.readouterr()
    assert hub_download.fetch(HubBase(NAME, NAME, "main")).name == commit
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"HTTP {status}" in said
    assert f"the files that were fetched before are used (commit {commit})" in said
    assert len(stand_in_hub.requests) == 1


def test_fetch_of_the_newest_from_a_slow_hub_uses_what_is_here(
    stand_in_hub: StandInHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = stand_in_hub.publish(NAME, FILES)
    hub_download.fetch(BASE)
    hub_repository._ask.cache_clear()
    monkeypatch.setattr(hub_repository, "PROBE_SECONDS", 0.1)
    stand_in_hub.delay_seconds = 0.5
    assert hub_download.fetch(HubBase(NAME, NAME, "main")).name == commit
    assert "does not answer within 0.1 s; the files that were fetched before" in capsys.readouterr().err


def test_fetch_without_the_hub_says_which_files_are_missing(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, FILES)
    folder = hub_download.fetch(BASE)
    (folder / "tokenizer.json").resolve().unlink()
    (folder / "tokenizer.json").unlink()
    hub_repository._ask.cache_clear()
    stand_in_hub.status = 503
    with pytest.raises(TalimError, match=r"HTTP 503\) \(of its files these are missing: tokenizer\.json\)"):
        hub_download.fetch(BASE)
    stand_in_hub.status = 0
    hub_repository._ask.cache_clear()
    stand_in_hub.requests.clear()
    assert (hub_download.fetch(BASE) / "tokenizer.json").is_file()
    assert stand_in_hub.fetched() == ["tokenizer.json"]


@pytest.mark.parametrize("linked", [True, False])
def test_fetch_of_weights_that_were_copied_in_part_fetches_them_again(stand_in_hub: StandInHub, linked: bool) -> None:
    stand_in_hub.publish(NAME, FILES)
    weights = hub_download.fetch(BASE) / "model.safetensors"
    if linked:
        weights.resolve().write_bytes(WEIGHTS[:1000])
    else:  # as caches are that were copied without their links
        weights.unlink()
        weights.write_bytes(WEIGHTS[:1000])
    hub_repository._ask.cache_clear()
    stand_in_hub.status = 503
    with pytest.raises(TalimError, match=r"of its files these are missing: model\.safetensors\)"):
        hub_download.fetch(BASE)
    stand_in_hub.status = 0
    hub_repository._ask.cache_clear()
    for _ in range(2):
        assert (hub_download.fetch(BASE) / "model.safetensors").read_bytes() == WEIGHTS
    assert stand_in_hub.fetched().count("model.safetensors") == 1 + linked


def test_fetch_of_what_another_program_cached_without_a_listing(stand_in_hub: StandInHub) -> None:
    commit = stand_in_hub.publish(NAME, FILES)
    folder = hub_download.fetch(BASE)
    for listing in folder.parents[1].glob("trees/*"):
        listing.unlink()
    _forget_listings()
    stand_in_hub.requests.clear()
    assert hub_download.fetch(BASE) == folder
    assert stand_in_hub.requests == []
    (folder / "tokenizer.json").unlink()
    _forget_listings()
    assert hub_download.fetch(BASE).name == commit
    assert (folder / "tokenizer.json").is_file()
    assert "model.safetensors" not in stand_in_hub.fetched()


def test_fetch_of_predictors_that_another_program_left_out(stand_in_hub: StandInHub) -> None:
    names = ("ldm/pytorch_model_ldm.bin", "vae/pytorch_model_vae.bin", *checkpoint_layout.PREDICTOR_WEIGHTS)
    stand_in_hub.publish(NAME, dict.fromkeys(names, WEIGHTS) | {"configs/music_diffusion_model_config.json": b"{}"})
    folder = hub_download.fetch(BASE)
    for listing in folder.parents[1].glob("trees/*"):
        listing.unlink()
    _forget_listings()
    assert hub_download.find_cached(BASE) == folder
    assert hub_download.fetch(BASE, predictors=True) == folder
    assert all((folder / name).is_file() for name in names)


def _forget_listings() -> None:
    """Those that huggingface_hub keeps in memory."""
    from huggingface_hub import _tree_cache

    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    hub_repository._ask.cache_clear()


def test_fetch_with_the_hub_switched_off_asks_nothing(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_hub.publish(NAME, FILES)
    folder = hub_download.fetch(BASE)
    stand_in_hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub_download.fetch(BASE) == folder
    assert hub_download.fetch(HubBase(NAME, NAME, "main")) == folder
    with pytest.raises(TalimError, match="HF_HUB_OFFLINE is set"):
        hub_download.fetch(HubBase("someone/else", "someone/else"))
    assert stand_in_hub.requests == []


def test_size_text_has_the_right_unit() -> None:
    assert [hub_download.size_text(n) for n in (2_364_426_880, 310e6, 999e6, 4_000)] == [
        "2.36 GB", "310 MB", "1.00 GB", "4 kB"
    ]  # fmt: skip


def test_cached_folder_is_the_one_of_huggingface_hub(stand_in_hub: StandInHub) -> None:
    from huggingface_hub import try_to_load_from_cache

    stand_in_hub.publish(NAME, FILES)
    folder = hub_download.fetch(BASE)
    assert Path(str(try_to_load_from_cache(NAME, "model.safetensors"))) == folder / "model.safetensors"


class Recorded(Progress):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int, str]] = []
        self.said: list[str] = []

    def log(self, text: str) -> None:
        self.said.append(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self.steps.append((title, done, total, facts))


def test_progress_counts_megabytes_from_what_was_there_to_the_end(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = WEIGHTS * 8  # 4.1 MB
    stand_in_hub.publish(NAME, FILES | {"model.safetensors": weights})
    blob = hub_download._store(NAME) / "blobs" / hashlib.sha256(weights).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.with_name(blob.name + hub_download.PART_SUFFIX).write_bytes(weights[:1_500_000])
    recorded = Recorded()
    monkeypatch.setattr(hub_download.progress, "default", lambda: recorded)
    hub_download.fetch(BASE)
    done = [step[1] for step in recorded.steps]
    assert recorded.steps[0][:3] == (f"fetching {NAME}, MB", 1, 4)
    assert done == sorted(done)
    assert done[-1] == 4


def test_fetch_waits_for_another_process_and_says_so(stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import WeakFileLock

    stand_in_hub.publish(NAME, FILES)
    store, digest = hub_download._store(NAME), hashlib.sha256(WEIGHTS).hexdigest()
    lock = store.parent / ".locks" / store.name / f"{digest}.lock"
    lock.parent.mkdir(parents=True)
    recorded, pause = Recorded(), threading.Event()
    monkeypatch.setattr(hub_download.progress, "default", lambda: recorded)

    def other() -> None:
        with WeakFileLock(lock):
            held.set()
            while not any("another process" in text for text in recorded.said):
                pause.wait(0.02)
            (store / "blobs").mkdir(parents=True, exist_ok=True)
            (store / "blobs" / digest).write_bytes(WEIGHTS)

    held = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    assert (hub_download.fetch(BASE) / "model.safetensors").read_bytes() == WEIGHTS
    thread.join()
    assert stand_in_hub.storage_headers == []  # what the other fetched is not fetched again


def test_hashing_what_an_earlier_call_left_shows_its_progress(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = WEIGHTS * 12  # 6.1 MB
    stand_in_hub.publish(NAME, FILES | {"model.safetensors": weights})
    blob = hub_download._store(NAME) / "blobs" / hashlib.sha256(weights).hexdigest()
    blob.parent.mkdir(parents=True)
    recorded = Recorded()
    monkeypatch.setattr(hub_download.progress, "default", lambda: recorded)
    blob.with_name(blob.name + hub_download.PART_SUFFIX).write_bytes(weights[:5_500_000])
    assert (hub_download.fetch(BASE) / "model.safetensors").read_bytes() == weights
    assert [step[1] for step in recorded.steps][:5] == [1, 2, 3, 4, 5]
    blob.unlink()
    blob.with_name(blob.name + hub_download.PART_SUFFIX).write_bytes(weights + b"surplus")
    recorded.steps.clear()
    hub_download._fetch_large(
        BASE, hub_download.look_up(BASE), "model.safetensors", hub_download._DownloadReport(BASE, len(weights))
    )
    assert blob.read_bytes() == weights
    assert recorded.steps[-1][1] == 6


@pytest.mark.parametrize("name", ["README.md", "LICENSE"])
def test_fetch_without_the_hub_misses_no_card_and_no_licence(stand_in_hub: StandInHub, name: str) -> None:
    stand_in_hub.publish(NAME, FILES | {"LICENSE": b"all of it"})
    folder = hub_download.fetch(BASE)
    (folder / name).unlink()
    stand_in_hub.requests.clear()
    assert hub_download.find_cached(BASE) == hub_download.fetch(BASE) == folder
    hub_download.check(BASE)
    assert stand_in_hub.requests == []


def test_a_licence_is_asked_for_where_the_card_was_not_fetched(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_hub.publish(NAME, FILES)
    (hub_download.fetch(BASE) / "README.md").unlink()
    assert resolve.source_licence(resolve.resolve_source(NAME)) == "cc-by-nc-4.0"
    hub_repository._ask.cache_clear()
    stand_in_hub.status = 503
    assert resolve.source_licence(resolve.resolve_source(NAME)) == "unknown"


def test_what_is_converted_already_needs_no_room(stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ldm/pytorch_model_ldm.bin", "vae/pytorch_model_vae.bin", *checkpoint_layout.PREDICTOR_WEIGHTS)
    files = {name: WEIGHTS + bytes([number]) for number, name in enumerate(names)}
    stand_in_hub.publish(NAME, files | {"configs/music_diffusion_model_config.json": b"{}"})
    folder, size = hub_download.fetch(BASE), len(WEIGHTS) + 1
    repository = hub_download.look_up(BASE)
    assert hub_download._converted_bytes(BASE, repository, names) == 2 * size
    just_enough = hub_download.MARGIN_BYTES + len(checkpoint_layout.PREDICTOR_WEIGHTS) * size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10**9, 0, just_enough))
    with pytest.raises(TalimError, match="on the disk"):
        hub_download.check_files(BASE, repository, predictors=True)
    (folder / "ldm" / "pytorch_model_ldm.safetensors").write_bytes(b"converted")
    assert hub_download._converted_bytes(BASE, repository, names) == size
    (folder / "vae" / "pytorch_model_vae.safetensors").write_bytes(b"converted")
    assert hub_download._converted_bytes(BASE, repository, names) == 0
    hub_download.check_files(BASE, repository, predictors=True)


@pytest.mark.parametrize("act", [hub_download.fetch, hub_download.check, hub_download.find_cached, resolve.check_base])
def test_a_cache_that_may_not_be_entered_is_named_with_what_to_do(
    stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch, act: Callable[[Any], Any]
) -> None:
    """Permissions do not stop the administrator, so the system's answer is made here."""
    stand_in_hub.publish(NAME, FILES)
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> Any:
        if "hub-cache" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    hub_download.fetch(BASE)
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(
        TalimError, match=r"hub-cache.* cannot be used \(Permission denied\); give .* or set HF_HOME to"
    ):
        act(NAME if act is resolve.check_base else BASE)


def test_a_repository_is_found_under_the_id_that_it_had_before(stand_in_hub: StandInHub) -> None:
    stand_in_hub.publish(NAME, FILES)
    store = hub_download.fetch(BASE).parents[1]
    commit = stand_in_hub.repositories[NAME].branches["main"]
    folder = store.rename(store.with_name("models--t5-base")) / "snapshots" / commit
    stand_in_hub.requests.clear()
    part = HubBase("google-t5/t5-base (part of x)", "google-t5/t5-base", is_part=True)
    assert hub_download.fetch(part) == folder
    assert stand_in_hub.requests == []
    assert hub_repository.hub_ids("facebook/musicgen-small") == ("facebook/musicgen-small",)
