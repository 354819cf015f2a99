"""talim's adapters as a PEFT method: injection, names of weights in files, registration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from peft import mapping
from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn

from talim.adapters.config import METHOD, STORED_METHOD, AdapterConfig, TalimPeftType
from talim.adapters.layer import AdapterLayer
from talim.errors import TalimError
from talim.html.formatting import format_counted

PREFIX = "talim_"  # of every attribute that holds adapter weights


class AdapterModel(BaseTuner):
    """PEFT tuner that injects the blocks of an `AdapterConfig`."""

    prefix: str = PREFIX
    tuner_layer_cls = AdapterLayer
    target_module_mapping = {}  # noqa: RUF012  (an instance variable of BaseTuner)

    def _create_and_replace(  # pyright: ignore[reportIncompatibleMethodOverride]  (PEFT passes these by name)
        self,
        peft_config: AdapterConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, AdapterLayer):  # a second adapter on the same block
            target.update_layer(adapter_name, peft_config)
            return
        layer = AdapterLayer(target, adapter_name, peft_config, current_key, outer_module=parent)
        layer.forward_context.register_hooks(parent, self.model)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: Any) -> None:
        if isinstance(child, AdapterLayer):
            child.forward_context.remove_hooks()
        setattr(parent, child_name, new_module)  # PEFT's own would rebind .weight, which a block lacks

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if autocast_adapter_dtype:
            return
        for layer in self.model.modules():  # blocks are made in float32; here the base's dtype is asked for
            if isinstance(layer, AdapterLayer) and adapter_name in layer.talim_blocks:
                layer.cast_to_base(adapter_name)

    def _check_merge_allowed(self) -> None:
        raise TalimError("adapters cannot be merged into the base; unload() gives the plain base back")

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # PEFT expects the name as the last or last but one part; here it precedes a whole module
        return key.replace(f".talim_blocks.{adapter_name}.", ".talim_blocks.", 1)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        # PEFT itself ignores missing and unknown weights
        mapped = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        infix = f".talim_blocks.{adapter_name}."
        present = {_without_prefix(key) for key in model.state_dict()}
        given = {_without_prefix(key) for key in mapped}
        # trained modules and embeddings of the base are stored under their own paths
        report_unmatched({key for key in present if infix in key} - given, given - present)
        return mapped


def _without_prefix(key: str) -> str:
    """A weight's path without PEFT's prefix, which a model adapted in place does not have."""
    return key.removeprefix("base_model.model.")


def report_unmatched(missing: Iterable[str], unknown: Iterable[str]) -> None:
    """TalimError if an adapter's weights are not exactly those that the model expects."""
    lost, extra = sorted(missing), sorted(unknown)
    if lost or extra:
        example = (lost or extra)[0]
        raise TalimError(
            f"the adapter does not fit this model: {format_counted(len(lost), 'weight')} missing, {len(extra)} unknown "
            f"(such as {example}); load it on the base it was trained on"
        )


def register_with_peft() -> None:
    """Register the method with PEFT, whose own `register_peft_method` accepts only names of its enum."""
    registered = mapping.PEFT_TYPE_TO_TUNER_MAPPING.setdefault(METHOD, AdapterModel)  # type: ignore[arg-type]
    if registered is not AdapterModel:
        raise TalimError(f"PEFT already has another method called {METHOD.value}; import talim before that library")
    for name in (METHOD, STORED_METHOD):  # the name in memory, and the sentence in files
        mapping.PEFT_TYPE_TO_CONFIG_MAPPING[name] = AdapterConfig  # type: ignore[index]
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[METHOD] = PREFIX  # type: ignore[index]
    # members of PEFT's own enum cannot be written as YAML; trainers that dump a configuration need it
    yaml.SafeDumper.add_representer(TalimPeftType, lambda dumper, value: dumper.represent_str(value.value))
