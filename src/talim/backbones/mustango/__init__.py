"""Mustango: latent diffusion of music from text, beats and chords, on diffusers' and transformers' parts."""
