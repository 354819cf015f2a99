"""Fetches a base model's files into the cache of huggingface_hub: only those needed, told before, resumed after breaks.

Large files are fetched here, as huggingface_hub begins each one anew after an interruption; the cache is its own, with
its layout and its locks, so that other programs find the files.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from talim import progress
from talim.backbones import checkpoint_layout, hub_errors, hub_repository
from talim.backbones.hub_errors import HubUnreachableError, RevisionMissingError
from talim.backbones.hub_repository import HubRepository, RepositoryFile
from talim.errors import TalimError
from talim.licences import allows_commercial_use

P = ParamSpec("P")
T = TypeVar("T")
MAIN = "main"
LARGE_BYTES = 5_000_000
CHUNK_BYTES = 1 << 20
MAX_BREAKS = 5  # in a row, without a byte between them
PAUSE_SECONDS = 1.0  # after the first break; longer after each
PART_SUFFIX = ".talim-part"
MARGIN_BYTES = 50_000_000  # for the small files and the rest of the machine


@dataclass(frozen=True)
class HubBase:
    """A base on the Hub as it was asked for: its name for messages, and the revision.

    `revision` is the user's or the run's, empty for none; `pinned` the commit that the registry knows.
    """

    name: str
    hub_id: str
    revision: str = ""
    pinned: str = ""
    licence: str = ""  # as the registry knows it; empty to read the card
    is_part: bool = False  # the text encoder or codec of a base, which is no base itself

    @property
    def wanted(self) -> str:
        return self.revision or self.pinned or MAIN

    @property
    def moves(self) -> bool:
        """Whether a branch or a tag was asked for, which may be another commit tomorrow."""
        return bool(self.revision) and not is_commit(self.revision)


def is_commit(revision: str) -> bool:
    """Whether a revision is the whole hash of a commit."""
    return len(revision) == 40 and set(revision) <= set("0123456789abcdef")


def _explain_cache_errors(work: Callable[Concatenate[HubBase, P], T]) -> Callable[Concatenate[HubBase, P], T]:
    """Turns an OSError of the cache, such as a folder that may not be entered, into a TalimError that names it."""

    @wraps(work)
    def explained(base: HubBase, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(base, *args, **kwargs)
        except OSError as error:
            if hub_errors.known_error(error):
                raise
            place = error.filename if isinstance(error.filename, str) else str(_cache_folder())
            raise TalimError(
                f"base {base.name!r}: {place} in the cache of the Hub cannot be used ({error.strerror or error}); give "
                "yourself the right to read and write it, or set HF_HOME to another folder"
            ) from error

    return explained


@_explain_cache_errors
def fetch(base: HubBase, predictors: bool = False) -> Path:
    """The folder with the files of the base at one commit, which is the folder's name; downloaded where they lack.

    Files that are here are used without asking the Hub, unless a branch or a tag was asked for. TalimError where the
    base is neither here nor to be had, or the disk is too small.
    """
    here = find_cached(base, predictors)
    if here is not None and not base.moves:
        return here
    try:
        repository = look_up(base, hub_repository.PROBE_SECONDS if here else hub_repository.ANSWER_SECONDS)
    except HubUnreachableError as problem:
        return _without_hub(base, problem, here, predictors)
    needed = check_files(base, repository, predictors)
    folder = hub_repository.cached_folder(base.hub_id, repository.commit)
    if folder is None or any(not _is_whole(folder / name, repository.files[name]) for name in needed):
        with quiet_library():
            folder = _download(base, repository, needed)
    _keep_revision(folder, base, repository.commit)
    return folder


@_explain_cache_errors
def find_cached(base: HubBase, predictors: bool = False) -> Path | None:
    """The folder of the wanted revision where all that loading needs is in the cache; else None."""
    for hub_id in hub_repository.hub_ids(base.hub_id):
        folder = hub_repository.cached_folder(hub_id, base.wanted)
        if folder is not None and not hub_repository.missing_files(hub_id, folder, predictors):
            return folder
    return None


@_explain_cache_errors
def check(base: HubBase) -> None:
    """TalimError where `fetch` could not succeed, as far as one request tells.

    Nothing is fetched, but the small files of a repository with conditions, which shows whether it is open to the user.
    """
    if find_cached(base) is not None:
        return
    try:
        repository = look_up(base)
        check_files(base, repository)
        if repository.gated:
            fetch_description(base)
    except HubUnreachableError as problem:
        _without_hub(base, problem, None, False)


@_explain_cache_errors
def fetch_description(base: HubBase) -> Path:
    """As `fetch`, but only the small files: configurations, tokenizer, model card."""
    try:
        repository = look_up(base)
        with quiet_library():
            names = [name for name in check_files(base, repository) if not _is_large(repository, name)]
            folder = _snapshot(base, repository, names)
    except HubUnreachableError as problem:
        # as `fetch` does, before a commit that is here in part
        newest = None if base.revision else find_cached(HubBase(base.name, base.hub_id))
        folder = newest or hub_repository.cached_folder(base.hub_id, base.wanted)
        if folder is None:
            raise hub_errors.not_here(base.name, base.hub_id, problem.reason, base.revision) from problem
    _keep_revision(folder, base, folder.name)
    return folder


def _snapshot(base: HubBase, repository: HubRepository, names: Sequence[str]) -> Path:
    """The commit's folder in the cache with these files in it, by huggingface_hub."""
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(name) for name in names]
    try:
        return Path(snapshot_download(base.hub_id, revision=repository.commit, allow_patterns=patterns))
    except Exception as error:
        if isinstance(error, OSError) and not hub_errors.known_error(error):
            raise _disk_error(base, error) from error
        raise hub_errors.explain(error, base.name, base.hub_id, repository.commit) from error


def _without_hub(base: HubBase, problem: HubUnreachableError, here: Path | None, predictors: bool) -> Path:
    """What is here, with a line that says why; TalimError if it is not enough."""
    if here is None and not base.revision:  # the commit of other programs, which take the newest
        here = find_cached(HubBase(base.name, base.hub_id), predictors)
    if here is None:
        partly = hub_repository.cached_folder(base.hub_id, base.wanted)
        lacks = hub_repository.missing_files(base.hub_id, partly, predictors) if partly is not None else []
        reason = problem.reason
        if lacks:
            reason += f" (of its files these are missing: {', '.join(lacks[:3])}{' ...' * (len(lacks) > 3)})"
        raise hub_errors.not_here(base.name, base.hub_id, reason, base.revision, known=bool(lacks)) from problem
    progress.log_once(hub_errors.FROM_CACHE.format(name=base.name, reason=problem.reason, commit=here.name))
    return here


def look_up(base: HubBase, seconds: float = hub_repository.ANSWER_SECONDS) -> HubRepository:
    """The repository at the wanted revision; at its newest where the Hub (a mirror?) lacks the pinned commit."""
    try:
        return hub_repository.ask(base.hub_id, base.wanted, base.name, seconds)
    except RevisionMissingError:
        if base.revision or not base.pinned:
            raise
    host = hub_errors.host_name()
    progress.log_once(hub_errors.NOT_PINNED.format(**vars(base) | {"host": host, "revision": MAIN}))
    return hub_repository.ask(base.hub_id, MAIN, base.name, seconds)


def check_files(base: HubBase, repository: HubRepository, predictors: bool = False) -> list[str]:
    """The files to fetch; TalimError if they are no checkpoint or do not fit on the disk."""
    names = list(repository.files)
    if checkpoint_layout.lacks_weights(names):
        files = ", ".join(sorted(names)[:8]) + (" ..." if len(names) > 8 else "") or "none"
        raise TalimError(hub_errors.NO_CHECKPOINT.format(name=base.name, hub_id=base.hub_id, files=files))
    needed = checkpoint_layout.needed_files(names, predictors)
    store = _store(base.hub_id)
    still = sum(_missing_bytes(store, repository, name) for name in needed)
    if still:
        still += _converted_bytes(base, repository, needed)
        free = _free_bytes(store)
        if still + MARGIN_BYTES > free:
            facts = {"needed": size_text(still + MARGIN_BYTES), "free": size_text(free), "cache": _cache_folder()}
            raise TalimError(hub_errors.NO_SPACE.format(name=base.name, **facts))
    return needed


def _download(base: HubBase, repository: HubRepository, needed: Sequence[str]) -> Path:
    large = [name for name in needed if _is_large(repository, name)]
    try:
        # the small ones first: a repository that is closed to this user shows here, and a model of another kind
        folder = _snapshot(base, repository, [name for name in needed if name not in large])
        if not base.is_part and (kind := checkpoint_layout.foreign_model_type(folder)):
            raise TalimError(f"base {base.name!r} is a model of the type {kind}; expected MusicGen or Mustango")
        missing = [name for name in large if not _is_whole(folder / name, repository.files[name])]
        if missing:
            for name in missing:  # of another size, such as one whose copying was broken off
                (folder / name).unlink(missing_ok=True)
            _announce(base, repository, needed, missing)
            report = _DownloadReport(base, sum(repository.files[name].size for name in missing))
            for name in missing:
                _fetch_large(base, repository, name, report)
            report.close()
        return _snapshot(base, repository, needed)
    except HubUnreachableError as problem:
        raise hub_errors.not_here(base.name, base.hub_id, problem.reason, base.revision) from problem


def _announce(base: HubBase, repository: HubRepository, needed: Sequence[str], missing: Sequence[str]) -> None:
    """What is fetched: how much, from where and to where, under which licence, and what is not."""
    store = _store(base.hub_id)
    total = sum(repository.files[name].size for name in missing)
    kept = total - sum(_missing_bytes(store, repository, name) for name in missing)
    licence = base.licence or repository.licence
    text = (
        f"base {base.name!r}: fetching {size_text(total)} from {hub_errors.shown_address()}/{base.hub_id} (commit "
        f"{repository.commit}) into {_cache_folder()}, where {size_text(_free_bytes(store))} are free"
    )
    if kept:
        text += f"; {size_text(kept)} of them are here from an interrupted download"
    if converted := _converted_bytes(base, repository, needed):
        text += f"; reading them writes {size_text(converted)} more, the same weights in safetensors"
    progress.log_once(f"{text}; licence of the weights: {licence}{licence_note(licence)}")
    left = [name for name in repository.files if name not in needed and _is_large(repository, name)]
    if left:
        size = size_text(sum(repository.files[name].size for name in left))
        progress.log_once(
            f"base {base.name!r}: not fetched, as loading does not read it: {', '.join(sorted(left))} ({size})"
        )


def _converted_bytes(base: HubBase, repository: HubRepository, needed: Sequence[str]) -> int:
    """Bytes of the pickled files of which reading will leave a copy in safetensors, as far as it is not there yet."""
    folder = _store(base.hub_id) / "snapshots" / repository.commit
    pickled = [name for name in needed if name in checkpoint_layout.MUSTANGO_CONVERTED]
    return sum(
        repository.files[name].size for name in pickled if not (folder / name).with_suffix(".safetensors").is_file()
    )


def licence_note(licence: str) -> str:
    """What a base's licence means for what is made with it; empty where it allows commercial use."""
    use = allows_commercial_use(licence)
    if use == "forbidden":
        return " (non-commercial: neither adapters nor music made with it may be sold)"
    return " (find out what it allows before you publish anything made with it)" if use == "unknown" else ""


class _DownloadReport:
    """Progress of all large files of a base together, in megabytes."""

    def __init__(self, base: HubBase, total: int) -> None:
        self.title, self.total, self.done = f"fetching {base.name}, MB", total, 0
        self.started, self.fetched = time.monotonic(), 0
        self.progress = progress.default()

    def add(self, size: int, fetched: bool = True) -> None:
        self.done += size
        self.fetched += size if fetched else 0
        elapsed = time.monotonic() - self.started
        speed = f"{self.fetched / elapsed / 1e6:.1f} MB/s" if elapsed > 0.5 and self.fetched else ""
        self.progress.step(self.title, self.done // 1_000_000, max(1, self.total // 1_000_000), speed)

    def log(self, text: str) -> None:
        self.progress.log(text)

    def close(self) -> None:
        self.progress.close()


def _fetch_large(base: HubBase, repository: HubRepository, name: str, report: _DownloadReport) -> None:
    """Fetch one file into the cache's blobs, going on from what an earlier call left; TalimError if it breaks off."""
    file, store = repository.files[name], _store(base.hub_id)
    blob = store / "blobs" / file.sha256
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        with _locked(store, file.sha256, report):
            if _is_whole(blob, file):
                report.add(file.size, fetched=False)
                return
            part = blob.with_name(blob.name + PART_SUFFIX)
            digest = _fetch_part(base, repository, name, part, report)
            if digest != file.sha256:
                part.unlink(missing_ok=True)
                raise TalimError(hub_errors.DAMAGED.format(name=base.name, file=name))
            os.replace(part, blob)
    except OSError as error:
        raise _disk_error(base, error) from error


def _fetch_part(base: HubBase, repository: HubRepository, name: str, part: Path, report: _DownloadReport) -> str:
    """Complete the partial file; returned is its SHA-256."""
    size, breaks = repository.files[name].size, 0
    with open(part, "ab+") as target:
        if here := target.tell():  # of a file that is appended to: its length
            report.log(f"base {base.name!r}: checking {size_text(here)} of {name}, which an earlier call left")
        digest, have = _hash_part(target, size, report)
        while have < size:
            before = have
            try:
                for start, chunk in _stream(base, repository, name, have):
                    if start < have:  # the server began anew
                        report.add(-have, fetched=False)
                        target.truncate(0)
                        digest, have = hashlib.sha256(), 0
                    target.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    report.add(len(chunk))
                cause = "the connection was closed"
            except HubUnreachableError as problem:
                cause = problem.reason
            breaks = 1 if have > before else breaks + 1
            if have >= size:
                break
            target.flush()
            facts = {"file": name, "have": size_text(have), "size": size_text(size), "cause": cause}
            if breaks > MAX_BREAKS:
                raise TalimError(hub_errors.BROKEN_OFF.format(name=base.name, times=breaks, **facts))
            report.log(
                f"base {base.name!r}: the download of {name} broke off at {facts['have']} of {facts['size']} "
                f"({cause}); going on from there"
            )
            time.sleep(breaks * PAUSE_SECONDS)
        if have > size:
            return ""
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


def _hash_part(target: Any, size: int, report: _DownloadReport) -> tuple[Any, int]:
    """The running SHA-256 of what an earlier call left, and its length; emptied if it is longer than the file."""
    digest, have = hashlib.sha256(), 0
    target.seek(0)
    while block := target.read(CHUNK_BYTES):
        digest.update(block)
        have += len(block)
        report.add(len(block), fetched=False)
    if have > size:
        report.add(-have, fetched=False)
        target.truncate(0)
        return hashlib.sha256(), 0
    return digest, have


def _stream(base: HubBase, repository: HubRepository, name: str, have: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of a file from the byte `have`, each with its position; HubUnreachableError where it breaks off."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    # asked anew each time, as the large-file storage gives addresses that expire
    url = hf_hub_url(base.hub_id, name, revision=repository.commit, endpoint=hub_errors.endpoint())
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        with get_session().stream("GET", url, headers=headers, timeout=seconds, follow_redirects=True) as response:
            if response.status_code >= 400 and (storage := response.url.netloc.decode()) != hub_errors.host_name():
                status = response.status_code  # 403 where an address has expired, which is asked for anew each time
                raise HubUnreachableError(hub_errors.SERVER_ERROR.format(host=storage, status=status))
            hf_raise_for_status(response)
            position = have if response.status_code == 206 else 0
            for chunk in response.iter_bytes():
                yield position, chunk
                position += len(chunk)
    except Exception as error:
        if not hub_errors.known_error(error):
            raise
        raise hub_errors.explain(error, base.name, base.hub_id, repository.commit, seconds) from error


@contextmanager
def _locked(store: Path, etag: str, report: _DownloadReport) -> Iterator[None]:
    """The lock that huggingface_hub takes for the same file; waiting for another process is told."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    lock = store.parent / ".locks" / store.name / f"{etag}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(lock, timeout=0.5))
        except Timeout:
            report.log("another process fetches the same file; waiting until it is done")
            stack.enter_context(WeakFileLock(lock))
        yield


def _keep_revision(folder: Path, base: HubBase, commit: str) -> None:
    """Record in the cache which commit a branch or tag was, so that the next call uses the same."""
    if base.wanted == commit:
        return
    revision = MAIN if is_commit(base.wanted) else base.wanted  # main stands in for a pinned commit that is not there
    file = folder.parents[1] / "refs" / revision
    try:
        if not file.is_file() or file.read_text(encoding="utf-8") != commit:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
            temporary.write_text(commit, encoding="utf-8")
            os.replace(temporary, file)
    except OSError as error:
        progress.log_once(
            f"base {base.name!r}: that {revision} is commit {commit} could not be recorded in {file} ({error})"
        )


def _missing_bytes(store: Path, repository: HubRepository, name: str) -> int:
    """Bytes of a file that are not in the cache yet."""
    file = repository.files[name]
    if _is_whole(store / "snapshots" / repository.commit / name, file):
        return 0
    if not file.sha256 or _is_whole(store / "blobs" / file.sha256, file):
        return 0 if file.sha256 else file.size
    part = store / "blobs" / (file.sha256 + PART_SUFFIX)
    return max(0, file.size - (part.stat().st_size if part.is_file() else 0))


def _is_whole(path: Path, file: RepositoryFile) -> bool:
    """Whether a file is there, if it lies in the large-file storage with all its bytes."""
    return path.is_file() and (not file.sha256 or path.stat().st_size == file.size)


def _is_large(repository: HubRepository, name: str) -> bool:
    file = repository.files[name]
    return bool(file.sha256) and (file.size > LARGE_BYTES or name.endswith(checkpoint_layout.WEIGHT_SUFFIXES))


def _cache_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser().absolute()


def _store(hub_id: str) -> Path:
    return _cache_folder() / f"models--{hub_id.replace('/', '--')}"


def _free_bytes(folder: Path) -> int:
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    return shutil.disk_usage(existing).free


def _disk_error(base: HubBase, error: OSError) -> TalimError:
    reason = error.strerror or " ".join(str(error).split())[:120]
    return TalimError(
        f"base {base.name!r}: its files cannot be written into {_cache_folder()} ({reason}); what has arrived is kept: "
        "free space or set HF_HOME to another folder, and run this again"
    )


def size_text(size: float) -> str:
    """Bytes for people, in decimal units: 2.36 GB, 310 MB."""
    if size >= 995e6:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


@contextmanager
def quiet_library() -> Iterator[None]:
    """huggingface_hub without its bars and warnings: talim reports the same itself, and each failure as an error."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    level, hidden = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    if not hidden:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not hidden:
            enable_progress_bars()
