"""talim: teach a music-generation model a tradition it does not know, and learn which adapter does it best."""

from __future__ import annotations

__version__ = "0.1.0"
