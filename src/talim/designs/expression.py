"""Design expressions, KIND@SITE:SIZE joined by +: what people type, recipes hold and reports print."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from talim.errors import UsageError

BOTTLENECK_KINDS = ["linear", "conv", "transformer"]  # `designs.register` adds to it
RANKED_KINDS = ("lora", "dora")  # PEFT's own, sized by a rank
PEFT_KINDS = (*RANKED_KINDS, "ia3")
UNSIZED_KINDS = ("ia3", "full")
SITE_NAMES = ("conditioner", "all", "shallow", "middle", "deep", "post", "down", "mid", "up")
LAYERS = re.compile(r"layers\[(\d+)(?:-(\d+))?\]")
COUNT = re.compile(r"(\d+(?:\.\d+)?)([kM]?)")
PERCENTAGE = re.compile(r"(\d+(?:\.\d+)?)%")
EXPLICIT_WIDTH = re.compile(r"(width|r)(\d+)")
SCALES = {"": 1, "k": 1_000, "M": 1_000_000}


def kind_names() -> tuple[str, ...]:
    """Every word that may stand before the @."""
    return (*BOTTLENECK_KINDS, *PEFT_KINDS, "full")


def grammar() -> str:
    """The whole language in a sentence, for error messages."""
    return (
        "a design is KIND@SITE:SIZE, several joined by +, such as conv@shallow:20M+transformer@deep:20M; "
        f"KIND: {', '.join(kind_names())}; SITE: {', '.join(SITE_NAMES)}, layers[0-5]; SIZE: parameters "
        "(40M, 250k), a share of the base (2.5%) or a native setting (width64, r16); ia3 and full take none"
    )


@dataclass(frozen=True)
class Size:
    """How large a part is: trainable parameters, per cent of the base, hidden units, or a rank."""

    unit: str  # "parameters", "percent", "width" or "r"
    value: float

    def __str__(self) -> str:
        if self.unit == "percent":
            return f"{_plain_decimal(self.value)}%"
        if self.native:
            return f"{self.unit}{int(self.value)}"
        for letter in ("M", "k"):
            scaled = _plain_decimal(self.value / SCALES[letter])
            if self.value >= SCALES[letter] and round(float(scaled) * SCALES[letter]) == self.value:
                return f"{scaled}{letter}"
        return str(int(self.value))

    @property
    def native(self) -> bool:
        """A width or a rank, which is no budget."""
        return self.unit in ("width", "r")

    def parameters(self, base_parameters: int) -> int | None:
        """The budget in trainable parameters; None where the size is a native setting."""
        if self.unit == "percent":
            return round(self.value / 100 * base_parameters)
        return int(self.value) if self.unit == "parameters" else None


@dataclass(frozen=True)
class Part:
    """One kind of adapter at one place, of one size; `full` and `ia3` have no size."""

    kind: str
    site: str
    size: Size | None

    def __str__(self) -> str:
        return f"{self.kind}@{self.site}" + (f":{self.size}" if self.size is not None else "")


@dataclass(frozen=True)
class Design:
    """One or more parts trained together, read by `Design.parse`; `str` gives the canonical expression.

    As a pydantic field it is read from an expression and serialised as its canonical expression.
    """

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str | Design) -> Design:
        """Read an expression; UsageError names what is wrong in it and shows the grammar. A Design is returned as is."""
        if isinstance(text, Design):
            return text
        if not isinstance(text, str):
            raise UsageError(f"the design is {text!r}; {grammar()}")
        if not text.strip():
            raise UsageError(f"the design is empty; {grammar()}")
        design = cls(tuple(_parse_part(part.strip(), text) for part in text.split("+")))
        peft_kinds = [part.kind for part in design.parts if part.kind in PEFT_KINDS]
        if peft_kinds and len(design.parts) > 1:
            raise UsageError(
                f"design {text!r}: {peft_kinds[0]} stands alone, as a model holds one PEFT method at a time; "
                f"{', '.join(BOTTLENECK_KINDS)} and full mix with each other"
            )
        return design

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)

    @property
    def peft_kind(self) -> str | None:
        """The PEFT method that this design is, None where the parts are talim's own."""
        return self.parts[0].kind if self.parts[0].kind in PEFT_KINDS else None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls.parse,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.to_string_ser_schema(when_used="always"),
        )


parse = Design.parse


def layer_range(site: str) -> tuple[int, int] | None:
    """First and last layer of a `layers[i-j]` site, counted from 0; None for any other word."""
    match = LAYERS.fullmatch(site)
    if match is None:
        return None
    first = int(match[1])
    return first, first if match[2] is None else int(match[2])


def _parse_part(piece: str, whole: str) -> Part:
    kind, at, rest = (word.strip() for word in piece.partition("@"))
    site, colon, size = (word.strip() for word in rest.partition(":"))
    if not (at and kind and site) or (colon and not size):
        raise UsageError(f"design {whole!r}: {piece!r} is not KIND@SITE:SIZE; {grammar()}")
    if kind not in kind_names():
        raise UsageError(
            f"design {whole!r}: kind {kind!r} is unknown{_closest_hint(kind, kind_names())}; {grammar()}"
        )
    if kind in UNSIZED_KINDS:
        if size:
            raise UsageError(f"design {whole!r}: {kind} has the size it has; write {kind}@{site}")
        return Part(kind, _site(site, whole), None)
    if not size:
        raise UsageError(f"design {whole!r}: {piece!r} is not KIND@SITE:SIZE; {grammar()}")
    found = _size(size, whole)
    wanted = "r" if kind in RANKED_KINDS else "width"
    if found.native and found.unit != wanted:
        raise UsageError(f"design {whole!r}: {kind} is sized by {wanted}{int(found.value)}, not {size}")
    return Part(kind, _site(site, whole), found)


def _site(site: str, whole: str) -> str:
    layers = layer_range(site)
    if layers is not None:
        first, last = layers
        if first > last:
            raise UsageError(f"design {whole!r}: {site} runs backwards; write layers[{last}-{first}]")
        return f"layers[{first}]" if first == last else f"layers[{first}-{last}]"
    if site not in SITE_NAMES:
        raise UsageError(
            f"design {whole!r}: site {site!r} is unknown{_closest_hint(site, SITE_NAMES)}; {grammar()}"
        )
    return site


def _size(size: str, whole: str) -> Size:
    if match := PERCENTAGE.fullmatch(size):
        share = float(match[1])
        if not 0 < share <= 100:
            raise UsageError(f"design {whole!r}: a share of {size} is out of range; give 0% < share <= 100%")
        return Size("percent", share)
    if match := EXPLICIT_WIDTH.fullmatch(size):
        found = Size(match[1], int(match[2]))
    elif match := COUNT.fullmatch(size):
        found = Size("parameters", round(float(match[1]) * SCALES[match[2]]))
    else:
        raise UsageError(f"design {whole!r}: size {size!r} cannot be read; {grammar()}")
    if found.value < 1:
        raise UsageError(f"design {whole!r}: size {size!r} is nothing at all; {grammar()}")
    return found


def _closest_hint(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _plain_decimal(value: float) -> str:
    """A number without exponent and without needless zeros."""
    return f"{value:.12f}".rstrip("0").rstrip(".")
