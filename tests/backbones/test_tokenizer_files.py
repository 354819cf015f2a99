"""Tests of talim.backbones.tokenizer_files: a base without its tokenizer, or with another one, is refused."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures import released_musicgen, released_mustango, t5_tokenizer
from fixtures.t5_tokenizer import CONFIG, ENTRIES, JSON_FILE, SPIECE
from stand_in_hub.server import StandInHub

from talim.backbones import hub_errors, hub_repository, tokenizer_files
from talim.backbones.load import check_predictors, load
from talim.backbones.tokenizer_files import check_fit, read_tokenizer
from talim.errors import TalimError
from talim.generation.generate import Generation
from talim.generation.sources import GenerationSource

TEXT = {"vocab_size": ENTRIES + 12, "pad_token_id": 0, "eos_token_id": 1}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MusicGen in the released layout with a T5 tokenizer."""
    return released_musicgen.write(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def test_the_committed_tokenizer_is_of_t5s_kind() -> None:
    tokenizer = t5_tokenizer.load()
    assert type(tokenizer).__name__ == "T5Tokenizer"
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert len(tokenizer) == ENTRIES
    assert tokenizer("ｆｌｕｔｅ ﬁne \t a\u0308")["input_ids"] == tokenizer("flute fine ä")["input_ids"]  # NFKC
    assert tokenizer("Flute")["input_ids"] != tokenizer("flute")["input_ids"]
    assert tokenizer("<extra_id_0>")["input_ids"][0] >= t5_tokenizer.PIECES
    assert sum(path.stat().st_size for path in t5_tokenizer.FOLDER.iterdir()) < 200_000


@pytest.mark.parametrize("names", [(JSON_FILE,), (SPIECE,), (JSON_FILE, CONFIG), (SPIECE, CONFIG)])
def test_either_file_is_enough(folder: Path, names: tuple[str, ...]) -> None:
    for name in (JSON_FILE, SPIECE, CONFIG):
        if name not in names:
            (folder / name).unlink(missing_ok=True)
    t5_tokenizer.copy_to(folder, names)
    text = "slow flute, café, राग ûāﬁ"
    assert load(folder, device="cpu").tokenizer(text)["input_ids"] == t5_tokenizer.load()(text)["input_ids"]


def test_spiece_model_alone_needs_no_configuration(tmp_path: Path) -> None:
    alone = t5_tokenizer.copy_to(tmp_path / "tokenizer", (SPIECE,))
    assert read_tokenizer(alone, "")("slow flute")["input_ids"] == t5_tokenizer.load()("slow flute")["input_ids"]


@pytest.mark.parametrize("with_config", [True, False])
def test_a_base_without_tokenizer_is_refused(folder: Path, with_config: bool) -> None:
    for name in (JSON_FILE, SPIECE, *(() if with_config else (CONFIG,))):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(TalimError, match=r"there is no tokenizer here \(neither tokenizer\.json nor spiece") as caught:
        load(folder, device="cpu")
    assert str(folder) in str(caught.value)
    assert f"--local-dir {folder}" in str(caught.value)
    assert "copy tokenizer.json, tokenizer_config.json and spiece.model" in str(caught.value)


def spoil_vocabulary(folder: Path) -> None:
    """Keep the first pieces, as a file that was cut short by a tool would."""
    content = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
    content["model"]["vocab"] = content["model"]["vocab"][:4]
    content["added_tokens"] = content["added_tokens"][:3]
    (folder / JSON_FILE).write_text(json.dumps(content), encoding="utf-8")


def every_word_is_one(folder: Path) -> None:
    content = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[a-z]+"}, "content": "a"}
    (folder / JSON_FILE).write_text(json.dumps(content), encoding="utf-8")
    (folder / CONFIG).write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}')


def only_some_letters(folder: Path) -> None:
    """As many pieces as before, but of letters only six: no word is another one, and each holds something unknown."""
    content = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
    kept = ("<pad>", "</s>", "<unk>", "\u2581", *"msfdwv")
    content["model"]["vocab"] = [
        (piece if piece in kept or piece.startswith("<extra") else chr(0xE000 + number), score)
        for number, (piece, score) in enumerate(content["model"]["vocab"])
    ]
    (folder / JSON_FILE).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("spoil", [spoil_vocabulary, every_word_is_one, only_some_letters])
def test_a_tokenizer_that_knows_no_words_is_refused(folder: Path, spoil: Any) -> None:
    spoil(folder)
    with pytest.raises(TalimError, match=r"does not know ordinary words \(music, slow, flute"):
        load(folder, device="cpu")


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / JSON_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(TalimError, match="the tokenizer here cannot be read"):
        load(folder, device="cpu")
    (folder / JSON_FILE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", encoding="utf-8")
    with pytest.raises(TalimError, match=r"tokenizer\.json: only the pointer of Git LFS is here.*git lfs pull"):
        load(folder, device="cpu")


def test_the_tokenizer_is_read_before_the_weights(folder: Path) -> None:
    (folder / JSON_FILE).unlink()
    (folder / SPIECE).unlink()
    (folder / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(TalimError, match="there is no tokenizer here"):
        load(folder, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vocab_size": ENTRIES - 1},
            f"has {ENTRIES} entries, but the text encoder knows the first {ENTRIES - 1} only",
        ),
        ({"vocab_size": 32128}, f"has {ENTRIES} entries, but the text encoder knows 32128"),
        ({"pad_token_id": 2}, "has pad token id 0, but the text encoder's is 2"),
        ({"eos_token_id": 2}, "has eos token id 1, but the text encoder's is 2"),
    ],
)
def test_another_models_tokenizer_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(TalimError, match=message):
        check_fit(t5_tokenizer.load(), SimpleNamespace(**TEXT | changes), "advice")


@pytest.mark.parametrize("changes", [{}, {"vocab_size": ENTRIES}, {"pad_token_id": None, "eos_token_id": None}])
def test_the_own_tokenizer_fits(changes: dict[str, Any]) -> None:
    check_fit(t5_tokenizer.load(), SimpleNamespace(**TEXT | changes), "advice")


def test_released_sizes_fit() -> None:
    # entries of the tokenizers and rows of the embeddings: T5, Flan-T5, DeBERTa-v3, ByT5
    for entries, rows in ((32100, 32128), (32000, 32128), (128001, 128100), (384, 384), (259, 384)):
        tokenizer = SimpleNamespace(get_vocab=lambda entries=entries: {"last": entries - 1}, name_or_path="x")
        check_fit(tokenizer, SimpleNamespace(vocab_size=rows), "advice")


def test_a_base_whose_tokenizer_does_not_fit_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_encoder"]["vocab_size"] = ENTRIES - 50
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TalimError, match=r"it is another model.s: copy tokenizer\.json"):
        load(folder, device="cpu")


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = t5_tokenizer.copy_to(tmp_path / "tokenizer", (SPIECE, CONFIG))
    monkeypatch.setattr(tokenizer_files, "_installed", lambda name: name != "sentencepiece")
    with pytest.raises(TalimError, match=r"needs sentencepiece, which .* pip install sentencepiece protobuf"):
        read_tokenizer(alone, "")
    t5_tokenizer.copy_to(alone, (JSON_FILE,))
    read_tokenizer(alone, "")  # needs none


def test_libraries_that_reading_a_tokenizer_needs_are_declared_dependencies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the message tells to install comes with the package already, from versions that are pinned."""
    alone = t5_tokenizer.copy_to(tmp_path / "tokenizer", (SPIECE, CONFIG))
    monkeypatch.setattr(tokenizer_files, "_installed", lambda name: False)
    with pytest.raises(TalimError) as caught:
        read_tokenizer(alone, "")
    named = str(caught.value).rpartition("pip install ")[2].split()
    assert named == ["sentencepiece", "protobuf"]
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (root / "constraints.txt").read_text(encoding="utf-8")
    for library in named:
        assert any(re.match(rf"{library}\b", line) for line in project["dependencies"]), library
        assert re.search(rf"^{library}==", pins, re.MULTILINE)


def test_installed_looks_for_packages_within_packages() -> None:
    assert tokenizer_files._installed("google.protobuf")
    assert not tokenizer_files._installed("no_such_package.of_it")


def test_a_repository_that_cannot_be_reached_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise hub_errors.HubUnreachableError("a host cannot be reached")

    monkeypatch.setattr(hub_repository, "cached_folder", lambda *_: None)
    monkeypatch.setattr(hub_repository, "ask", unreachable)
    advice = tokenizer_files.hub_advice("google/flan-t5-large")
    with pytest.raises(
        TalimError, match=r"flan-t5-large is not on this machine, and a host cannot be reached; .*hf down"
    ):
        read_tokenizer("google/flan-t5-large", advice)


def test_a_cached_repository_is_read_without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_repository, "cached_folder", lambda *_: t5_tokenizer.FOLDER)
    monkeypatch.setattr(hub_repository, "ask", lambda *_, **__: pytest.fail("asked"))
    assert len(read_tokenizer("google-t5/t5-base", "")) == ENTRIES
    assert "huggingface_hub" in sys.modules


def test_a_repository_without_tokenizer_is_refused_before_its_weights_are_fetched(
    stand_in_hub: StandInHub, folder: Path
) -> None:
    for name in (JSON_FILE, SPIECE, CONFIG):
        (folder / name).unlink()
    stand_in_hub.publish("someone/tiny", folder)
    with pytest.raises(TalimError, match="there is no tokenizer here") as caught:
        load("someone/tiny", device="cpu")
    assert "hf download someone/tiny --include" in str(caught.value)
    assert "model.safetensors" not in stand_in_hub.fetched()


def test_a_repository_with_spiece_model_only_is_read(stand_in_hub: StandInHub, folder: Path) -> None:
    (folder / JSON_FILE).unlink()
    stand_in_hub.publish("someone/tiny", folder)
    assert len(load("someone/tiny", device="cpu").tokenizer) == ENTRIES


def test_tokenizers_of_other_repositories_are_fetched_first_and_named(
    stand_in_hub: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def publish_now(name: str, files: Path) -> None:
        stand_in_hub.publish(name, files)
        hub_repository._ask.cache_clear()  # an answer is kept for a minute

    base = released_mustango.write(tmp_path / "mustango", predictors=True)
    for part in ("tokenizer", "beats-tokenizer", "chords-tokenizer"):
        (base / part).rename(tmp_path / part)
    stand_in_hub.publish("someone/mustango", base)
    with pytest.raises(TalimError, match="google/flan-t5-large"):
        load("someone/mustango", device="cpu")
    assert not [name for name in stand_in_hub.fetched() if name.endswith(".bin")]
    (tmp_path / "tokenizer/config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    publish_now("google/flan-t5-large", tmp_path / "tokenizer")
    asked = {"prompts": ["a"], "source": GenerationSource("someone/mustango"), "predict_beats_chords": True}
    with pytest.raises(TalimError, match="microsoft/deberta-v3-large"):
        Generation(**asked)
    with pytest.raises(TalimError, match="microsoft/deberta-v3-large"):
        check_predictors("someone/mustango")
    publish_now("microsoft/deberta-v3-large", tmp_path / "beats-tokenizer")
    check_predictors("someone/mustango")
    assert not [name for name in stand_in_hub.fetched() if name.endswith((".bin", ".pt"))]
    said = capsys.readouterr().err
    assert "fetching the tokenizer of google/flan-t5-large" in said
    assert "fetching the tokenizer of microsoft/deberta-v3-large" in said


def test_a_tokenizer_is_found_under_the_id_that_its_repository_had_before(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"t5-base": t5_tokenizer.FOLDER}
    monkeypatch.setattr(hub_repository, "cached_folder", lambda hub_id, _: known.get(hub_id))
    monkeypatch.setattr(hub_repository, "ask", lambda *_, **__: pytest.fail("asked"))
    assert tokenizer_files.fetch_tokenizer("google-t5/t5-base", "") == t5_tokenizer.FOLDER


def test_fetching_a_tokenizer_shows_one_line_of_talim_alone(
    stand_in_hub: StandInHub, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled

    files = {path.name: path.read_bytes() for path in t5_tokenizer.FOLDER.iterdir() if path.is_file()}
    stand_in_hub.publish("google-t5/t5-base", files)
    during = []
    fetch = tokenizer_files.escape
    monkeypatch.setattr(
        tokenizer_files, "escape", lambda name: during.append(are_progress_bars_disabled()) or fetch(name)
    )
    assert (tokenizer_files.fetch_tokenizer("google-t5/t5-base", "") / JSON_FILE).is_file()
    assert set(during) == {True}
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("fetching the tokenizer of google-t5/t5-base (")
