"""talim generate with a base of the Hub, as a stranger types it: a new process, an empty cache, a Hub on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in_hub import checkpoints
from stand_in_hub.server import StandInHub

from talim.backbones import hub_download, registry

pytestmark = pytest.mark.slow
SMALL = registry.MODELS["musicgen-small"]
RETRY_WORDS = ("Retrying", "retry", "Trying to resume", "Traceback", "MaxRetries")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write_repository(tmp_path_factory.mktemp("released") / "musicgen-tiny")


@pytest.fixture
def hub(released: Path) -> Iterator[StandInHub]:
    served = StandInHub().start()
    served.publish(SMALL.hub_id, released, commit=SMALL.revision)
    yield served
    served.stop()


class Stranger:
    """Runs talim in new processes with an empty HF_HOME and no other settings."""

    def __init__(self, folder: Path, hub: StandInHub) -> None:
        self.folder, self.hub = folder, hub
        keep = {"PATH", "PYTHONPATH", "OMP_NUM_THREADS", "HOME", "LANG", "VIRTUAL_ENV"}
        self.environment = {key: value for key, value in os.environ.items() if key in keep}
        self.environment |= {"HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.url, "no_proxy": "127.0.0.1"}

    def start(self, base: str, **settings: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "talim", "generate", "--base", base, "--prompt", "slow flute"]
        command += ["--seconds", "0.2", "--out", f"music-{time.monotonic_ns()}.wav"]
        command += ["--device", "cpu"]
        environment = self.environment | settings
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, stderr=subprocess.PIPE)

    def run(self, base: str, **settings: str) -> tuple[int, str]:
        process = self.start(base, **settings)
        _, said = process.communicate(timeout=300)
        return process.returncode, said


@pytest.fixture
def stranger(tmp_path: Path, hub: StandInHub) -> Stranger:
    return Stranger(tmp_path, hub)


def test_first_use_then_without_the_hub(stranger: Stranger, hub: StandInHub) -> None:
    status, said = stranger.run("musicgen-small")
    assert status == 0, said
    assert list(stranger.folder.glob("music-*.wav"))
    assert f"(commit {SMALL.revision})" in said
    assert "licence of the weights: CC-BY-NC-4.0 (non-commercial" in said
    assert "state_dict.bin" not in hub.fetched()
    hub.stop()
    began = time.monotonic()
    status, said = stranger.run("musicgen-small")
    offline = time.monotonic() - began
    assert status == 0, said
    assert not [word for word in RETRY_WORDS if word in said]
    began = time.monotonic()
    status, said = stranger.run("musicgen-small", HF_HUB_OFFLINE="1")
    assert offline < 2 * (time.monotonic() - began) + 5
    status, said = stranger.run("musicgen-small@main")
    assert status == 1
    assert "cannot be reached" in said


def test_killed_in_the_middle_goes_on(stranger: Stranger, hub: StandInHub) -> None:
    hub.bytes_per_second = 40_000
    process = stranger.start("musicgen-small")
    blobs = stranger.folder / "hf" / "hub"
    for _ in range(3000):
        parts = list(blobs.rglob(f"*{hub_download.PART_SUFFIX}"))
        if parts and parts[0].stat().st_size > 10_000:
            break
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = parts[0].stat().st_size
    hub.bytes_per_second = 0.0
    status, said = stranger.run("musicgen-small")
    assert status == 0, said
    assert "are here from an interrupted download" in said
    assert hub.storage_headers[-1]["range"] == f"bytes={kept}-"


def test_pickled_weights_end_without_a_conversion(stranger: Stranger, hub: StandInHub, tmp_path: Path) -> None:
    folder = checkpoints.write_safetensors(tmp_path / "tiny")
    converted = hub.publish("someone/tiny", folder, branch="conversion")
    hub.publish("someone/tiny", checkpoints.as_pickle(folder, shards=2), pull_request=converted)
    status, said = stranger.run("someone/tiny")
    assert status == 0, said
    assert not [path for _, path in hub.requests if "discussions" in path or "refs%2Fpr" in path]

    # the control: transformers by itself asks for it, and fetches the weights of the pull request
    code = (
        "from transformers import MusicgenForConditionalGeneration as M\n"
        "M.from_pretrained('someone/tiny', cache_dir='elsewhere')\n"
    )
    environment = {**stranger.environment, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, timeout=300, check=True)
    assert [path for _, path in hub.requests if "discussions" in path]
    assert [path for _, path in hub.requests if "refs%2Fpr" in path and "model.safetensors" in path]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("facebok/musicgen-smal", "did you mean musicgen-small"),
        ("someone/closed", "is gated: accept its conditions on"),
        ("musicgen-small@no-such-branch", "has no revision 'no-such-branch'"),
        ("someone/data", "holds no checkpoint that talim knows"),
    ],
)
def test_refusals_are_one_line(stranger: Stranger, hub: StandInHub, released: Path, base: str, expected: str) -> None:
    hub.publish("someone/closed", released, gated=True)
    hub.publish("someone/data", {"table.csv": b"1"})
    status, said = stranger.run(base)
    assert status == 1
    assert expected in said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("Error") or expected in line]) == 1
