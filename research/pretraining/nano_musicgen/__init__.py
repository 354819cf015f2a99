"""Pretraining of nano-musicgen.

The shipped weights: codec, broad_text, pack_tokens (music of western_style and broad_corpus as tokens),
train_packed_decoder (over plain_decoder), assemble. decoder and beat_finetune trained the decoder of the first
nano-musicgen, on a CPU and on equal-tempered music only.
"""
