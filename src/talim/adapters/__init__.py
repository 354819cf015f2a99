"""Adapter designs; importing this room makes PEFT know talim's method, so that any PEFT user can use it."""

from __future__ import annotations

from talim.adapters.method import AdapterConfig, AdapterModel, register
from talim.adapters.tuner import adapter_config, attach, disabled, load, read_info, save, trainable_parameters

__all__ = [
    "AdapterConfig",
    "AdapterModel",
    "adapter_config",
    "attach",
    "disabled",
    "load",
    "read_info",
    "save",
    "trainable_parameters",
]

register()
