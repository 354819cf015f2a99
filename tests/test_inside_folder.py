"""Names that others wrote: followed within their folder, refused where they leave it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.inside_folder import read_inside, resolve_inside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "a.txt").write_bytes(b"inside")
    (tmp_path / "secret.txt").write_bytes(b"outside")
    return tmp_path / "folder"


@pytest.mark.parametrize("name", ["deep/a.txt", "./deep/../deep/a.txt", "absent.txt", "../folder/deep/a.txt", ""])
def test_resolve_inside_gives_paths_within(folder: Path, name: str) -> None:
    assert resolve_inside(folder, name) == (folder / name).resolve()


@pytest.mark.parametrize(
    "name", ["../secret.txt", "/etc/passwd", "deep/../../secret.txt", "..", "../folder-2/a", "link"]
)
def test_resolve_inside_refuses_what_leads_out(folder: Path, name: str) -> None:
    (folder / "link").symlink_to(folder.parent / "secret.txt")
    with pytest.raises(TalimError, match=r"leads out of .*copy the file into the folder"):
        resolve_inside(folder, name)


@pytest.mark.parametrize("name", ["a\0b", "loop/x"])
def test_resolve_inside_of_a_name_that_is_none_raises(folder: Path, name: str) -> None:
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(TalimError):
        resolve_inside(folder, name)


def test_read_inside_reads_regular_files_only(folder: Path) -> None:
    path = folder / "deep" / "a.txt"
    assert read_inside(folder, path) == b"inside"
    assert read_inside(folder, path, max_bytes=6) == b"inside"
    with pytest.raises(TalimError, match="at most 5 are read"):
        read_inside(folder, path, max_bytes=5)
    with pytest.raises(TalimError, match="is a folder, not a file"):
        read_inside(folder, folder / "deep")
    with pytest.raises(TalimError, match="No such file"):
        read_inside(folder, folder / "absent")
    os.mkfifo(folder / "pipe")
    with pytest.raises(TalimError, match="is a pipe or a device"):
        read_inside(folder, folder / "pipe")
    with pytest.raises(TalimError, match="leads out"):
        read_inside(folder, folder.parent / "secret.txt")
