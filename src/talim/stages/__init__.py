"""Stages: where the rooms meet. Each module is one command; nothing is imported here."""

from __future__ import annotations
