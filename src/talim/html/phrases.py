"""English sentences of programs, such as why a file was left out, in another language by their patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial


def translate(text: str, phrases: Mapping[str, str]) -> str:
    """An English text in another language, by the first of the `phrases` {English: translation} that it matches.

    {names} in both stand for parts that are kept, such as numbers; a part that is a phrase itself is translated too.
    A text without a phrase stays as it is.
    """
    for english, other in phrases.items():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(english))
        if match := re.fullmatch(pattern, text):
            parts = {key: translate(part, phrases) for key, part in match.groupdict().items()}
            return re.sub(r"\{(\w+)\}", partial(_filled, parts), other)
    return text


def _filled(parts: Mapping[str, str], name: re.Match[str]) -> str:
    return parts.get(name[1], name[0])
