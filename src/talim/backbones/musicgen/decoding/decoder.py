"""MusicGen's decoder with static caches: one step for all rows, however far each of them is.

A row is one piece. With guidance each row has a second one without conditions, so that a step is one batch of twice as
many; rows 0 to N - 1 are the conditioned ones. Rows are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.nn import functional as F

from talim.backbones.musicgen.decoding.cache_positions import History, Place, Visible
from talim.backbones.musicgen.decoding.layer_steps import LayerStack, LayerStep, read_layer
from talim.backbones.musicgen.decoding.linear_products import (
    Form,
    Norm,
    UnsupportedError,
    join_affine,
    make_product,
    read_affine,
)
from talim.progress import log_once

MOST_ROWS_CPU, MOST_ROWS_GPU = 16, 64  # beyond which a step takes as much longer as it makes more
FREE_MEMORY_USED = 0.5


@dataclass
class Step:
    """The present step, as layers and adapters need it."""

    now: int
    place: Place
    whole: Visible  # conditions and music
    music: Visible
    frames: list[int]  # music frames behind each row
    copies: int
    device: torch.device
    _due: dict[int, bool | Tensor] = field(default_factory=dict)
    _behind: Tensor | None = None
    _numbers: tuple[int, np.ndarray] | None = None

    def ring(self, size: int) -> Place:
        return self.now % size

    def due(self, every: int) -> bool | Tensor:
        if every not in self._due:
            rows = [frames % every == 0 for frames in self.frames]
            answer: bool | Tensor = rows[0]
            if len(set(rows)) > 1:
                answer = torch.tensor(rows * self.copies, device=self.device)[:, None]
            self._due[every] = answer
        return self._due[every]

    def behind(self) -> Tensor:
        if self._behind is None:
            self._behind = torch.tensor(self.frames * self.copies, device=self.device)[:, None]
        return self._behind

    def numbers(self) -> tuple[int, np.ndarray]:
        if self._numbers is None:
            self._numbers = self.now, np.array(self.frames * self.copies, np.int64)
        return self._numbers


class StaticStep:
    """The present step in terms of tensors that keep their places, for a captured graph."""

    now = 0

    def __init__(self, decoder: Decoder) -> None:
        self.clock, self.frames, self.copies = decoder.clock, decoder.frames_behind, decoder.copies
        self.place: Place = decoder.clock % decoder.size
        self.whole = decoder.whole.all_places(decoder.copies)
        self.music = self.whole if decoder.music is decoder.whole else decoder.music.all_places(decoder.copies)

    def ring(self, size: int) -> Place:
        return self.clock % size

    def due(self, every: int) -> bool | Tensor:
        return (self.frames % every == 0).repeat(self.copies)[:, None]

    def behind(self) -> Tensor:
        return self.frames.repeat(self.copies)[:, None]

    def numbers(self) -> tuple[int, np.ndarray]:
        return int(self.clock), self.frames.repeat(self.copies).numpy()


@dataclass(frozen=True)
class Beginning:
    """What a row begins from: given tokens, and for a decoder whose conditions precede the music, their states."""

    row: int
    tokens: Tensor  # int64 [K, C], the steps before the first that is computed
    text: Tensor | None = None  # [copies, L, D], L the same for all rows
    text_mask: Tensor | None = None  # bool [copies, L], the tokens that are there
    conditions: Tensor | None = None  # [copies, P, D]


class Decoder:
    """The decoder of a `MusicgenForConditionalGeneration` or its melody variant, read once from the model.

    UnsupportedError where the model holds what cannot be computed here. `int8` quantises the weights of the layers and
    the heads, on a CPU; `form` states how all of them are kept.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, int8: bool = False, form: Form | None = None) -> None:
        decoder, heads = model.decoder.model.decoder, model.decoder.lm_heads
        root, form = "decoder.model.decoder", form or _form(model.decoder, int8)
        self.device = next(model.decoder.parameters()).device
        self.codebooks = len(heads)
        self._shape: tuple[int, int, bool, int] | None = None  # of the buffers
        self.captured: tuple[Any, Any] | None = None  # a captured step with its buffers, by what it was captured for
        self.positions = decoder.embed_positions
        ids = torch.arange(int(model.config.decoder.vocab_size) + 1, device=self.device)
        self.embeddings = torch.cat([embed(ids) for embed in decoder.embed_tokens]).detach()  # [K * (V + 1), D]
        self.first_embedding = torch.arange(self.codebooks, device=self.device) * len(ids)  # [K]
        self.layers: list[LayerStep] = [
            read_layer(layer, f"{root}.layers.{index}", form) for index, layer in enumerate(decoder.layers)
        ]
        self.stack = LayerStack(self.layers)
        self.norm = Norm(decoder.layer_norm, f"{root}.layer_norm")
        parts = [read_affine(head, f"decoder.lm_heads.{index}") for index, head in enumerate(heads)]
        self.head = make_product(*join_affine(parts), form)
        if any(module._forward_hooks for module in (*decoder.embed_tokens, decoder.layer_norm, *heads)):
            raise UnsupportedError("the decoder's embeddings, norm or heads have a hook")

    def allocate(self, rows: int, size: int, guided: bool, text_length: int) -> None:
        """Static caches for `rows` pieces of at most `size` steps, with texts of `text_length` tokens.

        Those of an earlier call with the same numbers are emptied and used again, as captured steps know them.
        """
        shape = rows, size, guided, text_length
        if self._shape == shape:
            for tensor in self.state():
                tensor.zero_()
            self._reset()
            return
        self._shape = shape
        self.rows, self.size, self.copies = rows, size, 2 if guided else 1
        self.clock = torch.zeros(1, dtype=torch.long, device=self.device)  # `now` for captured steps
        self.frames_behind = torch.zeros(rows, dtype=torch.long, device=self.device)  # `frames` for them
        self.whole = History(rows, size, self.device)
        # without conditions before the music they are one
        self.music = self.whole if self.layers[0].has_cross_attention else History(rows, size, self.device)
        for layer in self.layers:
            layer.allocate(rows * self.copies, size, self.device)
        self.position = torch.zeros(rows, dtype=torch.long, device=self.device)  # of the next step
        if size > len(self.positions.weights):
            self.positions.make_weights(size, self.positions.embedding_dim)
        self.table = self.positions.weights.to(self.device, self.embeddings.dtype)
        self.has_text = self.layers[0].has_cross_attention
        self._seen_text: Tensor | None = None
        if self.has_text:
            self._allocate_text(text_length)

        self._reset()

    def _reset(self) -> None:
        self.now, self.frames = 0, [0] * self.rows

    def _allocate_text(self, length: int) -> None:
        """Keys and values of at most `length` text tokens; not for guidance's rows where no text adds nothing.

        A second row costs a product nothing, so that a piece alone has both.
        """
        silent = self.copies == 2 and self.rows > 1 and all(layer.adds_nothing_without_text for layer in self.layers)
        rows = self.rows if silent else self.rows * self.copies
        self.text_mask = torch.ones(rows, length, dtype=torch.bool, device=self.device)
        for layer in self.layers:
            layer.allocate_text(rows, length, self.device)

    def _read_text(self, beginnings: Sequence[Beginning]) -> None:
        """Keep the keys and values of the texts of some rows."""
        if not self.has_text:
            return
        for copy in range(len(self.text_mask) // self.rows):
            rows = torch.tensor([b.row + copy * self.rows for b in beginnings], device=self.device)
            states = torch.stack([b.text[copy] for b in beginnings])  # type: ignore[index]
            mask = torch.stack([b.text_mask[copy] for b in beginnings])  # type: ignore[index]
            self.text_mask[rows] = False
            # a row without any text sees zeros
            self.text_mask[rows, : mask.shape[1]] = mask | ~mask.any(dim=1, keepdim=True)
            for layer in self.layers:
                layer.read_text(rows, states)
        self._seen_text = None if bool(self.text_mask.all()) else self.text_mask[:, None, None]

    def restart(self, steps: int) -> None:
        """Set the clock so that a past of `steps` steps fits before it; only while no row is under way."""
        self.now = steps
        self.clock.fill_(steps)

    def begin(self, beginnings: Sequence[Beginning]) -> None:
        """Rows begin at the present time, from tokens and conditions of equal numbers; their past is computed."""
        first = beginnings[0]
        rows = torch.tensor([b.row for b in beginnings], device=self.device)
        doubled = torch.cat([rows + copy * self.rows for copy in range(self.copies)])
        self._read_text(beginnings)
        for layer in self.layers:
            layer.begin(doubled)
        given = first.tokens.shape[1]
        conditions = 0 if first.conditions is None else first.conditions.shape[1]
        past = given + conditions
        for beginning in beginnings:
            self.whole.begin(beginning.row, self.now - past, self.now)
            if self.music is not self.whole:
                self.music.begin(beginning.row, self.now - given, self.now)
            self.frames[beginning.row] = given
        self.frames_behind[rows] = given
        self.position[rows] = past
        if not past:
            return
        tokens = torch.stack([b.tokens for b in beginnings])
        states = self._embed(tokens.transpose(1, 2)).repeat(self.copies, 1, 1)  # [b, C, D]
        if conditions:
            before = torch.cat([torch.stack([b.conditions[copy] for b in beginnings]) for copy in range(self.copies)])  # type: ignore[index]
            states = torch.cat([before.to(states.dtype), states], 1)
        states = states + self.table[:past]
        for layer in self.layers:
            states = layer.prefill(states, doubled, self.now, conditions, self._seen_text)

    def ignore(self, row: int, like: int) -> None:
        """A row without a piece: it goes along with another one, and nothing is made of it.

        Its position does too: counted on alone, it would leave the table of positions beside longer pieces.
        """
        for history in {self.whole, self.music}:
            history.first[row] = history.first[like]
        self.frames[row] = self.frames[like]
        for counter in (self.position, self.frames_behind):
            counter[row] = counter[like]

    def keep(self, rows: list[int]) -> None:
        """Only these rows go on, in this order."""
        doubled = [row + copy * self.rows for copy in range(self.copies) for row in rows]
        for layer in self.layers:
            layer.keep(doubled)
        if self.has_text:
            self.text_mask = self.text_mask[[row for row in doubled if row < len(self.text_mask)]]
            self._seen_text = None if bool(self.text_mask.all()) else self.text_mask[:, None, None]
        for history in {self.whole, self.music}:
            history.keep(rows)
        self.position, self.frames_behind = self.position[rows], self.frames_behind[rows]
        self.frames = [self.frames[row] for row in rows]
        self.rows, self._shape = len(rows), None

    def _embed(self, tokens: Tensor) -> Tensor:  # int64 [..., K] -> [..., D]
        return F.embedding(tokens + self.first_embedding, self.embeddings).sum(dim=-2)

    def step(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [N, K] of the present step -> logits [copies * N, K, V] of the next; the clock moves on."""
        place = self.now % self.size
        for history in {self.whole, self.music}:
            history.step(place)
        whole = self.whole.visible(self.now, self.copies)
        music = whole if self.music is self.whole else self.music.visible(self.now, self.copies)
        moment = Step(self.now, place, whole, music, self.frames, self.copies, self.device)
        logits = self._layers(tokens, moment, self._seen_text)
        self.position += 1
        self.tick()
        return logits

    def static_step(self, tokens: Tensor) -> Tensor:
        """As `step`, by tensors alone, so that it can be captured; `tick` follows each time that it is replayed."""
        place = self.clock % self.size
        for history in {self.whole, self.music}:
            history.step(place)
        text_mask = self.text_mask[:, None, None] if self.has_text else None
        logits = self._layers(tokens, StaticStep(self), text_mask)
        for counter in (self.position, self.frames_behind, self.clock):
            counter += 1
        return logits

    def tick(self) -> None:
        """Count a step, for what is not on the device."""
        self.frames = [frames + 1 for frames in self.frames]
        self.now += 1

    def state(self) -> list[Tensor]:
        """All tensors that a step changes."""
        tensors = [self.position, self.frames_behind, self.clock, self.whole.valid, self.music.valid]  # some may be one
        for layer in self.layers:
            tensors += layer.attention.state()
            tensors += [getattr(adapter, name) for adapter in layer.adapters for name in adapter.buffers]
        return tensors

    def _layers(self, tokens: Tensor, moment: Step | StaticStep, text_mask: Tensor | None) -> Tensor:
        states = self._embed(tokens) + self.table.index_select(0, self.position)
        if self.copies > 1:
            states = torch.cat([states] * self.copies)
        states = self.stack.step(states, moment.whole, text_mask, moment)
        states = self.norm(states)
        return self.head(states).view(states.shape[0], self.codebooks, -1)


def _form(module: nn.Module, int8: bool) -> Form:
    """How weights are kept on a CPU: packed, which takes a copy of them, if a half of the free memory holds it."""
    copied = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    if int8:
        return "int8"
    if next(module.parameters()).device.type == "cpu" and copied > FREE_MEMORY_USED * psutil.virtual_memory().available:
        log_once(
            "note: decoding is slower than it could be, as there is no memory for a copy of the weights "
            f"({copied / 1e9:.1f} GB) in the order in which the CPU reads them; --precision int8 takes a quarter of it"
        )
        return "plain"
    return "packed"


def state_of(module: nn.Module) -> tuple[Any, ...]:
    """What a `Decoder` was read from: equal as long as weights, adapters, their scales and hooks are the same."""
    weights = (weight for weight in module.parameters() if not weight.is_inference())
    versions = tuple((id(weight), weight.data_ptr(), weight._version) for weight in weights)
    scales = tuple(
        (id(layer), *getattr(layer, name).items())
        for layer in module.modules()
        for name in ("scales", "scaling")
        if isinstance(layer, BaseTunerLayer) and hasattr(layer, name)
    )
    switches = tuple(
        (id(layer), layer.disable_adapters, tuple(layer.active_adapters))
        for layer in module.modules()
        if isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper)
    )
    hooked = tuple(id(m) for m in module.modules() if m._forward_hooks or m._forward_pre_hooks)
    return versions, scales, switches, hooked


def rows_that_fit(decoder: Decoder, steps: int, pieces: int, guided: bool) -> int:
    """How many pieces of `steps` steps to decode at once: as their caches take a half of the memory that is free."""
    gpu = decoder.device.type == "cuda"
    needed = sum(layer.attention.bytes_of_a_frame for layer in decoder.layers) * steps * (2 if guided else 1)
    free = torch.cuda.mem_get_info(decoder.device)[0] if gpu else psutil.virtual_memory().available
    return max(1, min(pieces, MOST_ROWS_GPU if gpu else MOST_ROWS_CPU, int(FREE_MEMORY_USED * free / needed)))
