"""Synthesis of drum syllables (bol; düm, tek) on a pair of drums tuned to the tonic.

A syllable is a low stroke, a high one, or both, ringing or damped. Syllables of tabla and kudüm are listed; for other
drums the first letter decides (d, g, b, m: low), as in most spoken drum languages.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np

from talim.synthesis.western_instruments import RATE_HZ

# (low drum, high drum): "ring", "dead", "soft" (ringing, struck in the middle) or "" (silent).
STROKE_TYPES = {
    "dha": ("ring", "ring"), "dhin": ("ring", "soft"), "dhi": ("ring", "soft"), "na": ("", "ring"),
    "ta": ("", "ring"), "tin": ("", "soft"), "tun": ("", "soft"), "tu": ("", "soft"), "thun": ("", "soft"),
    "ge": ("ring", ""), "ghe": ("ring", ""), "ga": ("ring", ""), "gi": ("ring", ""), "ka": ("dead", ""),
    "ke": ("dead", ""), "ki": ("dead", ""), "kat": ("dead", ""), "kran": ("ring", "ring"), "dhet": ("ring", "dead"),
    "ti": ("", "dead"), "te": ("", "dead"), "ra": ("", "dead"), "re": ("", "dead"), "tit": ("", "dead"),
    "dum": ("ring", ""), "tek": ("", "ring"), "tak": ("", "ring"), "hek": ("dead", "ring"), "teke": ("", "dead"),
    "tahek": ("dead", "ring"), "me": ("ring", ""),
}  # fmt: skip
LOW_INITIALS = "dgbm"


def syllables(word: str) -> list[str]:
    """The strokes of a word in lower-case ASCII: TiRaKiTa gives ti, ra, ki, ta; a dash or an S is a rest ("")."""
    plain = unicodedata.normalize("NFKD", word.replace("ı", "i"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    if plain.strip() in {"", "-", "S", "s", "0"}:
        return [""]
    parts = re.findall(r"[A-Z][a-z]*|-", plain) if re.search(r"[a-z][A-Z]", plain) else []
    return [p.lower().strip("-") for p in parts] if parts else [re.sub(r"[^a-z]", "", plain.lower())]


def stroke_hands(syllable: str) -> tuple[str, str]:
    """Stroke types of the low and the high drum: "ring", "soft", "dead" or ""."""
    if syllable in STROKE_TYPES:
        return STROKE_TYPES[syllable]
    if not syllable:
        return "", ""
    return ("ring", "") if syllable[0] in LOW_INITIALS else ("", "ring")


def stroke(syllable: str, high_hz: float, rng: np.random.Generator) -> np.ndarray:
    """One stroke, float32 [T] of at most 1 s; the high drum is tuned to `high_hz`."""
    low, high = stroke_hands(syllable)
    out = np.zeros(RATE_HZ, np.float64)
    seconds = np.arange(out.size) / RATE_HZ
    if low in ("ring", "soft"):
        bend = float(rng.uniform(0.0, 0.25))
        hz = 82.0 * (1 + 0.35 * np.exp(-seconds / 0.02) + bend * (1 - np.exp(-seconds / 0.08)))
        phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
        out += 1.1 * np.sin(phase) * np.exp(-seconds / 0.16) + 0.25 * np.sin(2 * phase) * np.exp(-seconds / 0.07)
    elif low == "dead":
        out += 0.9 * slap(seconds, 300.0, 0.018, rng)
    if high == "ring":
        out += membrane(seconds, high_hz, (0.35, 1.0, 0.8, 0.45, 0.25), 0.11, rng)
    elif high == "soft":
        out += membrane(seconds, high_hz, (1.0, 0.35, 0.15, 0.05, 0.02), 0.2, rng)
    elif high == "dead":
        out += 0.55 * slap(seconds, 1500.0, 0.012, rng)
    out *= np.clip((1.0 - seconds) / 0.1, 0.0, 1.0)
    return (float(rng.uniform(0.9, 1.0)) * out).astype(np.float32)


def membrane(
    seconds: np.ndarray, hz: float, gains: tuple[float, ...], decay_seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """A loaded membrane: nearly harmonic partials (Raman 1934), the higher ones with faster decay."""
    out = 0.25 * slap(seconds, 2500.0, 0.004, rng)
    for k, gain in enumerate(gains, start=1):
        if k * hz < 7400.0:
            stretched = k * hz * (1 + 0.004 * float(rng.uniform(-1, 1)))
            fading = np.exp(-seconds / decay_seconds * np.sqrt(k))
            out = out + 0.5 * gain * np.sin(2 * np.pi * stretched * seconds) * fading
    return out


def slap(seconds: np.ndarray, hz: float, decay_seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A damped stroke: noise around `hz` that decays within `decay_seconds`."""
    count = min(seconds.size, int(8 * decay_seconds * RATE_HZ))
    out = np.zeros(seconds.size)
    noise = rng.standard_normal(count)
    hum = 1 + np.cos(2 * np.pi * hz * seconds[:count])
    out[:count] = 0.6 * noise * hum * np.exp(-seconds[:count] / decay_seconds)
    return out
