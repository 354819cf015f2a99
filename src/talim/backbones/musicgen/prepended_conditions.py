"""MusicGen-melody's decoder on a batch: each row is its melody, its text and its music, one after the other.

Rows of unequal length are padded at their end, which causal layers never see, so that a clip gives the same in every
batch. transformers' own `forward` pads between text and music instead, which shifts the music's positions; for one
clip both are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from talim.backbones.musicgen.partial_forward import causal_mask, check_no_dropout

if TYPE_CHECKING:
    from torch import Tensor

    from talim.backbones.protocol import Batch, CachedBatch


def condition_rows(model: Any, batch: Batch) -> list[Tensor]:  # [M + L, D] of each clip
    """What precedes the music: the melody's pitch classes and the text, projected; a dropped text is zeros."""
    melody, states, lengths = batch.melody, batch.states, batch.text_lengths
    assert melody is not None
    assert lengths is not None
    one_hot = torch.eye(model.config.num_chroma, device=states.device)[melody]  # [B, M, 12]
    chroma = model.audio_enc_to_dec_proj(one_hot) if hasattr(model, "audio_enc_to_dec_proj") else one_hot
    kept = batch.states_mask.any(dim=1).long()  # [B]
    rows = []
    for row, length in enumerate(lengths):  # one by one: a conditioner with context must not see padding
        text = states[row : row + 1, :length]
        projected = model.enc_to_dec_proj(text) if hasattr(model, "enc_to_dec_proj") else text
        rows.append(torch.cat([chroma[row], projected[0].to(chroma.dtype) * kept[row]]))
    return rows


def forward_all(model: Any, steps: Tensor, batch: Batch) -> Tensor:  # [B, S, D]
    """Input of the heads for the delayed sequence `steps` int64 [B, K, S]."""
    decoder = model.decoder.model.decoder
    hidden, before = _embed(model, steps, batch)
    hidden = F.dropout(hidden, decoder.dropout, decoder.training)
    hidden = _run(decoder, decoder.layers, hidden, before)
    return decoder.layer_norm(_music(hidden, before, steps.shape[-1]))


def forward_frozen(model: Any, steps: Tensor, batch: Batch, layers: int) -> Tensor:  # [B, T, D]
    """Output of the first `layers` layers for conditions and music, without an adapter on the last of them.

    TalimError if dropout is on.
    """
    decoder = model.decoder.model.decoder
    frozen = decoder.layers[:layers]
    check_no_dropout(decoder, frozen)
    with torch.no_grad():
        hidden, before = _embed(model, steps, batch)
        return _run(decoder, [getattr(layer, "base_layer", layer) for layer in frozen], hidden, before)


def forward_trained(model: Any, batch: CachedBatch, num_steps: int) -> Tensor:  # [B, S, D]
    """Input of the heads: the adapters of the last cached layer, the layers above it, the final norm."""
    decoder = model.decoder.model.decoder
    before = _condition_lengths(batch)
    missing = max(before) + num_steps - batch.hidden.shape[1]
    hidden = F.pad(batch.hidden, (0, 0, 0, missing)) if missing > 0 else batch.hidden
    last = decoder.layers[batch.layers - 1]
    if hasattr(last, "forward_after"):  # it has an adapter
        hidden = last.forward_after(hidden, prepended=_is_condition(hidden, before))
    hidden = _run(decoder, decoder.layers[batch.layers :], hidden, before)
    return decoder.layer_norm(_music(hidden, before, num_steps))


def _embed(model: Any, steps: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
    """Conditions and music with their positions, [B, T, D], and the number of conditions of each row."""
    decoder = model.decoder.model.decoder
    embedded = [embed(steps[:, k]) for k, embed in enumerate(decoder.embed_tokens)]
    music: Any = sum(embedded[1:], embedded[0])
    rows = [torch.cat([row.to(music.dtype), own]) for row, own in zip(condition_rows(model, batch), music, strict=True)]
    hidden = pad_sequence(rows, batch_first=True)
    return hidden + decoder.embed_positions(hidden, 0).to(hidden.device), _condition_lengths(batch)


def _condition_lengths(batch: Batch) -> list[int]:
    assert batch.melody is not None
    assert batch.text_lengths is not None
    return [batch.melody.shape[1] + length for length in batch.text_lengths]


def _is_condition(hidden: Tensor, before: list[int]) -> Tensor:  # bool [B, T]
    frames = torch.arange(hidden.shape[1], device=hidden.device)
    return torch.stack([frames < count for count in before])


def _run(decoder: Any, layers: Any, hidden: Tensor, before: list[int]) -> Tensor:
    causal, prepended = causal_mask(decoder, hidden), _is_condition(hidden, before)
    for layer in layers:
        # adapters leave the conditions alone; the model's own layers are not asked
        named = {"prepended": prepended} if hasattr(layer, "forward_after") else {}
        hidden = layer(hidden, causal, past_key_values=None, use_cache=False, **named)[0]
    return hidden


def _music(hidden: Tensor, before: list[int], num_steps: int) -> Tensor:
    return torch.stack([row[count : count + num_steps] for row, count in zip(hidden, before, strict=True)])
