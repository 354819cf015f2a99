"""The package's messages: every counted noun is "1 recording" or "2 recordings", never "1 recordings"."""

from __future__ import annotations

import re
from pathlib import Path

import talim.corpus

NOUNS = "recordings|clips|files|pairs|rows|cells|columns|performers|words|lines|seconds of|copies"
COUNTED = re.compile(rf"\{{(?!format_counted|path\.suffix)[^{{}}]*\}} (?:\w+ )?(?:{NOUNS})\b")
SOURCES = sorted(Path(str(talim.corpus.__file__)).parent.rglob("*.py"))


def test_counted_nouns_are_written_by_format_counted() -> None:
    assert COUNTED.search('f"{len(names)} recordings"')
    assert COUNTED.search('f"{missing} of {total} training clips"')
    assert not COUNTED.search("f\"{format_counted(count, 'recording')} of\"")
    faults = [
        f"{path.name}:{number} {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if COUNTED.search(line)
    ]
    assert faults == []
