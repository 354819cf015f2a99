"""Performance styles of traditions (styles.yaml): expression, instruments, tempi, form; a plain one for all others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from talim.synthesis.forms import MelodicContour
from talim.synthesis.melody_line import ExpressionParameters
from talim.traditions.schema import Cycle, Mode

# By name: annotated sections of Saraga (vilambit 15 to 54, madhya 54 to 219, drut 172 to 273). By pulse: 5th to 95th
# percentile of the tempi of SymbTr's scores for usuls in halves, quarters, eighths and sixteenths.
TEMPI_BPM = {"slow": (14.0, 60.0), "medium": (54.0, 170.0), "fast": (150.0, 280.0), "any": (14.0, 280.0)}
PULSES_BPM = {"2": (40.0, 70.0), "4": (58.0, 115.0), "8": (96.0, 245.0), "16": (150.0, 300.0)}


@dataclass(frozen=True)
class PerformanceStyle:
    """Instruments, expression and form of performances.

    `accompanying_instruments` double the melody; `drum` and `drone` are names or "". `form` is "mukhra" (a refrain
    into every first beat) or "rounds" (sections, each followed by the refrain); `section_names` are those of the free
    part, the sections and the refrain. `lag_seconds` is the range of delays of the second instrument.
    """

    expression: ExpressionParameters
    lead_instruments: tuple[str, ...]
    accompanying_instruments: tuple[str, ...]
    drum: str
    drone: str
    form: str
    section_names: tuple[str, str, str]
    tempo_bpm: tuple[float, float]
    register_cents: tuple[float, float]
    lag_seconds: tuple[float, float]

    def tempo_range_bpm(self, cycle: Cycle) -> tuple[float, float]:
        """Slowest and fastest tempo of a cycle from its facts: `tempo_bpm` (two numbers), `tempo` (names such as "slow
        medium") or `signature` (by its lower number); else the range of the style.
        """
        facts = cycle.facts
        if facts.get("tempo_bpm"):
            return float(facts["tempo_bpm"][0]), float(facts["tempo_bpm"][1])
        named = [TEMPI_BPM[word] for word in str(facts.get("tempo", "")).split() if word in TEMPI_BPM]
        if not named:
            pulses = str(facts.get("signature", "")).split("/")[1:]
            named = [PULSES_BPM[pulse] for pulse in pulses if pulse in PULSES_BPM]
        return (min(low for low, _ in named), max(high for _, high in named)) if named else self.tempo_bpm

    def register_contour(self, mode: Mode) -> MelodicContour:
        """The pitch around which phrases rest over time: the mode's contour, or a slow rise and fall."""
        strong = mode.strong_cents[0] if mode.strong_cents else 600.0
        if mode.contour == "ascending":
            return ((0.0, 0.0), (0.3, strong), (0.6, strong + 300.0), (0.75, 1200.0), (1.0, 0.0))
        if mode.contour == "descending":
            return ((0.0, 1200.0), (0.4, 1000.0), (0.6, strong), (1.0, 0.0))
        if mode.contour == "both":
            return ((0.0, strong), (0.3, 300.0), (0.6, 1100.0), (0.8, strong), (1.0, 0.0))
        return ((0.0, 0.0), (0.25, strong / 2), (0.5, 700.0), (0.75, 1200.0), (1.0, 0.0))


@cache
def load_styles() -> dict[str, PerformanceStyle]:
    """The styles of styles.yaml by the slug of their tradition, and `plain`."""
    text = Path(__file__).with_name("styles.yaml").read_text("utf-8")
    return TypeAdapter(dict[str, PerformanceStyle]).validate_python(yaml.safe_load(text))


def style_of(slug: str) -> PerformanceStyle:
    """The style of a tradition; the plain one if it has none."""
    styles = load_styles()
    return styles.get(slug, styles["plain"])
