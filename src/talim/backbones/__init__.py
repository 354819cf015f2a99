"""Frozen base models behind one Protocol; nothing outside this room knows which family a model is of."""
