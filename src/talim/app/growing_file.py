"""A file that is sent while another process writes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool

CHUNK_BYTES = 64 * 1024
PAUSE_SECONDS = 0.25


async def follow(path: Path, goes_on: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield what is in the file, and what is appended to it, until it has lost its name or nothing `goes_on`.

    A writer renames a finished file and removes one that it gives up; one that was killed leaves it. A file that gets
    shorter is written anew, so that nothing of it fits to what was sent: that is an end, too.
    """
    with path.open("rb") as file:
        while True:
            ended = not (path.exists() and await run_in_threadpool(goes_on))  # before the last look at the file
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            if ended or os.fstat(file.fileno()).st_size < file.tell():
                return
            await asyncio.sleep(PAUSE_SECONDS)
