"""The released checkpoint's networks that predict beats and chords from a prompt."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from talim.backbones.mustango.beat_chord_vocabulary import MAX_BEATS, MAX_CHORDS, is_known_chord
from talim.beats_chords import NO_CHORD, BeatGrid, ChordTrack
from talim.errors import TalimError

TIME_LIMIT_SECONDS = 10.0
CHORD_AT = re.compile(r"(\S+) at (\d+(?:\.\d*)?)")
TIED_WEIGHT_KEYS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # aliases of shared.weight
MAX_PROMPT_TOKENS = 512
HEAD_WIDTH = 64  # per attention head of DeBERTa
# Generation settings of the released chord network.
BEAM_SEARCH = {"min_length": 8, "max_length": 128, "num_beams": 5, "early_stopping": True}


class BeatNet(nn.Module):
    """DeBERTa with two heads per token: metre (1 to 4) and seconds to the next beat."""

    def __init__(self, config: Any) -> None:
        from transformers import DebertaV2Model
        from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

        super().__init__()
        width = config.hidden_size
        self.deberta = DebertaV2Model(config)
        for part in self.deberta.modules():
            if isinstance(part, DisentangledSelfAttention):
                part.register_forward_hook(_mask_padding)
        self.hidden1, self.classifier = nn.Linear(width, width), nn.Linear(width, 4)
        self.hidden2, self.regressor = nn.Linear(width, width), nn.Linear(width, 1)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # int64 [B, L] each
        """Metre logits [B, L, 4] and intervals in seconds [B, L, 1]."""
        hidden = self.deberta(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.classifier(self.hidden1(hidden)), self.regressor(self.hidden2(hidden))


def _mask_padding(_module: nn.Module, inputs: tuple[Any, ...], output: tuple[Tensor, Any]) -> Any:
    """Zero the attention output of padding, as in the transformers version that the released model used."""
    context, weights = output
    return context * inputs[1].bool().any(dim=-1)[:, 0, :, None].to(context.dtype), weights


def beat_config(weights: Mapping[str, Tensor], where: str) -> Any:
    """DeBERTa-v3 configuration: sizes from the weights' shapes, the rest as in all DeBERTa-v3 models."""
    from transformers import DebertaV2Config

    deberta: Any = DebertaV2Config  # accepts more than its signature
    try:
        vocabulary, width = weights["deberta.embeddings.word_embeddings.weight"].shape
        inner = weights["deberta.encoder.layer.0.intermediate.dense.weight"].shape[0]
        buckets = weights["deberta.encoder.rel_embeddings.weight"].shape[0] // 2
    except KeyError as missing:
        raise TalimError(f"{where} lacks 1 weight ({missing}); is the download complete?") from None
    layers = {name.split(".")[3] for name in weights if name.startswith("deberta.encoder.layer.")}
    return deberta(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        intermediate_size=inner,
        max_position_embeddings=MAX_PROMPT_TOKENS,
        type_vocab_size=0,
        layer_norm_eps=1e-7,
        relative_attention=True,
        max_relative_positions=-1,
        position_buckets=buckets,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
    )


def beat_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the position table, which is recomputed."""
    return {name: tensor for name, tensor in released.items() if name != "deberta.embeddings.position_ids"}


def chord_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without aliases of the word embeddings."""
    return {name: tensor for name, tensor in released.items() if name not in TIED_WEIGHT_KEYS}


def decode_metre(first_token_logits: Tensor) -> int:  # [4]
    """Beats per bar."""
    return 1 + int(first_token_logits.argmax())


def beat_times(intervals: Sequence[float]) -> list[float]:
    """Beat times in seconds: intervals summed up to 10 s, rounded to 0.01 s, at most 50."""
    sums = itertools.accumulate(round(float(interval), 4) for interval in intervals)
    within_limit = itertools.takewhile(lambda time: time < TIME_LIMIT_SECONDS, sums)
    return [round(time, 2) for time in within_limit][:MAX_BEATS]


def decode_beats(first_token_logits: Tensor, intervals: Sequence[float]) -> BeatGrid:
    """Predicted beats, the first a downbeat; beats earlier than the previous one are dropped."""
    times: list[float] = []
    for time in beat_times(intervals):
        if time >= (times[-1] if times else 0.0):
            times.append(time)
    metre = decode_metre(first_token_logits)
    return BeatGrid(tuple(times), tuple(1 + index % metre for index in range(len(times))))


def chord_prompt(prompt: str, beats: BeatGrid) -> str:
    """Prompt of the chord network; the literal backslashes are part of its training text."""
    times = " , ".join(str(time) for time in beats.times_seconds)
    metre = max(beats.positions, default=1)
    return f"Caption: {prompt} \\n Timestamps: {times} \\n Max Beat: {metre}"


def parse_chords(answer: str) -> ChordTrack:
    """Chords from the network's "Gm at 0.46 n Eb/G at 3.2"; unreadable and unknown ones are dropped."""
    times: list[float] = []
    names: list[str] = []
    for part in answer.split(" n "):
        match = CHORD_AT.fullmatch(part.strip())
        if match is None or not is_known_chord(match[1]):
            continue
        time = float(match[2])
        if time >= (times[-1] if times else 0.0):
            times.append(time)
            names.append(match[1])
    return ChordTrack(tuple(times[:MAX_CHORDS]), tuple(names[:MAX_CHORDS]))


class BeatChordPredictors:
    """Both networks with their tokenizers."""

    def __init__(self, beat_net: BeatNet, beat_tokenizer: Any, chord_net: Any, chord_tokenizer: Any) -> None:
        self.beat_net, self.beat_tokenizer = beat_net.eval(), beat_tokenizer
        self.chord_net, self.chord_tokenizer = chord_net.eval(), chord_tokenizer

    @torch.no_grad()
    def beats(self, prompt: str) -> BeatGrid:
        """Beats of the first 10 s at most; never more than the prompt has tokens."""
        tokens = self.beat_tokenizer([prompt], max_length=MAX_PROMPT_TOKENS, truncation=True, return_tensors="pt")
        device = next(self.beat_net.parameters()).device
        logits, intervals = self.beat_net(tokens["input_ids"].to(device), tokens["attention_mask"].to(device))
        return decode_beats(logits[0, 0], intervals[0, :, 0].tolist())

    @torch.no_grad()
    def chords(self, prompt: str, beats: BeatGrid) -> ChordTrack:
        """Chords for a prompt and its beats, by beam search."""
        texts = [chord_prompt(prompt, beats)]
        tokens = self.chord_tokenizer(texts, max_length=MAX_PROMPT_TOKENS, truncation=True, return_tensors="pt")
        device = next(self.chord_net.parameters()).device
        answer = self.chord_net.generate(
            input_ids=tokens["input_ids"].to(device), attention_mask=tokens["attention_mask"].to(device), **BEAM_SEARCH
        )
        return parse_chords(self.chord_tokenizer.batch_decode(answer, skip_special_tokens=True)[0] or NO_CHORD)
