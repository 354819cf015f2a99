"""A spectrogram over log frequency with the pitch track, as one inline SVG."""

from __future__ import annotations

import base64
import io

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

LOWEST_HZ, HIGHEST_HZ = 65.4, 8372.0  # C2 to C9: seven octaves
TICKS_HZ = (100, 250, 500, 1000, 2000, 5000)
ROWS, COLUMNS, SHADES = 168, 420, 16  # two rows per semitone; few shades keep the page small
RANGE_DB = 62.0
WIDTH, HEIGHT, LEFT, FOOT = 360.0, 150.0, 30.0, 18.0  # SVG units


def spectrogram(
    samples: np.ndarray,  # float [T], mono
    rate_hz: int,
    *,
    alt: str,
    pitch_hz: np.ndarray | None = None,  # float [n], NaN where unvoiced
    hop_seconds: float = 0.0,
    seam_seconds: float | None = None,
) -> Markup:
    """Energy in the page's text colour and pitch in its accent colour; `alt` is the text alternative.

    A dashed line at `seam_seconds` marks where one part ends and another begins.
    """
    seconds = max(len(samples) / rate_hz, 1e-3)
    plot_width, plot_height = WIDTH - LEFT, HEIGHT - FOOT
    image = _png(log_energy(np.asarray(samples, dtype=np.float32), rate_hz))
    parts = [
        f'<svg class="spectrogram" role="img" aria-label="{escape(alt)}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}"'
        f' data-left="{LEFT / WIDTH:.4f}" data-seconds="{seconds:.3f}">',
        f'<image class="energy" x="{LEFT:g}" y="0" width="{plot_width:g}" height="{plot_height:g}"'
        f' preserveAspectRatio="none" href="{image}"/>',
    ]
    parts += [_frequency_tick(hz, plot_height) for hz in TICKS_HZ]
    parts += [_time_tick(at, seconds, plot_width) for at in time_ticks(seconds)]
    if pitch_hz is not None and hop_seconds > 0:
        path = pitch_path(pitch_hz, hop_seconds, seconds, plot_width, plot_height)
        parts.append(f'<path class="halo" d="{path}"/><path class="pitch" d="{path}"/>')
    if seam_seconds is not None:
        x = LEFT + plot_width * min(max(seam_seconds / seconds, 0.0), 1.0)
        parts.append(f'<line class="seam" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{plot_height:g}"/>')
    parts.append(f'<line class="playhead" x1="{LEFT:g}" x2="{LEFT:g}" y1="0" y2="{plot_height:g}"/></svg>')
    return Markup("".join(parts))


def log_energy(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Level in 0..1 (RANGE_DB below the loudest to the loudest), float [ROWS, COLUMNS], lowest first."""
    size = 2 ** int(np.ceil(np.log2(rate_hz * 0.09)))
    padded = np.pad(samples, size // 2)
    starts = np.linspace(0, len(padded) - size, COLUMNS).astype(int)
    frames = padded[starts[:, None] + np.arange(size)] * np.hanning(size)  # [COLUMNS, size]
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    banded = _max_by_row(power, np.fft.rfftfreq(size, 1 / rate_hz))
    level_db = 10 * np.log10(banded + 1e-12)
    loudest_db = max(float(level_db.max()), -50.0)  # silence stays blank and is not amplified to noise
    return np.clip((level_db - loudest_db) / RANGE_DB + 1, 0, 1)


def _max_by_row(power: np.ndarray, bins_hz: np.ndarray) -> np.ndarray:
    """The maximum over each row's frequency band, float [ROWS, COLUMNS]; interpolated if it contains no bin."""
    rows_hz = np.geomspace(LOWEST_HZ, HIGHEST_HZ, ROWS)
    edges_hz = rows_hz[0] * (rows_hz[1] / rows_hz[0]) ** (np.arange(ROWS + 1) - 0.5)
    edges = np.searchsorted(bins_hz, edges_hz)
    rows = []
    for row_hz, first, last in zip(rows_hz, edges[:-1], edges[1:], strict=True):
        if last > first:  # keeps narrow tones between two rows
            rows.append(power[:, first:last].max(axis=1))
        elif first in (0, len(bins_hz)):
            rows.append(np.zeros(len(power)))
        else:
            weight = (row_hz - bins_hz[first - 1]) / (bins_hz[first] - bins_hz[first - 1])
            rows.append((1 - weight) * power[:, first - 1] + weight * power[:, first])
    return np.stack(rows)


def time_ticks(seconds: float) -> list[float]:
    """About five round times in seconds, the first at 0."""
    step = next((s for s in (0.5, 1, 2, 5, 10, 20, 30, 60) if seconds / s <= 6), seconds / 5)
    return [float(at) for at in np.arange(0, seconds * 0.97, step)]


def pitch_path(pitch_hz: np.ndarray, hop_seconds: float, seconds: float, plot_width: float, plot_height: float) -> str:
    """The pitch track as an SVG path in SVG units, interrupted where unvoiced."""
    commands, drawing = [], False
    for index, hz in enumerate(np.asarray(pitch_hz, dtype=float)):
        x = LEFT + plot_width * index * hop_seconds / seconds
        if not (LOWEST_HZ <= hz <= HIGHEST_HZ) or x > LEFT + plot_width:  # NaN fails the comparison too
            drawing = False
            continue
        commands.append(f"{'L' if drawing else 'M'}{x:.1f} {_height(hz, plot_height):.1f}")
        drawing = True
    return "".join(commands)


def _height(hz: float, plot_height: float) -> float:
    return float(plot_height * (1 - np.log(hz / LOWEST_HZ) / np.log(HIGHEST_HZ / LOWEST_HZ)))


def _frequency_tick(hz: int, plot_height: float) -> str:
    y = _height(hz, plot_height)
    label = f"{hz // 1000}k" if hz >= 1000 else f"{hz}"
    return (
        f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 5:g}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'
    )


def _time_tick(at: float, seconds: float, plot_width: float) -> str:
    x = LEFT + plot_width * at / seconds
    return f'<text x="{x:.1f}" y="{HEIGHT - 4:g}" text-anchor="start">{at:g} s</text>'


def _png(energy: np.ndarray) -> str:
    """A PNG data URI: black with the energy as opacity, so that the dark scheme can invert it."""
    levels = np.round(energy[::-1] ** 1.3 * (SHADES - 1)).astype(np.uint8)
    image = Image.fromarray(levels, mode="P")
    image.putpalette([0] * 3 * SHADES)
    buffer = io.BytesIO()
    transparency = bytes(round(255 * shade / (SHADES - 1)) for shade in range(SHADES))
    image.save(buffer, "PNG", transparency=transparency, compress_level=6, bits=4)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
