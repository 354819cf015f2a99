"""MusicGen's decoder step by step, with its adapters: weights read once, static caches, several rows in one batch."""

from talim.backbones.musicgen.decoding.decoder import Decoder, rows_that_fit, state_of
from talim.backbones.musicgen.decoding.products import UnsupportedError
from talim.backbones.musicgen.decoding.rows import Piece, decode_pieces, steps_of

__all__ = ["Decoder", "Piece", "UnsupportedError", "decode_pieces", "rows_that_fit", "state_of", "steps_of"]
