"""PEFT's own methods (LoRA, DoRA, IA3) configured from the same design grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from peft import IA3Config, LoraConfig
from peft.config import PeftConfig

from talim.adapters.config import exact_path_regex
from talim.design import budget, peft_methods
from talim.design.expression import Part
from talim.design.musicgen_sites import Site
from talim.errors import UsageError

ALPHA_PER_RANK = "alpha_per_rank"  # option of lora and dora: lora_alpha / r, the same in every layer, whatever its rank
DEFAULT_ALPHA_PER_RANK = 2
LORA_KINDS = ("lora", "dora")


def peft_part_config(
    part: Part,
    sites: Sequence[Site],
    num_base_parameters: int,
    dropout: float,
    options: Mapping[str, Any] | None = None,
) -> PeftConfig:
    """PEFT's configuration for a lora, dora, ia3 or peft:NAME part; lora and dora have the option ALPHA_PER_RANK."""
    if peft_methods.is_method(part.kind):
        size, matrices = budget.solve_width(part, sites, num_base_parameters)[0], budget.matrices_of(sites)
        peft_methods.count(part.kind, size or None, matrices)  # refuses here what PEFT would refuse in the model
        return peft_methods.make_config(
            part.kind, size or None, matrices, exact_path_regex(m.module for m in matrices), dropout
        )
    if part.kind == "ia3":
        matrices = [m for site in sites for m in budget.ia3_matrices(site)]
        inputs = [m.module for m in matrices if budget.scales_input(m)]
        return IA3Config(
            target_modules=exact_path_regex(m.module for m in matrices),
            feedforward_modules=exact_path_regex(inputs) if inputs else [],
        )
    ranks = budget.solve_width(part, sites, num_base_parameters)
    by_module = {m.module: rank for site, rank in zip(sites, ranks, strict=True) for m in site.matrices}
    lowest, scale = min(ranks), (options or {}).get(ALPHA_PER_RANK, DEFAULT_ALPHA_PER_RANK)
    rank_pattern = {re.escape(module): rank for module, rank in by_module.items() if rank != lowest}
    return LoraConfig(
        r=lowest,
        lora_alpha=scale * lowest,
        rank_pattern=rank_pattern,
        alpha_pattern={module: scale * rank for module, rank in rank_pattern.items()},
        lora_dropout=dropout,
        use_dora=part.kind == "dora",
        target_modules=exact_path_regex(by_module),
    )


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """UsageError for options that lora or dora do not have, or an ALPHA_PER_RANK that is not positive."""
    if unknown := sorted(set(options) - {ALPHA_PER_RANK}):
        raise UsageError(f"kind_options.{kind}: no option {', '.join(unknown)}; there is {ALPHA_PER_RANK}")
    if (scale := options.get(ALPHA_PER_RANK, DEFAULT_ALPHA_PER_RANK)) <= 0:
        raise UsageError(f"kind_options.{kind}.{ALPHA_PER_RANK} is {scale}; expected a number above 0")


def peft_type_name(config: Any) -> str:
    """Kind of a PEFT configuration: "lora", "dora", "ia3", "talim", or another method's name in small letters."""
    name = str(config.peft_type.value).lower()
    return "dora" if name == "lora" and getattr(config, "use_dora", False) else name


def unsuited(config: Any) -> str:
    """Why a stored adapter of PEFT cannot be used; empty if it can: it must change linear layers."""
    name = str(config.peft_type.value).lower()
    if name in peft_methods.OWN_KINDS:
        return ""
    try:
        peft_methods.check_method(peft_methods.PREFIX + name)
    except UsageError as error:
        return str(error)
    return ""
