"""Parser of design expressions: KIND@SITE:SIZE, several joined by +."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from talim.errors import UsageError

BOTTLENECK_KINDS = ["linear", "conv", "transformer"]  # `kinds.register` adds to it
RANKED_KINDS = ("lora", "dora")  # PEFT's own, sized by a rank
PEFT_KINDS = (*RANKED_KINDS, "ia3")
UNSIZED_KINDS = ("ia3", "full")
PEFT_PREFIX = "peft:"  # of any other method of the installed PEFT
PEFT_METHOD = re.compile(r"peft:[a-z][a-z0-9_]*")
SITE_NAMES = ("conditioner", "all", "shallow", "middle", "deep", "post", "down", "mid", "up")
STORED_SITE = "adapter"  # the modules that a stored adapter's own configuration names, which no other site describes
LAYERS = re.compile(r"layers\[(\d{1,6})(?:-(\d{1,6}))?\]")
COUNT = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kM]?)")
PERCENTAGE = re.compile(r"(\d{1,3}(?:\.\d{1,15})?)%")
EXPLICIT_WIDTH = re.compile(r"(width|r)(\d{1,15})")
MAX_PARAMETERS = 10**12  # of one part
MAX_WIDTH = 10**6
SCALES = {"": 1, "k": 1_000, "M": 1_000_000}


def kind_names() -> tuple[str, ...]:
    """Every name that may stand before the @, registered kinds included."""
    return (*BOTTLENECK_KINDS, *PEFT_KINDS, "full")


def grammar() -> str:
    """The grammar in one sentence, for error messages."""
    return (
        "a design is KIND@SITE:SIZE, several joined by +, such as conv@shallow:20M+transformer@deep:20M; "
        f"KIND: {', '.join(kind_names())}, peft:NAME (another method of PEFT, such as peft:lokr); "
        f"SITE: {', '.join(SITE_NAMES)}, layers[0-5]; SIZE: parameters "
        "(40M, 250k), per cent of the base (2.5%) or a native setting (width64 of "
        f"{', '.join(BOTTLENECK_KINDS)}, r16 of {', '.join(RANKED_KINDS)} and peft:NAME); ia3, full and some peft:NAME "
        "take none"
    )


@dataclass(frozen=True)
class Size:
    """Size of a part in one of four units: trainable parameters, per cent of the base, bottleneck width, rank."""

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
        """True for a width or a rank, False for a parameter budget."""
        return self.unit in ("width", "r")

    def parameters(self, base_parameters: int) -> int | None:
        """The budget in trainable parameters; None for a width or a rank."""
        if self.unit == "percent":
            return round(self.value / 100 * base_parameters)
        return int(self.value) if self.unit == "parameters" else None


@dataclass(frozen=True)
class Part:
    """One adapter kind at one site with one size; `full`, `ia3` and some methods of PEFT have no size."""

    kind: str
    site: str
    size: Size | None

    def __str__(self) -> str:
        return f"{self.kind}@{self.site}" + (f":{self.size}" if self.size is not None else "")


@dataclass(frozen=True)
class Design:
    """One or more parts trained together; `str` gives the canonical expression.

    Can be the type of a pydantic field: expressions are parsed, and serialised in canonical form.
    """

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str | Design) -> Design:
        """Read an expression (a Design is returned as it is); UsageError names the mistake and shows the grammar."""
        if isinstance(text, Design):
            return text
        if not isinstance(text, str):
            raise UsageError(f"the design is {text!r}; {grammar()}")
        if not text.strip():
            raise UsageError(f"the design is empty; {grammar()}")
        design = cls(tuple(_parse_part(part.strip(), text) for part in text.split("+")))
        peft_kinds = [part.kind for part in design.parts if is_peft(part.kind)]
        if peft_kinds and len(design.parts) > 1:
            raise UsageError(
                f"design {text!r}: {peft_kinds[0]} stands alone, as a model holds one PEFT method at a time; "
                f"{', '.join(BOTTLENECK_KINDS)} and full can be combined with each other"
            )
        return design

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)

    @property
    def peft_kind(self) -> str | None:
        """The kind of this design if it is a method of PEFT: lora, dora, ia3, peft:NAME; None for talim's own kinds."""
        return self.parts[0].kind if is_peft(self.parts[0].kind) else None

    @property
    def is_stored(self) -> bool:
        """Whether the modules and sizes are those of a stored adapter, `KIND@adapter`, and told nowhere else."""
        return any(part.site == STORED_SITE for part in self.parts)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            cls.parse,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.to_string_ser_schema(when_used="always"),
        )


def is_peft(kind: str) -> bool:
    """Whether a kind is a method of PEFT: one of `PEFT_KINDS`, or peft:NAME."""
    return kind in PEFT_KINDS or kind.startswith(PEFT_PREFIX)


def layer_range(site: str) -> tuple[int, int] | None:
    """First and last layer of a `layers[i-j]` site, counted from 0; None for any other site name."""
    match = LAYERS.fullmatch(site)
    if match is None:
        return None
    first = int(match[1])
    return first, first if match[2] is None else int(match[2])


def _parse_part(text: str, expression: str) -> Part:
    kind, at, rest = (token.strip() for token in text.partition("@"))
    site, colon, size_text = (token.strip() for token in rest.partition(":"))
    if not (at and kind and site) or (colon and not size_text):
        raise UsageError(f"design {expression!r}: {text!r} is not KIND@SITE:SIZE; {grammar()}")
    of_peft = PEFT_METHOD.fullmatch(kind) is not None  # whether PEFT has it is found out where it is used
    if kind not in kind_names() and not of_peft:
        near = _closest_hint(kind, kind_names())
        own = "" if near else ", and a kind of your own has to be registered first, in Python (talim.adapters.register)"
        raise UsageError(f"design {expression!r}: kind {kind!r} is unknown{near}{own}; {grammar()}")
    if kind in UNSIZED_KINDS or site == STORED_SITE:
        if size_text:
            what = f"{kind}@{site}" if site == STORED_SITE else kind
            raise UsageError(f"design {expression!r}: {what} takes no size; write {kind}@{site}")
        return Part(kind, _parse_site(site, expression), None)
    if not size_text and of_peft:  # some have no size
        return Part(kind, _parse_site(site, expression), None)
    native_unit = "r" if kind in RANKED_KINDS or of_peft else "width"
    if not size_text:
        sized = f"{kind}@{site}:2.5% or {kind}@{site}:{native_unit}8"
        raise UsageError(f"design {expression!r}: {kind} needs a size, such as {sized}; {grammar()}")
    size = _parse_size(size_text, expression)
    if size.native and size.unit != native_unit:
        raise UsageError(f"design {expression!r}: {kind} is sized by {native_unit}{int(size.value)}, not {size_text}")
    return Part(kind, _parse_site(site, expression), size)


def _parse_site(site: str, expression: str) -> str:
    layers = layer_range(site)
    if layers is not None:
        first, last = layers
        if first > last:
            raise UsageError(f"design {expression!r}: {site} runs backwards; write layers[{last}-{first}]")
        return f"layers[{first}]" if first == last else f"layers[{first}-{last}]"
    if site not in (*SITE_NAMES, STORED_SITE):
        raise UsageError(
            f"design {expression!r}: site {site!r} is unknown{_closest_hint(site, SITE_NAMES)}; {grammar()}"
        )
    return site


def _parse_size(text: str, expression: str) -> Size:
    if match := PERCENTAGE.fullmatch(text):
        percent = float(match[1])
        if not 0 < percent <= 100:
            raise UsageError(f"design {expression!r}: {text} is out of range; give more than 0% and at most 100%")
        return Size("percent", percent)
    if match := EXPLICIT_WIDTH.fullmatch(text):
        size = Size(match[1], int(match[2]))
    elif match := COUNT.fullmatch(text):
        if not match[2] and "." in match[1]:
            raise UsageError(
                f"design {expression!r}: {text} parameters is no whole number; write {text}% for a share of the base, "
                f"{text}k or {text}M for thousands or millions"
            )
        size = Size("parameters", round(float(match[1]) * SCALES[match[2]]))
    else:
        raise UsageError(f"design {expression!r}: size {text!r} cannot be read; {grammar()}")
    largest = MAX_WIDTH if size.native else MAX_PARAMETERS
    if not 1 <= size.value <= largest:
        raise UsageError(
            f"design {expression!r}: size {text!r} is less than 1 or more than {Size(size.unit, largest)}; {grammar()}"
        )
    return size


def _closest_hint(name: str, valid: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, valid, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _plain_decimal(value: float) -> str:
    """A number without exponent and without trailing zeros."""
    return f"{value:.12f}".rstrip("0").rstrip(".")
