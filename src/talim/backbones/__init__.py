"""Frozen base models behind one protocol; other packages do not depend on a model family."""
