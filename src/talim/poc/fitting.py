"""Where no design fits into the memory: what would, found by tracing, with the options to type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from talim.backbones import registry
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.html.formatting import format_memory
from talim.html.languages import languages
from talim.licences import allows_commercial_use
from talim.planning.training_job import training_job
from talim.poc.options import PocOptions
from talim.progress import Progress
from talim.recipe import Recipe
from talim.reporting.catalogue import Texts, either, in_languages

MAX_TRACED = 6  # changes that are tried: a trace of a large base takes half a minute


def fitting_advice(
    by_design: Mapping[str, Recipe],
    rows: list[dict[str, Any]],
    corpus: Corpus,
    options: PocOptions,
    limit_bytes: float,
    progress: Progress,
) -> list[Texts]:
    """A change of the settings that was traced and fits, a smaller base for the same use, and GPUs with the memory."""
    memory = {row["design"]: row["memory_bytes"] for row in rows if row["memory_bytes"] and row["design"] in by_design}
    if not memory:
        return [in_languages("fit_unknown")]
    design = min(memory, key=lambda each: memory[each])
    recipe = by_design[design]
    change = _fitting_change(recipe, corpus, options.device, limit_bytes, progress)
    parts = [
        in_languages("fit_alone", design=design, memory=format_memory(memory[design])),
        in_languages("fit_change", change=change) if change else in_languages("fit_no_change"),
    ]
    if smaller := smaller_bases(options):
        parts.append(in_languages("fit_smaller", bases=either(_base_options(smaller))))
    return [*parts, _gpu_advice(options, design, memory[design])]


def _fitting_change(
    recipe: Recipe, corpus: Corpus, device: str, limit_bytes: float, progress: Progress
) -> Texts | None:
    """The first change of the training step that fits, as options of talim poc; None if none does."""
    from talim.planning.fit_memory import as_settings, smaller_configs
    from talim.planning.trace_cache import TraceCache, default_cache_folder

    try:
        config, base = step_config(recipe, corpus, device)
        machine = machine_profile(device, progress)
        traces = TraceCache(default_cache_folder(), progress)
        for candidate in list(smaller_configs(config, base))[:MAX_TRACED]:
            needed = machine.needed_bytes(traces.trace(candidate), base.family, candidate.precision)
            if needed <= limit_bytes:
                text = as_settings(config, candidate.to_json())
                other = in_languages("plan_other_design") if candidate.design != config.design else ""
                return in_languages("fit_settings", settings=text, memory=format_memory(needed), other=other)
    except TalimError as error:
        progress.log(f"what would fit could not be traced: {error}")
    return None


def machine_profile(device: str, progress: Progress, *, rates: bool = False) -> Any:
    """The `HardwareProfile` of the device that trains, as `talim plan` uses it; with `rates` a CPU is timed once."""
    from talim.backbones.devices import pick_device
    from talim.planning.cpu_calibration import device_profile
    from talim.planning.trace_cache import default_cache_folder

    return device_profile(pick_device(device), default_cache_folder(), progress, rates=rates)


def step_config(recipe: Recipe, corpus: Corpus, device: str) -> tuple[Any, Any]:
    """The training step to trace (a `StepConfig`), and the base's facts."""
    from talim.backbones import precision
    from talim.backbones.load import pick_device
    from talim.planning import plan
    from talim.planning.design_costs import base_model_facts
    from talim.planning.training_step import DTYPES

    dtype, _ = precision.choose_precision(recipe.training.precision, pick_device(device))
    base_dtype = next(name for name, each in DTYPES.items() if each == dtype)
    job = training_job(recipe.model_dump(mode="json"), float(corpus.summary["clip_seconds"]))
    return plan.step_config(job, base_dtype), base_model_facts(recipe.base)


def smaller_bases(options: PocOptions) -> list[str]:
    """Bases that may be used for the same purpose and are smaller, the largest first, miniatures last."""
    own = registry.find_model(options.base)
    size = own.fp32_gb if own else float("inf")
    usable = [
        entry
        for entry in registry.MODELS.values()
        if entry.fp32_gb < size
        and entry.channels == (own.channels if own else 1)
        and (options.license_use != "commercial" or allows_commercial_use(entry.licence) == "allowed")
    ]
    usable.sort(key=lambda entry: -entry.fp32_gb)
    return [entry.name for entry in usable]


def _base_options(names: Sequence[str]) -> list[Texts]:
    """Each base as the option to type; a miniature is called one."""
    texts: dict[str, Texts] = {name: dict.fromkeys(languages(), f"--base {name}") for name in names}
    return [in_languages("fit_miniature", base=texts[n]) if registry.is_miniature(n) else texts[n] for n in names]


def _gpu_advice(options: PocOptions, design: str, memory_bytes: float) -> Texts:
    """The GPUs of talim plan's table with the least memory that is enough, and how to learn what renting one costs."""
    from talim.planning.hardware import gpu_profile, gpu_table

    enough = [name for name in gpu_table() if gpu_profile(name).usable_bytes >= memory_bytes]
    if not enough:
        return in_languages("fit_no_gpu")
    least = min(gpu_profile(name).usable_bytes for name in enough)
    named = [name for name in enough if gpu_profile(name).usable_bytes == least][:3]
    command = f"talim plan --base {options.base} --design {design} --gpu {named[0]} --price-per-hour 0.5"
    gpus = either([dict.fromkeys(languages(), name) for name in named])
    return in_languages("fit_gpu", gpus=gpus, command=command)
