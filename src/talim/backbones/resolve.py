"""Resolves a base model's name to files: shipped with talim, a local folder, or a Hugging Face Hub id."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from talim import progress
from talim.atomic_io import parse_json
from talim.backbones import hub_download, hub_errors, hub_repository, registry
from talim.backbones.card_licence import licence_of_card
from talim.backbones.checkpoint_layout import foreign_model_type
from talim.backbones.hub_download import HubBase
from talim.backbones.musicgen.audiocraft_checkpoint import AudiocraftCheckpoint, is_audiocraft
from talim.errors import TalimError
from talim.out_of_memory import memory_that_ran_out
from talim.path_suggestions import did_you_mean
from talim.strict_yaml import shown_value

NANO_FOLDER = Path(__file__).parent / "nano" / "weights"  # one folder per model
NANO_MUSTANGO = "talim-nano-mustango"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
FOLDER_FIRST = "base {name!r}: the folder {folder} here is used, not {hub_id} of the Hub; for that give {hub_id}@main"
FOLDER_UNUSED = "base {name!r}: the folder {folder} here is not used, as it holds no base model; {hub_id} of the Hub is"
SHIPPED_FIRST = (
    "base {name!r}: the folder {folder} here is not used, but the model that ships with talim; for it give ./{folder}"
)
CONFIG, MUSTANGO_CONFIG = "config.json", registry.UNET_CONFIG


@dataclass(frozen=True)
class ModelSource:
    """Location of a base model's files: a folder (`local` if the user's) or a Hub id; and its public name.

    `revision` is the one asked for on the Hub, empty for none; `commit` is known once the files are fetched.
    """

    path_or_id: str
    name: str
    local: bool
    entry: registry.ModelEntry | None
    revision: str = ""
    commit: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether `path_or_id` is a folder: the user's, the package's, or of the Hub's cache."""
        return self.local or bool(self.commit)

    @property
    def hub(self) -> HubBase:
        """What to ask the Hub for; only where the source is not local."""
        pinned, licence = (self.entry.revision, self.entry.licence) if self.entry is not None else ("", "")
        return HubBase(self.name, self.name, self.revision, pinned, licence)


def is_nano_mustango(source: ModelSource, folder: Path | None = None) -> bool:
    """Whether a folder (the source's) holds a nano-mustango."""
    try:
        config = parse_json(((folder or Path(source.path_or_id)) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # reported when the model is loaded
        return False
    return isinstance(config, dict) and config.get("model_type") == NANO_MUSTANGO


def family_by_name(name: str) -> str:
    """Family of a base by its name, without loading it; raises TalimError as `load` does."""
    return source_family(check_base(name))


def check_base(name: str) -> ModelSource:
    """The files of a base that can be loaded here, as far as is known without loading it; imports no torch.

    TalimError for a name that is unknown here and on the Hub, for a model that is not on this machine while the Hub
    cannot be reached, and for one that does not fit on the disk.
    """
    source = resolve_source(name)
    check_reachable(source)
    source_family(source)  # reads the configuration of a model that is not registered
    return source


def source_family(source: ModelSource) -> str:
    """ "mustango" or "musicgen", from the registry or from the files."""
    if source.entry is not None:
        return source.entry.family
    folder = Path(source.path_or_id) if source.is_folder else hub_download.find_cached(source.hub)
    if folder is None:
        with friendly_load_errors(source):
            folder = hub_download.fetch_description(source.hub)
    if not source.local and (kind := foreign_model_type(folder)):
        raise TalimError(f"base {source.name!r} is a model of the type {kind}; expected MusicGen or Mustango")
    is_mustango = (folder / "ldm").is_dir() or (folder / MUSTANGO_CONFIG).is_file() or is_nano_mustango(source, folder)
    return "mustango" if is_mustango else "musicgen"


def fetched(source: ModelSource) -> ModelSource:
    """The source with its files in a folder here: those of the Hub are downloaded where the cache lacks them."""
    if source.is_folder:
        return source
    with friendly_load_errors(source):
        folder = hub_download.fetch(source.hub)
    return replace(source, path_or_id=str(folder), commit=folder.name)


def with_predictors(source: ModelSource) -> Path:
    """The folder of a fetched Mustango with its networks for beats and chords, which are downloaded where they lack."""
    if source.local:
        return Path(source.path_or_id)
    return hub_download.fetch(replace(source.hub, revision=source.commit), predictors=True)


def described(source: ModelSource) -> ModelSource:
    """As `fetched`, but of a MusicGen on the Hub only the configuration and the other small files."""
    if source.is_folder or source_family(source) == "mustango":  # whose widths are only known from its weights
        return fetched(source)
    with friendly_load_errors(source):
        folder = hub_download.find_cached(source.hub) or hub_download.fetch_description(source.hub)
    if not (folder / CONFIG).is_file():  # audiocraft's settings are in the file with the weights
        return fetched(source)
    return replace(source, path_or_id=str(folder), commit=folder.name)


def takes_melody(name: str) -> bool:
    """Whether a base is conditioned on a melody, by its registered shape or its config.json; TalimError as `load`."""
    source = check_base(name)
    if source.entry is not None and source.entry.hub_id:
        return getattr(source.entry.shape, "melody_frames", 0) > 0
    source = described(source)
    file = Path(source.path_or_id) / CONFIG
    with friendly_load_errors(source):
        if is_audiocraft(file.parent):
            return bool(AudiocraftCheckpoint(file.parent).preprocessor)
        return file.is_file() and parse_json(file.read_text(encoding="utf-8")).get("model_type") == "musicgen_melody"


def resolve_source(name: str) -> ModelSource:
    """Files of a name; TalimError with similar names if there are none.

    A folder with a base model in it comes before a model of that name on the Hub, after one that ships with talim; each
    is said. `NAME@REVISION` is always the Hub's.
    """
    if not name.strip() or "\0" in name or any(len(part.encode("utf-8", "replace")) > 255 for part in name.split("/")):
        raise TalimError(f"base {shown_value(name)} is no name of a model; {_load_advice('')}")
    plain, revision = split_revision(name)
    entry, folder = registry.find_model(plain), _expanded(plain)
    if revision and (folder.is_dir() if entry is None else not entry.hub_id):
        kind = "a folder" if entry is None else "a model that ships with talim"
        raise TalimError(f"base {name!r}: {plain} is {kind} and has no revisions; give {plain}")
    if entry is not None and not entry.hub_id:
        return _shipped_source(entry, folder)
    if not revision and is_model_folder(folder):
        if entry is not None:
            progress.log_once(FOLDER_FIRST.format(name=name, folder=folder, hub_id=entry.hub_id))
        return ModelSource(str(folder), folder.resolve().name or str(folder), True, None)
    if entry is None and (reason := registry.unsupported_reason(plain)):
        raise TalimError(f"base {name!r} is not supported: {reason}")
    if folder.is_dir() and entry is None:
        raise TalimError(
            f"base {name!r} is a folder without config.json or state_dict.bin; expected a checkpoint of MusicGen or "
            "Mustango"
        )
    if entry is not None:
        if folder.is_dir() and not revision:
            progress.log_once(FOLDER_UNUSED.format(name=name, folder=folder, hub_id=entry.hub_id))
        return ModelSource(entry.hub_id, entry.hub_id, False, entry, revision)
    if HUB_ID.fullmatch(plain) and "--" not in plain and ".." not in plain:
        if near := did_you_mean(folder):
            progress.log_once(f"base {name!r}: no such folder here{near} It is taken as a model of the Hub")
        return ModelSource(plain, plain, False, None, revision)
    raise TalimError(f"base {name!r} is no known model and no folder; {_load_advice(name)}")


def absolute_name(name: str) -> str:
    """What to type for a base from anywhere: the absolute path of a folder of the user's, any other name as it is."""
    source = resolve_source(name)
    return str(Path(source.path_or_id).resolve()) if source.local and source.entry is None else name


def split_revision(name: str) -> tuple[str, str]:
    """`NAME@REVISION` in its two parts, the second empty where there is none; TalimError for an impossible revision."""
    if "@" not in name or is_model_folder(_expanded(name)):
        return name, ""
    plain, _, revision = name.partition("@")
    if not REVISION.fullmatch(revision) or ".." in revision:
        raise TalimError(
            f"base {shown_value(name)}: {shown_value(revision)} is no revision; expected a branch, a tag or a whole "
            f"commit after the @, such as {plain}@main"
        )
    return plain, revision


def _shipped_source(entry: registry.ModelEntry, here: Path) -> ModelSource:
    folder = NANO_FOLDER / entry.name
    if not (folder / CONFIG).is_file():
        raise TalimError(f"{entry.name} is missing from this installation ({folder}); install talim again")
    if is_model_folder(here) and here.resolve() != folder.resolve():
        progress.log_once(SHIPPED_FIRST.format(name=entry.name, folder=here))
    return ModelSource(str(folder), entry.name, True, entry)


def is_model_folder(folder: Path) -> bool:
    """Whether a folder looks like a base: a configuration of transformers, or files of Mustango or audiocraft."""
    return (folder / CONFIG).is_file() or (folder / "ldm").is_dir() or is_audiocraft(folder)


def _expanded(name: str) -> Path:
    """The path of a name; ~ stays as it is where there is no home directory."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def source_licence(source: ModelSource) -> str:
    """Licence from the registry, or from the model card of a folder or of the Hub, or "unknown".

    TalimError for a model of the Hub that is not here and cannot be asked for.
    """
    if source.entry is not None:
        return source.entry.licence
    if source.is_folder:
        return licence_of_card(Path(source.path_or_id) / "README.md")
    folder = hub_repository.cached_folder(source.name, source.hub.wanted)
    card = None if folder is None else folder / "README.md"
    if card is not None and card.is_file():
        return licence_of_card(card)
    try:
        return hub_download.look_up(source.hub).licence
    except hub_errors.HubUnreachableError:
        if card is None:
            raise
        return licence_of_card(card)  # unknown: other programs fetch no card


@contextmanager
def friendly_load_errors(source: ModelSource) -> Iterator[None]:
    """Turn any error of a library while loading a model into a one-line TalimError with advice."""
    try:
        yield
    except TalimError:
        raise
    except Exception as error:
        if memory_that_ran_out(error):
            raise
        cause = " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
        if source.is_folder and hub_errors.known_error(error):  # of a codec or text encoder that lies elsewhere
            problem = hub_errors.explain(error, source.name, source.name)
            reason = problem.reason if isinstance(problem, hub_errors.HubUnreachableError) else cause
            raise TalimError(
                f"base {source.name!r}: a repository that its files name is not to be had: {reason}"
            ) from error
        if not source.is_folder and not hub_errors.known_error(error):
            text = f"base {source.name!r} could not be fetched from the Hugging Face Hub ({cause})"
            raise TalimError(f"{text}; {_load_advice(source.name)}") from error
        if not source.is_folder:
            problem = hub_errors.explain(error, source.name, source.name, source.hub.wanted)
            if isinstance(problem, hub_errors.HubUnreachableError):
                problem = hub_errors.not_here(source.name, source.name, problem.reason, source.revision)
            raise problem from error
        raise TalimError(f"base {source.name!r} at {source.path_or_id} cannot be read: {cause}") from error


def check_reachable(source: ModelSource) -> None:
    """TalimError if a Hub model is neither cached nor to be had, or does not fit on the disk, before any work."""
    if not source.is_folder:
        hub_download.check(source.hub)


def cached_file(hub_id: str, name: str, revision: str = "") -> Path | None:
    """A file of a Hub model in the local cache, at the revision that would be used; else None."""
    entry = registry.find_model(hub_id)
    wanted = revision or (entry.revision if entry is not None else "") or hub_download.MAIN
    return hub_repository.cached_file(hub_id, wanted, name)


def _load_advice(name: str) -> str:
    entry, similar = registry.find_model(name), registry.closest_names(name)
    hint = f"did you mean {' or '.join(similar)}? " if similar and entry is None else ""
    if not hint and os.sep in name:
        hint = f"{did_you_mean(_expanded(name)).removeprefix('; ')} ".lstrip()
    hub_id = entry.hub_id if entry is not None and entry.hub_id else "facebook/musicgen-small"
    miniature = registry.miniature_like(name)
    shipped = f"{miniature} (ships with talim), " if miniature else ""
    return (
        f"{hint}use {shipped}a Hub id such as {hub_id}, "
        f"or a folder made with: hf download {hub_id} --local-dir {hub_id.rsplit('/', 1)[-1]}"
    )
