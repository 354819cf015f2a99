"""Tokens and embeddings of beats and chords, the text encoder, and what the predictors' outputs mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from talim.backbones.mustango import beat_chord_predictors, beat_chord_vocabulary
from talim.backbones.mustango.conditioning import ConditionTokens, time_embedding
from talim.backbones.mustango.load import build_model
from talim.backbones.mustango.model import MustangoModel
from talim.backbones.mustango.unet_config import PLAIN_DOWN, PLAIN_UP, UNetConfig
from talim.backbones.mustango.weight_names import diffusion_weights, load_weights
from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack
from talim.errors import TalimError
from tests.golden_mustango import unets
from tests.golden_mustango.cases import Check, Golden, Parts, compare, same

TOLERANCE = 1e-5
DEBERTA_TOLERANCE = 1e-4


EMBEDDERS = ("text_encoder", "beat_embedding_layer", "chord_embedding_layer")


def embedders(golden: Golden) -> MustangoModel:
    """Tiny T5, beats and chords, with a U-Net that has no weights and is not called."""
    weights = diffusion_weights(golden.tensors("ldm_extra.safetensors"), "golden")
    width = weights["beat_embedding_layer.beat_ffn.bias"].shape[0]
    nothing = {"down_block_types": [PLAIN_DOWN], "up_block_types": [PLAIN_UP], "cross_attention_dim": width}
    nothing |= {"block_out_channels": [32], "attention_head_dim": 1, "in_channels": 8, "out_channels": 8}
    made = build_model(UNetConfig.of(nothing), weights, "golden")
    for part in EMBEDDERS:
        own = {name.removeprefix(f"{part}."): tensor for name, tensor in weights.items() if name.startswith(part)}
        left = made.get_submodule(part).load_state_dict(own, strict=False, assign=True)
        assert not left.unexpected_keys
        assert set(left.missing_keys) <= {"encoder.embed_tokens.weight"}
    made.text_encoder.encoder.embed_tokens.weight = made.text_encoder.shared.weight
    return made.eval()


def model(golden: Golden, unet: str) -> MustangoModel:
    """The small diffusion module: U-Net, tiny T5, beats and chords."""
    made = embedders(golden)
    made.unet = unets.load(golden, unet)
    return made


def word_ids(prompts: Sequence[str], length: int = 0) -> tuple[Tensor, Tensor]:
    """The golden files' own tokenizer: bytes plus 3, then 1, padded with 0."""
    rows = [[*(3 + byte for byte in prompt.encode()[:511]), 1] for prompt in prompts]
    longest = max(length, *(len(row) for row in rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def beat_tokens(clips: Sequence[Sequence[Sequence[float]]]) -> ConditionTokens:
    """As ConditionTokens.of_beats, from the reference's own [times, counts], without the limits set for people."""
    return ConditionTokens.of_rows(beat_chord_vocabulary.encode_beats(*(clip or ([], []))) for clip in clips)


def chord_tokens(clips: Sequence[tuple[Sequence[str], Sequence[float]]]) -> ConditionTokens:
    """As ConditionTokens.of_chords, from names and times."""
    return ConditionTokens.of_rows(beat_chord_vocabulary.encode_chords(when, names) for names, when in clips)


def refuses(make: Any) -> bool:
    """Whether it ends in one of talim's own errors."""
    try:
        make()
    except TalimError:
        return True
    return False


def tokens(golden: Golden) -> Iterator[Check]:
    """Ids, times and masks; what the reference crashes on must be refused in words."""
    cases = golden.json("tokenizer_cases.json")
    for name, case in cases["beats"].items():
        times, counts = case["input"]
        if "tokens" not in case or "encode_error" in case:
            refused = refuses(
                lambda t=times, c=counts: beat_chord_vocabulary.check_vocabulary(
                    BeatsAndChords(BeatGrid(tuple(t), tuple(c)))
                )
            )
            yield same(f"beats {name} refused", refused, True)
        if "tokens" in case:
            found = beat_chord_vocabulary.encode_beats(times, counts)
            yield same(f"beats {name}", found, (case["tokens"], case["times"], case["mask"]))
    for name, case in cases["chords"].items():
        names, times = list(case["input_chords"]), list(case["input_times"])
        if "root" not in case:
            refused = refuses(
                lambda t=times, n=names: beat_chord_vocabulary.check_vocabulary(
                    BeatsAndChords(chords=ChordTrack(tuple(t), tuple(n)))
                )
            )
            yield same(f"chords {name} refused", refused, True)
            continue
        ids, when, mask = beat_chord_vocabulary.encode_chords(times, names)
        columns = [list(column) for column in zip(*ids, strict=True)]
        found = (*columns, when, mask)
        yield same(f"chords {name}", found, tuple(case[k] for k in ("root", "type", "inv", "times", "mask")))
        yield same(f"chords {name} again", beat_chord_vocabulary.encode_chords(times, names), (ids, when, mask))
    yield from vocabulary(cases)


def vocabulary(cases: Any) -> Iterator[Check]:
    """Names and ids."""
    spoken = {
        float(place): beat_chord_vocabulary.encode_beats([0.0], [place])[0][0]
        for place in range(1, beat_chord_vocabulary.MAX_NAMED_POSITION + 1)
    }
    theirs = {float(k): v for k, v in cases["beat_vocab"].items() if k not in ("pad", "None")}
    yield same("beat vocabulary", spoken, theirs)
    special = {"pad": beat_chord_vocabulary.PAD, "None": beat_chord_vocabulary.NONE, "N": beat_chord_vocabulary.NONE}
    yield same("chord roots", special | beat_chord_vocabulary.ROOTS, cases["chord_vocab"]["pitch"])
    yield same("chord kinds", special | beat_chord_vocabulary.KINDS, cases["chord_vocab"]["type"])
    turns = special | {"inv": beat_chord_vocabulary.INVERTED, "no_inv": beat_chord_vocabulary.NOT_INVERTED}
    yield same("chord inversions", turns, cases["chord_vocab"]["inversion"])


@torch.no_grad()
def embeddings(golden: Golden) -> Iterator[Check]:
    """Tokens of beats and chords as the U-Net gets them."""
    made = embedders(golden)
    cases, theirs = golden.json("tokenizer_cases.json"), golden.tensors("music_embeddings.safetensors")
    order = cases["batch3_order"]
    clips: dict[str, list[Any]] = {f"beats.{name}": [case["input"]] for name, case in cases["beats"].items()}
    clips |= {f"chords.{name}": [(case["input_chords"], case["input_times"])] for name, case in cases["chords"].items()}
    for what, empty in (("beats", [[], []]), ("chords", ([], []))):
        batch = [clips[f"{what}.{name}"][0] for name in order[what]]
        clips[f"{what}.batch3"] = batch
        clips[f"{what}.batch3_cfg_samples2"] = [empty] * 6 + [clip for clip in batch for _ in range(2)]
    for key in (name.removesuffix(".mask") for name in theirs if name.endswith(".mask")):
        ours: ConditionTokens
        if key.startswith("beats."):
            ours, layer = beat_tokens(clips[key]), made.beat_embedding_layer
        else:
            ours, layer = chord_tokens(clips[key]), made.chord_embedding_layer
        yield same(f"{key} mask", ours.mask, theirs[f"{key}.mask"])
        yield compare(key, layer(ours.ids, ours.times_seconds), theirs[f"{key}.embedding"], TOLERANCE)
    yield from raw_embeddings(made, theirs)


def raw_embeddings(made: MustangoModel, theirs: dict[str, Tensor]) -> Iterator[Check]:
    """The layers on bare ids, and the sinusoids at the released model's width."""
    beat = made.beat_embedding_layer(theirs["layer.beat.ids"], theirs["layer.beat.times"])
    yield compare("layer.beat", beat, theirs["layer.beat.out"], TOLERANCE)
    ids = torch.stack([theirs[f"layer.chord.{part}"] for part in ("root", "type", "inv")], dim=-1)
    chord = made.chord_embedding_layer(ids, theirs["layer.chord.times"])
    yield compare("layer.chord", chord, theirs["layer.chord.out"], TOLERANCE)
    wide = type(made.chord_embedding_layer.FME)(1024)
    wide.translation_bias.copy_(theirs["raw1024.fme.translation_bias"])
    yield compare("raw1024.fme", wide(theirs["raw1024.fme.root_ids"]), theirs["raw1024.fme.out"], TOLERANCE)
    time = time_embedding(theirs["raw1024.time.seconds"], 1024)
    yield compare("raw1024.time", time, theirs["raw1024.time.out"], TOLERANCE)


@torch.no_grad()
def text(golden: Golden) -> Iterator[Check]:
    """T5 states, padded as in guidance."""
    made = embedders(golden)
    theirs, prompts = golden.tensors("text_encoder.safetensors"), golden.json("text_prompts.json")
    ids, mask = word_ids(prompts["b3"])
    yield same("text b3 ids", ids, theirs["b3.input_ids"])
    yield same("text b3 mask", mask.bool(), theirs["b3.mask"])
    yield compare("text b3", made.encode_text(ids, mask), theirs["b3.embedding"], TOLERANCE)
    case = prompts["cfg2x2"]
    said = [prompt for prompt in case["prompts"] for _ in range(case["num_samples_per_prompt"])]
    ids, mask = word_ids([""] * len(said) + said)
    yield same("text cfg2x2 mask", mask.bool(), theirs["cfg2x2.mask"])
    yield compare("text cfg2x2", made.encode_text(ids, mask), theirs["cfg2x2.embedding"], TOLERANCE)
    ids = theirs["long70.input_ids"]
    yield compare("text long70", made.encode_text(ids, torch.ones_like(ids)), theirs["long70.embedding"], TOLERANCE)


def predicted(golden: Golden) -> Iterator[Check]:
    """What the predictors' outputs are turned into; where the reference crashes we must not."""
    cases = golden.json("feature_predictor_io.json")
    for name, case in cases["generate_beats"].items():
        logits, intervals = torch.tensor(case["first_token_logits"]), case["interval_values"]
        yield same(f"metre {name}", beat_chord_predictors.decode_metre(logits), case["max_beat"])
        yield same(f"beat times {name}", beat_chord_predictors.beat_times(intervals), case["times"])
        kept = beat_chord_predictors.decode_beats(logits, intervals)
        forward = sorted(case["times"]) == case["times"]
        if forward and case["times"]:
            theirs = tuple(tuple(row) for row in case["predicted_beats"][0])
            yield same(f"beats {name}", (kept.times_seconds, tuple(map(float, kept.positions))), theirs)
        else:
            yield same(f"beats {name} in order", list(kept.times_seconds), sorted(kept.times_seconds))
    times = tuple(cases["generate_beats"]["regular_4"]["times"])
    asked = beat_chord_predictors.chord_prompt(
        "A tabla solo.", BeatGrid(times, tuple(1 + i % 4 for i in range(len(times))))
    )
    for name, case in cases["generate_chords"].items():
        yield same(f"chord question {name}", asked, case["t5_input"])
        found = beat_chord_predictors.parse_chords(case["decoded_text"])
        if "chords" in case:
            yield same(
                f"chords {name}", (list(found.names), list(found.times_seconds)), (case["chords"], case["times"])
            )
        else:
            readable = [part for part in case["decoded_text"].split(" n ") if " at " in part]
            yield same(f"chords {name} readable part", len(found.names), len(readable))
        theirs = {key: value for key, value in case["generate_kwargs"].items() if key != "num_return_sequences"}
        yield same(f"chord search {name}", beat_chord_predictors.BEAM_SEARCH, theirs)


@torch.no_grad()
def beat_net(golden: Golden) -> Iterator[Check]:
    """The network that predicts beats."""
    from transformers import DebertaV2Config

    for path in sorted(golden.folder.glob("beats_deberta_*_config.json")):
        name = path.name.removesuffix("_config.json")
        theirs = golden.tensors(f"{name}.safetensors")
        net = beat_chord_predictors.BeatNet(DebertaV2Config(**golden.json(path.name))).eval()
        weights = {key[2:]: tensor for key, tensor in theirs.items() if key.startswith("w.")}
        load_weights(net, beat_chord_predictors.beat_weights(weights), name)
        logits, values = net(theirs["in.input_ids"], theirs["in.attention_mask"])
        yield compare(f"{name} logits", logits, theirs["out.logits"], DEBERTA_TOLERANCE)
        yield compare(f"{name} values", values, theirs["out.values"], DEBERTA_TOLERANCE)


def all_checks(golden: Golden) -> Parts:
    """Whatever the folder has."""
    small = golden.has("ldm_extra.safetensors")
    if golden.has("tokenizer_cases.json"):
        yield "tokens", tokens(golden)
        if small and golden.has("music_embeddings.safetensors"):
            yield "embeddings", embeddings(golden)
    if small and golden.has("text_encoder.safetensors", "text_prompts.json"):
        yield "text", text(golden)
    if golden.has("feature_predictor_io.json"):
        yield "predictors", predicted(golden)
    yield "beat network", beat_net(golden)
