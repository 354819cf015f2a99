"""nano's codec: four codebooks of 1024 entries at 50 frames per second, 16 kHz, over a sinusoidal model.

ConvNeXt blocks (Liu et al. 2022) encode the features of `sinusoidal_model.analyze` to one latent per frame, which a
residual vector quantiser turns into codes; decoding ends in `sinusoidal_model.synthesize`. The interface is that of
transformers' EncodecModel, as MusicgenForConditionalGeneration requires.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.encodec.modeling_encodec import EncodecDecoderOutput, EncodecEncoderOutput

from talim.backbones.nano import sinusoidal_model
from talim.backbones.streamed_pieces import StreamedCodes

_BLOCK_FRAMES = 500  # decoded at a time: 10 s


class NanoCodecConfig(PretrainedConfig):
    """Configuration of the codec; `frame_rate` and `sampling_rate` are those of the sinusoidal model."""

    model_type = "talim-nano-codec"
    attribute_map: ClassVar = {"hidden_size": "latent", "num_quantizers": "num_codebooks"}  # EnCodec's names

    width: int = 192
    encoder_blocks: int = 3
    decoder_blocks: int = 4
    kernel: int = 7
    latent: int = 32
    codebook_size: int = 1024
    num_codebooks: int = 4
    audio_channels: int = 1
    sampling_rate: int = sinusoidal_model.RATE_HZ

    @property
    def frame_rate(self) -> int:
        return sinusoidal_model.RATE_HZ // sinusoidal_model.HOP


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block over time: depthwise convolution, LayerNorm, a wide GELU layer, residual. [B, D, T] -> same."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 3 * width)
        self.back = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, hidden: Tensor) -> Tensor:
        inner = self.norm(self.mix(hidden).transpose(1, 2))
        return hidden + (self.scale * self.back(F.gelu(self.wide(inner)))).transpose(1, 2)


def decode_features(output: Tensor) -> Tensor:
    """Network output [B, FEATURES, T] -> sinusoidal features, with frequency offsets limited to +-1.25 cells."""
    level, offset, noise = output.split(
        [sinusoidal_model.PITCH_CELLS, sinusoidal_model.PITCH_CELLS, 2 * sinusoidal_model.BANDS], 1
    )
    return torch.cat([level, 1.25 * torch.tanh(offset), noise], 1)


class ResidualVectorQuantizer(nn.Module):
    """Residual quantiser with codebooks [K, N, D], trained by moving averages."""

    def __init__(self, codebooks: int, size: int, dim: int) -> None:
        super().__init__()
        self.codebooks = nn.Parameter(torch.randn(codebooks, size, dim) * 0.1, requires_grad=False)

    def encode(self, latent: Tensor) -> Tensor:
        """Latent [B, D, T] -> codes [B, K, T]."""
        residual, codes = latent.transpose(1, 2), []
        for book in self.codebooks:
            codes.append(torch.cdist(residual.flatten(0, 1), book).argmin(1).view(residual.shape[:2]))
            residual = residual - book[codes[-1]]
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, K, T] -> latent [B, D, T]; K may be smaller than the number of codebooks."""
        books = self.codebooks[: codes.shape[1]]
        return torch.stack([book[codes[:, k]] for k, book in enumerate(books)]).sum(0).transpose(1, 2)


class NanoCodec(PreTrainedModel):
    """Audio [B, 1, S] at 16 kHz <-> codes."""

    config_class = NanoCodecConfig
    main_input_name = "input_values"

    def __init__(self, config: NanoCodecConfig) -> None:
        super().__init__(config)
        width = config.width
        self.inward = nn.Conv1d(sinusoidal_model.FEATURES, width, 3, padding=1)
        self.encoder = nn.Sequential(*(ConvNeXtBlock(width, config.kernel) for _ in range(config.encoder_blocks)))
        self.to_latent = nn.Conv1d(width, config.latent, 1)
        self.quantiser = ResidualVectorQuantizer(config.num_codebooks, config.codebook_size, config.latent)
        self.from_latent = nn.Conv1d(config.latent, width, 3, padding=1)
        self.decoder = nn.Sequential(*(ConvNeXtBlock(width, config.kernel) for _ in range(config.decoder_blocks)))
        self.last_norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, sinusoidal_model.FEATURES)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Modules initialise themselves."""

    def latent_of(self, features: Tensor) -> Tensor:
        """Sinusoidal features [B, FEATURES, T] -> latent [B, D, T]."""
        return self.to_latent(self.encoder(self.inward(features)))

    def features_of(self, latent: Tensor) -> Tensor:
        """Latent [B, D, T] -> sinusoidal features [B, FEATURES, T]."""
        hidden = self.last_norm(self.decoder(self.from_latent(latent)).transpose(1, 2))
        return decode_features(self.outward(hidden).transpose(1, 2))

    @torch.no_grad()
    def encode(self, input_values: Tensor, padding_mask: Tensor | None = None, **_: Any) -> EncodecEncoderOutput:
        """Codes [1, B, K, T] of `input_values` [B, 1, S]; samples masked as padding count as silence."""
        if input_values.ndim != 3 or input_values.shape[1] != 1:
            raise ValueError(f"the nano codec takes [B, 1, S], not {tuple(input_values.shape)}")
        if padding_mask is not None:
            input_values = input_values * padding_mask.view(padding_mask.shape[0], 1, -1).to(input_values.dtype)
        codes = self.quantiser.encode(self.latent_of(sinusoidal_model.analyze(input_values[:, 0].float())))
        output: Any = {"audio_codes": codes[None], "audio_scales": [None]}  # one chunk and no scales
        return EncodecEncoderOutput(**output)

    @torch.no_grad()
    def decode(
        self, audio_codes: Tensor, audio_scales: Any = None, padding_mask: Any = None, **_: Any
    ) -> EncodecDecoderOutput:
        """Audio [B, 1, S] of `audio_codes` [1, B, K, T]; scales and mask, part of EnCodec's interface, are ignored."""
        if audio_codes.ndim != 4 or audio_codes.shape[0] != 1:
            raise ValueError(f"the nano codec takes codes [1, B, K, T], not {tuple(audio_codes.shape)}")
        wave = torch.cat([*self.decode_blocks(audio_codes[0])], 1)
        return EncodecDecoderOutput(audio_values=wave[:, None])

    @torch.no_grad()
    def decode_blocks(self, codes: Tensor | StreamedCodes) -> Iterator[Tensor]:
        """Audio [B, n] of codes [B, K, T], block by block, as of all at once; memory does not depend on T.

        A block's features are computed with all frames that they depend on, as soon as these are there.
        """
        synthesizer = sinusoidal_model.Synthesizer()
        context = 1 + len(self.decoder) * (self.config.kernel // 2)
        streamed, start = StreamedCodes.of(codes), 0
        while (stop := streamed.until(start + _BLOCK_FRAMES)) > start:
            first = max(0, start - context)
            latent = self.quantiser.decode(streamed.part(first, stop + context))
            features = self.features_of(latent)[..., start - first : stop - first]
            yield synthesizer.add(features.cpu()).to(latent.device)
            start = stop
        yield synthesizer.finish().to(self.device)
