"""Design expressions, KIND@SITE:SIZE joined by +: what people type, recipes hold and reports print."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from talim.errors import UsageError

KIND_NAMES = ("linear",)
SITE_WORDS = ("all",)
GRAMMAR = (
    "a design is KIND@SITE:SIZE, several joined by +, such as linear@all:2.5%; "
    f"KIND: {', '.join(KIND_NAMES)}; SITE: {', '.join(SITE_WORDS)}, layers[0-5]; "
    "SIZE: parameters (40M, 250k), a share of the base (2.5%) or a native setting (width64)"
)
LAYERS = re.compile(r"layers\[(\d+)(?:-(\d+))?\]")
COUNT = re.compile(r"(\d+(?:\.\d+)?)([kM]?)")
SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
WIDTH = re.compile(r"width(\d+)")
SCALES = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Size:
    """How large a part is: trainable parameters, per cent of the base, or a width in hidden units."""

    unit: str  # "parameters", "percent" or "width"
    value: float

    def __str__(self) -> str:
        if self.unit == "percent":
            return f"{_plain(self.value)}%"
        if self.unit == "width":
            return f"width{int(self.value)}"
        for letter in ("M", "k"):
            scaled = _plain(self.value / SCALES[letter])
            if self.value >= SCALES[letter] and round(float(scaled) * SCALES[letter]) == self.value:
                return f"{scaled}{letter}"
        return str(int(self.value))

    def parameters(self, base_parameters: int) -> int | None:
        """The budget in trainable parameters; None where the size is a native setting."""
        if self.unit == "percent":
            return round(self.value / 100 * base_parameters)
        return int(self.value) if self.unit == "parameters" else None


@dataclass(frozen=True)
class Part:
    """One kind of adapter at one place, of one size."""

    kind: str
    site: str
    size: Size

    def __str__(self) -> str:
        return f"{self.kind}@{self.site}:{self.size}"


@dataclass(frozen=True)
class Design:
    """One or more parts that are trained together; `str` gives the canonical expression."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)


def parse(text: str) -> Design:
    """Read an expression; UsageError names what is wrong in it and shows the grammar."""
    if not text.strip():
        raise UsageError(f"the design is empty; {GRAMMAR}")
    return Design(tuple(_part(piece.strip(), text) for piece in text.split("+")))


def layer_range(site: str) -> tuple[int, int] | None:
    """First and last layer of a `layers[i-j]` site, counted from 0; None for any other word."""
    match = LAYERS.fullmatch(site)
    if match is None:
        return None
    first = int(match[1])
    return first, first if match[2] is None else int(match[2])


def _part(piece: str, whole: str) -> Part:
    kind, at, rest = piece.partition("@")
    site, colon, size = rest.partition(":")
    if not (at and colon and kind and site and size):
        raise UsageError(f"design {whole!r}: {piece!r} is not KIND@SITE:SIZE; {GRAMMAR}")
    kind = kind.strip()
    if kind not in KIND_NAMES:
        raise UsageError(f"design {whole!r}: kind {kind!r} is unknown{_near(kind, KIND_NAMES)}; {GRAMMAR}")
    return Part(kind, _site(site.strip(), whole), _size(size.strip(), whole))


def _site(site: str, whole: str) -> str:
    layers = layer_range(site)
    if layers is not None:
        first, last = layers
        if first > last:
            raise UsageError(f"design {whole!r}: {site} runs backwards; write layers[{last}-{first}]")
        return f"layers[{first}]" if first == last else f"layers[{first}-{last}]"
    if site not in SITE_WORDS:
        raise UsageError(f"design {whole!r}: site {site!r} is unknown{_near(site, SITE_WORDS)}; {GRAMMAR}")
    return site


def _size(size: str, whole: str) -> Size:
    if match := SHARE.fullmatch(size):
        share = float(match[1])
        if not 0 < share <= 100:
            raise UsageError(f"design {whole!r}: a share of {size} is out of range; give 0% < share <= 100%")
        return Size("percent", share)
    if match := WIDTH.fullmatch(size):
        found = Size("width", int(match[1]))
    elif match := COUNT.fullmatch(size):
        found = Size("parameters", round(float(match[1]) * SCALES[match[2]]))
    else:
        raise UsageError(f"design {whole!r}: size {size!r} cannot be read; {GRAMMAR}")
    if found.value < 1:
        raise UsageError(f"design {whole!r}: size {size!r} is nothing at all; {GRAMMAR}")
    return found


def _near(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _plain(value: float) -> str:
    """A number without exponent and without needless zeros."""
    return f"{value:.12f}".rstrip("0").rstrip(".")
