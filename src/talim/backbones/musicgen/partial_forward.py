"""MusicGen's decoder in two parts: the frozen layers below the first trained site, and the layers above.

The output of the frozen part is constant for a clip and can be cached. Both parts call the model's own layers in order,
as its `forward` does, so the results are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.models.musicgen import modeling_musicgen
from transformers.models.musicgen_melody import modeling_musicgen_melody

from talim.errors import TalimError

if TYPE_CHECKING:
    from torch import Tensor

    from talim.backbones.protocol import Batch, CachedBatch

FROZEN_PARTS = (
    modeling_musicgen.MusicgenDecoder,
    modeling_musicgen.MusicgenDecoderLayer,
    modeling_musicgen.MusicgenAttention,
    modeling_musicgen_melody.MusicgenMelodyDecoder,
    modeling_musicgen_melody.MusicgenMelodyDecoderLayer,
    modeling_musicgen_melody.MusicgenMelodyAttention,
)


def disable_dropout(decoder: torch.nn.Module) -> None:
    """Set every dropout of the frozen layers to 0; adapters keep theirs."""
    for module in decoder.modules():
        if isinstance(module, FROZEN_PARTS):
            for name in ("dropout", "attention_dropout", "activation_dropout", "layerdrop"):
                if hasattr(module, name):
                    setattr(module, name, 0.0)


def forward_frozen(model: Any, steps: Tensor, batch: Batch, layers: int) -> Tensor:  # [B, S, D]
    """Output of the first `layers` layers, without an adapter on the last of them.

    `steps` int64 [B, K, S] is the delayed sequence. TalimError if dropout is on.
    """
    decoder = model.decoder.model.decoder
    frozen = decoder.layers[:layers]
    check_no_dropout(decoder, frozen)
    with torch.no_grad():
        embedded = [embed(steps[:, k]) for k, embed in enumerate(decoder.embed_tokens)]
        hidden = sum(embedded[1:], embedded[0]) + decoder.embed_positions(steps, 0).to(embedded[0].device)
        return _run([getattr(layer, "base_layer", layer) for layer in frozen], model, hidden, batch)


def check_no_dropout(decoder: Any, frozen: Any) -> None:
    """TalimError if dropout is on in the decoder or in these layers."""
    if any(part.training and part.dropout for part in (decoder, *frozen)):
        raise TalimError(
            "dropout is on in the frozen layers; call the backbone's enable_training() before its frozen_activations()"
        )


def forward_trained(model: Any, batch: CachedBatch) -> Tensor:  # [B, S, D]
    """Input of the heads: the adapters of the last cached layer, the layers above it, the final norm."""
    decoder = model.decoder.model.decoder
    hidden, last = batch.hidden, decoder.layers[batch.layers - 1]
    if hasattr(last, "forward_after"):  # it has an adapter
        hidden = last.forward_after(hidden, attention_mask=causal_mask(decoder, hidden))
    return decoder.layer_norm(_run(decoder.layers[batch.layers :], model, hidden, batch))


def _run(layers: Any, model: Any, hidden: Tensor, batch: Batch) -> Tensor:
    if not len(layers):
        return hidden
    decoder = model.decoder.model.decoder
    text, mask = _projected_text(model, batch, hidden.dtype), batch.states_mask.long()
    causal = causal_mask(decoder, hidden)
    cross_mask = create_bidirectional_mask(
        config=decoder.config, inputs_embeds=hidden, attention_mask=mask, encoder_hidden_states=text
    )
    for layer in layers:  # the text as a positional argument, for gradient checkpointing
        hidden = layer(hidden, causal, text, encoder_attention_mask=cross_mask, past_key_values=None, use_cache=False)
    return hidden


def causal_mask(decoder: Any, hidden: Tensor) -> Any:
    """The decoder's mask for a whole sequence [B, S, D] without padding."""
    return create_causal_mask(config=decoder.config, inputs_embeds=hidden, attention_mask=None, past_key_values=None)


def _projected_text(model: Any, batch: Batch, dtype: torch.dtype) -> Tensor:
    """Text states as the layers get them, [B, L, D]: projected, and zero at masked positions."""
    projected = model.enc_to_dec_proj(batch.states) if hasattr(model, "enc_to_dec_proj") else batch.states.to(dtype)
    return projected * batch.states_mask.long()[..., None]
