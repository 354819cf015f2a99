"""What the released checkpoint adds to guess beats and chords from a text: two networks and their languages."""

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
TIED_WEIGHT_KEYS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # both are shared.weight
MAX_PROMPT_TOKENS = 512
HEAD_WIDTH = 64  # of DeBERTa's attention
# How the released chord network is asked to answer.
BEAM_SEARCH = {"min_length": 8, "max_length": 128, "num_beams": 5, "early_stopping": True}


class BeatNet(nn.Module):
    """DeBERTa with two readings of each token: a metre (1 to 4), and seconds to the next beat."""

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
    """Padding attends to nothing, as in the DeBERTa of the released model's days; now it attends to all."""
    context, seen = output
    return context * inputs[1].bool().any(dim=-1)[:, 0, :, None].to(context.dtype), seen


def beat_config(weights: Mapping[str, Tensor], where: str) -> Any:
    """DeBERTa-v3's configuration: sizes from the weights' shapes, the rest as in every model of that name."""
    from transformers import DebertaV2Config

    deberta: Any = DebertaV2Config  # takes more than its signature says
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
    """Without the table of positions, which is counted anew."""
    return {name: tensor for name, tensor in released.items() if name != "deberta.embeddings.position_ids"}


def chord_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the second and third name of the word embeddings."""
    return {name: tensor for name, tensor in released.items() if name not in TIED_WEIGHT_KEYS}


def decode_metre(first_token_logits: Tensor) -> int:  # [4]
    """Beats in a bar."""
    return 1 + int(first_token_logits.argmax())


def beat_times(intervals: Sequence[float]) -> list[float]:
    """Times of the beats: intervals added up until they reach ten seconds, to a hundredth, at most fifty."""
    sums = itertools.accumulate(round(float(interval), 4) for interval in intervals)
    early = itertools.takewhile(lambda time: time < TIME_LIMIT_SECONDS, sums)
    return [round(time, 2) for time in early][:MAX_BEATS]


def decode_beats(first_token_logits: Tensor, intervals: Sequence[float]) -> BeatGrid:
    """Predicted beats, the first a downbeat; where the network runs back in time the beat is left out."""
    times: list[float] = []
    for time in beat_times(intervals):
        if time >= (times[-1] if times else 0.0):
            times.append(time)
    metre = decode_metre(first_token_logits)
    return BeatGrid(tuple(times), tuple(1 + index % metre for index in range(len(times))))


def chord_prompt(prompt: str, beats: BeatGrid) -> str:
    """What the chord network is asked; the backslashes are really in the text that it was trained on."""
    times = " , ".join(str(time) for time in beats.times_seconds)
    metre = max(beats.positions, default=1)
    return f"Caption: {prompt} \\n Timestamps: {times} \\n Max Beat: {metre}"


def parse_chords(answer: str) -> ChordTrack:
    """Chords from the network's "Gm at 0.46 n Eb/G at 3.2"; what is not readable or not known is left out."""
    times: list[float] = []
    names: list[str] = []
    for part in answer.split(" n "):
        found = CHORD_AT.fullmatch(part.strip())
        if found is None or not is_known_chord(found[1]):
            continue
        time = float(found[2])
        if time >= (times[-1] if times else 0.0):
            times.append(time)
            names.append(found[1])
    return ChordTrack(tuple(times[:MAX_CHORDS]), tuple(names[:MAX_CHORDS]))


class BeatChordPredictors:
    """The two networks with their tokenizers: prompts in, beats and chords out."""

    def __init__(self, beat_net: BeatNet, beat_words: Any, chord_net: Any, chord_words: Any) -> None:
        self.beat_net, self.beat_words = beat_net.eval(), beat_words
        self.chord_net, self.chord_words = chord_net.eval(), chord_words

    @torch.no_grad()
    def beats(self, prompt: str) -> BeatGrid:
        """Beats of at most the first ten seconds; no more than the prompt has tokens."""
        words = self.beat_words([prompt], max_length=MAX_PROMPT_TOKENS, truncation=True, return_tensors="pt")
        device = next(self.beat_net.parameters()).device
        logits, intervals = self.beat_net(words["input_ids"].to(device), words["attention_mask"].to(device))
        return decode_beats(logits[0, 0], intervals[0, :, 0].tolist())

    @torch.no_grad()
    def chords(self, prompt: str, beats: BeatGrid) -> ChordTrack:
        """Chords for a prompt and its beats, found by beam search."""
        asked = [chord_prompt(prompt, beats)]
        words = self.chord_words(asked, max_length=MAX_PROMPT_TOKENS, truncation=True, return_tensors="pt")
        device = next(self.chord_net.parameters()).device
        answer = self.chord_net.generate(
            input_ids=words["input_ids"].to(device),
            attention_mask=words["attention_mask"].to(device),
            **BEAM_SEARCH,
        )
        return parse_chords(self.chord_words.batch_decode(answer, skip_special_tokens=True)[0] or NO_CHORD)
