"""Sites for adapters in MusicGen, computed from the model's dimensions alone: no torch, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from talim.design.layouts import FRAMES

LAYERS_PATH = "decoder.model.decoder.layers"
HEADS_PATH = "decoder.lm_heads"
PROJECTION_PATH = "enc_to_dec_proj"
TEXT_FED_MODULES = ("encoder_attn.k_proj", "encoder_attn.v_proj")


@dataclass(frozen=True)
class TargetLinear:
    """A linear layer inside a site: what LoRA, DoRA and IA3 adapt there."""

    module: str  # path inside the model
    inputs: int
    outputs: int
    on_text: bool = False  # its input is the text states, not the audio frames


@dataclass(frozen=True)
class Site:
    """One site in a base model: an adapter changes the output of `module`, [B, T, width] or as `layout` says."""

    name: str  # "layers[3]", "conditioner", "post"
    module: str  # path inside the model
    width: int
    depth: float  # 0 at the input, 1 at the output
    causal: bool  # a frame must not use later frames
    matrices: tuple[TargetLinear, ...] = ()
    full_modules: tuple[tuple[str, int], ...] = ()  # (path, parameters) of the modules that `full` trains here
    layout: str = FRAMES
    level: float | None = None  # resolution in a U-Net: 0 the finest, 1 the coarsest

    @property
    def part(self) -> str:
        """Part of the model: "layers", "down", "mid", "up", or the site's own name."""
        return self.name.partition("[")[0]


@dataclass(frozen=True)
class MusicGenShape:
    """Dimensions of a MusicGen model."""

    hidden: int
    layers: int
    heads: int
    codebooks: int = 4
    channels: int = 1
    vocabulary: int = 2048
    text_width: int = 768
    ffn: int = 0  # 0: four times `hidden`
    melody_frames: int = 0  # that precede the music with the text, in place of cross-attention; 0: cross-attention
    chroma: int = 12  # pitch classes of a melody

    @classmethod
    def of(cls, config: Any) -> MusicGenShape:
        """Dimensions from a transformers MusicgenConfig or MusicgenMelodyConfig."""
        decoder = config.decoder
        return cls(
            hidden=decoder.hidden_size,
            layers=decoder.num_hidden_layers,
            heads=decoder.num_attention_heads,
            codebooks=decoder.num_codebooks,
            channels=decoder.audio_channels,
            vocabulary=decoder.vocab_size,
            text_width=config.text_encoder.hidden_size,
            ffn=decoder.ffn_dim,
            melody_frames=getattr(config, "chroma_length", 0),
            chroma=getattr(config, "num_chroma", cls.chroma),
        )

    @property
    def feed_forward(self) -> int:
        return self.ffn or 4 * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Exact parameters of one decoder layer: attentions, feed-forward, and a norm before each."""
        d, attentions = self.hidden, len(self._attentions)
        return attentions * 4 * d * d + 2 * d * self.feed_forward + (attentions + 1) * 2 * d

    @property
    def _attentions(self) -> tuple[str, ...]:
        return ("self_attn",) if self.melody_frames else ("self_attn", "encoder_attn")

    @property
    def decoder_parameters(self) -> int:
        """Exact parameters of the decoder with its heads, without text encoder and codec."""
        embeddings, heads = (self.vocabulary + 1) * self.hidden, self.vocabulary * self.hidden
        return self.layers * self.layer_parameters + 2 * self.hidden + self.codebooks * (embeddings + heads)

    def sites(self) -> tuple[Site, ...]:
        """The conditioner (if text and decoder differ in width), every layer in order, post."""
        last = f"{LAYERS_PATH}.{self.layers - 1}"
        heads = tuple(TargetLinear(f"{HEADS_PATH}.{k}", self.hidden, self.vocabulary) for k in range(self.codebooks))
        trained = tuple((head.module, head.inputs * head.outputs) for head in heads)
        post = Site("post", last, self.hidden, 1.0, True, heads, trained)
        return (*self._conditioner(), *(self._layer(index) for index in range(self.layers)), post)

    def _conditioner(self) -> tuple[Site, ...]:
        if self.text_width == self.hidden:
            return ()  # transformers then builds no projection
        matrix = TargetLinear(PROJECTION_PATH, self.text_width, self.hidden, on_text=True)
        trained = ((PROJECTION_PATH, self.text_width * self.hidden + self.hidden),)
        return (Site("conditioner", PROJECTION_PATH, self.hidden, 0.0, False, (matrix,), trained),)

    def _layer(self, index: int) -> Site:
        path, d, inner = f"{LAYERS_PATH}.{index}", self.hidden, self.feed_forward
        square = [f"{part}.{name}_proj" for part in self._attentions for name in "kvq"]
        square += [f"{part}.out_proj" for part in self._attentions]
        matrices = [TargetLinear(f"{path}.{name}", d, d, name in TEXT_FED_MODULES) for name in square]
        matrices += [TargetLinear(f"{path}.fc1", d, inner), TargetLinear(f"{path}.fc2", inner, d)]
        depth = index / max(self.layers - 1, 1)
        trained = ((path, self.layer_parameters),)
        return Site(f"layers[{index}]", path, d, depth, True, tuple(matrices), trained)
