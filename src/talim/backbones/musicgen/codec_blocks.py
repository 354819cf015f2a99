"""Decoding of a codec's codes in blocks, whose result is that of all codes at once but whose memory is a block's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncodecModel

from talim.backbones.streamed_pieces import StreamedCodes

_BLOCK_FRAMES = 500  # 10 s of the released codecs


@torch.no_grad()
def decode_blocks(codec: Any, codes: Tensor | StreamedCodes) -> Iterator[Tensor]:
    """Audio [B, n] of `codes` [B, K, T], block by block; a codec that is not known to allow it gives one block.

    A block comes as soon as its codes and those around it that it depends on are there.
    """
    if hasattr(codec, "decode_blocks"):
        yield from codec.decode_blocks(codes)
    elif _is_local(codec):
        yield from _encodec_blocks(codec, StreamedCodes.of(codes))
    else:
        yield codec.decode(StreamedCodes.of(codes).all()[None], [None]).audio_values[:, 0]


def _is_local(codec: Any) -> bool:
    """Whether each layer of the decoder reaches a few frames, or runs forwards with a state."""
    if not isinstance(codec, EncodecModel):
        return False
    return codec.config.norm_type == "weight_norm" and codec.config.chunk_length is None


def _encodec_blocks(codec: Any, codes: StreamedCodes) -> Iterator[Tensor]:
    """EnCodec's decoder: a convolution, an LSTM, and layers of convolutions up to the sampling rate.

    Convolutions are given the frames around a block that they reach. The LSTM runs forwards, and keeps its state.
    """
    inward, recurrent, *outward = codec.decoder.layers
    near, far = _reach_frames([inward]), _reach_frames(outward)
    hop = math.prod(codec.config.upsampling_ratios)
    hidden, first, state = None, 0, None  # the LSTM's output from frame `first` on
    start = 0
    while (stop := codes.until(start + _BLOCK_FRAMES)) > start:
        known = first + (0 if hidden is None else hidden.shape[2])
        needed = codes.until(stop + far)
        if needed > known:
            low = max(0, known - near)
            embedded = codec.quantizer.decode(codes.part(low, needed + near).transpose(0, 1))
            steps = inward(embedded)[..., known - low : needed - low].permute(2, 0, 1)
            output, state = recurrent.lstm(steps, state)
            new = (output + steps).permute(1, 2, 0)
            hidden = new if hidden is None else torch.cat([hidden, new], 2)
        assert hidden is not None  # there is at least one frame
        low = max(0, start - far)
        hidden, first = hidden[..., low - first :], low
        sound = hidden
        for layer in outward:
            sound = layer(sound)
        yield sound[:, 0, (start - low) * hop : (stop - low) * hop]
        start = stop


def _reach_frames(layers: Sequence[nn.Module]) -> int:
    """How many frames before and after its own an output of the layers may depend on, at most."""
    reach, rate = 0.0, 1.0  # frames; steps per frame
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.ConvTranspose1d):
                reach += module.kernel_size[0] / module.stride[0] / rate
                rate *= module.stride[0]
            elif isinstance(module, nn.Conv1d):
                reach += (module.kernel_size[0] - 1) * module.dilation[0] / rate
    return math.ceil(reach)
