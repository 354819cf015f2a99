"""VGGish (Hershey et al. 2017) in the layout of its PyTorch release, and its log-mel input."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import nn

RATE_HZ = 16000
FRAMES, BANDS = 96, 64  # 0.96 s in steps of 10 ms
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0
WINDOW, HOP, POINTS = 400, 160, 512


class Vggish(nn.Module):
    """Log-mel patches [B, 1, 96, 64] to [B, 128], before the release's last rectifier.

    Six convolutions, four poolings, three dense layers, the hidden ones `dense` wide (4096 in the release).
    """

    def __init__(self, dense: int = 4096) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width in (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool"):
            if isinstance(width, int):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 6 * 4, dense), nn.ReLU(), nn.Linear(dense, dense), nn.ReLU(), nn.Linear(dense, 128)
        )

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """The dense layers were trained with channels last, hence the permutation."""
        return self.embeddings(self.features(patches).permute(0, 2, 3, 1).flatten(1))


@lru_cache(maxsize=1)
def mel_weights() -> np.ndarray:
    """Filter bank [257, 64] of triangles on the mel axis (not in hertz), as in VGGish's training."""
    mel = 1127 * np.log1p(np.linspace(0, RATE_HZ / 2, POINTS // 2 + 1) / 700)
    low, high = 1127 * np.log1p(np.array([LOWEST_HZ, HIGHEST_HZ]) / 700)
    edges = np.linspace(low, high, BANDS + 2)
    rising = (mel[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - mel[:, None]) / np.diff(edges)[1:]
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


def log_mel(samples: np.ndarray) -> np.ndarray:
    """log(mel magnitude + 0.01) of 0.96 s at 16 kHz, float32 [96, 64]: 25 ms periodic Hann windows every 10 ms."""
    needed = HOP * (FRAMES - 1) + WINDOW
    padded = np.pad(np.asarray(samples, np.float64), (0, max(0, needed - samples.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded[:needed], WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    magnitude = np.abs(np.fft.rfft(frames * hann, POINTS))
    return np.log(magnitude @ mel_weights() + 0.01).astype(np.float32)
