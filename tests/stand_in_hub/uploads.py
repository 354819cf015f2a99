"""What huggingface_hub asks of the Hub while it uploads: a repository, upload modes, large files, a commit."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import unquote

import yaml

NEW_REPOSITORY = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


def answer(handler: Any, path: str, body: bytes) -> bool:
    """Answer a POST request of an upload; False where it is none."""
    steps = {"create": "/api/repos/create", "validate": "/api/validate-yaml"}
    step = next((name for name, address in steps.items() if path == address), "")
    if not step and path.startswith(("/api/models/", "/api/spaces/")):
        step = next((name for name in ("preupload", "commit") if f"/{name}/" in path), "")
    if not step and path.endswith(".git/info/lfs/objects/batch"):
        step = "batch"
    if not step:
        return False
    hub = handler.hub
    hub.requests.append(("POST", handler.path))
    token = handler._token()
    if status := hub.status or hub.failures.pop(step, 0):
        handler._send(status, b"out of order")
    elif step != "validate" and (not token or hub.refuses_tokens):
        handler._refuse(401, "", "Invalid username or password.")
    elif step != "validate" and token not in hub.write_tokens:
        handler._refuse(403, "", "You do not have the rights to do that")
    else:
        {"create": _create, "validate": _validate, "preupload": _preupload, "batch": _batch, "commit": _commit}[step](
            handler, path, body
        )
    return True


def store(handler: Any, path: str, data: bytes) -> bool:
    """Take a large file whose SHA-256 is in the address; False for another address."""
    if not path.startswith("/upload/"):
        return False
    hub, digest = handler.hub, path.removeprefix("/upload/")
    hub.requests.append(("PUT", handler.path))
    if status := hub.failures.pop("store", 0):
        handler._send(status, b"<Error>slow down</Error>")
    elif hashlib.sha256(data).hexdigest() != digest:
        handler._send(400, b"<Error>BadDigest</Error>")
    else:
        hub.blobs[digest] = ("", data)
        handler._send(200, b"", {"ETag": digest})
    return True


def _create(handler: Any, path: str, body: bytes) -> None:
    hub, wanted = handler.hub, json.loads(body)
    space = wanted.get("type") == "space"
    name = f"{'spaces/' * space}{wanted['organization']}/{wanted['name']}"
    url = f"{hub.url}/{name}"
    if wanted["organization"] != hub.owner:
        handler._refuse(403, "", f'You don\'t have the rights to create a model under the namespace "{hub.owner}"')
    elif space and wanted.get("sdk") != "gradio":
        handler._send(400, b'{"error": "a Space needs an SDK"}')
    elif name in hub.repositories:
        handler._send(409, json.dumps({"error": "You already created this model repo", "url": url}).encode())
    else:
        files = NEW_REPOSITORY | ({"README.md": b"---\nsdk: gradio\n---\n"} if space else {})
        hub.publish(name, files, private=wanted.get("visibility") == "private")
        handler._json({"url": url, "name": name, "id": "0"})


def _validate(handler: Any, path: str, body: bytes) -> None:
    text = json.loads(body)["content"]
    try:
        header = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
        faults = [] if isinstance(header, dict) else ["metadata is no mapping"]
    except yaml.YAMLError as error:
        header, faults = {}, [str(error)]
    if isinstance(header, dict) and header.get("license") == "other" and "license_name" not in header:
        faults.append('"license_name" is required')
    document = {"errors": [{"message": fault} for fault in faults], "warnings": []}
    handler._send(400 if faults else 200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def _preupload(handler: Any, path: str, body: bytes) -> None:
    from stand_in_hub.server import LARGE_SUFFIXES, _git_hash

    repository = _repository(handler, path, "preupload")
    if repository is None:
        return
    there = repository.commits[repository.branches["main"]]
    files = []
    for file in json.loads(body)["files"]:
        name = file["path"]
        mode = "lfs" if name.endswith(LARGE_SUFFIXES) else "regular"
        oid = _git_hash(there[name]) if name in there else None
        files.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    handler._json({"files": files})


def _batch(handler: Any, path: str, body: bytes) -> None:
    hub, objects = handler.hub, []
    for each in json.loads(body)["objects"]:
        entry = {"oid": each["oid"], "size": each["size"]}
        if each["oid"] not in hub.blobs:
            entry["actions"] = {"upload": {"href": f"{hub.storage_url}/upload/{each['oid']}"}}
        objects.append(entry)
    handler._json({"transfer": "basic", "objects": objects})


def _commit(handler: Any, path: str, body: bytes) -> None:
    hub, repository = handler.hub, _repository(handler, path, "commit")
    if repository is None:
        return
    rows = [json.loads(line) for line in body.splitlines()]
    head = repository.branches["main"]
    if rows[0]["value"].get("parentCommit", head) != head:
        handler._refuse(412, "", "A commit has happened since. Please refresh and try again.")
        return
    files = dict(repository.commits[head])
    for row in rows[1:]:
        value = row["value"]
        if row["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif row["key"] == "lfsFile" and value["oid"] in hub.blobs:
            files[value["path"]] = hub.blobs[value["oid"]][1]
        else:
            handler._refuse(400, "", f"{row['key']} {value.get('path')}: its content was not uploaded")
            return
    name = _name(path, "commit")
    commit = hub.publish(name, files)
    handler._json({"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})


def _name(path: str, step: str) -> str:
    return unquote(path.removeprefix("/api/").removeprefix("models/").split(f"/{step}/")[0])


def _repository(handler: Any, path: str, step: str) -> Any:
    name = _name(path, step)
    if name in handler.hub.repositories and not name.removeprefix("spaces/").startswith(f"{handler.hub.owner}/"):
        handler._refuse(403, "", "You do not have the rights to do that")
        return None
    return handler._repository(name)
