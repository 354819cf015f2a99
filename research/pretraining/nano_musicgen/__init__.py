"""Pretraining of nano-musicgen: codec, research.pretraining.text_encoder, decoder, then beat_finetune."""
