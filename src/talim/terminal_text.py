"""Text of others (file names, licences, prompts) made safe to print: no character steers the terminal."""

from __future__ import annotations

import unicodedata

MAX_MESSAGE = 2000  # characters; a message beyond it hides the terminal's last screen
# Cc: control codes; Cs: halves of characters, which no encoding can write; Zl, Zp: line breaks that are none.
STEERING = {"Cc", "Cs", "Zl", "Zp"}
# Codes that reverse the order of what follows: "gnp.exe" can look like "exe.png".
REORDERING = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def printable(text: str, keep: str = "") -> str:
    r"""The text with control codes as \x1b, \x9b and the like; `keep` names control characters that stay, such as \n.

    Everything else stays as it is, the ideographic space and joining marks included.
    """
    return "".join(_escaped(letter) if letter not in keep and _steers(letter) else letter for letter in text)


def one_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """The text as one printable line of at most `limit` characters; line breaks become spaces."""
    line = printable(" ".join(part for part in text[: 4 * limit].replace("\r", "\n").replace("\t", " ").split("\n")))
    line = " ".join(part for part in line.split(" ") if part)
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 4] + " ..."


def _steers(letter: str) -> bool:
    return letter in REORDERING or unicodedata.category(letter) in STEERING


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
