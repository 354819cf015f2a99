"""Whether the regular expressions of an adapter's configuration end on a model's module paths in a bounded time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from talim.errors import TalimError

CPU_SECONDS = 5
WALL_SECONDS = 120.0  # where the CPU time cannot be limited, or the machine is busy
MAX_LENGTH = 200_000  # characters of one expression
# Python cannot interrupt its own matching, so it is tried once in a process that can be ended.
PROGRAM = """
import json, re, sys
seconds, patterns, paths = json.load(sys.stdin)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
except ImportError:
    pass
for index, pattern in enumerate(patterns):
    print(index, flush=True)
    compiled = re.compile(pattern)
    for path in paths:
        compiled.fullmatch(path), compiled.match(path)
print("end")
"""


def expressions(config: Any) -> list[str]:
    """The regular expressions of a PEFT configuration as PEFT matches them with module paths.

    TalimError for a field of another type, or an expression that is none.
    """
    found: list[str] = []
    for name in ("target_modules", "exclude_modules", "feedforward_modules"):
        if isinstance(value := getattr(config, name, None), str):
            found.append(value)
        else:
            _texts(name, value)
    for name in ("rank_pattern", "alpha_pattern"):
        value = getattr(config, name, None) or {}
        if not isinstance(value, dict):
            raise TalimError(f"{name} is {value!r:.60}; expected expressions with numbers")
        found += [rf"(.*\.)?({key})$" for key in _texts(name, list(value))]
    found += [rf"(^|.*\.){key}($|\..*)" for key in _texts("modules_to_save", getattr(config, "modules_to_save", None))]
    layers = getattr(config, "layers_pattern", None)
    layers = [layers] if isinstance(layers, str) else _texts("layers_pattern", layers)
    found += [rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\." for pattern in layers]
    for pattern in found:
        if len(pattern) > MAX_LENGTH:
            raise TalimError(f"a regular expression of {len(pattern):,} characters; at most {MAX_LENGTH:,} are read")
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise TalimError(f"{pattern!r:.80} is no regular expression: {error}") from error
    return found


def _texts(name: str, value: Any) -> list[str]:
    items = [] if value is None else list(value) if isinstance(value, list | tuple | set | frozenset) else None
    if items is None or not all(isinstance(item, str) for item in items):
        raise TalimError(f"{name} is {value!r:.60}; expected text")
    return items


def check_time(patterns: Iterable[str], paths: Iterable[str]) -> None:
    """TalimError if matching these expressions with these module paths takes more than some seconds."""
    risky = [pattern for pattern in patterns if set(pattern) & set("*+?{|")]
    if not risky:
        return
    _match_in_time(json.dumps([CPU_SECONDS, risky, list(paths)]))


@lru_cache(maxsize=16)  # several adapters of one design, and one loaded again, have the same expressions
def _match_in_time(document: str) -> None:
    """`check_time` of the seconds, expressions and paths of a JSON document."""
    seconds, patterns, _ = json.loads(document)
    command = [sys.executable, "-I", "-S", "-c", PROGRAM]
    try:
        done = subprocess.run(
            command, input=document, capture_output=True, text=True, timeout=WALL_SECONDS, check=False
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
    lines = output.split()
    if lines[-1:] != ["end"]:
        slow = patterns[int(lines[-1])] if lines else patterns[0]
        raise TalimError(
            f"matching the regular expression {slow!r:.80} with the names of this model's modules takes longer than "
            f"{seconds} s; an adapter with it is not loaded"
        )
