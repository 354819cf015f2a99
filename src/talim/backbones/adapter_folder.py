"""Where an adapter's files are: a folder here, a run's adapter, or a repository of the Hub, which is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from talim import progress
from talim.backbones import hub_download, hub_errors, hub_repository
from talim.backbones.card_licence import licence_of_card
from talim.backbones.hub_errors import HubUnreachableError
from talim.backbones.resolve import HUB_ID, REVISION
from talim.errors import TalimError
from talim.path_suggestions import did_you_mean
from talim.run import Run

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
FETCHED = (CONFIG, WEIGHTS, PICKLED, "talim.json", "README.md", "LICENSE*")
# where `hf download --local-dir` keeps the commit that each file came from
DOWNLOAD_RECORD = Path(".cache", "huggingface", "download", f"{CONFIG}.metadata")
CACHED = "models--"  # begins the folder of a repository in the cache of huggingface_hub


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter's folder; the repository of the Hub and the commit that it came from, empty where not known."""

    folder: Path
    repository: str = ""
    revision: str = ""

    @property
    def name(self) -> str:
        """The repository, else the folder's name, with that of its run before it."""
        if self.repository:
            return self.repository
        folder = self.folder.resolve()
        return f"{folder.parent.name}/{folder.name}" if Run(folder.parent).recipe_file.is_file() else folder.name

    @property
    def licence(self) -> str:
        """The licence in its model card; "unknown" where there is no card, or none in it."""
        return licence_of_card(self.folder / "README.md")


def find_adapter(name: Path | str, option: str = "--adapter") -> AdapterFolder:
    """The folder of an adapter or of a finished run, or `OWNER/NAME[@REVISION]` of the Hub, which is fetched.

    A folder comes before a repository of the same name. TalimError where no adapter is there, naming the `option`.
    """
    text = str(name)
    folder = Path(text).expanduser() if text.startswith("~") else Path(text)
    if folder.is_dir():
        return _known_origin(_in_folder(folder, option))
    hub_id, at, revision = text.partition("@")
    is_id = HUB_ID.fullmatch(hub_id) and "--" not in hub_id and ".." not in text
    if not folder.exists() and not folder.parent.is_dir() and is_id and (not at or REVISION.fullmatch(revision)):
        return _of_hub(hub_id, revision, option)
    raise TalimError(
        f"{option} {text}: no adapter folder is here{did_you_mean(folder)}; a run keeps its own in RUN/adapter, and "
        "OWNER/NAME is one of the Hub"
    )


def _in_folder(folder: Path, option: str) -> Path:
    if (folder / CONFIG).is_file():
        return folder
    run = Run(folder)
    if run.recipe_file.is_file():
        if (run.adapter / CONFIG).is_file():
            return run.adapter
        raise TalimError(f"{option} {folder}: its training is not finished; continue with: {run.resume_command}")
    inside = sorted(file.parent for depth in ("*", "*/*") for file in folder.glob(f"{depth}/{CONFIG}"))[:3]
    named = f", but {' and '.join(map(str, inside))} do" if inside else ""
    raise TalimError(
        f"{option} {folder}: holds no adapter ({CONFIG} is missing){named}; give the folder that PEFT's "
        "save_pretrained wrote, or a run of talim train"
    )


def _known_origin(folder: Path) -> AdapterFolder:
    """A folder with what it tells of the Hub: as part of the cache of huggingface_hub, or by `hf download`."""
    parts = folder.absolute().parts
    for place, part in enumerate(parts[:-2]):
        if part.startswith(CACHED) and parts[place + 1] == "snapshots":
            return AdapterFolder(folder, part.removeprefix(CACHED).replace("--", "/"), parts[place + 2])
    try:
        commit = (folder / DOWNLOAD_RECORD).read_text(encoding="utf-8").split("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return AdapterFolder(folder)
    return AdapterFolder(folder, revision=commit if hub_download.is_commit(commit) else "")


def _of_hub(hub_id: str, revision: str, option: str) -> AdapterFolder:
    """Files that are here are used without asking the Hub, unless a branch or a tag was asked for."""
    wanted = revision or hub_download.MAIN
    here = _cached(hub_id, wanted)
    if here is not None and (not revision or hub_download.is_commit(revision)):
        return AdapterFolder(here, hub_id, here.name)
    try:
        if here is not None:  # huggingface_hub would use it without a word where the Hub cannot be asked
            hub_repository.ask(hub_id, wanted, hub_id, hub_repository.PROBE_SECONDS)
        folder = _fetch(hub_id, wanted)
    except HubUnreachableError as problem:
        if here is None:
            at = f" --revision {revision}" if revision else ""
            raise TalimError(
                f"{option} {hub_id}: no such folder is here, and as an adapter of the Hub it is not on this machine, "
                f"and {problem.reason}; connect and run this again, or fetch it on another machine with: hf download "
                f"{hub_id}{at} --local-dir {hub_id.rsplit('/', 1)[-1]}, copy that folder here and give it"
            ) from problem
        progress.log_once(
            f"adapter {hub_id!r}: {problem.reason}; the files that were fetched before are used (commit {here.name})"
        )
        folder = here
    found = AdapterFolder(folder, hub_id, folder.name)
    if not (folder / CONFIG).is_file():
        raise TalimError(
            f"{option} {hub_id}: this repository holds no adapter of PEFT ({CONFIG} is missing at its top); give a "
            f"folder of it after: hf download {hub_id} --local-dir {hub_id.rsplit('/', 1)[-1]}"
        )
    return found


def _cached(hub_id: str, revision: str) -> Path | None:
    """The folder of a cached commit with a whole adapter in it."""
    config, weights, pickled = (hub_repository.cached_file(hub_id, revision, n) for n in (CONFIG, WEIGHTS, PICKLED))
    return config.parent if config is not None and (weights or pickled) is not None else None


def _fetch(hub_id: str, revision: str) -> Path:
    """The folder with the adapter's files at one commit, which is its name."""
    from huggingface_hub import constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise HubUnreachableError(hub_errors.SWITCHED_OFF)
    progress.log_once(f"adapter {hub_id!r}: fetching it from {hub_errors.shown_address()}/{hub_id}")
    try:
        with hub_download.quiet_library():
            return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(FETCHED)))
    except Exception as error:
        if not hub_errors.known_error(error):
            cause = " ".join(str(error).split())[:160] or type(error).__name__
            raise TalimError(f"adapter {hub_id!r} could not be fetched ({cause})") from error
        problem = hub_errors.explain(error, hub_id, hub_id, revision)
        if isinstance(problem, HubUnreachableError):
            raise problem from error
        raise TalimError(str(problem).replace("base ", "adapter ", 1)) from error
