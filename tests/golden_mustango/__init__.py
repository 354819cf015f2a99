"""Mustango against the reference's own numbers: `python -m tests.golden_mustango FOLDER --json`."""
