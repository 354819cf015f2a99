"""Appends trials to a study's results.jsonl (or tuning.jsonl): each line is written completely or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, read_jsonl, to_jsonable
from talim.experiments.results import RESULTS

ResultRecord = dict[str, Any]
DIGITS = 7  # significant digits of numbers: the precision of float32, and small files


class ResultsLog:
    """Lines by trial id, in the order of the file; if an id occurs twice the last line counts.

    An incomplete last line is cut off on opening; without `repair` it is only ignored.
    """

    def __init__(self, folder: Path, repair: bool = True, name: str = RESULTS) -> None:
        self.path = folder / name
        self.lines: dict[str, ResultRecord] = {}
        if self.path.is_file():
            if repair:
                self._drop_incomplete_line()
            self.lines = {row["id"]: row for row in read_jsonl(self.path)}

    def add(self, line: ResultRecord) -> None:
        """Append a line, with numbers rounded to DIGITS; it is on disk when this returns."""
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
        return self.lines.get(id_, {}).get("status") == "done"

    def failed(self, id_: str) -> bool:
        return self.lines.get(id_, {}).get("status") == "failed"

    def _drop_incomplete_line(self) -> None:
        """Cut off what a crash left after the last line break; its trial is run again."""
        data = self.path.read_bytes()
        complete = data.rfind(b"\n") + 1
        if complete < len(data):
            with friendly_os_errors(self.path):
                os.truncate(self.path, complete)
