"""Shared fixtures: a tiny random MusicGen in a folder, synthetic recordings, a corpus made of them."""

from __future__ import annotations

import csv
import gc
import os
import random
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from talim import recipe as recipes
from talim.recipe import Recipe
from talim.run import Run

QUICK = {
    "design": "linear@all:10%",
    "training.steps": 9,
    "training.batch_size": 3,
    "training.learning_rate": 0.05,
    "training.warmup_steps": 2,
    "training.eval_every": 3,
    "training.eval_clips": 4,
    "training.checkpoint_every": 2,
    "training.crop_seconds": 1.5,
    "training.precision": "fp32",
}


@pytest.fixture(scope="session")
def quick_recipe(tiny_base: Path, corpus_folder: Path) -> Any:
    """Makes a recipe of a second's work; keyword arguments change dotted keys (`__` stands for the dot)."""

    def make(**changes: Any) -> Recipe:
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        return recipes.load((), {"base": str(tiny_base), "corpus": str(corpus_folder), **QUICK, **changed})

    return make


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, quick_recipe: Any) -> Run:
    """A trained and evaluated run (read only by agreement)."""
    from talim.evaluation.evaluate import evaluate
    from talim.training.train import train

    run = train(quick_recipe(), tmp_path_factory.mktemp("runs") / "run")
    evaluate(run.folder, num_prompts=2, seconds=1.0)
    return run


RATE_HZ = 16000

# A shell that starts tests in the background lets them ignore Ctrl-C, and their child processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# HYPOTHESIS_PROFILE chooses: "same" draws the same examples in every run, "fresh" draws new and more ones.
# A crowded machine is no fault of the code: no deadline for a single example.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("same", UNHURRIED, max_examples=25, derandomize=True, database=None)

settings.register_profile("fresh", UNHURRIED, max_examples=300, print_blob=True)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

if settings.get_current_profile_name() == "same":
    # Hypothesis also draws constants of the package's modules that happen to be imported by then, which depends
    # on the tests that ran before in the same process; there is no public setting to leave them out.
    providers._get_local_constants = lambda: providers._local_constants

# Results are compared in English, whatever the language of those who run the tests.
for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
    if os.environ.get(name, "").startswith("ja"):
        os.environ[name] = "C.UTF-8"

# No test cuts the power, and waiting for the disk takes longer than most of what is written; see test_atomic_io.py.
os.fsync = lambda descriptor: None

TORCH_SEED = 67280421310721  # what torch begins with in a new process


RESEARCH = Path(__file__).parent / "research"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of `research`, which users never run, are slow ones."""
    for item in items:
        if RESEARCH in item.path.parents:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What collecting has imported stays for good: without it a `gc.collect` of the package takes 10 ms, not 300."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Likewise what a module's tests have imported and cached, once its fixtures are gone."""
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Global generators begin anew before each test and its fixtures, whatever ran before in the same process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (the global generator is the point)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(TORCH_SEED)


def save_tiny_base(folder: Path, layers: int = 2, seed: int = 0) -> Path:
    """A random MusicGen with all its parts in a folder, as `--base` takes it; 25 frames a second."""
    import torch
    from transformers import (
        ByT5Tokenizer,
        EncodecConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )

    text = T5Config(vocab_size=384, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2, is_encoder_decoder=False)
    codec = EncodecConfig(
        target_bandwidths=[1.0],
        sampling_rate=RATE_HZ,
        num_filters=4,
        hidden_size=16,
        upsampling_ratios=[8, 8, 10],
        codebook_size=64,
        codebook_dim=16,
        num_lstm_layers=1,
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=layers,
        ffn_dim=64,
        num_attention_heads=4,
        num_codebooks=4,
        pad_token_id=64,
        bos_token_id=64,
        dropout=0.1,
    )
    config = MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MusicgenForConditionalGeneration(config)
        spread_codes(model)
    model.save_pretrained(folder)
    ByT5Tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\nrandom weights\n", encoding="utf-8")
    return folder


def spread_codes(model: Any) -> None:
    """Make a random codec use its codebooks and random heads disagree: no test may pass on constants."""
    import torch

    sound = torch.from_numpy(synthetic_samples(0, 30.0))[None, None]
    with torch.no_grad():
        frames = model.audio_encoder.encoder(sound)[0].T  # [F, D]
        for layer in model.audio_encoder.quantizer.layers:
            picked = frames[torch.randperm(len(frames))[: len(layer.codebook.embed)]]
            layer.codebook.embed.copy_(picked)
            nearest = torch.cdist(frames, picked).argmin(dim=1)
            frames = frames - picked[nearest]
        for head in model.decoder.lm_heads:
            torch.nn.init.normal_(head.weight, std=0.3)


def synthetic_samples(seed: int, seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A gliding tone in coloured noise, float32 [T]: different for every seed, never silent."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    glide_hz = 180 + 60 * rng.random() + 80 * np.sin(2 * np.pi * (0.2 + 0.3 * rng.random()) * time)
    tone = np.sin(2 * np.pi * np.cumsum(glide_hz) / rate_hz)
    return (0.4 * tone + 0.1 * rng.standard_normal(len(time))).astype(np.float32)


def write_recordings(folder: Path, count: int = 6, seconds: float = 7.0) -> Path:
    """WAV files of `count` performers with a metadata.csv in the audiofolder convention."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["file_name", "text", "performer", "licence", "source", "consent"])
        for number in range(count):
            name = f"take-{number}.wav"
            soundfile.write(folder / name, synthetic_samples(number, seconds), RATE_HZ)
            words = ["slow glide", "noisy tone", "low voice"][number % 3]
            rows.writerow([name, words, f"player {number}", "CC0-1.0", "synthetic", "given"])
    return folder


@pytest.fixture(scope="session", autouse=True)
def only_numbered_temporary_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test writes beside its own folder is found by later tests, in some orders: each folder is numbered."""
    yield
    paths = tmp_path_factory.getbasetemp().iterdir()
    stray = sorted(path.name for path in paths if not re.fullmatch(r".*(\d+|current)|popen-gw.*|\.lock", path.name))
    assert not stray, f"written outside of a test's own folder (tmp_path, mktemp): {', '.join(stray)}"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random MusicGen (read only by agreement)."""
    return save_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of six synthetic recordings with metadata.csv (read only by agreement)."""
    return write_recordings(tmp_path_factory.mktemp("recordings") / "takes")


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    """The recordings, prepared in clips of two seconds (read only by agreement; targets are cached in it)."""
    from talim.corpus.prepare import prepare

    folder = tmp_path_factory.mktemp("corpora") / "corpus"
    prepare(recordings, folder, clip_seconds=2.0, sample_rate=RATE_HZ, held_out_fraction=0.34, seed=1)
    return folder


@pytest.fixture
def stand_in_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Hub on the loopback interface (a `StandInHub`) that this process asks, with an empty cache."""
    from huggingface_hub import constants
    from stand_in_hub.server import StandInHub

    from talim import progress
    from talim.backbones import hub_repository

    hub = StandInHub().start()
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    values = {"ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
    values["HF_HUB_DISABLE_XET"] = True  # its storage speaks a protocol of its own
    for name, value in {**values, "HF_HUB_CACHE": str(tmp_path / "hub-cache")}.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for memory in (hub_repository._ask, progress.log_once):
        memory.cache_clear()
    yield hub
    hub.stop()


@pytest.fixture(scope="session")
def make_base() -> Callable[..., Path]:
    """`save_tiny_base`, for tests that need a base of another shape or seed."""
    return save_tiny_base


@pytest.fixture(scope="session")
def make_recordings() -> Callable[..., Path]:
    """`write_recordings`, for tests that spoil some of them."""
    return write_recordings
