"""Adapter designs; importing this room makes PEFT know talim's method, so that any PEFT user can use it."""

from __future__ import annotations

from talim.adapters.config import AdapterConfig
from talim.adapters.method import AdapterModel, enter_peft
from talim.adapters.store import load, read_info, save
from talim.adapters.tuner import adapter_config, attach, disabled, trainable_parameters, use
from talim.designs.kinds import Kind, register

__all__ = [
    "AdapterConfig",
    "AdapterModel",
    "Kind",
    "adapter_config",
    "attach",
    "disabled",
    "load",
    "read_info",
    "register",
    "save",
    "trainable_parameters",
    "use",
]

enter_peft()
