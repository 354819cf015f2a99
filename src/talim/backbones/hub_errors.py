"""What can go wrong between this machine and the Hugging Face Hub, each as one line that says what to do.

The guide docs/guides/real-bases.md quotes these texts; a test keeps them equal.
"""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from typing import Any

from talim.backbones import registry
from talim.errors import TalimError

# {folder} is the last part of the model's name
ELSEWHERE = (
    "connect and run this again; or fetch it on another machine with: hf download {hub_id} --local-dir {folder}, copy "
    "that folder here and give --base {folder}; {instead}"
)
NOT_HERE = "base {name!r} is not on this machine, and {reason}; {hint}{elsewhere}"
SWITCHED_OFF = "HF_HUB_OFFLINE is set, so that nothing is fetched"
NO_CONNECTION = "{host} cannot be reached"
ENDED = "{host} ended the connection"
NO_ANSWER = "{host} does not answer within {seconds:g} s"
BAD_CERTIFICATE = "the certificate of {host} is not accepted here (a proxy of this network? set SSL_CERT_FILE)"
SERVER_ERROR = "{host} has an error of its own (HTTP {status})"
TOO_MANY = "{host} allows no more requests for now (HTTP 429: wait some minutes, or log in with: hf auth login)"
NO_HUB = "{host} answers, but not as the Hub does (a login page of this network, or a wrong HF_ENDPOINT?)"
PROXY = "the proxy {proxy} cannot be used ({cause}); mend HTTPS_PROXY, or name {host} in NO_PROXY"
BAD_ENDPOINT = (
    "HF_ENDPOINT is {endpoint!r}, which is no address; expected one that begins with https:// or http://, such as "
    "http://localhost:8080"
)
NO_MODEL = (
    "base {name!r}: {host} has no model {hub_id}, or it is private; {hint}check the name on {host}/{hub_id}, and if it "
    "is a private one log in with: hf auth login"
)
NO_REVISION = (
    "base {name!r}: {hub_id} has no revision {revision!r}; give a branch, a tag or a whole commit, such as "
    "{hub_id}@main"
)
GATED = (
    "base {name!r}: {hub_id} is gated: accept its conditions on {host}/{hub_id}, then log in with: hf auth login, and "
    "run this again"
)
NOT_ALLOWED = (
    "base {name!r}: {hub_id} is gated or private, and the token in use (hf auth whoami) has no access: accept its "
    "conditions on {host}/{hub_id}, wait until its owner grants access, or use a token that may read it"
)
REFUSED_LOGIN = (
    "base {name!r}: {host} does not accept the token in use; log in again with: hf auth login, or unset HF_TOKEN"
)
NO_CHECKPOINT = (
    "base {name!r}: {hub_id} holds no checkpoint that talim knows (there are: {files}); expected MusicGen (config.json "
    "and model.safetensors or pytorch_model.bin), Mustango (ldm/, vae/, configs/) or audiocraft (state_dict.bin)"
)
NO_SPACE = (
    "base {name!r} needs {needed} on the disk, and {free} are free in {cache}; free some, or set HF_HOME to a folder "
    "on a larger disk"
)
BROKEN_OFF = (
    "base {name!r}: the download of {file} broke off {times} times, last at {have} of {size} ({cause}); what has "
    "arrived is kept: run this again to go on from there"
)
DAMAGED = "base {name!r}: {file} arrived damaged (its SHA-256 is not the one that the Hub states); run this again"
FROM_CACHE = "base {name!r}: {reason}; the files that were fetched before are used (commit {commit})"
NOT_PINNED = "base {name!r}: {host} has no commit {pinned} of {hub_id}, which talim knows; {revision} is used instead"


class HubUnreachableError(TalimError):
    """The Hub cannot be asked now; files that are here already may do. `reason` is part of a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RevisionMissingError(TalimError):
    """The repository is there, but not at this revision."""


def endpoint() -> str:
    """The Hub's address, as HF_ENDPOINT or huggingface_hub says."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def host_name() -> str:
    """The Hub's host, with its port where the address has one."""
    return _without_password(_split(endpoint()).netloc) or endpoint()


def shown_address() -> str:
    """The Hub's address without a password."""
    parts = _split(endpoint())
    return parts._replace(netloc=_without_password(parts.netloc)).geturl() or endpoint()


def _split(address: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(address)
    except ValueError:
        return urllib.parse.SplitResult("", "", "", "", "")


def _without_password(host: str) -> str:
    return host.rsplit("@", 1)[-1]


def explain(error: BaseException, name: str, hub_id: str, revision: str = "main", seconds: float = 10.0) -> TalimError:
    """The error to raise for one of huggingface_hub or its HTTP library; HubUnreachableError for what may pass."""
    if isinstance(error, TalimError):
        return error
    if type(error).__name__ in ("LocalEntryNotFoundError", "IncompleteSnapshotError") and error.__cause__ is not None:
        return explain(error.__cause__, name, hub_id, revision, seconds)  # why it was looked for in the cache alone
    status = getattr(getattr(error, "response", None), "status_code", None)
    facts = {"name": name, "hub_id": hub_id, "host": shown_address(), "revision": revision, "hint": hint(name)}
    kinds = {cls.__name__ for cls in type(error).__mro__}
    if "RevisionNotFoundError" in kinds:
        return RevisionMissingError(NO_REVISION.format(**facts))
    if "GatedRepoError" in kinds:  # 401 without a token, 403 with one
        return TalimError((NOT_ALLOWED if status == 403 else GATED).format(**facts))
    if "RepositoryNotFoundError" in kinds:
        return TalimError(NO_MODEL.format(**facts))
    if status in (401, 403):
        return TalimError((REFUSED_LOGIN if status == 401 else NOT_ALLOWED).format(**facts))
    return HubUnreachableError(_reason(error, kinds, status, seconds))


def _reason(error: BaseException, kinds: set[str], status: int | None, seconds: float) -> str:
    host, cause = host_name(), " ".join(str(error).split())[:120] or type(error).__name__
    proxy = _without_password(urllib.request.getproxies().get(_split(endpoint()).scheme, ""))
    if "OfflineModeIsEnabled" in kinds:
        return SWITCHED_OFF
    if {"UnsupportedProtocol", "InvalidURL"} & kinds:
        return BAD_ENDPOINT.format(endpoint=os.environ.get("HF_ENDPOINT", endpoint()))
    if "ProxyError" in kinds:
        return PROXY.format(proxy=proxy, cause=cause, host=host)
    if status is not None:
        return TOO_MANY.format(host=host) if status == 429 else SERVER_ERROR.format(host=host, status=status)
    if "CERTIFICATE_VERIFY_FAILED" in cause:
        return BAD_CERTIFICATE.format(host=host)
    if {"ReadTimeout", "WriteTimeout", "PoolTimeout"} & kinds:
        return NO_ANSWER.format(host=host, seconds=seconds)
    if {"ReadError", "RemoteProtocolError", "LocalProtocolError", "DecodingError"} & kinds:
        return ENDED.format(host=host)
    if "TransportError" in kinds or isinstance(error, OSError):
        text = PROXY if _by_proxy(proxy) else NO_CONNECTION
        return text.format(proxy=proxy, cause=cause, host=host)
    return NO_HUB.format(host=host)


def _by_proxy(proxy: str) -> bool:
    return bool(proxy) and not urllib.request.proxy_bypass(_split(endpoint()).hostname or "")


def not_here(name: str, hub_id: str, reason: str, revision: str = "", known: bool = False) -> TalimError:
    """The error for a base that is not on this machine and cannot be fetched, with the ways to get it.

    `known` says that there is such a model, so that no other name is proposed.
    """
    folder = hub_id.rsplit("/", 1)[-1]
    source = f"{hub_id} --revision {revision}" if revision else hub_id
    elsewhere = ELSEWHERE.format(hub_id=source, folder=folder, instead=instead(name))
    return TalimError(NOT_HERE.format(name=name, reason=reason, hint="" if known else hint(name), elsewhere=elsewhere))


def instead(name: str) -> str:
    """Which shipped model does the same in its small way, or that none follows a melody."""
    miniature = registry.miniature_like(name)
    return f"or use {miniature}, which ships with talim" if miniature else "none that ships with talim follows a melody"


def hint(name: str) -> str:
    """ "did you mean ...? " for a name that the registry does not have but that is like one; else empty."""
    similar = [] if registry.find_model(name) is not None else registry.closest_names(name)
    return f"did you mean {' or '.join(similar)}? " if similar else ""


def known_error(error: Any) -> bool:
    """Whether an exception comes from the connection to the Hub, so that `explain` knows it."""
    modules = {cls.__module__.split(".")[0] for cls in type(error).__mro__}
    return bool(modules & {"huggingface_hub", "httpx", "httpx2"})
