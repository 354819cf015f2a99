"""Studies: many runs, and the pages that show them. Nothing is imported here."""

from __future__ import annotations
