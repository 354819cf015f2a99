"""The study's results on disk: results.jsonl, one line a trial, each of which is there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, read_jsonl, to_jsonable

FILE = "results.jsonl"
ResultRecord = dict[str, Any]
DIGITS = 7  # of a number, as many as training's own arithmetic has: so hundreds of trials are a small file


class ResultsLog:
    """Lines by trial id, in the order in which they came; where an id comes twice the last line counts.

    A torn last line is cut off on opening; without `repair` it is only passed over.
    """

    def __init__(self, folder: Path, repair: bool = True) -> None:
        self.path = folder / FILE
        self.lines: dict[str, ResultRecord] = {}
        if self.path.is_file():
            if repair:
                self._drop_torn_line()
            self.lines = {row["id"]: row for row in read_jsonl(self.path)}

    def add(self, line: ResultRecord) -> None:
        """Append a line, its numbers in DIGITS digits; when this returns it is on the disk."""
        line = to_jsonable(line, DIGITS)
        text = json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
        with friendly_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write(text.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
        self.lines[line["id"]] = line

    def done(self, id_: str) -> bool:
        """Whether the trial came to its end."""
        return self.lines.get(id_, {}).get("status") == "done"

    def failed(self, id_: str) -> bool:
        """Whether the trial was tried, and failed."""
        return self.lines.get(id_, {}).get("status") == "failed"

    def _drop_torn_line(self) -> None:
        """What a crash left after the last line's end is no result; its trial is run again."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with friendly_os_errors(self.path):
                os.truncate(self.path, whole)
