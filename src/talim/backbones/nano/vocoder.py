"""nano-mustango's vocoder: log-mel frames -> sinusoids and noise -> audio.

A HiFi-GAN must learn phase, which takes days; this network predicts only amplitude and frequency per cell, and
`sinusoidal_model.synthesize` adds the phase. Interface of transformers' SpeechT5HifiGan.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.codec import ConvNeXtBlock, decode_features


class NanoVocoderConfig(PretrainedConfig):
    """Configuration of the vocoder; names as in SpeechT5HifiGanConfig."""

    model_type = "talim-nano-vocoder"

    model_in_dim: int = 64
    width: int = 256
    blocks: int = 5
    kernel: int = 7
    sampling_rate: int = sinusoidal_model.RATE_HZ
    upsample_rates: tuple[int, ...] = (sinusoidal_model.HOP,)


class NanoVocoder(PreTrainedModel):
    """Log-mel frames [B, T, bands] -> audio [B, 320 T] at 16 kHz."""

    config_class = NanoVocoderConfig
    main_input_name = "spectrogram"

    def __init__(self, config: NanoVocoderConfig) -> None:
        super().__init__(config)
        self.inward = nn.Conv1d(config.model_in_dim, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(config.width, config.kernel) for _ in range(config.blocks)))
        self.last_norm = nn.LayerNorm(config.width)
        self.outward = nn.Linear(config.width, sinusoidal_model.FEATURES)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Modules initialise themselves."""

    def features_of(self, spectrogram: Tensor) -> Tensor:
        """Log-mel frames [B, T, bands] -> sinusoidal features [B, FEATURES, T]."""
        hidden = self.blocks(self.inward(spectrogram.transpose(1, 2)))
        return decode_features(self.outward(self.last_norm(hidden.transpose(1, 2))).transpose(1, 2))

    def forward(self, spectrogram: Tensor) -> Tensor:
        features = self.features_of(spectrogram)
        return sinusoidal_model.synthesize(features.float().cpu()).to(features.device)
