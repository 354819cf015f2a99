"""Captions from labels: several templates for each tradition, one drawn by a seeded generator.

A template (caption_templates.yaml) has optional parts in brackets: `[ in raga {mode}]` appears where every field in it
is known, `[{form}|a performance]` is the first alternative whose fields are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from talim.corpus.labels import Labels, underscores_to_spaces
from talim.traditions.name_matching import normalize_words

_LAYAS = {
    "vilambit": "slow", "madhya": "medium-paced", "drut": "fast", "ati vilambit": "very slow", "ati drut": "very fast",
}  # fmt: skip
_LAYA_PHRASES = {normalize_words(laya): f"{tempo} ({laya})" for laya, tempo in _LAYAS.items()}
_CAPTIONED_LABELS = ("mode", "cycle", "laya", "form", "instruments", "tempo", "mood", "tradition", "unmetered")


@cache
def caption_templates() -> dict[str, list[str]]:
    """The templates of each tradition, "" for any other."""
    return yaml.safe_load(Path(__file__).with_name("caption_templates.yaml").read_text("utf-8"))


def caption_phrase(labels: Labels, rng: np.random.Generator) -> str:
    """A caption from one of the tradition's templates, drawn by `rng`; "" where there are no labels."""
    fields = _fields(labels)
    if not any(fields.get(name) for name in _CAPTIONED_LABELS):
        return ""
    templates = caption_templates().get(labels.tradition) or caption_templates()[""]
    return fill_template(templates[int(rng.integers(len(templates)))], fields)


def fill_template(template: str, fields: Mapping[str, str]) -> str:
    """A template with its fields filled in and its empty parts removed."""

    def fill_part(part: re.Match[str]) -> str:
        for alternative in part.group(1).split("|"):
            names = re.findall(r"{([^}]*)}", alternative)
            if all(fields.get(name) for name in names):
                return re.sub(r"{([^}]*)}", lambda name: fields[name.group(1)], alternative)
        return ""

    return _capitalize(re.sub(r"\[([^]]*)\]", fill_part, template).strip(" ,;:"))


def _fields(labels: Labels) -> dict[str, str]:
    """The text of every field of the templates; "" where unknown."""
    form = underscores_to_spaces(labels.form[0]).lower() if labels.form else ""
    fields = {
        "tradition": _capitalize(labels.tradition),
        "mode": _capitalize(labels.mode[0]) if labels.mode else "",
        "cycle": _capitalize(labels.cycle[0]) if labels.cycle else "",
        "laya": _LAYA_PHRASES.get(normalize_words(labels.laya[0]), labels.laya[0]) if labels.laya else "",
        "form": form,
        "instruments": join_list(labels.instruments),
        "tempo": _tempo(labels),
        "mood": labels.mood[0].lower() if labels.mood else "",
        "unmetered": "in free rhythm" if labels.unmetered else "",
    }
    fields["a form"] = f"{'an' if form[:1] in 'aeiou' else 'a'} {form}" if form else ""
    fields["kind mode"] = _with_kind(labels.mode_kind, fields["mode"])
    fields["kind cycle"] = _with_kind(labels.cycle_kind, fields["cycle"])
    fields |= {name.capitalize(): _capitalize(fields[name]) for name in ("tradition", "instruments", "a form")}
    return {name: " ".join(text.split()) for name, text in fields.items()}


def _with_kind(kind: str, name: str) -> str:
    """The name with the word for what it is, where one is usual: raga Yaman, 7/8 metre, but F# minor."""
    if not name or kind in ("", "key", "scale"):
        return name
    return f"{name} metre" if kind == "metre" else f"{kind} {name}"


def _tempo(labels: Labels) -> str:
    if labels.tempo_bpm:
        text = labels.tempo_bpm[0]
        number = f"{float(text):.0f}" if re.fullmatch(r"\d+(\.\d+)?", text) else text
        return f"{number} beats per minute"
    return labels.tempo[0] if labels.tempo else ""


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def join_list(names: tuple[str, ...], limit: int = 6) -> str:
    """Names as in a sentence: a, b and c; of more than `limit` the last ones become "others"."""
    shown = [*names] if len(names) <= limit else [*names[: limit - 1], "others"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
