"""A file that is sent while it is written: it follows the writer, and ends with it however that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from talim.app import growing_file
from talim.app.growing_file import follow


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_file, "PAUSE_SECONDS", 0.0)


def chunks_until_the_end(path: Path, acts: list[Callable[[], object]], goes_on: Callable[[], bool]) -> list[bytes]:
    """What is sent of a file, each of `acts` done once all that there is was sent."""

    async def receive() -> list[bytes]:
        found, sent = [], follow(path, goes_on)
        async for chunk in sent:
            found.append(chunk)
            if acts:
                acts.pop(0)()
        return found

    return asyncio.run(asyncio.wait_for(receive(), 60))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_follow_file_that_grows_sends_each_block_and_ends_when_it_is_renamed(tmp_path: Path) -> None:
    path = tmp_path / ".a.flac.12345678.part"
    path.write_bytes(b"first")

    def finish() -> None:
        append(path, b"last")
        path.rename(tmp_path / "a.flac")

    acts: list[Callable[[], object]] = [lambda: append(path, b"second"), finish]
    assert chunks_until_the_end(path, acts, lambda: True) == [b"first", b"second", b"last"]


def test_follow_file_that_is_removed_or_begun_anew_ends_with_what_was_there(tmp_path: Path) -> None:
    for number, end in enumerate((Path.unlink, lambda path: path.write_bytes(b"x"))):
        path = tmp_path / str(number)
        path.write_bytes(b"all of it")
        assert chunks_until_the_end(path, [lambda path=path, end=end: end(path)], lambda: True) == [b"all of it"]


def test_follow_file_of_a_killed_writer_ends_with_the_command(tmp_path: Path) -> None:
    path, states = tmp_path / "a", [True, True, False]
    path.write_bytes(b"x" * (growing_file.CHUNK_BYTES + 1))
    found = chunks_until_the_end(path, [], lambda: states.pop(0))
    assert [len(chunk) for chunk in found] == [growing_file.CHUNK_BYTES, 1]
    assert states == []
