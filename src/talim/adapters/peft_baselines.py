"""PEFT's own methods at talim's sites: lora, dora and ia3, as baselines in the same grammar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from peft import IA3Config, LoraConfig
from peft.config import PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn

from talim.adapters.config import exact_path_regex
from talim.designs import budget
from talim.designs.expression import PEFT_KINDS, Part
from talim.designs.musicgen_sites import Site

SUPPORTED_PEFT_KINDS = PEFT_KINDS
ALPHA_PER_RANK = 2  # lora_alpha = 2 r: every layer's update is scaled alike, whatever its rank


def peft_part_config(part: Part, sites: Sequence[Site], base: int, dropout: float) -> PeftConfig:
    """PEFT's configuration for a lone lora, dora or ia3 part."""
    if part.kind == "ia3":
        matrices = [m for site in sites for m in budget.ia3_matrices(site)]
        inputs = [m.module for m in matrices if budget.scales_input(m)]
        return IA3Config(
            target_modules=exact_path_regex(m.module for m in matrices),
            feedforward_modules=exact_path_regex(inputs) if inputs else [],
        )
    ranks = budget.solve_width(part, sites, base)
    by_module = {m.module: rank for site, rank in zip(sites, ranks, strict=True) for m in site.matrices}
    least = min(ranks)
    odd = {re.escape(module): rank for module, rank in by_module.items() if rank != least}
    return LoraConfig(
        r=least,
        lora_alpha=ALPHA_PER_RANK * least,
        rank_pattern=odd,
        alpha_pattern={module: ALPHA_PER_RANK * rank for module, rank in odd.items()},
        lora_dropout=dropout,
        use_dora=part.kind == "dora",
        target_modules=exact_path_regex(by_module),
    )


def peft_type_name(config: Any) -> str:
    """The kind's word for a PEFT configuration: "lora", "dora", "ia3", "talim"; another method's own name."""
    word = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    return "dora" if word == "lora" and getattr(config, "use_dora", False) else word


def peft_weight_shapes(config: Any, model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights that a lora, dora or ia3 configuration puts into a plain model.

    Targets and rank patterns are looked up as PEFT does.
    """
    found: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        path = path.replace(".base_layer", "")
        if not (isinstance(module, nn.Linear) and check_target_module_exists(config, path)):
            continue
        inputs, outputs = module.in_features, module.out_features
        if peft_type_name(config) == "ia3":
            feeds = isinstance(config.feedforward_modules, str) and re.fullmatch(
                config.feedforward_modules, path
            )
            found[f"{path}.ia3_l"] = (1, inputs) if feeds else (outputs, 1)
            continue
        rank = next(
            (r for p, r in config.rank_pattern.items() if re.fullmatch(rf"(.*\.)?({p})", path)), config.r
        )
        found[f"{path}.lora_A.weight"], found[f"{path}.lora_B.weight"] = (rank, inputs), (outputs, rank)
        if config.use_dora:
            found[f"{path}.lora_magnitude_vector"] = (outputs,)
    return found
