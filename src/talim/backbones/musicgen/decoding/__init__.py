"""MusicGen's decoder step by step, with its adapters: weights read once, static caches, several rows in one batch."""

from talim.backbones.musicgen.decoding.batched_decoding import Piece, PieceDecoder, decode_pieces, steps_of
from talim.backbones.musicgen.decoding.decoder import Beginning, Decoder, rows_that_fit, state_of
from talim.backbones.musicgen.decoding.linear_products import UnsupportedError

__all__ = [
    "Beginning",
    "Decoder",
    "Piece",
    "PieceDecoder",
    "UnsupportedError",
    "decode_pieces",
    "rows_that_fit",
    "state_of",
    "steps_of",
]
