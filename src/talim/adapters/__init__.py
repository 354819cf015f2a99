"""Adapter designs; importing this room makes PEFT know talim's method, so that any PEFT user can use it."""

from __future__ import annotations

from talim.adapters.config import AdapterConfig
from talim.adapters.injection import adapter_config, attach, disabled, set_adapter_scales, trainable_parameters
from talim.adapters.peft_method import AdapterModel, register_with_peft
from talim.adapters.serialization import load, read_info, save
from talim.design.adapter_kinds import Kind, register

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
    "set_adapter_scales",
    "trainable_parameters",
]

register_with_peft()
