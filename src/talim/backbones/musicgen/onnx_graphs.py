"""MusicGen with its adapters as graphs for onnxruntime: what a prompt says to the layers, a decoding step, the codec.

The step's state goes in and comes out: inputs named `past.X` are fed with what the step before gave as `present.X`;
before the first step they are zeros, of no frames along the axis `past`.
"""

from __future__ import annotations

import math
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import EncodecModel

from talim.backbones.musicgen.decoding import Decoder, UnsupportedError
from talim.backbones.musicgen.decoding.linear_products import make_product, read_affine
from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.codec import NanoCodec
from talim.design.adapter_kinds import Conv, Transformer
from talim.design.streaming import StreamingState

OPSET = 17
LARGEST_FILE = 1_500_000_000  # bytes of weights; a graph of more than 2 GiB must have them in a file of their own
Sizes = tuple[int | str, ...]  # numbers, or "batch", "text", "past"


class DecoderStep(nn.Module):
    """A step of the decoder as a function of its state."""

    def __init__(self, decoder: Decoder, most_steps: int) -> None:
        super().__init__()
        self.decoder, self.codebooks = decoder, decoder.codebooks
        positions = decoder.positions
        if most_steps > len(positions.weights):
            positions.make_weights(most_steps, positions.embedding_dim)
        self.table = positions.weights[:most_steps].to(decoder.embeddings.dtype)
        self.heads, self.width = decoder.layers[0].heads, decoder.layers[0].head_width
        weights = [decoder.embeddings, decoder.head.weight]
        for layer in decoder.layers:
            products = (layer.qkv, layer.out, layer.text_query, layer.text_out, layer.fc1, layer.fc2)
            weights += [product.weight for product in products]
        for index, weight in enumerate(weights):  # the exporter keeps what a module holds apart from the graph
            self.register_buffer(f"weight_{index}", weight)
        self.blocks = nn.ModuleList(adapter.block for layer in decoder.layers for adapter in layer.adapters)

    def state_sizes(self) -> dict[str, Sizes]:
        """The parts of the state by name, without `past.` or `present.`."""
        sizes: dict[str, Sizes] = {}
        for index, layer in enumerate(self.decoder.layers):
            sizes |= dict.fromkeys(
                (f"{index}.keys", f"{index}.values"), ("batch", layer.heads, "past", layer.head_width)
            )
            for number, adapter in enumerate(layer.adapters):
                start = f"{index}.adapter{number}."
                sizes |= {start + name: size for name, size in _block_state(adapter.block).items()}
        return sizes

    def input_sizes(self) -> dict[str, Sizes]:
        """All inputs by name, in order."""
        texts: dict[str, Sizes] = {}
        for name in text_names(len(self.decoder.layers)):
            texts[name] = ("batch", self.heads, "text", self.width)
        first: dict[str, Sizes] = {
            "tokens": ("batch", self.codebooks),
            "position": (1,),
            "text_mask": ("batch", "text"),
        }
        return first | texts | {f"past.{name}": size for name, size in self.state_sizes().items()}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.input_sizes(), inputs, strict=True))
        decoder, present = self.decoder, {}
        ids = given["tokens"] + decoder.first_embedding
        states = F.embedding(ids, decoder.embeddings).sum(1) + self.table.index_select(0, given["position"])
        mask = given["text_mask"][:, None, None]
        for index, layer in enumerate(decoder.layers):
            packed = layer.qkv(layer.norms[0](states)).view(-1, 3, layer.heads, 1, layer.head_width)
            keys = torch.cat([given[f"past.{index}.keys"], packed[:, 1]], 2)
            values = torch.cat([given[f"past.{index}.values"], packed[:, 2]], 2)
            present[f"{index}.keys"], present[f"{index}.values"] = keys, values
            attended = F.scaled_dot_product_attention(packed[:, 0], keys, values)
            states = layer.out.add(attended.flatten(1), states)
            query = layer.text_query(layer.norms[1](states)).view(-1, layer.heads, 1, layer.head_width)
            text = given[f"text.{index}.keys"], given[f"text.{index}.values"]
            attended = F.scaled_dot_product_attention(query, *text, mask)
            states = layer.text_out.add(attended.flatten(1), states)
            states = layer.fc2.add(layer.activation(layer.fc1(layer.norms[-1](states))), states)
            for number, adapter in enumerate(layer.adapters):
                start = f"{index}.adapter{number}."
                past = {name: given[f"past.{start}{name}"] for name in _block_state(adapter.block)}
                residual, after = _block_step(adapter.block, states, past, given["position"])
                present |= {start + name: value for name, value in after.items()}
                states = states + (residual if adapter.scale == 1.0 else adapter.scale * residual)
        logits = decoder.head(decoder.norm(states)).view(
            -1, self.codebooks, decoder.head.weight.shape[0] // self.codebooks
        )
        return (logits, *(present[name] for name in self.state_sizes()))


def _block_state(block: Any) -> dict[str, Sizes]:
    """The state of an adapter's block by name: frames of convolutions, sums of the excitation, keys and values."""
    if isinstance(block, Conv):
        convolutions: Any = block.convolutions
        reaches: dict[str, int] = {layer.name: (layer.kernel_size - 1) * layer.dilation for layer in convolutions}
        sizes: dict[str, Sizes] = {
            _plain(name): ("batch", reach, block.width) for name, reach in reaches.items() if reach
        }
        return sizes | {_plain(block.excitation.name): ("batch", 2, block.width)}
    if isinstance(block, Transformer):
        attention = block.attention
        size: Sizes = ("batch", int(attention.num_heads), "past", int(attention.head_width))
        return {_plain(f"{attention.name} {kind}"): size for kind in ("keys", "values")}
    return {}


def _block_step(
    block: Any, states: Tensor, past: Mapping[str, Tensor], position: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a block adds to states [B, D] of one frame, and its state after it."""
    state = StreamingState()
    if isinstance(block, Conv):
        convolutions: Any = block.convolutions
        names: list[str] = [layer.name for layer in convolutions if _plain(layer.name) in past]
        names.append(str(block.excitation.name))
        for name in names:
            state.tensors[name] = list(past[_plain(name)].split(1, 1))
        frames = torch.zeros_like(states[:, :1], dtype=torch.long) + position
        state.tensors[f"{block.excitation.name} counts"] = frames
        residual = block(states[:, None], state)[:, 0]
        return residual, {_plain(name): torch.cat(state.tensors[name], 1) for name in names}
    if isinstance(block, Transformer):
        state.frames = sys.maxsize  # everything that is given lies before
        names = [f"{block.attention.name} {kind}" for kind in ("keys", "values")]
        state.tensors |= {name: past[_plain(name)] for name in names}
        residual = block(states[:, None], state)[:, 0]
        return residual, {_plain(name): state.tensors[name] for name in names}
    return block(states[:, None])[:, 0], {}


def _plain(name: str) -> str:
    return name.replace(" ", "_")


def text_names(layers: int) -> list[str]:
    """Keys and values of the text for each layer."""
    return [f"text.{index}.{kind}" for index in range(layers) for kind in ("keys", "values")]


class TextConditions(nn.Module):
    """Tokens int64 [1, L] of a prompt -> keys and values of each layer [2, heads, L, width].

    The second row hears nothing, for guidance.
    """

    def __init__(self, model: Any, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.layers = model.text_encoder, decoder.layers
        projection, self.adapters = getattr(model, "enc_to_dec_proj", None), nn.ModuleList()
        self.scales: list[float] = []
        if hasattr(projection, "active_parts"):
            projection, blocks = projection.active_parts()  # type: ignore[union-attr, operator]
            self.adapters.extend(block for block, _ in blocks)
            self.scales = [scale for _, scale in blocks]
        self.projection = (
            None if projection is None else make_product(*read_affine(projection, "enc_to_dec_proj"), "plain")
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        states = self.encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        if self.projection is not None:
            states = self.projection(states)
        for block, scale in zip(self.adapters, self.scales, strict=True):
            states = states + scale * block(states)
        states, found = torch.cat([states, torch.zeros_like(states)]), []
        for layer in self.layers:
            for product in (layer.text_key, layer.text_value):
                found.append(product(states).unflatten(-1, (layer.heads, layer.head_width)).transpose(1, 2))
        return tuple(found)


class Codec(nn.Module):
    """Codes int64 [K, T] -> audio [channels, samples], by an EnCodec."""

    def __init__(self, codec: Any, channels: int) -> None:
        super().__init__()
        self.codec, self.channels = codec, channels

    def forward(self, codes: Tensor) -> Tensor:
        by_channel = codes.reshape(codes.shape[0] // self.channels, self.channels, -1).transpose(0, 1)
        return self.codec.decode(by_channel[None], [None]).audio_values[:, 0]


class MiniatureCodec(nn.Module):
    """Codes int64 [K, T] -> audio [1, T * HOP], by the miniature's codec.

    It is `sinusoidal_model.synthesize` of all frames at once, as a graph has no blocks.
    """

    white: Tensor

    def __init__(self, codec: NanoCodec, most_frames: int) -> None:
        super().__init__()
        self.codec = codec
        hop, window = sinusoidal_model.HOP, sinusoidal_model.NOISE_WINDOW
        steps = torch.arange(2 * hop, dtype=torch.float32) - hop
        self.steps, self.window = steps, 0.5 + 0.5 * torch.cos(math.pi * steps / hop)
        # the noise before it is coloured, of every grain, as a spectrum
        generator = torch.Generator().manual_seed(0)
        draws = [torch.randn(sinusoidal_model.NOISE_HOP, generator=generator)]
        draws += [torch.randn(hop, generator=generator) for _ in range(most_frames)]
        self.grain_window = torch.hann_window(window).sqrt()
        grains = torch.cat(draws).unfold(0, window, sinusoidal_model.NOISE_HOP)[: 2 * most_frames]
        spectra = torch.fft.rfft(grains * self.grain_window)
        self.register_buffer("white", torch.cat([spectra.real, spectra.imag], 1))  # [2 * most_frames, 2 F]
        bins = window // 2 + 1
        unit = torch.eye(bins)
        self.inverse = torch.cat(
            [torch.fft.irfft(unit + 0j, n=window), torch.fft.irfft(unit * 1j, n=window)]
        )  # [2 F, window]: the inverse transform as a product, which the exporter knows
        bands = sinusoidal_model.mel_bands()
        self.spread = bands / bands.amax(1, keepdim=True)
        self.spread = self.spread / self.spread.sum(0).clamp(min=1e-3)

    def forward(self, codes: Tensor) -> Tensor:
        model, hop, bands = sinusoidal_model, sinusoidal_model.HOP, sinusoidal_model.BANDS
        features = self.codec.features_of(self.codec.quantiser.decode(codes[None]))
        level, offset, noise = features[0].split([model.PITCH_CELLS, model.PITCH_CELLS, 2 * bands])
        amplitude = model.level_to_amplitude(level)  # [cells, T]
        frequency = model.cell_centres_hz()[:, None] + offset.clamp(-1.2, 1.2) * model.cell_widths_hz()[:, None]
        phase = _running_phase(amplitude, frequency, 2 * math.pi * 0.618034, math.pi * hop / model.RATE_HZ)
        angle = phase[..., None] + 2 * math.pi / model.RATE_HZ * frequency[..., None] * self.steps
        tones = self.window * (amplitude[..., None] * torch.cos(angle)).sum(0)  # [T, 2 hop]
        # `unflatten` would keep the number of frames of the trace
        levels = (
            model.level_to_amplitude(noise).reshape(2, bands, -1).permute(2, 0, 1).reshape(-1, bands)
        )  # [2T, bands]
        gain = (levels.square() @ self.spread).sqrt()
        coloured = self.white[: levels.shape[0]] * torch.cat([gain, gain], 1)
        grains = (coloured @ self.inverse) * self.grain_window
        # grains begin later than the tones' windows by half the difference of their lengths
        sound = _overlapped(tones) + F.pad(_overlapped(grains), [(hop - model.NOISE_HOP) // 2] * 2)
        return sound[None, hop // 2 : -(hop // 2)]


def _overlapped(frames: Tensor) -> Tensor:
    """Frames [T, 2 n] added up at distances of n -> [(T + 1) n]."""
    half = frames.shape[1] // 2
    return F.pad(frames[:, :half], (0, 0, 0, 1)).flatten() + F.pad(frames[:, half:], (0, 0, 1, 0)).flatten()


@torch.jit.script
def _running_phase(amplitude: Tensor, frequency: Tensor, start: float, advance: float) -> Tensor:
    """As that of the sinusoidal model, of all frames [cells, T]: a loop, which a trace would unroll.

    The list is empty before the loop, as OpenVINO loses what it would hold.
    """
    cells = amplitude.shape[0]
    index = torch.arange(cells)
    neighbours = torch.stack([(index - 1).clamp(min=0), index, (index + 1).clamp(max=cells - 1)])
    phase = index * start
    phases = []
    for t in range(amplitude.shape[1]):
        phases.append(phase)
        after = min(t + 1, amplitude.shape[1] - 1)
        gap = (frequency[:, t][neighbours] - frequency[:, after]) / 8.0
        score = (amplitude[:, t][neighbours] + 1e-7) * torch.exp(-0.5 * gap * gap).clamp(min=1e-6)
        source = neighbours.gather(0, score.argmax(0)[None])[0]
        step = advance * (frequency[:, t][source] + frequency[:, after])
        phase = torch.remainder(phase[source] + step, 2 * 3.141592653589793)
    return torch.stack(phases, 1)


def codec_graph(codec: Any, channels: int, most_frames: int) -> nn.Module:
    """The module that decodes codes; UnsupportedError for a codec that is neither EnCodec nor the miniature's."""
    if isinstance(codec, NanoCodec):
        return MiniatureCodec(codec, most_frames)
    if isinstance(codec, EncodecModel):
        return Codec(codec, channels)
    raise UnsupportedError(f"the codec is a {type(codec).__name__}")


def write_graph(
    module: nn.Module, inputs: Mapping[str, tuple[Tensor, Sizes]], outputs: Mapping[str, Sizes], file: Path
) -> None:
    """Write a module's graph; sizes that are names are free. Weights of more than 1.5 GB lie beside it, in FILE.data.

    torch's exporter through TorchScript keeps an LSTM of any length as one operation, and takes a tenth of the time of
    its newer one.
    """
    import onnx

    free = {
        name: {axis: size for axis, size in enumerate(sizes) if isinstance(size, str)}
        for name, sizes in {**{name: sizes for name, (_, sizes) in inputs.items()}, **outputs}.items()
    }
    held = [*module.parameters(), *module.buffers()]
    with TemporaryDirectory(dir=file.parent) as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / file.name
        torch.onnx.export(
            module.eval(),
            tuple(value for value, _ in inputs.values()),
            str(path),
            dynamo=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=free,
            opset_version=OPSET,
        )
        if sum(weight.numel() * weight.element_size() for weight in held) < LARGEST_FILE:
            shutil.move(path, file)
            return
        beside = {"save_as_external_data": True, "location": f"{file.name}.data", "convert_attribute": True}
        onnx.save_model(onnx.load(path), str(file), **beside)


def example(sizes: Sizes, counts: Mapping[str, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros of these sizes, those with names by `counts`."""
    return torch.zeros([counts[size] if isinstance(size, str) else size for size in sizes], dtype=dtype)
