"""Pretraining of the two miniatures: nano_musicgen and nano_mustango are packages; what both use is here."""
