"""Tests of talim.exporting.hub against a Hub on the loopback interface: push, pull, refusals, failures on the way."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from stand_in_hub.server import StandInHub

import talim
from talim import progress
from talim.atomic_io import read_json, write_json
from talim.backbones import adapter_folder
from talim.errors import TalimError, UsageError
from talim.generation.sources import choose_source
from talim.run import Run

REPO = "me/glide"


class Lines(progress.Progress):
    """What was reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def hub(stand_in_hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> StandInHub:
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    return stand_in_hub


@pytest.fixture
def with_rights(finished_run: Run, tmp_path: Path) -> Callable[..., Run]:
    """The run with other rights of its recordings in run.json."""

    def make(*changes: dict[str, str], licence: str = "CC-BY-NC-4.0", rows: bool = True) -> Run:
        run = Run(shutil.copytree(finished_run.folder, tmp_path / f"run-{len(list(tmp_path.iterdir()))}"))
        facts = read_json(run.facts_file)
        facts["base"]["licence"] = licence
        for row, change in zip(facts["trained_on"]["attributions"], changes, strict=False):
            row.update(change)
        if not rows:
            del facts["trained_on"]["attributions"]
        write_json(run.facts_file, facts)
        return run

    return make


def test_push_and_pull_with_a_clean_cache_generates_the_same(
    hub: StandInHub, finished_run: Run, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = talim.export(finished_run, "hub", repo=REPO)
    asked = shlex.quote(read_json(finished_run.facts_file)["trained_on"]["captions"][0])
    assert result["use"] == f"talim generate --adapter {REPO} --prompt={asked} --out music.flac"
    repository = hub.repositories[REPO]
    assert (repository.private, repository.branches["main"]) == (True, result["commit"])
    assert {*repository.commits[result["commit"]]} == {*result["files"], ".gitattributes"}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another-machine"))
    pulled = choose_source(None, str(tiny_base), [REPO], False)
    assert str(tmp_path / "another-machine") in str(pulled.adapters[0].folder)
    options = {"seconds": 0.4, "seed": 3, "device": "cpu"}
    ours, pulled_sound = (talim.generate(source, "slow glide", **options)[0] for source in (finished_run, pulled))
    assert np.array_equal(ours.samples, pulled_sound.samples)


def test_repository_holds_card_conditions_examples_and_no_recording(
    hub: StandInHub, finished_run: Run, corpus_folder: Path, recordings: Path
) -> None:
    said = Lines()
    result = talim.export(finished_run, "hub", repo=REPO, public=True, progress=said)
    files = hub.repositories[REPO].commits[result["commit"]]
    assert hub.repositories[REPO].private is False
    card = files["README.md"].decode()
    header = yaml.safe_load(card.split("---")[1])
    assert (header["license"], header["library_name"]) == ("cc-by-nc-4.0", "peft")
    assert f"--adapter {REPO}" in card
    assert "THIS_FOLDER" not in card
    links = [name for name in files if name.startswith("samples/") and name.endswith(".flac")]
    assert len(links) == 4
    assert all(f"({name})" in card for name in links)
    assert b"# Conditions of this adapter" in files["LICENSE.md"]
    sent = {hashlib.sha256(data).hexdigest() for data in files.values()}
    folders = (corpus_folder, recordings, finished_run.continuations)
    real = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".wav", ".flac")]
    real += list(finished_run.samples.glob("*-real.flac"))
    assert len(real) > 10
    assert sent & {hashlib.sha256(path.read_bytes()).hexdigest() for path in real} == set()
    here = [str(finished_run.folder.parent), str(corpus_folder.parent)]
    assert [name for name, data in files.items() if any(path.encode() in data for path in here)] == []
    sums = dict(reversed(line.split("  ")) for line in files["SHA256SUMS"].decode().splitlines())
    own = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name not in ("SHA256SUMS",)}
    assert sums == {name: digest for name, digest in own.items() if name != ".gitattributes"}
    assert all(any(line.startswith(f"  {name} ") for line in said.lines) for name in result["files"])
    assert any("2 excerpts of held-out recordings" in line for line in said.lines)


def test_everything_is_shown_before_anything_is_sent(
    stand_in_hub: StandInHub, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Lines()
    result = talim.export(finished_run, "hub", repo=REPO, dry_run=True, progress=said)
    assert (result["commit"], stand_in_hub.requests) == (None, [])
    assert said.lines[1].startswith(f"to be sent to {stand_in_hub.url}/{REPO} (private), licence cc-by-nc-4.0")
    assert said.lines[-1] == "nothing was sent (--dry-run)"
    with pytest.raises(TalimError, match=rf"no token is here. Make one .* on {stand_in_hub.url}/settings/tokens, then"):
        talim.export(finished_run, "hub", repo=REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TalimError, match="HF_HUB_OFFLINE is set, so that nothing is sent"):
        talim.export(finished_run, "hub", repo=REPO)
    assert stand_in_hub.requests == []


def test_what_rights_forbid_is_refused_by_the_names_of_the_recordings(
    hub: StandInHub, with_rights: Callable[..., Run]
) -> None:
    run = with_rights({"licence": "CC BY-ND 4.0", "recording": "alap"}, {"licence": "unknown", "recording": "gat"})
    said = r"not be published: the recording alap \(.*\): its licence \(CC BY-ND 4.0\) does not allow it; the recording"
    with pytest.raises(TalimError, match=rf"{said} gat \(.*\): its licence is unknown\. .*--permission"):
        talim.export(run, "hub", repo=REPO)
    with pytest.raises(TalimError, match=r"the recording .*: its performer's consent is 'withdrawn in May'"):
        talim.export(with_rights({"consent": "withdrawn in May"}), "hub", repo=REPO)
    with pytest.raises(TalimError, match="the base tiny: its licence is unknown"):
        talim.export(with_rights(licence="unknown"), "hub", repo=REPO)
    with pytest.raises(TalimError, match=r"published: the recordings: run\.json does not name those"):
        talim.export(with_rights(rows=False), "hub", repo=REPO)
    with pytest.raises(TalimError, match="may not be published"):
        talim.export(run, "hub", repo=REPO, permission="  ")
    assert (hub.requests, hub.repositories) == ([], {})
    result = talim.export(run, "hub", repo=REPO, permission="Meera, by letter of 2 May")
    card = hub.repositories[REPO].commits[result["commit"]]["README.md"].decode()
    assert "As whoever published this states: Meera, by letter of 2 May" in card


def test_consent_that_is_not_on_record_is_told(hub: StandInHub, with_rights: Callable[..., Run]) -> None:
    said = Lines()
    talim.export(with_rights({"consent": "unknown"}), "hub", repo=REPO, dry_run=True, progress=said)
    assert any("the consent of the performers of 1 recording is not on record" in line for line in said.lines)


def test_repository_with_files_is_not_overwritten(hub: StandInHub, finished_run: Run) -> None:
    first = talim.export(finished_run, "hub", repo=REPO)
    said = Lines()
    again = talim.export(finished_run, "hub", repo=REPO, progress=said)
    assert (again["commit"], said.lines[-1].endswith("holds these files already: nothing was sent")) == (
        first["commit"],
        True,
    )
    with pytest.raises(TalimError, match=r"me/glide is there already, and it is private; .* leave --public out"):
        talim.export(finished_run, "hub", repo=REPO, public=True)
    hub.publish("me/taken", {"model.bin": b"1", "README.md": b"mine"}, private=True)
    with pytest.raises(TalimError, match=r"me/taken holds files already \(README.md, model.bin\)"):
        talim.export(finished_run, "hub", repo="me/taken")
    hub.publish("me/open", {".gitattributes": b""})
    with pytest.raises(TalimError, match="me/open is there already, and it is public; make it private there"):
        talim.export(finished_run, "hub", repo="me/open")
    assert [row for row in hub.requests if "/commit/" in row[1]] == [("POST", f"/api/models/{REPO}/commit/main")]


@pytest.mark.parametrize(
    ("step", "status", "words"),
    [
        ("create", 500, r"has an error of its own \(HTTP 500\); nothing was published"),
        ("preupload", 403, r"the token in use \(hf auth whoami\) may not write to me/glide"),
        ("store", 400, "did not take it"),
        ("commit", 503, r"\(HTTP 503\); nothing was published in me/glide: run this again"),
        ("commit", 412, "changed meanwhile"),
        ("batch", 401, "does not accept the token in use"),
    ],
)
def test_failure_on_the_way_publishes_nothing_and_goes_on(
    hub: StandInHub, finished_run: Run, step: str, status: int, words: str
) -> None:
    hub.failures[step] = status
    with pytest.raises(TalimError, match=words):
        talim.export(finished_run, "hub", repo=REPO)
    there = hub.repositories.get(REPO)
    assert there is None or {*there.commits[there.branches["main"]]} == {".gitattributes"}
    result = talim.export(finished_run, "hub", repo=REPO)
    assert "adapter_model.safetensors" in hub.repositories[REPO].commits[result["commit"]]
    stored = [path for method, path in hub.requests if method == "PUT"]
    assert len(stored) == 1 + (step == "store")


def test_refusals_of_tokens_and_names(hub: StandInHub, finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TalimError, match=r"may not write to them/glide; use one with write permission for them"):
        talim.export(finished_run, "hub", repo="them/glide")
    monkeypatch.setenv("HF_TOKEN", "hf_allowed")  # which may only read
    with pytest.raises(TalimError, match="may not write to me/glide"):
        talim.export(finished_run, "hub", repo=REPO)
    hub.refuses_tokens = True
    with pytest.raises(TalimError, match="does not accept the token in use; log in again"):
        talim.export(finished_run, "hub", repo=REPO)
    for name in ("glide", "me/", "a/b/c", "me/gl ide", "me/x--y", "https://x/me/y", "me/x.git"):
        with pytest.raises(UsageError, match="expected OWNER/NAME"):
            talim.export(finished_run, "hub", repo=name)
    assert hub.repositories == {}


def test_run_without_card_or_conditions_is_refused(finished_run: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    (run.adapter / "LICENSE.md").unlink()
    with pytest.raises(TalimError, match=r"its LICENSE.md is missing"):
        talim.export(run, "hub", repo=REPO, dry_run=True)


def test_pulled_repository_states_its_licence(hub: StandInHub, finished_run: Run) -> None:
    talim.export(finished_run, "hub", repo=REPO)
    found: Any = adapter_folder.find_adapter(REPO)
    assert (found.repository, found.licence) == (REPO, "cc-by-nc-4.0")
