"""Reads the tokenizer of a text encoder: its files must be there, it must know plain English, and fit the encoder.

Where the files are missing, transformers makes a tokenizer of a hundred entries without a word, and every prompt is one
unknown token after the other.
"""

from __future__ import annotations

import importlib.util
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

from talim import progress
from talim.atomic_io import parse_json
from talim.backbones import hub_download, hub_errors, hub_repository
from talim.errors import TalimError
from talim.out_of_memory import memory_that_ran_out

HUB_FILES = ("config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "*.model")
REVISION = "main"
JSON_FILE = "tokenizer.json"
PROBE_WORDS = ("music", "slow", "flute", "drums", "with", "a", "singing", "voice")
SPARE_ROWS = 512  # embeddings are padded to round numbers; sentinel tokens may be left out
SPARE_FRACTION = 0.05
LFS_POINTER = b"version https://git-lfs"


def read_tokenizer(path_or_id: str | Path, where_from: str, kind: str = "t5") -> Any:
    """The tokenizer in a folder, or of a Hub id, from the cache where it is there.

    `where_from` says what to copy or fetch where it is missing; `kind` is the model type of transformers for a folder
    that does not say its own. TalimError, naming the folder, for one that is missing,
    cannot be read or does not know ordinary English words.
    """
    folder = Path(path_or_id) if Path(path_or_id).is_dir() else fetch_tokenizer(str(path_or_id), where_from)
    _check_importable(folder)
    try:
        from transformers import AutoTokenizer

        stated = {} if _states_kind(folder) else {"tokenizer_type": kind}
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, **stated)
    except Exception as error:
        if memory_that_ran_out(error):
            raise
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise TalimError(f"{folder}: the tokenizer here cannot be read ({cause}); {where_from}") from error
    needed = vocabulary_files(tokenizer)
    if needed and not any((folder / name).is_file() for name in needed):
        raise TalimError(
            f"{folder}: there is no tokenizer here (neither {' nor '.join(needed)}), without which every word of a "
            f"prompt is unknown; {where_from}"
        )
    _check_words(tokenizer, folder, where_from)
    return tokenizer


def folder_advice(folder: str | Path) -> str:
    """What to do where a user's folder lacks its tokenizer."""
    return (
        "copy tokenizer.json, tokenizer_config.json and spiece.model there from the repository of the model that it "
        f"came from, for a MusicGen with: hf download facebook/musicgen-small --include 'tokenizer*' 'spiece.model' "
        f"--local-dir {folder}"
    )


def hub_advice(hub_id: str, folder: str | Path | None = None) -> str:
    """What to do where a repository's tokenizer is not here; `folder` is where it may also lie."""
    command = f"hf download {hub_id} --include 'tokenizer*' 'config.json' '*.model'"
    beside = f", or into the base's own folder with: {command} --local-dir {folder}" if folder is not None else ""
    return f"fetch it where the Hub can be reached with: {command}{beside}"


def fetch_tokenizer(hub_id: str, where_from: str) -> Path:
    """The folder of a Hub repository's tokenizer, from the cache or fetched now; TalimError where neither works."""
    from huggingface_hub import snapshot_download

    for known in hub_repository.hub_ids(hub_id):
        cached = hub_repository.cached_folder(known, REVISION)
        if cached is not None and ((cached / JSON_FILE).is_file() or any(cached.glob("*.model"))):
            return cached
    try:
        files = hub_repository.ask(hub_id, REVISION, hub_id).files
        names = [name for name in files if any(fnmatch(name, pattern) for pattern in HUB_FILES)]
        megabytes = sum(files[name].size for name in names) / 1e6
        progress.default().log(f"fetching the tokenizer of {hub_id} ({megabytes:.1f} MB)")
        with hub_download.quiet_library():
            return Path(snapshot_download(hub_id, revision=REVISION, allow_patterns=[escape(name) for name in names]))
    except Exception as error:
        cause = " ".join(str(hub_errors.explain(error, hub_id, hub_id)).split())[:200]
        raise TalimError(f"the tokenizer of {hub_id} is not on this machine, and {cause}; {where_from}") from error


def vocabulary_files(tokenizer: Any) -> list[str]:
    """Names of the files of which one must hold the tokenizer's vocabulary; none for a tokenizer of bytes."""
    return sorted({name for name in type(tokenizer).vocab_files_names.values() if name}, reverse=True)


def check_fit(tokenizer: Any, text_config: Any, where_from: str) -> None:
    """TalimError unless the ids of the tokenizer are those of the text encoder's embedding.

    `text_config` holds its `vocab_size`, `pad_token_id` and `eos_token_id`.
    """
    rows, where = int(text_config.vocab_size), tokenizer.name_or_path
    entries = max(tokenizer.get_vocab().values(), default=-1) + 1
    if entries > rows:
        fault = f"has {entries} entries, but the text encoder knows the first {rows} only"
    elif rows - entries > max(SPARE_ROWS, SPARE_FRACTION * rows):
        fault = f"has {entries} entries, but the text encoder knows {rows}"
    else:
        fault = next(
            (
                f"has {name.replace('_', ' ')} {actual}, but the text encoder's is {expected}"
                for name in ("pad_token_id", "eos_token_id")
                if isinstance(expected := getattr(text_config, name, None), int)
                and (actual := getattr(tokenizer, name, None)) is not None
                and actual != expected
            ),
            "",
        )
    if fault:
        raise TalimError(f"{where}: this tokenizer {fault}; it is another model's: {where_from}")


def _states_kind(folder: Path) -> bool:
    """Whether a configuration in the folder names the tokenizer's class or the model's type."""
    keys = {"config.json": ("model_type", "tokenizer_class"), "tokenizer_config.json": ("tokenizer_class",)}
    return any(key in _read_object(folder / name) for name, names in keys.items() for key in names)


def _read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none, which transformers reports."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_importable(folder: Path) -> None:
    """TalimError for files that are no files, or that need a library which is not installed."""
    models = sorted(folder.glob("*.model"))
    for path in (folder / JSON_FILE, *models):
        if path.is_file() and path.open("rb").read(len(LFS_POINTER)) == LFS_POINTER:
            raise TalimError(f"{path}: only the pointer of Git LFS is here, not the file; fetch it with: git lfs pull")
    missing = [name for name in ("sentencepiece", "google.protobuf") if not _installed(name)]
    if models and missing and not (folder / JSON_FILE).is_file():
        raise TalimError(
            f"{models[0]}: reading it needs {' and '.join(missing)}, which this installation lacks; "
            "pip install sentencepiece protobuf"
        )


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package above it
        return False


def _check_words(tokenizer: Any, folder: Path, where_from: str) -> None:
    """TalimError where ordinary words are unknown, or are all the same."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    ids = [tuple(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in PROBE_WORDS]
    lost = [word for word, tokens in zip(PROBE_WORDS, ids, strict=True) if not tokens or unknown in tokens]
    if lost or len(set(ids)) < len(ids):
        listed = ", ".join(lost or PROBE_WORDS)
        raise TalimError(
            f"{folder}: the tokenizer here does not know ordinary words ({listed}): it is damaged or not the base's; "
            f"{where_from}"
        )
