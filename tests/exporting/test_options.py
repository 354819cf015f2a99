"""Tests of talim.exporting.options: options that do not fit the target are refused before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import talim
from talim.errors import UsageError
from talim.exporting.options import ExportOptions, Target


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("gguf", {"out": Path("x")}, "there is no such target; known: folder, transformers, onnx, hub, space"),
        ("folder", {}, "--to folder needs a new folder: --out FOLDER"),
        ("transformers", {}, "--to transformers needs a new folder: --out FOLDER"),
        ("onnx", {}, "--to onnx needs a new folder: --out FOLDER"),
        ("hub", {}, "needs the repository: --repo OWNER/NAME"),
        ("space", {}, "--to space needs one of --out FOLDER and --repo OWNER/NAME"),
        ("space", {"out": Path("x"), "repo": "me/x"}, "--to space needs one of --out FOLDER and --repo OWNER/NAME"),
        ("space", {"out": Path("x"), "public": True}, "--public: only with --to hub, or --to space --repo OWNER/NAME"),
        ("hub", {"repo": "me/x", "out": Path("x")}, "--out x: --to hub writes no folder"),
        ("hub", {"repo": "me/x", "with_base": True}, "--with-base: only with --to folder"),
        ("transformers", {"out": Path("x"), "with_base": True}, "--with-base: only with --to folder"),
        ("folder", {"out": Path("x"), "repo": "me/x", "public": True}, "--repo and --public: only with --to hub"),
        ("folder", {"out": Path("x"), "dry_run": True}, "--dry-run: only with --to hub"),
        ("transformers", {"out": Path("x"), "permission": "me"}, "--permission: only with --to hub"),
    ],
)
def test_export_options_that_do_not_fit_are_refused(to: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        talim.export("no-such-run", to, **options)  # before anything is read


def test_every_target_takes_what_it_needs() -> None:
    for to in Target:
        ExportOptions(repo="me/x").check(to) if to in ("hub", "space") else ExportOptions(out=Path("x")).check(to)
    ExportOptions(out=Path("x")).check("space")
