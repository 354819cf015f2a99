"""Draws metadata tables with faults of many kinds, and tells whether every row was used or named.

`python tests/fuzz/metadata_tables.py --count 500 --seed 0 --folder EMPTY [--prepare 20]` reads each table as
`talim prepare` does, runs the command itself on some, and prints counts and every table that ended as it must not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from talim.audio import Audio, write
from talim.corpus.importers.folder import walk_folders
from talim.corpus.metadata import read_metadata
from talim.errors import TalimError

RECORDINGS = ("yaman.wav", "Kırık Hava.flac", "deep/take 1.wav", "deep/take 2.flac", "çargâh.wav", "7.wav", "both.wav",
              "both.flac", "録音.wav")  # fmt: skip
TABLE_NAMES = ("metadata.csv", "Metadata.csv", "metadata.xlsx", "metadata (1).csv", "metadata.tsv", "METADATA.CSV",
               "metadata.csv.txt", "deep/metadata.csv", "my recordings.csv")  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp932", "cp1254", "cp1252", "latin-1", "gbk")
FAULTS = ("surplus", "empty surplus", "missing", "unclosed quote", "quoted newline", "twice", "column twice",
          "no column name", "unknown column", "header case", "sep=", "blank lines", "no header", "NUL", "huge",
          "inner quote", "no file column", "smart quotes", "moved licence", "comment")  # fmt: skip
LICENCES = ("CC BY 4.0", "CC BY-NC 4.0", "my own recording", "自作", "kendi kaydım", "unknown", "ask", "")


@dataclass
class TableCase:
    """One table: its name, bytes and kinds of fault, and for each row its first line and a word that only it has."""

    number: int
    name: str
    content: bytes
    kinds: list[str]
    rows: list[tuple[int, str]] = field(default_factory=list)  # line, mark


@dataclass(frozen=True)
class TableOutcome:
    """What became of a table: "read" or "refused", and what is wrong with that ("" if nothing)."""

    how: str
    used: int
    named: int
    fault: str = ""


def table_cases(seed: int, count: int) -> Iterator[TableCase]:
    """`count` tables; the same for the same seed."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        yield _jsonl_case(rng, number) if rng.random() < 0.2 else _csv_case(rng, number)


def make_recordings(folder: Path, seconds: float = 2.0) -> None:
    """The short recordings that the tables describe."""
    for number, name in enumerate(RECORDINGS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0.0, 0.1, round(8000 * seconds))
        write(folder / name, Audio(noise.astype(np.float32), 8000))


def read_case(case: TableCase, folder: Path) -> TableOutcome:
    """Read one table in `folder` with talim's reader, and look for each of its rows in rows or notes."""
    path = folder / case.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(case.content)
    try:
        rows, notes = read_metadata(folder, walk_folders(folder, folder / "corpus"), set(RECORDINGS))
    except TalimError as error:
        one_line = "\n" not in str(error) and path.name in str(error)
        return TableOutcome("refused", 0, len(case.rows), "" if one_line else f"message {error!r}")
    except Exception:
        return TableOutcome("raised", 0, 0, traceback.format_exc())
    finally:
        path.unlink()
    text = "\n".join(f"{note['file']}: {note['note']}" for note in notes)
    values = "\n".join(cell for row in rows.values() for cell in row.values())
    used = [line for line, mark in case.rows if mark in values]
    named = [line for line, mark in case.rows if mark not in values and is_named(line, case.name, text)]
    lost = [line for line, _ in case.rows if line not in used and line not in named]
    return TableOutcome("read", len(used), len(named), f"lines {lost} are lost: {text}" if lost else "")


def is_named(line: int, table: str, text: str) -> bool:
    """Whether notes name a line of a table, in a range of lines or with the whole table."""
    for note in text.split("\n"):
        if note.startswith(f"{table}: not read"):
            return True
        for numbers in re.findall(r"\blines? ((?:\d+(?: to \d+)?(?:, | and )?)+)", note):
            for first, last in re.findall(r"(\d+)(?: to (\d+))?", numbers):
                if int(first) <= line <= int(last or first):
                    return True
    return False


def prepare_case(case: TableCase, folder: Path, out: Path) -> TableOutcome:
    """`talim prepare` with one table, in this process: its exit status and what it says."""
    from talim.cli.main import main

    path = folder / case.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(case.content)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main(["prepare", str(folder), "--out", str(out), "--clip-seconds", "2", "--sample-rate", "8000"])
        status: Any = 0
    except SystemExit as exit_:
        status = exit_.code or 0
    finally:
        path.unlink()
    text = said.getvalue()
    fault = ""
    if status not in (0, 1, 2) or "Traceback" in text or "bug in talim" in text:
        fault = f"status {status}: {text}"
    elif status == 0:
        manifest = (out / "corpus.jsonl").read_text("utf-8")
        notes = _notes(text)
        lost = [line for line, mark in case.rows if mark not in manifest and not is_named(line, case.name, notes)]
        fault = f"lines {lost} are lost: {text}" if lost else ""
    return TableOutcome(f"status {status}", 0, 0, fault)


def _notes(text: str) -> str:
    return "\n".join(line.partition("note: ")[2] for line in text.split("\n") if line.startswith("note: "))


def _written_name(rng: random.Random, base: str) -> tuple[str, str]:
    """A file name as somebody may write it, and the kind of fault."""
    name = rng.choice(RECORDINGS)
    last = name.rpartition("/")[2]
    kinds: dict[str, Callable[[], str]] = {
        "very name": lambda: os.path.relpath(name, base or "."),
        "case": lambda: name.swapcase(),
        "no ending": lambda: name.rpartition(".")[0],
        "other ending": lambda: f"{name.rpartition('.')[0]}.m4a",
        "base name": lambda: last,
        "Windows path": lambda: "C:\\Users\\Meera\\" + name.replace("/", "\\"),
        "full path": lambda: f"/media/takes/{name}",
        "address": lambda: f"file:///media/{quote(name)}",
        "percent": lambda: quote(name),
        "NFD": lambda: unicodedata.normalize("NFD", name.upper()),
        "full width": lambda: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and c not in "/." else c for c in name),
        "dot slash": lambda: f"./{name}",
        "blanks": lambda: f"  {name} ",
        "quoted": lambda: f"'{name}'",
        "both": lambda: "both",
        "nobody": lambda: f"nobody {rng.randrange(99)}.wav",
        "folder": lambda: "deep/",
        "pattern": lambda: "*.wav",
        "nothing": lambda: "",
        "above": lambda: f"../../{last}",
        "odd": lambda: rng.choice(("=cmd|' /C calc'!A0", "\x1b[31m", "-", "none", "x" * 3000, "a\u202eb", "0", "..")),
    }
    kind = rng.choice([*kinds, "very name", "very name"])
    return kinds[kind](), kind


def _csv_case(rng: random.Random, number: int) -> TableCase:
    name = "metadata.csv" if rng.random() < 0.8 else rng.choice(TABLE_NAMES)
    base = name.rpartition("/")[0]
    faults: list[str] = rng.sample(
        FAULTS,
        rng.choice((0, 0, 1, 1, 2)),
    )  # fmt: skip
    delimiter, ending = rng.choice(",,,;\t|"), rng.choice(("\n", "\n", "\r\n", "\r"))
    header = [rng.choice(("file_name", "file", "path", "filename")), "text", "performer", "licence"]
    if "no file column" in faults:
        header[0] = "recording_title"
    if "column twice" in faults:
        header.append("Text")
    if "no column name" in faults:
        header.insert(rng.randrange(1, 4), "")
    if "unknown column" in faults:
        header.append(rng.choice(("licens", "wetter", "列")))
    if "header case" in faults:
        header = [f" {cell.upper().replace('_', ' ')} " for cell in header]
    lines = [f"sep={delimiter}"] * ("sep=" in faults)
    lines += [] if "no header" in faults else [delimiter.join(header)]
    case = TableCase(number, name, b"", [*faults])
    for index in range(rng.choice((0, 1, 2, 3, 5, 8, 30))):
        row, kind = _row(rng, header, delimiter, faults, f"mark{index}x", base)
        case.kinds.append(kind)
        if "blank lines" in faults:
            lines.append(rng.choice(("", delimiter, "  ")))
        case.rows.append((len(lines) + 1, f"mark{index}x"))
        lines += row.split("\n")
        if "twice" in faults and rng.random() < 0.5:
            lines += row.split("\n")
    if "comment" in faults:
        lines.append("# end of my list")
    text = ending.join(lines) + ending * (rng.random() < 0.8)
    case.content = _encode(rng, text, case)
    if "NUL" in faults:
        case.content = case.content.replace(b"x", b"\0", 1)
    return case


def _row(
    rng: random.Random, header: list[str], delimiter: str, faults: list[str], mark: str, base: str
) -> tuple[str, str]:
    written, kind = _written_name(rng, base)
    text = f"{mark} {rng.choice(('slow alap', 'şarkı, ağır', '静かな朝の音楽', 'a “slow” gat', 'mélodie très lente'))}"
    licence = rng.choice(LICENCES)
    cells = {"text": text, "performer": rng.choice(("Meera", "", "=1+1")), "licence": licence}
    row = [cells.get(column.strip().lower(), "") for column in header]
    row[0] = written
    if "quoted newline" in faults:
        row = [cell.replace(" ", "\n", 1) if cell == text else cell for cell in row]
    quoted = [_quoted(cell, delimiter) for cell in row]
    if rng.random() < 0.5:
        if "moved licence" in faults:
            columns = [column.strip().lower() for column in header]
            quoted[columns.index("performer")], quoted[columns.index("licence")] = "CC BY 4.0", "Meera"
        if "surplus" in faults:
            quoted.insert(2, "female voice")
        if "empty surplus" in faults:
            quoted += ["", ""]
        if "missing" in faults:
            quoted = quoted[: rng.randrange(2, len(quoted))]
        if "unclosed quote" in faults:
            quoted[1] = f'"{text}'
        if "inner quote" in faults:
            quoted[1] = f'"{text} "x" y"'
        if "smart quotes" in faults:
            quoted[1] = f"“{mark}, y”"
        if "huge" in faults:
            quoted[1] = f"{mark} {'z' * 140_000}"
    return delimiter.join(quoted), kind


def _quoted(cell: str, delimiter: str) -> str:
    needs = delimiter in cell or "\n" in cell or '"' in cell
    return '"' + cell.replace('"', '""') + '"' if needs else cell


def _encode(rng: random.Random, text: str, case: TableCase) -> bytes:
    encoding = "utf-8" if rng.random() < 0.6 else rng.choice(ENCODINGS)
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        encoding, content = f"{encoding} with ?", text.encode(encoding, "replace")
    case.kinds.append(encoding)
    if rng.random() < 0.03:
        case.kinds.append("random bytes")
        return rng.randbytes(300)
    return content


def _jsonl_case(rng: random.Random, number: int) -> TableCase:
    fault = rng.choice(("", "", "", "surrogate", "deep", "not an object", "broken", "number", "list", "column twice"))
    case = TableCase(number, "metadata.jsonl", b"", ["jsonl", fault])
    lines = []
    for index in range(rng.choice((0, 1, 3, 8))):
        written, kind = _written_name(rng, "")
        row: dict[str, Any] = {"file_name": written, "text": f"mark{index}x slow", "licence": rng.choice(LICENCES)}
        if fault == "number":
            row["file_name"], row["tempo"] = rng.choice((7, 7.0, 7.5, None, True, [7])), 1e400
        if fault == "list":
            row["text"] = ["one", f"mark{index}x", None, {"a": 1}]
        if fault == "surrogate":
            row["performer"] = "\ud800"
        line = json.dumps(row)
        if fault == "column twice":
            line = line[:-1] + ', "Text": "y"}'
        case.kinds.append(kind)
        case.rows.append((index + 1, f"mark{index}x"))
        lines.append(line)
    extra = {"deep": '{"file_name": ' + "[" * 100_000, "not an object": "[1]", "broken": "{oops"}.get(fault)
    case.content = "\n".join([*lines, *([extra] if extra else [])]).encode()
    return case


def main() -> None:
    """Read the tables, run the command on some, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--prepare", type=int, default=0, help="how many of them the command itself is run on")
    arguments = parser.parse_args()
    make_recordings(arguments.folder / "recordings")
    counts, faults = Counter[str](), list[str]()
    for case in table_cases(arguments.seed, arguments.count):
        outcome = read_case(case, arguments.folder / "recordings")
        counts.update({outcome.how: 1, "rows": len(case.rows), "rows used": outcome.used, "rows named": outcome.named})
        faults += [f"table {case.number} {case.kinds}: {outcome.fault}"] * bool(outcome.fault)
        if arguments.prepare and case.number % max(1, arguments.count // arguments.prepare) == 0:
            outcome = prepare_case(case, arguments.folder / "recordings", arguments.folder / f"corpus-{case.number}")
            counts[f"prepare: {outcome.how}"] += 1
            faults += [f"prepare {case.number} {case.kinds}: {outcome.fault}"] * bool(outcome.fault)
    print(dict(counts))
    print("\n".join(faults) or "no fault")


if __name__ == "__main__":
    main()
