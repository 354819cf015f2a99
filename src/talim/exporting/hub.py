"""Export of a run to the Hugging Face Hub: adapter, card, conditions and audio examples in one commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import yaml

from talim.adapters import serialization
from talim.backbones import hub_download, hub_errors
from talim.backbones.card_licence import licence_of_fields
from talim.errors import TalimError
from talim.exporting import contents, rights
from talim.exporting.contents import ExportedRun, Files
from talim.exporting.options import ExportOptions
from talim.progress import Progress
from talim.terminal_text import one_line
from talim.training.model_card import example_prompt, prompt_option

GIT_FILES = (".gitattributes",)  # which the Hub puts into every new repository
LOG_IN = (
    "--to hub: no token is here. Make one that may write on {host}/settings/tokens, then: hf auth login (or set "
    "HF_TOKEN); --dry-run shows what would be sent without one"
)
MAY_NOT_WRITE = (
    "--to hub: the token in use (hf auth whoami) may not write to {repo}; use one with write permission for {owner}, "
    "from {host}/settings/tokens: hf auth login"
)


def export_hub(exported: ExportedRun, options: ExportOptions, progress: Progress) -> dict[str, Any]:
    """Push the adapter to the repository OWNER/NAME, which is made if it is not there, private unless `public`.

    TalimError where rights do not allow publishing, or other files are there.
    """
    assert options.repo is not None
    rights.refuse_unless_allowed(exported, options.permission)
    files, left_out = repository_files(exported, options.repo, options.permission)
    result = {"to": "hub", **send(exported, options, files, left_out, progress)}
    asked = prompt_option(exported.info, example_prompt(exported.facts))
    use = f"talim generate --adapter {options.repo} {asked} --out music.flac"
    return result | ({"use": use} if result["commit"] else {})


def send(
    exported: ExportedRun,
    options: ExportOptions,
    files: Files,
    left_out: list[str],
    progress: Progress,
    kind: str = "model",
) -> dict[str, Any]:
    """Push files to the repository, or with the kind "space" to the Space, of the options.

    Everything that is sent is told before; `dry_run` ends there. Either all files arrive in one commit or none; called
    again after a failure, it goes on.
    """
    repo, public = options.repo or "", options.public
    place = _place(repo, kind)
    visible = "public" if public else "private"
    licence = licence_of_fields(contents.split_card(_text(files[serialization.CARD_FILE]))[0])
    progress.log(f"to be sent to {place} ({visible}), licence {licence}:")
    for line in contents.listing(files):
        progress.log(line)
    for line in left_out:
        progress.log(f"left out: {line}")
    if note := rights.consent_note(exported):
        progress.log(note)
    result = {"repo": repo, "public": public, "files": sorted(files), "left_out": left_out, "commit": None}
    if options.dry_run:
        progress.log("nothing was sent (--dry-run)")
        return result
    with _friendly_errors(repo):
        commit = _publish(repo, kind, files, public, progress)
    return result | {"commit": commit, "url": place}


def _place(repo: str, kind: str) -> str:
    return f"{hub_errors.shown_address()}/{'spaces/' * (kind == 'space')}{repo}"


def repository_files(exported: ExportedRun, repo: str, permission: str | None) -> tuple[Files, list[str]]:
    """The repository's files by name, and what is left out; TalimError where card or conditions are missing."""
    files, left_out = contents.adapter_files(exported)
    for name in (serialization.CARD_FILE, serialization.LICENCE_FILE):
        if name not in files:
            raise TalimError(
                f"{exported.run.adapter}: its {name} is missing, without which nobody knows what the adapter is and "
                "allows; train the run again"
            )
    audio, rows, not_audio = contents.examples(exported)
    files |= audio
    files[serialization.CARD_FILE] = _card(exported, repo, rows, permission).encode()
    files["provenance.json"] = exported.provenance()
    files[contents.CHECKSUMS] = contents.checksums(files)
    taken = [exported.run.facts_file.name, exported.run.recipe_file.name, exported.run.cost.name]  # in provenance.json
    return files, [*left_out, *not_audio, *contents.others_left_out(exported, dict.fromkeys(taken))]


def _card(exported: ExportedRun, repo: str, rows: list[dict[str, Any]], permission: str | None) -> str:
    """The adapter's card with the repository's name, links to the audio examples, and a stated permission."""
    header, body = contents.split_card(contents.card_of(exported))
    body = body.replace("THIS_FOLDER", repo)
    added = contents.example_links(rows) + contents.permission_section(permission)
    before, mark, after = body.partition("## Usage guideline")
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n{before}{added}{mark}{after}"


def _publish(repo: str, kind: str, files: Files, public: bool, progress: Progress) -> str:
    """The hash of the commit with the files; TalimError where the repository holds others."""
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

    host, place = hub_errors.shown_address(), _place(repo, kind)
    if constants.HF_HUB_OFFLINE:
        raise TalimError(f"--to hub: {hub_errors.SWITCHED_OFF.replace('fetched', 'sent')}; unset it and run this again")
    if not get_token():
        raise TalimError(LOG_IN.format(host=host))
    api = HfApi(endpoint=hub_errors.endpoint())
    with hub_download.quiet_library():
        there = _repository(api, repo, kind)
        if there is not None and (commit := _check_there(there, repo, kind, files, public)):
            progress.log(f"{place} holds these files already: nothing was sent")
            return commit
        if there is None:
            sdk = "gradio" if kind == "space" else None
            api.create_repo(repo, private=not public, exist_ok=True, repo_type=kind, space_sdk=sdk)
            progress.log(f"{place}: made")
        head = api.repo_info(repo, repo_type=kind).sha
        operations = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in sorted(files.items())
        ]
        message = "Adapter trained with talim"
        sent = api.create_commit(repo, operations, commit_message=message, parent_commit=head, repo_type=kind)
        commit = str(sent.oid)
        there = cast(Any, api.repo_info(repo, revision=commit, repo_type=kind))
        arrived = {file.rfilename for file in there.siblings or ()}
    if missing := sorted({*files} - arrived):
        raise TalimError(f"--to hub: {place} did not take {', '.join(missing)} (commit {commit}); look at it there")
    return commit


def _repository(api: Any, repo: str, kind: str) -> Any:
    """What the Hub tells of the repository; None where there is none that this token may see."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return api.repo_info(repo, files_metadata=True, repo_type=kind)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None


def _check_there(there: Any, repo: str, kind: str, files: Files, public: bool) -> str:
    """The commit if the repository holds these very files, empty if it holds none; else TalimError."""
    from huggingface_hub.utils.sha import git_hash

    if bool(there.private) == public:
        now = "private" if there.private else "public"
        advice = (
            "make it public there, or leave --public out" if there.private else "make it private there, or add --public"
        )
        raise TalimError(f"--to hub: {repo} is there already, and it is {now}; {advice}")
    known = {file.rfilename: file.blob_id for file in there.siblings or () if file.rfilename not in GIT_FILES}
    if not {*known} - ({serialization.CARD_FILE} if kind == "space" else set()):  # which the Hub puts into a new Space
        return ""
    sums = files[contents.CHECKSUMS]
    assert isinstance(sums, bytes)
    if {*known} >= {*files} and known.get(contents.CHECKSUMS) == git_hash(sums):
        return str(there.sha)
    names = ", ".join(sorted(known)[:4]) + (" ..." if len(known) > 4 else "")
    raise TalimError(
        f"--to hub: {repo} holds files already ({names}), which are not overwritten; choose another --repo, or delete "
        "them there"
    )


@contextmanager
def _friendly_errors(repo: str) -> Iterator[None]:
    """Turn whatever huggingface_hub and its HTTP library raise into one line that says what to do."""
    try:
        yield
    except TalimError:
        raise
    except Exception as error:
        raise _explained(error, repo) from error


def _explained(error: BaseException, repo: str) -> TalimError:
    cause: BaseException | None = error
    while cause is not None and not hub_errors.known_error(cause):
        cause = cause.__cause__  # an upload's thread wraps it
    host, text = hub_errors.shown_address(), one_line(str(error), 200) or type(error).__name__
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status == 401:
        return TalimError(
            f"--to hub: {host} does not accept the token in use; log in again with: hf auth login, or unset HF_TOKEN"
        )
    if status == 403:
        return TalimError(MAY_NOT_WRITE.format(repo=repo, owner=repo.split("/")[0], host=host))
    if status == 412:
        return TalimError(f"--to hub: {repo} was changed meanwhile by somebody else; look at it, then run this again")
    if cause is None or (status is not None and status < 500 and status != 429):
        return TalimError(f"--to hub: {host} did not take it ({text}); nothing was published in {repo}")
    problem = hub_errors.explain(cause, repo, repo)
    reason = getattr(problem, "reason", text)
    return TalimError(
        f"--to hub: {reason}; nothing was published in {repo}: run this again, what has arrived is not sent twice"
    )


def _text(content: bytes | Any) -> str:
    return content.decode() if isinstance(content, bytes) else content.read_text(encoding="utf-8")
