"""The model card of an adapter: design, base, recordings and their licences, measures, usage, cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from talim.licences import allows_commercial_use
from talim.recipe import Recipe

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

Facts = Mapping[str, Any]
HUB_LICENCES = ("cc-by-nc-4.0", "apache-2.0", "mit", "cc-by-4.0")  # identifiers that the Hub knows

GUIDELINE = """\
- Say that music made with this adapter is AI-generated; files written by talim carry that in their tags.
- Follow the licence of the base model and the terms of the performers, whichever is stricter.
- The adapter imitates surface features of a tradition. It is no authority on it and no replacement for its
  performers: pay and name them where you need their art.
- Do not present its output as a recording of any performer, nor use it to imitate one.
- Let people who know the tradition listen before you publish."""


def render_card(recipe: Recipe, base: Facts, summary: Facts, cost: Facts, scores: Facts | None) -> str:
    """The card as Markdown with a YAML header for the Hub.

    `base` holds `base_facts`, `summary` is the corpus's; `scores` is None before `talim evaluate`.
    """
    parts = [
        _header(base),
        f"# Adapter `{recipe.design}` for {base['name']}\n",
        _adapter_section(recipe, base, cost),
        "## Base model and licence\n\n" + _base(base),
        "## Recordings, licences, consent\n\n" + _recordings(summary),
        "## Measures\n\n" + _measures(scores, cost),
        "## Usage guideline\n\n" + GUIDELINE + "\n",
        "## How to load it\n\n" + _loading(base),
        "## Cost of training\n\n" + _cost(cost),
    ]
    return "\n".join(parts)


def base_facts(backbone: Backbone) -> dict[str, Any]:
    """The facts of a base that the card states."""
    names = ("name", "licence", "miniature", "family", "transformers_class")
    return {name: getattr(backbone, name) for name in names}


def _header(base: Facts) -> str:
    licence = str(base["licence"]).lower()
    fields: dict[str, Any] = {
        "base_model": base["name"],
        "library_name": "peft",
        "license": licence if licence in HUB_LICENCES else "other",
        "pipeline_tag": "text-to-audio",
        "tags": ["talim", "adapter", "music", "music-generation", base.get("family", "musicgen")],
    }
    if licence not in HUB_LICENCES:
        fields["license_name"] = str(base["licence"])
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n"


def _adapter_section(recipe: Recipe, base: Facts, cost: Facts) -> str:
    best = f"the weights of step {cost['best_step']}, which had the lowest held-out loss"
    stored = best if recipe.training.save_weights == "best" else "the weights of the last step"
    fraction = cost["trainable_parameters"] / cost["total_parameters"]
    text = (
        f"A `{recipe.design}` adapter with {cost['trainable_parameters']:,} trained parameters, {fraction:.2%} "
        f"of the {cost['total_parameters']:,} of the frozen base. Seed {recipe.seed}, {cost['steps']} steps; "
        f"stored are {stored}.\n"
    )
    if recipe.training.train_fraction < 1:
        text += f"It was trained on {recipe.training.train_fraction:.0%} of the training recordings.\n"
    if base.get("miniature"):
        text += "\n**The base is a miniature model** that demonstrates the method; its audio quality is not for use.\n"
    return text


def _base(base: Facts) -> str:
    text = f"`{base['name']}`, licence of its weights: {base['licence']}. The adapter inherits its conditions.\n"
    if allows_commercial_use(str(base["licence"])) == "forbidden":
        text += "Non-commercial: neither this adapter nor its output may be used commercially.\n"
    return text


def _recordings(summary: Facts) -> str:
    rights = summary.get("rights", {})
    lines = [
        f"- {summary.get('recordings', '?')} recordings, {summary.get('performers', '?')} performers, "
        f"{summary.get('clips', '?')} clips, {float(summary.get('seconds', 0)) / 60:.1f} minutes",
        f"- licences: {_counts(rights.get('licences'))}",
        f"- consent of the performers: {_counts(rights.get('consent'))}",
    ]
    if "unknown" in (rights.get("licences") or {}) or "unknown" in (rights.get("consent") or {}):
        lines.append("- unknown means that the corpus does not state it: find it out before you publish this adapter")
    return "\n".join(lines) + "\n"


def _counts(counts: Facts | None) -> str:
    return ", ".join(f"{name} ({number})" for name, number in (counts or {"unknown": "all"}).items())


def _measures(scores: Facts | None, cost: Facts) -> str:
    unit = cost.get("loss_unit", "nats")
    if scores is None:
        best = cost.get("best_held_out_loss")
        text = "not known" if best is None else f"{best:.4f} {unit}"
        return f"Not evaluated yet (`talim evaluate`). Lowest held-out loss during training: {text}.\n"
    loss, split, effect = scores["held_out_loss"], scores["split"], scores["adapter_effect"]
    if "token_change_rate" in effect:
        change = f"{effect['token_change_rate']:.0%} of the codec tokens change"
    else:
        change = f"the latents change by {effect['latent_change']:.0%} of their size"
    reduction = loss["loss_reduction"]
    lines = [
        "| measure (held-out recordings) | without adapter | with adapter |",
        "|---|---|---|",
        f"| loss, {unit}, lower is better | {loss['base_loss']['mean']:.4f} | {loss['adapted_loss']['mean']:.4f} |",
        "",
        f"Loss reduction: {reduction['mean']:.4f} {unit}, {_interval(reduction)}. "
        f"Split by {split.get('strategy', 'unknown')}: {split.get('explanation', '')}",
        f"Same seed, with and without adapter: {change}, log-mel distance {effect['log_mel_distance_db']:.1f} dB.",
    ]
    return "\n".join(lines) + "\n"


def _interval(measure: Facts) -> str:
    """The 95 % interval as text, or why there is none."""
    if measure.get("ci95") is None:
        return f"no interval ({measure.get('ci_note', 'too few recordings')})"
    low, high = measure["ci95"]
    return f"95 % interval {low:.4f} to {high:.4f} over {len(measure['per_recording'])} recordings"


def _loading(base: Facts) -> str:
    command = f"talim generate --base {base['name']} --adapter THIS_FOLDER --prompt 'your text' --out music.flac"
    if name := base.get("transformers_class"):
        load = f"from transformers import {name}\n\nbase = {name}.from_pretrained({base['name']!r})\n"
    else:
        load = f"from talim.backbones.load import load\n\nbase = load({base['name']!r}).model\n"
    return (
        f"```bash\n{command}\n```\n\nWith plain PEFT:\n\n```python\n"
        f"import talim.adapters  # registers the method with PEFT\nfrom peft import PeftModel\n{load}"
        "model = PeftModel.from_pretrained(base, 'THIS_FOLDER')\n```\n"
    )


def _cost(cost: Facts) -> str:
    joules = cost.get("energy_joules")
    energy = f"{joules / 3600:.1f} Wh" if joules is not None else f"energy {cost.get('energy_note', 'not measured')}"
    return (
        f"{cost['wall_seconds'] / 60:.1f} minutes on {cost['device']} ({cost['precision']}), peak memory "
        f"{cost['peak_memory_bytes'] / 2**30:.1f} GiB, {cost['flops'] / 1e12:.2f} TFLOP, {energy}.\n"
    )
