"""Serves model repositories as the Hub does: what huggingface_hub and transformers ask for, and what can go wrong.

Files with `.bin`, `.safetensors` and the like lie in a large-file storage, to which the first server redirects.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stand_in_hub import uploads

LARGE_SUFFIXES = (".bin", ".safetensors", ".pt", ".spm", ".model", ".onnx")
CONVERSION_TITLE = "Adding `safetensors` variant of this model"
BLOCK = 4096


@dataclass
class Repository:
    """A repository's commits, the newest last, and who may read it; a Space's name begins with "spaces/"."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    card: dict[str, Any]
    gated: bool = False
    pull_request: str = ""  # the commit of one that adds safetensors
    private: bool = False

    def commit_of(self, revision: str) -> str | None:
        known = {**self.branches, **({"refs/pr/1": self.pull_request} if self.pull_request else {})}
        return known.get(revision) or (revision if revision in self.commits else None)


@dataclass
class StandInHub:
    """Repositories by name, the requests that came, and the faults of the connection."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)  # method and path with its query
    storage_headers: list[dict[str, str]] = field(default_factory=list)
    breaks: dict[str, list[int]] = field(default_factory=dict)  # file -> bytes after which each next transfer ends
    status: int = 0  # of every answer, where it is not 0
    delay_seconds: float = 0.0  # before every answer
    bytes_per_second: float = 0.0  # of transfers; 0 is no limit
    tokens: tuple[str, ...] = ("hf_allowed",)  # that may read gated repositories
    storage_statuses: list[int] = field(default_factory=list)  # of its next answers
    write_tokens: tuple[str, ...] = ("hf_write",)  # that may create and write what belongs to `owner`
    owner: str = "me"
    failures: dict[str, int] = field(default_factory=dict)  # the status of the next upload step of this name
    refuses_tokens: bool = False  # as expired ones
    ignores_ranges: bool = False
    spoiled: set[str] = field(default_factory=set)  # files of which other bytes arrive
    blobs: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # by SHA-256: file and content

    def start(self) -> StandInHub:
        """Serve on two free ports of the loopback interface."""
        self._servers = [self._serve(storage=False), self._serve(storage=True)]
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        return self

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def publish(
        self, name: str, files: Path | dict[str, bytes], *, commit: str = "", branch: str = "main", **facts: Any
    ) -> str:
        """Add a commit of these files to a repository; returned is its hash. `facts` are fields of Repository."""
        content = files if isinstance(files, dict) else read_folder(files)
        digest = hashlib.sha1(b"".join(path.encode() + data for path, data in sorted(content.items()))).hexdigest()
        commit = commit or digest
        known = self.repositories.setdefault(name, Repository({}, {}, _front_matter(content)))
        known.commits[commit] = content
        known.branches[branch] = commit
        for key, value in facts.items():
            setattr(known, key, value)
        for path, data in content.items():
            if path.endswith(LARGE_SUFFIXES):
                self.blobs[hashlib.sha256(data).hexdigest()] = (path, data)
        return commit

    def fetched(self, name: str = "") -> list[str]:
        """Files whose content was asked for, in order; those of one repository if a name is given."""
        start = f"/{name}/resolve/" if name else "/"
        paths = [urlsplit(path).path for method, path in self.requests if method == "GET"]
        return [
            unquote(p.split("/resolve/")[1].split("/", 1)[1]) for p in paths if p.startswith(start) and "/resolve/" in p
        ]

    def _serve(self, storage: bool) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hub": self, "storage": storage})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server


def read_folder(folder: Path) -> dict[str, bytes]:
    """A folder's files by their path in it."""
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def _front_matter(files: dict[str, bytes]) -> dict[str, Any]:
    import yaml

    text = files.get("README.md", b"").decode()
    return yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    storage: bool
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that does not wait
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self._body()
        if not uploads.answer(self, urlsplit(self.path).path, body):
            self._answer()

    def do_PUT(self) -> None:
        if not (self.storage and uploads.store(self, urlsplit(self.path).path, self._body())):
            self._send(404, b"no such page")

    def _body(self) -> bytes:
        """The request's body, whether its length is stated or it arrives in chunks."""
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        time.sleep(hub.delay_seconds)
        if self.storage:
            hub.storage_headers.append({key.lower(): value for key, value in self.headers.items()})
            if hub.storage_statuses:
                self._send(hub.storage_statuses.pop(0), b"<Error>expired</Error>")
                return
            name, data = hub.blobs[path.removeprefix("/")]
            self._send_content(name, data, {})
            return
        hub.requests.append((self.command, self.path))
        if hub.refuses_tokens and self._token():
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif hub.status:
            self._send(hub.status, b"out of order")
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        elif path.startswith("/api/spaces/"):
            self._api(path.removeprefix("/api/"))
        elif "/resolve/" in path:
            name, rest = path.removeprefix("/").split("/resolve/")
            revision, _, file = rest.partition("/")
            self._resolve(name, unquote(revision), unquote(file))
        else:
            self._send(404, b"no such page")

    def _api(self, path: str) -> None:
        name = "/".join(path.split("/")[: 3 if path.startswith("spaces/") else 2])
        action, _, rest = path.removeprefix(name).strip("/").partition("/")
        revision, _, inside = map(unquote, rest.partition("/"))
        repository = self._repository(name)
        if repository is None:
            return
        if action == "discussions":
            self._json(_discussions(repository))
            return
        commit = repository.commit_of(revision or "main")
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        files = repository.commits[commit]
        if action == "tree" and not inside:
            self._json([_tree_entry(file, data) for file, data in files.items()])
        elif inside:  # transformers looks for folders that few repositories have
            self._refuse(404, "EntryNotFound", f"{inside} does not exist")
        elif action == "commits":
            self._json(_commits(repository, commit))
        else:
            with_sizes = "true" in parse_qs(urlsplit(self.path).query.lower()).get("blobs", [])
            siblings = [_sibling(file, data, with_sizes) for file, data in files.items()]
            facts = {
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": repository.private,
                "tags": [],
                "siblings": siblings,
            }
            self._json(facts | {"gated": "auto" if repository.gated else False, "cardData": repository.card})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        commit = repository.commit_of(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        if repository.gated and self._token() not in self.hub.tokens:
            status = 403 if self._token() else 401
            self._refuse(status, "GatedRepo", f"Access to model {name} is restricted.", {"X-Repo-Commit": commit})
            return
        data = repository.commits[commit].get(file)
        if data is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        if not file.endswith(LARGE_SUFFIXES):
            self._send_content(file, data, {"ETag": f'"{_git_hash(data)}"', "X-Repo-Commit": commit})
            return
        digest = hashlib.sha256(data).hexdigest()
        headers = {"Location": f"{self.hub.storage_url}/{digest}", "X-Repo-Commit": commit}
        headers |= {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{digest}"', "ETag": f'"{_git_hash(data)}"'}
        self._send(302, b"", headers)

    def _repository(self, name: str) -> Repository | None:
        """The repository; the Hub says 401 of one that is not there, as it might be private."""
        found = self.hub.repositories.get(name)
        if found is not None and found.private and self._token() not in self.hub.write_tokens:
            found = None
        if found is None and self._token() in (*self.hub.tokens, *self.hub.write_tokens):
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif found is None:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
        return found

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _send_content(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        """A file or the range of it that was asked for; ended early where the hub breaks transfers of it."""
        if name in self.hub.spoiled:
            data = bytes(reversed(data))
        start, total = 0, len(data)
        if (asked := self.headers.get("Range")) and not self.hub.ignores_ranges:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers = headers | {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        self.send_response(206 if "Content-Range" in headers else 200)
        for key, value in {**headers, "Content-Length": str(total - start), "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        waiting = self.hub.breaks.get(name) or []
        end = min(total, start + waiting.pop(0)) if waiting else total
        for begin in range(start, end, BLOCK):
            piece = data[begin : min(end, begin + BLOCK)]
            self.wfile.write(piece)
            if self.hub.bytes_per_second:
                self.wfile.flush()
                time.sleep(len(piece) / self.hub.bytes_per_second)
        if end < total:
            self.wfile.flush()
            self.close_connection = True

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _large(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "pointerSize": 134}


def _sibling(file: str, data: bytes, with_sizes: bool) -> dict[str, Any]:
    if not with_sizes:
        return {"rfilename": file}
    entry: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": _git_hash(data)}
    if file.endswith(LARGE_SUFFIXES):
        entry["lfs"] = _large(data) | {"sha256": hashlib.sha256(data).hexdigest()}
    return entry


def _tree_entry(file: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": file, "size": len(data), "oid": _git_hash(data)}
    if file.endswith(LARGE_SUFFIXES):
        entry["lfs"] = _large(data) | {"oid": hashlib.sha256(data).hexdigest()}
    return entry


def _commits(repository: Repository, commit: str) -> list[dict[str, Any]]:
    """The commit and what it builds on, newest first; a pull request builds on main."""
    names = list(dict.fromkeys([commit, repository.branches["main"]]))
    when = {"date": "2023-11-17T15:25:22.000Z", "authors": [], "title": "", "message": ""}
    return [{"id": name, **when} for name in names]


def _discussions(repository: Repository) -> dict[str, Any]:
    """The open pull request with weights in safetensors, if there is one."""
    entry = {"num": 1, "title": CONVERSION_TITLE, "status": "open", "isPullRequest": True}
    entry |= {"author": {"name": "SFconvertbot"}, "createdAt": "2023-11-17T15:25:22.000Z", "repoOwner": {}}
    entry |= {"repo": {"name": "x/y", "type": "model"}}
    entries = [entry] if repository.pull_request else []
    return {"discussions": entries, "count": len(entries), "start": 0}
