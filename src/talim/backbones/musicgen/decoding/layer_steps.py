"""The layers of MusicGen's decoder with their adapters: whole passes over given frames, and steps of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.musicgen.modeling_musicgen import MusicgenDecoderLayer
from transformers.models.musicgen_melody.modeling_musicgen_melody import MusicgenMelodyDecoderLayer

from talim.backbones.musicgen.decoding.adapter_steps import AdapterStep, ConvStep, Moment, OtherStep, TransformerStep
from talim.backbones.musicgen.decoding.attention_steps import AttentionStep, CompiledAttentionStep
from talim.backbones.musicgen.decoding.cache_positions import Visible
from talim.backbones.musicgen.decoding.fused_steps import can_be_fused, fused_step
from talim.backbones.musicgen.decoding.linear_products import (
    Form,
    Norm,
    PackedProduct,
    Product,
    UnsupportedError,
    in_one_thread,
    join_affine,
    make_product,
    read_affine,
)
from talim.backbones.musicgen.decoding.scripted_steps import ScriptedLayers, scripted_layers
from talim.design.adapter_kinds import Conv, Kind, Linear, Transformer


class LayerStep:
    """One decoder layer, computed from its weights; `adapters` add their residuals behind it."""

    def __init__(self, layer: Any, path: str, form: Form) -> None:
        attention = layer.self_attn
        self.heads, self.head_width = attention.num_heads, attention.head_dim
        self.adapters: list[AdapterStep] = []
        self.norms = [Norm(getattr(layer, name), f"{path}.{name}") for name in _norms(layer)]
        self.dtype, device = self.norms[0].weight.dtype, self.norms[0].weight.device
        keeps_bf16 = device.type == "cpu" and (form == "int8" or self.dtype == torch.bfloat16)
        self.attention = (
            CompiledAttentionStep(self.heads, self.head_width)
            if keeps_bf16
            else AttentionStep(self.heads, self.head_width, self.dtype)
        )
        # torch's attention in bf16 takes four times as long on a CPU as in float32
        self.text_dtype = torch.float32 if device.type == "cpu" else self.dtype
        self.activation, self.is_gelu = layer.activation_fn, _is_gelu(layer.activation_fn)

        def product(*names: str, shifted: bool = False) -> Product:
            parts = [read_affine(layer.get_submodule(name), f"{path}.{name}") for name in names]
            return make_product(*join_affine(parts), form, shifted)

        # where int8 is worth more: the loss of nano-musicgen rises by 0.007 nats, and by 0.002 more without
        self.qkv = product("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", shifted=True)
        self.out = product("self_attn.out_proj")
        self.fc1, self.fc2 = product("fc1"), product("fc2", shifted=True)
        self.has_cross_attention = hasattr(layer, "encoder_attn")
        if self.has_cross_attention:
            self.text_query, self.text_out = product("encoder_attn.q_proj"), product("encoder_attn.out_proj")
            names = ("k_proj", "v_proj", "out_proj")
            key, value, out = (
                read_affine(layer.encoder_attn.get_submodule(name), f"{path}.encoder_attn.{name}") for name in names
            )
            text_form: Form = "packed" if form == "int8" else form
            self.text_key, self.text_value = make_product(*key, text_form), make_product(*value, text_form)
            # without a text the values are zeros, and so is what the layer adds
            self.adds_nothing_without_text = value[1] is None and out[1] is None
        self.scripted = self._scripted()

    def _scripted(self) -> tuple[list[Tensor], list[Tensor]] | None:
        """Norms and weights as `scripted_layers` takes them, if this layer has no others."""
        if not (self.has_cross_attention and self.is_gelu and self.dtype == torch.float32):
            return None
        products = [self.qkv, self.out, self.text_query, self.text_out, self.fc1, self.fc2]
        norms = [tensor for norm in self.norms for tensor in (norm.weight, norm.bias) if tensor is not None]
        alike = len(norms) == 2 * len(self.norms) and len({norm.eps for norm in self.norms}) == 1
        packed = all(type(product) is PackedProduct and product.bias is None for product in products)
        return (norms, [product.weight for product in products]) if alike and packed else None

    def allocate(self, rows: int, size: int, device: torch.device) -> None:
        """Buffers of `rows` rows with at most `size` frames."""
        self.size = size
        self.attention.allocate(rows, size, device)
        for adapter in self.adapters:
            adapter.allocate(rows, size)
        self.one_thread = bool(self.adapters) and all(adapter.one_thread for adapter in self.adapters)

    def allocate_text(self, rows: int, length: int, device: torch.device) -> None:
        """Keys and values of texts for the first `rows` rows; the rows after them have none."""
        shape = (rows, self.heads, length, self.head_width)
        self.text_keys, self.text_values = (torch.zeros(shape, dtype=self.text_dtype, device=device) for _ in range(2))

    def read_text(self, rows: Tensor, states: Tensor) -> None:
        """Keep the keys and values of text states [b, L, D] for some rows."""
        states = states.to(self.dtype)
        for product, kept in ((self.text_key, self.text_keys), (self.text_value, self.text_values)):
            states_read = _rowwise(product, states).view(*states.shape[:2], self.heads, -1).transpose(1, 2)
            kept[rows, :, : states.shape[1]] = states_read.to(self.text_dtype)

    def prefill(self, states: Tensor, rows: Tensor, now: int, conditions: int, text_mask: Tensor | None) -> Tensor:
        """States [b, T, D] of frames before the time `now` -> the layer's output; their past is kept for `rows`.

        Adapters leave the first `conditions` frames alone and do not see them.
        """
        kept, states = states.dtype, states.to(self.dtype)
        batch, frames, _ = states.shape
        packed = _rowwise(self.qkv, self.norms[0](states)).view(batch, frames, 3, self.heads, -1)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        self.attention.prefill(rows, now, key, value)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + _rowwise(self.out, attended.transpose(1, 2).flatten(2))
        if self.has_cross_attention and bool((with_text := rows < len(self.text_keys)).any()):
            index, own = rows[with_text], states[with_text]
            query = _rowwise(self.text_query, self.norms[1](own))
            query = query.view(len(own), frames, self.heads, -1).transpose(1, 2).to(self.text_dtype)
            mask = None if text_mask is None else text_mask[index]
            attended = F.scaled_dot_product_attention(query, self.text_keys[index], self.text_values[index], mask)
            attended = attended.transpose(1, 2).flatten(2).to(self.dtype)
            states[with_text] = own + _rowwise(self.text_out, attended)
        hidden = self.activation(_rowwise(self.fc1, self.norms[-1](states)))
        states = (states + _rowwise(self.fc2, hidden)).to(kept)
        if self.adapters:
            music = states[:, conditions:]
            for adapter in self.adapters:
                music = adapter.prefill(music, rows, now, self.size) if music.shape[1] else music
            states = torch.cat([states[:, :conditions], music], 1)
        return states

    def begin(self, rows: Tensor) -> None:
        """These rows begin without a past."""
        self.attention.begin(rows)
        for adapter in self.adapters:
            adapter.begin(rows)

    def keep(self, rows: list[int]) -> None:
        """Only these rows go on, in this order."""
        self.attention.keep(rows)
        if self.has_cross_attention:
            with_text = [row for row in rows if row < len(self.text_keys)]
            self.text_keys, self.text_values = self.text_keys[with_text], self.text_values[with_text]
        for adapter in self.adapters:
            adapter.keep(rows)
        self.one_thread = bool(self.adapters) and all(adapter.one_thread for adapter in self.adapters)

    def step(self, states: Tensor, seen: Visible, text_mask: Tensor | None, moment: Moment) -> Tensor:
        """States [R, D] of one frame -> the layer's output. The last rows may have no text."""
        kept = states.dtype
        if kept != self.dtype:
            states = states.to(self.dtype)
        attended = self.attention.step(self.qkv(self.norms[0](states)), seen, moment)
        states = self.out.add(attended, states)
        if self.has_cross_attention:
            states = self._attend_to_text(states, text_mask)
        normed = self.norms[-1](states)
        states = self.fc2.add(self.fc1.gelu(normed) if self.is_gelu else self.activation(self.fc1(normed)), states)
        if kept != self.dtype:
            states = states.to(kept)
        return self.adapted(states, moment)

    def adapted(self, states: Tensor, moment: Moment) -> Tensor:
        """With the adapters' residuals; work that is soon done by one thread, as others would come too late for it."""
        if self.adapters and self.one_thread:
            return in_one_thread(self._with_residuals, states, moment)
        return self._with_residuals(states, moment)

    def _with_residuals(self, states: Tensor, moment: Moment) -> Tensor:
        for adapter in self.adapters:
            states = adapter.step(states, moment)
        return states

    def _attend_to_text(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """States with what the layer takes from the text, for the rows that have one."""
        with_text = self.text_keys.shape[0]
        own = states if with_text == states.shape[0] else states[:with_text]
        query = self.text_query(self.norms[1](own)).view(own.shape[0], self.heads, 1, self.head_width)
        query = query.to(self.text_dtype)
        attended = F.scaled_dot_product_attention(query, self.text_keys, self.text_values, mask)
        added = self.text_out.add(attended.flatten(1).to(self.dtype), own)
        if own is states:
            return added
        own.copy_(added)
        return states


class LayerStack:
    """The layers one after the other, as one call where that is possible."""

    def __init__(self, layers: Sequence[LayerStep]) -> None:
        self.layers, self.last = layers, layers[-1]
        self.scripted: ScriptedLayers | None = None
        self.used: tuple[Tensor | None, Tensor | None] = None, None  # the last layer's buffers in `scripted`
        parts = [layer.scripted for layer in layers if layer.scripted]
        if len(parts) == len(layers):
            norms, weights = zip(*parts, strict=True)
            adapt = [layer.adapted if layer.adapters else None for layer in layers]
            self.scripted = scripted_layers(norms, weights, self.last.norms[0].eps, self.last.heads, adapt)

    def step(self, states: Tensor, seen: Visible, text_mask: Tensor | None, moment: Moment) -> Tensor:
        """States [R, D] of one frame -> the output of the last layer."""
        place, last = moment.place, self.last
        scripted = self.scripted if states.dtype == last.dtype else None
        if scripted is None or isinstance(place, Tensor) or len(last.text_keys) < 2:
            for layer in self.layers:
                states = layer.step(states, seen, text_mask, moment)
            return states
        past = last.attention.past
        if self.used[0] is not past or self.used[1] is not last.text_keys:
            pasts = [layer.attention.past for layer in self.layers]
            scripted.use(
                pasts, *([getattr(layer, name) for layer in self.layers] for name in ("text_keys", "text_values"))
            )
            self.used = past, last.text_keys
        return scripted.step(states, place, (seen.start, seen.stop), seen.mask, text_mask, moment)


def read_layer(layer: nn.Module, path: str, form: Form) -> LayerStep:
    """A decoder layer with the adapters that are active behind it; UnsupportedError where it holds something else."""
    blocks: list[Any] = []
    if hasattr(layer, "active_parts"):  # it has adapters
        layer, blocks = layer.active_parts()  # type: ignore[operator]
    adapters = [adapter_step(block, scale, path) for block, scale in blocks]
    if type(layer) not in (MusicgenDecoderLayer, MusicgenMelodyDecoderLayer):
        raise UnsupportedError(f"{path} is a {type(layer).__name__}")
    for name, module in layer.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnsupportedError(f"{path}.{name} has a hook")
    step = LayerStep(layer, path, form)
    step.adapters = adapters
    return step


def adapter_step(block: Any, scale: float, path: str) -> AdapterStep:
    """The step of one block; UnsupportedError for a kind with context that is not talim's own."""
    if can_be_fused(block):
        return fused_step(block, scale)
    if isinstance(block, Kind) and not block.uses_context:
        return (AdapterStep if type(block) is Linear else OtherStep)(block, scale)
    if type(block) is Conv and block.causal:
        return ConvStep(block, scale)
    if type(block) is Transformer and block.causal:
        return TransformerStep(block, scale)
    raise UnsupportedError(f"{path}: adapters of the kind {type(block).__name__} have no step of their own")


def _is_gelu(activation: Any) -> bool:
    """Whether an activation is the exact GELU."""
    probe = torch.linspace(-5, 5, 101)
    return torch.equal(activation(probe), F.gelu(probe))


def _norms(layer: nn.Module) -> list[str]:
    names = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
    return [name for name in names if hasattr(layer, name)]


def _rowwise(product: Any, states: Tensor) -> Tensor:
    """A product over [b, T, D]."""
    return product(states.flatten(0, 1)).view(*states.shape[:2], -1)
