"""Captions from labels: several phrasings for each tradition, empty fields skipped cleanly, a seeded choice.

A phrasing is a sentence with parts in brackets: `[ in raga {mode}]` appears where every field in it is known,
`[{form}|a performance]` takes the first alternative whose fields are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from talim.corpus.labels import Labels, in_words, normalize_name

CAPTION_TEMPLATES: dict[str, tuple[str, ...]] = {
    "hindustani": (
        "Hindustani classical music[ in raga {mode}][, tala {cycle}][, {laya} laya][, {free}]"
        "[, {form}][, {tempo}][; {instruments}][, performed by {performers}]",
        "[Raga {mode}|A raga] in the Hindustani tradition[, set in {cycle}][, {laya} laya][, {tempo}][, {free}]"
        "[, {a form}][, with {instruments}]",
        "[{A form}|A Hindustani classical performance][ in raga {mode}][ by {performers}][, {free}][ in {cycle}]"
        "[ at a {laya} tempo][, {tempo}][: {instruments}]",
        "[{Instruments}: |]Hindustani classical music[, raga {mode}][, {form}][, {laya}][ {cycle}][, {tempo}]"
        "[, {free}]",
        "North Indian classical [{form}|music][ with {instruments}][, raga {mode}][, tala {cycle}][, {laya}]"
        "[, {tempo}][, {free}]",
    ),
    "makam": (
        "Turkish makam music[ in makam {mode}][, usul {cycle}][, {free}][, {form}][, {tempo}]"
        "[; {instruments}][, performed by {performers}]",
        "[Makam {mode}|A piece] in the Turkish tradition[, {a form}][, usul {cycle}][, {tempo}][, {free}]"
        "[, with {instruments}]",
        "[{A form}|A Turkish makam performance][ in makam {mode}][ by {performers}][, usul {cycle}][, {tempo}]"
        "[, {free}][: {instruments}]",
        "[{Instruments}: |]Turkish makam music[, makam {mode}][, {form}][, usul {cycle}][, {tempo}][, {free}]",
        "Ottoman-Turkish [{form}|music][ with {instruments}][, makam {mode}][, in the usul {cycle}][, {tempo}]"
        "[, {free}]",
    ),
    "": (
        "[{Tradition} music|Music][ in {kind mode}][, {form}][, {kind cycle}][, {laya}][, {tempo}][, {free}][, {mood}]"
        "[, {instruments}][, performed by {performers}]",
        "[{A form}|A piece][ of {tradition} music][ in {kind mode}][, with {instruments}][, {kind cycle}][, {laya}]"
        "[, {tempo}][, {free}][, {mood}]",
        "[{Instruments}: |][{mood}, ][{tradition} music|music][ in {kind mode}][, {form}][, {kind cycle}][, {laya}]"
        "[, {tempo}][, {free}]",
    ),
}
_LAYAS = {"vilambit": "slow (vilambit)", "madhya": "medium-paced (madhya)", "drut": "fast (drut)"}
_LAYAS |= {"ati vilambit": "very slow (ati vilambit)", "ati drut": "very fast (ati drut)"}
_CAPTIONED_LABELS = ("mode", "cycle", "laya", "form", "instruments", "tempo", "mood", "tradition", "free")


def caption_phrase(labels: Labels, rng: np.random.Generator) -> str:
    """One caption of what the labels say, in one of their tradition's phrasings; "" where they say nothing.

    The same labels and the same generator state give the same words.
    """
    fields = _fields(labels)
    if not any(fields.get(name) for name in _CAPTIONED_LABELS):
        return ""
    choices = CAPTION_TEMPLATES.get(labels.tradition) or CAPTION_TEMPLATES[""]
    return fill_template(choices[int(rng.integers(len(choices)))], fields)


def fill_template(pattern: str, fields: Mapping[str, str]) -> str:
    """A phrasing with its fields filled in and its empty parts gone."""

    def part(found: re.Match[str]) -> str:
        for choice in found.group(1).split("|"):
            names = re.findall(r"{([^}]*)}", choice)
            if all(fields.get(name) for name in names):
                return re.sub(r"{([^}]*)}", lambda name: fields[name.group(1)], choice)
        return ""

    text = re.sub(r"\[([^]]*)\]", part, pattern).strip(" ,;:")
    return text[:1].upper() + text[1:]


def _fields(labels: Labels) -> dict[str, str]:
    """Every name that a phrasing may use, in words with single blanks between them; "" where nothing is known."""
    form = in_words(labels.form[0]).lower() if labels.form else ""
    told = {
        "tradition": _capital(labels.tradition),
        "mode": _capital(labels.mode[0]) if labels.mode else "",
        "cycle": _capital(labels.cycle[0]) if labels.cycle else "",
        "laya": _LAYAS.get(normalize_name(labels.laya[0]), labels.laya[0]) if labels.laya else "",
        "form": form,
        "instruments": join_list(labels.instruments),
        "performers": join_list(labels.performers, most=3),
        "tempo": _tempo(labels),
        "mood": labels.mood[0].lower() if labels.mood else "",
        "free": "in free rhythm" if labels.free else "",
    }
    told["a form"] = f"{'an' if form[:1] in 'aeiou' else 'a'} {form}" if form else ""
    told["kind mode"] = _kind(labels.mode_kind, told["mode"])
    told["kind cycle"] = _kind(labels.cycle_kind, told["cycle"])
    told |= {name.capitalize(): _capital(told[name]) for name in ("tradition", "instruments", "a form")}
    return {name: " ".join(text.split()) for name, text in told.items()}


def _kind(kind: str, name: str) -> str:
    """The name with the word for what it is, where one needs it: raga Yaman, but F# minor."""
    if not name or kind in ("", "key", "scale"):
        return name
    return f"{name} metre" if kind == "metre" else f"{kind} {name}"


def _tempo(labels: Labels) -> str:
    if labels.tempo_bpm:
        text = labels.tempo_bpm[0]
        number = f"{float(text):.0f}" if re.fullmatch(r"\d+(\.\d+)?", text) else text
        return f"{number} beats per minute"
    return labels.tempo[0] if labels.tempo else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def join_list(names: tuple[str, ...], most: int = 6) -> str:
    """Names as one writes them in a sentence: a, b and c; beyond `most` the rest are "others"."""
    shown = [*names] if len(names) <= most else [*names[: most - 1], "others"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)
