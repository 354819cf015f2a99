"""The door; `app` holds every command, `main` runs the command line."""

from __future__ import annotations

from talim.cli.main import app, main

__all__ = ["app", "main"]
