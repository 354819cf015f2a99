"""MusicGen's decoder in two halves: the layers below the first trained site, and what is left above them.

The lower half of a clip is always the same and can be kept. Both halves run the model's own layers one after another,
as its `forward` does, so that their numbers are those of the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.models.musicgen import modeling_musicgen

from talim.errors import TalimError

if TYPE_CHECKING:
    from torch import Tensor

    from talim.backbones.protocol import Batch, CachedBatch

FROZEN_PARTS = (
    modeling_musicgen.MusicgenDecoder,
    modeling_musicgen.MusicgenDecoderLayer,
    modeling_musicgen.MusicgenAttention,
)


def disable_dropout(decoder: torch.nn.Module) -> None:
    """Every dropout of the frozen layers becomes 0; an adapter's own is not among these."""
    for module in decoder.modules():
        if isinstance(module, FROZEN_PARTS):
            for name in ("dropout", "attention_dropout", "activation_dropout", "layerdrop"):
                if hasattr(module, name):
                    setattr(module, name, 0.0)


def forward_frozen(model: Any, steps: Tensor, batch: Batch, layers: int) -> Tensor:  # [B, S, D]
    """What leaves the first `layers` layers; an adapter on the last of them is left out.

    `steps` int64 [B, K, S] is the delayed sequence. TalimError where a dropout is on that would change it each time.
    """
    decoder = model.decoder.model.decoder
    chosen = decoder.layers[:layers]
    if any(part.training and part.dropout for part in (decoder, *chosen)):
        raise TalimError(
            "dropout is on in the frozen layers; call the backbone's enable_training() before its frozen_activations()"
        )
    with torch.no_grad():
        said = [embed(steps[:, k]) for k, embed in enumerate(decoder.embed_tokens)]
        hidden = sum(said[1:], said[0]) + decoder.embed_positions(steps, 0).to(said[0].device)
        return _run([getattr(layer, "base_layer", layer) for layer in chosen], model, hidden, batch)


def forward_trained(model: Any, batch: CachedBatch) -> Tensor:  # [B, S, D]
    """What enters the heads: the adapters of the last known layer, the layers above it, the final norm."""
    decoder = model.decoder.model.decoder
    hidden, last = batch.hidden, decoder.layers[batch.layers - 1]
    if hasattr(last, "forward_after"):  # it has an adapter
        hidden = last.forward_after(hidden, attention_mask=_causal_mask(decoder, hidden))
    return decoder.layer_norm(_run(decoder.layers[batch.layers :], model, hidden, batch))


def _run(layers: Any, model: Any, hidden: Tensor, batch: Batch) -> Tensor:
    if not len(layers):
        return hidden
    decoder = model.decoder.model.decoder
    words, seen = _projected_text(model, batch, hidden.dtype), batch.states_mask.long()
    causal = _causal_mask(decoder, hidden)
    heard = create_bidirectional_mask(
        config=decoder.config, inputs_embeds=hidden, attention_mask=seen, encoder_hidden_states=words
    )
    for layer in layers:  # the text by place, not by name: gradient checkpointing asks for it
        hidden = layer(
            hidden, causal, words, encoder_attention_mask=heard, past_key_values=None, use_cache=False
        )
    return hidden


def _causal_mask(decoder: Any, hidden: Tensor) -> Any:
    return create_causal_mask(
        config=decoder.config, inputs_embeds=hidden, attention_mask=None, past_key_values=None
    )


def _projected_text(model: Any, batch: Batch, dtype: torch.dtype) -> Tensor:
    """The text states as the layers hear them, [B, L, D]: projected, and zero where the mask is."""
    projected = (
        model.enc_to_dec_proj(batch.states) if hasattr(model, "enc_to_dec_proj") else batch.states.to(dtype)
    )
    return projected * batch.states_mask.long()[..., None]
