"""The model card of an adapter: design, base, recordings and their licences, measures, usage, cost."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from talim.backbones.registry import find_model
from talim.corpus.attribution import attribution_line
from talim.corpus.split_groups import own_words
from talim.html.formatting import format_bytes, format_change, format_ci, format_counted, format_memory
from talim.licences import allows_commercial_use, plain_name
from talim.own_recordings import declares_own_recording
from talim.recipe import Recipe
from talim.recordings_needed import too_few_for_interval
from talim.terminal_text import one_line
from talim.version import __version__

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

Facts = Mapping[str, Any]
LICENCE_FILE = "LICENSE.md"
CAPTIONED = "captioned"  # key of talim.json: false where no clip that was trained on had a caption
# The Hub's identifiers from the least to the most restrictive; with one further down, the whole may be published.
HUB_LICENCES = (
    *("cc0-1.0", "mit", "bsd-2-clause", "bsd-3-clause", "apache-2.0"),
    *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
)
MAX_NAME = 96  # characters of license_name
NON_COMMERCIAL = ("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0")  # of a base; recordings under them: "other"

GUIDELINE = """\
- Say that music made with this adapter is AI-generated; files written by talim carry that in their tags.
- Follow the licence of the base model and the terms of the performers, whichever is stricter.
- The adapter imitates surface features of a tradition. It is no authority on it and no replacement for its
  performers: pay and name them where you need their art.
- Do not present its output as a recording of any performer, nor use it to imitate one.
- Let people who know the tradition listen before you publish."""


def render_card(
    recipe: Recipe,
    base: Facts,
    music: Facts,
    cost: Facts,
    scores: Facts | None,
    *,
    start: Facts | None = None,
    adapter: Facts = MappingProxyType({}),
) -> str:
    """The card as Markdown with a YAML header for the Hub.

    `base` holds `base_facts`, `music` is of `talim.corpus.attribution.training_music`, as in run.json; `scores` is None
    before `talim evaluate`; `start` are the facts of the adapter that training began from; `adapter` is its talim.json.
    """
    parts = [
        _header(base, music, start),
        f"# Adapter `{recipe.design}` for {base['name']}\n",
        _adapter_section(recipe, base, cost),
        "## Base model and licence\n\n" + _base(base),
        *([] if start is None else ["## Adapter that it began from\n\n" + _start(start)]),
        "## Recordings, licences, consent\n\n" + _recordings(music),
        "## Measures\n\n" + _measures(scores, cost),
        "## Usage guideline\n\n" + GUIDELINE + "\n",
        "## How to load it\n\n"
        + _loading(base, prompt_option(adapter, example_prompt(music)))
        + captions_section(music),
        "## Cost of training\n\n" + _cost(cost),
    ]
    return "\n".join(parts)


def base_facts(backbone: Backbone) -> dict[str, Any]:
    """The facts of a base that the card states."""
    names = ("name", "licence", "miniature", "family", "transformers_class", "is_local", "revision")
    return {name: getattr(backbone, name) for name in names}


def _header(base: Facts, music: Facts, start: Facts | None) -> str:
    # a local base's name may be another model's on the Hub, and one without an owner is none of the Hub's
    on_hub = not base.get("is_local") and "/" in base["name"]
    fields: dict[str, Any] = {"base_model": base["name"]} if on_hub else {}
    fields |= {
        "library_name": "peft",
        **licence_fields(str(base["licence"]), _licences(music), None if start is None else str(start["licence"])),
        "pipeline_tag": "text-to-audio",
        "tags": ["talim", "adapter", "music", "music-generation", base.get("family", "musicgen")],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n"


def licence_fields(base: str, recordings: Sequence[str], start: str | None = None) -> dict[str, str]:
    """The Hub's `license` of base and recordings together, where it is "other" with license_name and license_link.

    It is the most restrictive of all; "other" if a recording forbids commercial use or is the user's own (a declaration
    gives others no rights), anything is unknown, or no single licence covers all. `start` is the licence of an adapter
    that training began from, which counts as the base's does.
    """
    models = [base] if start is None else [base, start]
    tags = {licence: _hub_licence(licence) for licence in (*models, *recordings)}
    bars = [name for name in recordings if allows_commercial_use(name) != "allowed" or tags[name] is None]
    for model in reversed(models):
        if model not in bars and (allows_commercial_use(model) == "unknown" or tags[model] is None):
            bars.insert(0, model)
    if not bars:
        model_tags = {str(tags[model]) for model in models}
        needed = {str(tag) for tag in tags.values() if tag is not None}
        share_alike = {tag for tag in needed if "-sa-" in tag}
        non_commercial = model_tags & {*NON_COMMERCIAL}
        if len(non_commercial) == 1 and not share_alike:
            return {"license": non_commercial.pop()}
        if not non_commercial:
            strictest = max(needed, key=HUB_LICENCES.index)
            versions = {tag for tag in needed if tag[:-4] == strictest[:-4]}
            if len(versions) == 1 or not strictest.startswith("cc-by"):
                return {"license": strictest}
        bars = sorted(needed)
    names = dict.fromkeys(map(_plain_name, bars))
    return {"license": "other", "license_name": "-and-".join(names)[:MAX_NAME], "license_link": LICENCE_FILE}


def _plain_name(licence: str) -> str:
    """A licence as the Hub takes names: small letters, digits, dots and hyphens."""
    if declares_own_recording(licence) and not licence.isascii():  # in another language
        return "my-own-recording"
    return re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-") or "unknown"


def _hub_licence(name: str) -> str | None:
    """The Hub's identifier of a licence; None for one that it does not know."""
    plain = re.sub(r"[^a-z0-9.]+", "-", plain_name(name).lower()).strip("-")
    aliases = {"cc0": "cc0-1.0", "cc-zero": "cc0-1.0", "public-domain": "cc0-1.0", "pdm-1.0": "cc0-1.0"}
    plain = aliases.get(plain, plain)
    return plain if plain in (*HUB_LICENCES, *NON_COMMERCIAL) else None


def _trained_on(music: Facts) -> Facts:
    return music.get("trained_on") or {}


def _licences(music: Facts) -> list[str]:
    """Names of the licences of what was trained on, "unknown" where the corpus states none."""
    return list((_trained_on(music).get("rights") or {}).get("licences") or {"unknown": 0})


def render_licence(base: Facts, music: Facts, start: Facts | None = None) -> str:
    """LICENSE.md: whose conditions an adapter is under, for licences that no identifier of the Hub covers.

    `music` is that of the card: each recording that was trained on is named, those that were kept out are counted
    apart. `start` are the facts of the adapter that training began from.
    """
    recordings = _trained_on(music).get("attributions") or []
    counts = _counts((_trained_on(music).get("rights") or {}).get("licences"))
    begun = "" if start is None else f"- the adapter that training began from, {_origin(start)}: {start['licence']}\n"
    return (
        "# Conditions of this adapter\n\nIt may be used only as all of these allow:\n\n"
        f"- the base model, `{base['name']}`: {base['licence']}\n{begun}"
        f"- the recordings that it was trained on: {counts}\n\n{_kept_out(music)}{unnamed_section(music)}"
        "Where a licence is unknown, ask who holds the rights before you publish or sell the adapter or its music.\n"
        + "".join(["\n## Recordings\n\n", *(f"- {attribution_line(row)}\n" for row in recordings)] * bool(recordings))
    )


def _adapter_section(recipe: Recipe, base: Facts, cost: Facts) -> str:
    best = f"the weights of step {cost['best_step']}, which had the lowest validation loss"
    chosen = recipe.training.save_weights == "best" and cost.get("best_validation_loss") is not None
    stored = best if chosen else "the weights of the last step"
    fraction = cost["trainable_parameters"] / cost["total_parameters"]
    text = (
        f"A `{recipe.design}` adapter with {cost['trainable_parameters']:,} trained parameters, {fraction:.2%} "
        f"of the {cost['total_parameters']:,} of the frozen base. Seed {recipe.seed}, "
        f"{format_counted(cost['steps'], 'step')}; "
        f"stored are {stored}.\n"
    )
    if recipe.design.is_stored:
        text += f"`{recipe.design}` stands for the modules and sizes in `adapter_config.json`.\n"
    if recipe.training.train_fraction < 1:
        text += f"It was trained on {recipe.training.train_fraction:.0%} of the training recordings.\n"
    if base.get("miniature"):
        text += "\n**The base is a miniature model** that demonstrates the method; its audio quality is not for use.\n"
    return text


def _base(base: Facts) -> str:
    commit = f" at commit `{base['revision']}`" if base.get("revision") else ""
    text = (
        f"`{base['name']}`{commit}, licence of its weights: {base['licence']}. The adapter inherits its conditions.\n"
    )
    if allows_commercial_use(str(base["licence"])) == "forbidden":
        text += "Non-commercial: neither this adapter nor its output may be used commercially.\n"
    return text


def _origin(start: Facts) -> str:
    """The name of an adapter, with its commit where that is known."""
    return f"`{start['name']}`" + (f" at commit `{start['revision']}`" if start["revision"] != "unknown" else "")


def _start(start: Facts) -> str:
    known = f"repository on the Hub: {start['repository']}, content {start['hash']}"
    text = (
        f"{_origin(start)} ({start['design']}; {known}), licence: {start['licence']}. Its recordings, consent and "
        "conditions come in addition to those below.\n"
    )
    use = allows_commercial_use(str(start["licence"]))
    if use == "forbidden":
        text += "Non-commercial: neither this adapter nor its output may be used commercially.\n"
    return text + "Unknown means that its files do not state it: find it out before you publish this adapter.\n" * (
        use == "unknown" and str(start["licence"]) == "unknown"
    )


def _kept_out(music: Facts) -> str:
    """How many recordings bind no adapter, though they measured it; empty where nothing was kept out.

    A card goes out with the adapter: it names and describes those alone that were trained on.
    """
    recordings = (music.get("kept_out") or {}).get("recordings")
    if not recordings:
        return ""
    return (
        "Kept out of training and used only to choose its weights and to measure it: "
        f"{format_counted(recordings, 'recording')}, counted here and not named. They do not bind the adapter.\n\n"
    )


def _recordings(music: Facts) -> str:
    trained_on = _trained_on(music)
    rights = trained_on.get("rights") or {}
    lines = [
        f"- trained on {_total(trained_on, 'recording')}, {_total(trained_on, 'performer')}, "
        f"{_total(trained_on, 'clip')}, {_minutes(trained_on)}",
        f"- licences: {_counts(rights.get('licences'))}",
        f"- consent of the performers: {_counts(rights.get('consent'))}",
        f"- performer, title, source and licence of each: [{LICENCE_FILE}]({LICENCE_FILE})",
    ]
    if made := trained_on.get("ai_generated"):
        lines.append(f"- of these, AI-generated and used on purpose: {format_counted(made, 'recording')}")
    if "unknown" in (rights.get("licences") or {}) or "unknown" in (rights.get("consent") or {}):
        lines.append("- unknown means that the corpus does not state it: find it out before you publish this adapter")
    return "\n".join(lines) + f"\n\n{_kept_out(music)}{unnamed_section(music)}".rstrip("\n") + "\n"


def own_terms(music: Facts) -> tuple[list[str], list[str]]:
    """Words such as "me" for performers, and licences that only declare a recording one's own, of what was trained on.

    Both mean something to whoever wrote them alone. `music` is that of the card, or run.json.
    """
    rows = _trained_on(music).get("attributions") or []
    owners = {word for row in rows for word in own_words(str(row.get("performer", "")))}
    licences = {part for row in rows for part in str(row.get("licence", "")).split("; ")}
    return sorted(owners), sorted(filter(declares_own_recording, licences))


def unnamed_section(music: Facts) -> str:
    """What `own_terms` mean in other hands, a paragraph each; empty where there are none."""
    owners, licences = (" and ".join(f'"{one_line(word, 80)}"' for word in words) for words in own_terms(music))
    text = ""
    if owners:
        text += (
            f"The performer {owners} is whoever trained and exported this adapter. The name is not recorded here: ask "
            "whoever gave you the adapter, or fill it in, before you pass it on.\n\n"
        )
    if licences:
        text += (
            f"{licences} is what whoever holds the rights wrote, not a licence: it gives nobody else any rights. Ask "
            "whoever trained this adapter, in writing, what you may do with it and with its music.\n\n"
        )
    return text


def _total(trained_on: Facts, noun: str) -> str:
    known = trained_on.get(f"{noun}s")
    if known is None:
        return f"an unknown number of {noun}s"
    return format_counted(known if isinstance(known, int) else len(known), noun)


def _minutes(trained_on: Facts) -> str:
    seconds = trained_on.get("seconds")
    return "an unknown number of minutes" if seconds is None else f"{float(seconds) / 60:.1f} minutes"


def _counts(counts: Facts | None) -> str:
    return ", ".join(f"{name} ({number})" for name, number in (counts or {"unknown": "all"}).items())


def _measures(scores: Facts | None, cost: Facts) -> str:
    unit = cost.get("loss_unit", "nats")
    if scores is None:
        best = cost.get("best_validation_loss")
        text = "not known" if best is None else f"{best:.4f} {unit}"
        return f"Not evaluated yet (`talim evaluate`). Lowest validation loss during training: {text}.\n"
    loss, split, effect = scores["held_out_loss"], scores["split"], scores["adapter_effect"]
    if "token_change_rate" in effect:
        change = f"{effect['token_change_rate']:.0%} of the codec tokens change"
    else:
        change = f"the latents change by {effect['latent_change']:.0%} of their size"
    reduction = loss["loss_reduction"]
    ends = reduction.get("ci95")
    chance = " (may be chance)" if not ends or ends[0] <= 0 <= ends[1] else ""
    adapted, base, difference = format_change(loss["adapted_loss"]["mean"], loss["base_loss"]["mean"], digits=4)
    lines = [
        "| measure (held-out recordings) | without adapter | with adapter |",
        "|---|---|---|",
        f"| loss, {unit}, lower is better | {base} | {adapted} |",
        "",
        *_predictors(loss.get("reference_predictors") or {}, unit),
        f"Loss reduction{chance}: {difference} {unit}, {_interval(reduction)}. "
        f"Split by {split.get('strategy', 'unknown')}.",
        f"Same seed, with and without adapter: {change}, log-mel distance {effect['log_mel_distance_db']:.1f} dB.",
        *(f"\nCopies: {text}" for text in [(scores.get("copies") or {}).get("sentence")] if text),
    ]
    return "\n".join(lines) + "\n"


def _predictors(known: Facts, unit: str) -> list[str]:
    """The losses that predictors without a model have on the same recordings."""
    losses = sorted((known.get("losses") or {}).items(), key=lambda item: -item[1]["mean"])
    listed = ", ".join(f"{name.replace('_', ' ')} {values['mean']:.4f}" for name, values in losses)
    return [f"Without a model, on the same recordings: {listed} {unit}.", ""] if listed else []


def _interval(measure: Facts) -> str:
    """The 95 % interval as text, or why there is none."""
    if measure.get("ci95") is None:
        return f"no interval (over {format_counted(len(measure['per_recording']), 'recording')})"
    low, high = measure["ci95"]
    values = list(measure["per_recording"].values())
    each = format_ci(low, high, "{:.4f}".format, values=values)
    if not too_few_for_interval(len(values)):
        return f"95 % interval {each} over {format_counted(len(values), 'recording')}"
    decides = f"95 % interval {low:.4f} to {high:.4f}" if not low <= 0 <= high else "too few for an interval"
    return f"{each}, {decides}"


def needs(base: Facts, where: str = "") -> str:
    """What somebody who has the adapter alone needs first, as a paragraph: talim and the base, each with its source.

    `base` holds `name`, `licence` and `is_local`; `where` says where a base is that lies elsewhere than by itself.
    """
    model = None if base.get("is_local") else find_model(base["name"])
    if base.get("is_local"):
        comes = "is a folder of whoever trained the adapter: ask them for it"
    elif model is not None and not model.hub_id:
        comes = "comes with talim"
    else:
        size = f" ({format_bytes(round(model.download_gb * 1e9))})" if model is not None else ""
        comes = f"is downloaded from the Hugging Face Hub{size} at first use"
    return (
        f"It needs talim; version {__version__} wrote this. In a clone of talim: `make setup`, then `source "
        ".venv/bin/activate`; or, in a Python environment of your own, `pip install .` there. It needs no corpus. "
        f"The base `{base['name']}` {where or comes}; licence of its weights: {base['licence']}.\n\n"
    )


def trained_captions(music: Facts) -> list[str]:
    """Captions that it was trained on, the most frequent first, a line each; `music` is that of the card, or run.json.

    Never one that only a recording has that was kept out.
    """
    return [one_line(text, 200) for text in _trained_on(music).get("captions") or []]


def example_prompt(music: Facts) -> str:
    """A prompt to begin with: a caption that it was trained on, where one is recorded."""
    return next(iter(trained_captions(music)), "your text")


def captions_section(music: Facts) -> str:
    """A paragraph that lists `trained_captions`; empty where there are none."""
    lines = "".join(f"- {text}\n" for text in trained_captions(music))
    return f"\nCaptions that it was trained on, to use in prompts:\n\n{lines}" if lines else ""


def prompt_option(adapter: Facts, example: str) -> str:
    """The option `--prompt` of a command that generates with an adapter, by its talim.json.

    It holds the `example`; nothing for an adapter that was trained without captions, which no words ask for.
    """
    return f"--prompt={shlex.quote('' if adapter.get(CAPTIONED) is False else example)}"


def _loading(base: Facts, prompt: str) -> str:
    # a local folder is written as a path: its bare name may be another model's on the Hub
    name = f"./{base['name']}" if base.get("is_local") else base["name"]
    revision = base.get("revision")
    pinned = f"{name}@{revision}" if revision else name
    command = f"talim generate --base {shlex.quote(pinned)} --adapter THIS_FOLDER {prompt} --out music.flac"
    if cls := base.get("transformers_class"):
        at = f", revision={revision!r}" if revision else ""
        # stereo models are stored in fp16, in which the activations overflow
        load = f"import torch\nfrom transformers import {cls}\n\n"
        load += f"base = {cls}.from_pretrained({name!r}{at}, dtype=torch.float32)\n"
    else:
        load = f"from talim.backbones.load import load\n\nbase = load({pinned!r}).model\n"
    where = f"`{name}` stands for the folder of the base, which is not on the Hub.\n\n" if base.get("is_local") else ""
    return (
        f"{needs(base)}{where}```bash\n{command}\n```\n\nWith plain PEFT, which knows the method once `talim.adapters` "
        f"is imported:\n\n```python\nimport talim.adapters  # registers the method with PEFT\n"
        f"from peft import PeftModel\n{load}model = PeftModel.from_pretrained(base, 'THIS_FOLDER')\n```\n"
    )


def _cost(cost: Facts) -> str:
    joules = cost.get("energy_joules")
    energy = f"{joules / 3600:.1f} Wh" if joules is not None else f"energy {cost.get('energy_note', 'not measured')}"
    return (
        f"{cost['wall_seconds'] / 60:.1f} minutes on {cost['device']} ({cost['precision']}), peak memory "
        f"{format_memory(cost['peak_memory_bytes'])}, {cost['flops'] / 1e12:.2f} TFLOP, {energy}.\n"
    )
