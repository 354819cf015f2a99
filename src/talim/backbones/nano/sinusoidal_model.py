"""Sinusoids-plus-noise model (Serra and Smith 1990): analysis and synthesis around nano's codec.

The features of a frame (20 ms) are, for each of `PITCH_CELLS` cells along the frequency axis, amplitude and exact
frequency of one sinusoid, and twice per frame the noise level in each of `BANDS` bands. There is no phase: synthesis
continues the phase of each sinusoid, so a steady tone has constant features, which suits a language model over codes.

Frequencies come from time-frequency reassignment (Auger and Flandrin 1995): a bin's energy is moved to
f_k - Im(X_dh / X) * rate / (2 pi), X_dh being the transform with the window's derivative.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

RATE_HZ = 16000
HOP = 320
WINDOW = 960
PITCH_CELLS = 160
BANDS = 32
NOISE_HOP = 160
NOISE_WINDOW = 320
_BLOCK_FRAMES = 1000  # synthesized at a time: 20 s
FEATURES = 2 * PITCH_CELLS + 2 * BANDS
FLOOR = 1e-4  # amplitudes below this (-80 dB of full scale) are silence


@cache
def cell_centres_hz() -> Tensor:
    """Centres of the cells [PITCH_CELLS]: every 25 Hz up to 2 kHz, 50 Hz up to 4 kHz, 100 Hz up to 8 kHz."""
    parts = [torch.arange(80) * 25.0 + 25, torch.arange(40) * 50.0 + 2050, torch.arange(40) * 100.0 + 4100]
    return torch.cat(parts)


@cache
def cell_widths_hz() -> Tensor:
    """Distance between neighbouring cell centres [PITCH_CELLS]."""
    return torch.cat([torch.full((80,), 25.0), torch.full((40,), 50.0), torch.full((40,), 100.0)])


@cache
def mel_bands() -> Tensor:
    """Weights [BANDS, NOISE_WINDOW // 2 + 1] that average power over mel-spaced triangles; rows sum to one."""
    frequencies = torch.linspace(0, RATE_HZ / 2, NOISE_WINDOW // 2 + 1)
    mel = torch.linspace(0, 2595 * math.log10(1 + 7900 / 700), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    spread = torch.clamp(torch.minimum((frequencies - low) / (mid - low), (high - frequencies) / (high - mid)), min=0)
    nearest = F.one_hot((frequencies[None] - mid).abs().argmin(1), frequencies.numel()).float()
    spread = torch.where(spread.sum(1, keepdim=True) > 0.5, spread, nearest)
    return spread / spread.sum(1, keepdim=True)


def amplitude_to_level(amplitude: Tensor) -> Tensor:
    """Amplitude -> level 0..1, linear in dB from -80 to 0."""
    return torch.log10(amplitude.clamp(min=FLOOR) / FLOOR) / -math.log10(FLOOR)


def level_to_amplitude(level: Tensor) -> Tensor:
    """Inverse of `amplitude_to_level`; levels up to 0.02 are silence."""
    return torch.where(
        level > 0.02, FLOOR * 10 ** (level.clamp(max=1.05) * -math.log10(FLOOR)), torch.zeros_like(level)
    )


def num_frames(samples: int) -> int:
    """Number of codec frames of a number of samples."""
    return max(1, math.ceil(samples / HOP))


def reassigned_spectrum(wave: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitude and reassigned frequency in Hz of every bin: two [B, WINDOW // 2 + 1, T] from `wave` [B, S]."""
    steps = torch.arange(WINDOW, device=wave.device, dtype=wave.dtype)
    hann = 0.5 - 0.5 * torch.cos(2 * math.pi * steps / WINDOW)
    slope = math.pi / WINDOW * torch.sin(2 * math.pi * steps / WINDOW)
    count, left = num_frames(wave.shape[1]), WINDOW // 2 - HOP // 2
    right = max(0, (count - 1) * HOP + WINDOW - left - wave.shape[1])
    frames = F.pad(wave, (left, right)).unfold(1, WINDOW, HOP)[:, :count]  # [B, T, WINDOW]
    plain, derived = torch.fft.rfft(frames * hann), torch.fft.rfft(frames * slope)
    amplitude = plain.abs() * (2 / hann.sum())
    ratio = (derived * plain.conj()).imag / plain.abs().square().clamp(min=1e-12)
    bins = torch.arange(WINDOW // 2 + 1, device=wave.device) * (RATE_HZ / WINDOW)
    return amplitude.transpose(1, 2), (bins - ratio * RATE_HZ / (2 * math.pi)).transpose(1, 2)


def tonality(amplitude: Tensor, frequency: Tensor) -> Tensor:
    """Tonality of each bin, 0..1 [B, bins, T], from reassigned `amplitude` and `frequency`.

    A sinusoid's energy is concentrated (its peak is up to 8.6 times the mean over 13 bins, against 2.3 in white
    noise) and the bins of its main lobe agree on one frequency (within 0.1 bins, against 0.8); the thresholds lie
    between.
    """
    near = F.pad(frequency, (0, 0, 1, 1), mode="replicate")
    loud = F.pad(amplitude, (0, 0, 1, 1))
    spread = loud[:, :-2] * (near[:, :-2] - frequency).abs() + loud[:, 2:] * (near[:, 2:] - frequency).abs()
    spread_bins = spread / (loud[:, :-2] + loud[:, 2:] + 1e-9) * (WINDOW / RATE_HZ)
    energy = amplitude.square().transpose(1, 2)
    peak = F.max_pool1d(energy, 5, 1, 2) / F.avg_pool1d(energy, 13, 1, 6).clamp(min=1e-14)
    evidence = 4 * torch.log2(peak.transpose(1, 2).clamp(min=0.1) / 3.4) + (0.5 - spread_bins) / 0.12
    return torch.sigmoid(evidence)


def sinusoids(amplitude: Tensor, frequency: Tensor, tonal: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitude and frequency offset (in cells) per cell [B, PITCH_CELLS, T] of the tonal part of a spectrum.

    A sinusoid is distributed over the two nearest cells, whose amplitudes add up to its own, so that a glide is
    continuous.
    """
    bin_hz = RATE_HZ / WINDOW
    bins = torch.arange(amplitude.shape[1], device=amplitude.device)[None, :, None] * bin_hz
    in_lobe = ((frequency - bins).abs() < 2.2 * bin_hz) & (frequency > 30) & (frequency < 7900)
    # 1.5: the sum of a Hann window's main lobe
    energy = torch.where(in_lobe, amplitude.square() * tonal, torch.zeros_like(amplitude)) / 1.5
    centres, widths = cell_centres_hz().to(amplitude.device), cell_widths_hz().to(amplitude.device)
    upper = torch.searchsorted(centres, frequency.contiguous()).clamp(1, PITCH_CELLS - 1)
    fraction = ((frequency - centres[upper - 1]) / (centres[upper] - centres[upper - 1])).clamp(0, 1)
    shape = (amplitude.shape[0], PITCH_CELLS, amplitude.shape[2])
    power, moment, weight = (torch.zeros(shape, device=amplitude.device) for _ in range(3))
    for index, part in ((upper - 1, 1 - fraction), (upper, fraction)):
        power.scatter_add_(1, index, energy * part.square())
        weight.scatter_add_(1, index, energy * part)
        moment.scatter_add_(1, index, energy * part * (frequency - centres[index]) / widths[index])
    return power.sqrt(), (moment / weight.clamp(min=1e-12)).clamp(-1.2, 1.2)


@cache
def long_window_mel_bands() -> Tensor:
    """`mel_bands` on the bins of the long window [BANDS, WINDOW // 2 + 1]."""
    return F.interpolate(mel_bands()[None], size=WINDOW // 2 + 1, mode="linear", align_corners=True)[0]


def noise_levels(wave: Tensor, amplitude: Tensor, tonal: Tensor) -> Tensor:
    """RMS amplitude per band of the residual without sinusoids [B, BANDS, 2 T].

    The long window gives the noise fraction of a band's energy, the short one the time course of the band's level.
    """
    window = torch.hann_window(NOISE_WINDOW, device=wave.device)
    padded = F.pad(wave, (NOISE_WINDOW // 2 - NOISE_HOP // 2, NOISE_WINDOW + HOP))
    frames = padded.unfold(1, NOISE_WINDOW, NOISE_HOP)[:, : 2 * tonal.shape[2]]
    power = torch.fft.rfft(frames * window).abs().square() / window.square().sum()  # [B, 2T, F]
    long_bands = long_window_mel_bands().to(wave.device)
    energy = amplitude.square()
    noise_fraction = (long_bands @ (energy * (1 - tonal))) / (long_bands @ energy).clamp(min=1e-14)  # [B, BANDS, T]
    total = (power @ mel_bands().to(wave.device).T).transpose(1, 2)
    return (total * noise_fraction.repeat_interleave(2, 2)).clamp(min=0).sqrt()


def analyze(wave: Tensor) -> Tensor:
    """Features [B, FEATURES, T] of `wave` [B, S]: levels, frequency offsets (in cells), noise levels."""
    spectrum, frequency = reassigned_spectrum(wave)
    tonal = tonality(spectrum, frequency)
    amplitude, offset = sinusoids(spectrum, frequency, tonal)
    noise = noise_levels(wave, spectrum, tonal)
    batch, _, frames = amplitude.shape
    level = amplitude_to_level(amplitude)
    pairs = (
        amplitude_to_level(noise).view(batch, BANDS, frames, 2).permute(0, 3, 1, 2).reshape(batch, 2 * BANDS, frames)
    )
    return torch.cat([level, offset * (level > 0.05), pairs], 1)


def synthesize(features: Tensor, seed: int = 0) -> Tensor:
    """Audio [B, T * HOP] of features [B, FEATURES, T]; the noise is determined by `seed`."""
    synthesizer = Synthesizer(seed)
    parts = [synthesizer.add(block) for block in features.split(_BLOCK_FRAMES, 2)]
    return torch.cat([*parts, synthesizer.finish()], 1)


class Synthesizer:
    """`synthesize` of features that come in blocks, each of which takes the same memory.

    Kept between blocks: the phases of the sinusoids, the random numbers' state, and what overlaps the next block.
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._past: list[_Partials] = []  # of each clip

    def add(self, features: Tensor) -> Tensor:
        """Audio [B, n] that further frames [B, FEATURES, T] complete; it lags by half a frame."""
        level, offset, noise = features.split([PITCH_CELLS, PITCH_CELLS, 2 * BANDS], 1)
        batch, _, frames = level.shape
        first = not self._past
        if first:
            self._past = [_Partials() for _ in range(batch)]
            self._overlap = torch.zeros(2, batch, HOP)  # of tones and noise
            self._white = torch.randn(NOISE_HOP, generator=self._generator)
        # Noise grains are shorter than the tones' windows, and begin later by half the difference.
        sound = torch.zeros(2, batch, (frames + 1) * HOP)
        sound[..., :HOP] = self._overlap
        for past, row, *clip in zip(self._past, sound[0], level_to_amplitude(level), offset, strict=True):
            past.add_to(row, *clip)
        # In one draw or in several, the numbers are the same: sizes are multiples of 16.
        white = torch.cat([self._white, torch.randn(frames * HOP, generator=self._generator)])
        self._white = white[-NOISE_HOP:].clone()
        grains = _grains(level_to_amplitude(noise), white).transpose(1, 2)
        length = frames * HOP + NOISE_HOP
        added = F.fold(grains, (1, length), (1, NOISE_WINDOW), stride=(1, NOISE_HOP))[:, 0, 0]
        sound[1, :, (HOP - NOISE_HOP) // 2 :][:, :length] += added
        self._overlap = sound[..., frames * HOP :].clone()
        return sound.sum(0)[:, HOP // 2 if first else 0 : frames * HOP]

    def finish(self) -> Tensor:
        """The rest, [B, HOP // 2]."""
        return self._overlap.sum(0)[:, : HOP // 2]


class _Partials:
    """The sinusoids of one clip: amplitude, frequency and phase [PITCH_CELLS] of its last frame."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def add_to(self, output: Tensor, amplitude: Tensor, offset: Tensor) -> None:
        """Overlap-add to `output` [(T + 1) * HOP] what `amplitude` and `offset` [PITCH_CELLS, T] describe."""
        centres, widths = (cells.to(offset)[:, None] for cells in (cell_centres_hz(), cell_widths_hz()))
        frequency = centres + offset.clamp(-1.2, 1.2) * widths
        phase = self._running_phase(amplitude, frequency)
        self._last = amplitude[:, -1], frequency[:, -1], phase[:, -1]
        steps = torch.arange(2 * HOP, dtype=torch.float32) - HOP
        window = 0.5 + 0.5 * torch.cos(math.pi * steps / HOP)
        for t in range(amplitude.shape[1]):
            on = amplitude[:, t] > 0
            if on.any():
                angle = phase[on, t, None] + 2 * math.pi / RATE_HZ * frequency[on, t, None] * steps
                output[t * HOP : (t + 2) * HOP] += window * (amplitude[on, t, None] * torch.cos(angle)).sum(0)

    def _running_phase(self, amplitude: Tensor, frequency: Tensor) -> Tensor:
        """Phase [PITCH_CELLS, T] at the middle of each frame, continued from the previous frame's nearest sinusoid."""
        cells, frames = amplitude.shape
        phase = torch.zeros(cells, frames)
        index = torch.arange(cells)
        neighbours = torch.stack([(index + d).clamp(0, cells - 1) for d in (-1, 0, 1)])  # [3, PITCH_CELLS]
        last = self._last
        for t in range(frames):
            if last is None:
                # Golden-ratio start phases: deterministic, and spread so that the onset of a chord is no click.
                phase[:, t] = index * (2 * math.pi * 0.618034)
            else:
                before_amplitude, before_frequency, before_phase = last
                gap = (before_frequency[neighbours] - frequency[index, t]) / 8.0
                score = (before_amplitude[neighbours] + 1e-7) * torch.exp(-0.5 * gap.square()).clamp(min=1e-6)
                source = neighbours.gather(0, score.argmax(0)[None])[0]
                step = math.pi * HOP / RATE_HZ * (before_frequency[source] + frequency[index, t])
                phase[:, t] = torch.remainder(before_phase[source] + step, 2 * math.pi)
            last = amplitude[:, t], frequency[:, t], phase[:, t]
        return phase


def _grains(amplitude: Tensor, samples: Tensor) -> Tensor:
    """White noise `samples` [S] as windowed grains [B, 2T, NOISE_WINDOW] with band amplitudes [B, 2 * BANDS, T]."""
    batch, _, frames = amplitude.shape
    levels = amplitude.reshape(batch, 2, BANDS, frames).permute(0, 3, 1, 2).reshape(batch, 2 * frames, BANDS)
    spread = mel_bands() / mel_bands().amax(1, keepdim=True)
    gain = (levels.square() @ spread / spread.sum(0).clamp(min=1e-3)).sqrt()  # [B, 2T, F]
    window = torch.hann_window(NOISE_WINDOW).sqrt()
    grains = torch.fft.rfft(samples.unfold(0, NOISE_WINDOW, NOISE_HOP)[: 2 * frames] * window)
    return torch.fft.irfft(grains[None] * gain, n=NOISE_WINDOW) * window
