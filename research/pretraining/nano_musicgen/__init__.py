"""Pretraining of nano-musicgen, in this order.

codec, train_text_encoder, pack_tokens (music of western_style and broad_corpus as tokens), train_packed_decoder (over
plain_decoder), assemble.
"""
