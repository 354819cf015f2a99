"""Pretraining of nano-mustango: vae_vocoder, research.pretraining.text_encoder, then unet.

conditioning and pitch_probe are used by unet.
"""
