"""Export of a run for transformers: a merged model where that is exact, else the adapter and lines that load it."""

from __future__ import annotations

import gc
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from talim.adapters import serialization
from talim.adapters.config import FULL, AdapterConfig
from talim.adapters.injection import unwrap_peft
from talim.adapters.layer import AdapterLayer
from talim.adapters.peft_baselines import peft_type_name
from talim.backbones.load import silence_transformers
from talim.errors import TalimError, UsageError
from talim.exporting import contents
from talim.exporting.contents import ExportedRun
from talim.progress import Progress
from talim.training.model_card import CAPTIONED

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

SCRIPT = "generate.py"
PROBE = "slow flute, raga Yaman"
PROBE_STEPS = 24
TOLERANCE = 1e-4  # of the largest logit: what float32 sums in another order differ by, and no adapter does
# a base's own small files, which transformers reads beside those that it writes
COPIED = re.compile(
    r"(preprocessor_config|processor_config|special_tokens_map|added_tokens|vocab)\.json|"
    r"tokenizer.*\.json|.*\.(spm|model)|merges\.txt"
)
LOAD_MERGED = "model = {cls}.from_pretrained(folder)\n"
LOAD_ADAPTER = (
    "model = {cls}.from_pretrained(base{revision}, dtype=torch.float32)\n"
    "model = PeftModel.from_pretrained(model, folder)\n"
)
WITHOUT_WORDS = 'text["attention_mask"] *= 0  # no words: it was trained without captions\n'
LINES = """\
import sys
from pathlib import Path

import scipy.io.wavfile
{own_imports}import torch
{peft_import}from transformers import AutoTokenizer, {cls}

{base}folder = Path(__file__).parent
{load}text = AutoTokenizer.from_pretrained({tokenizer})([" ".join(sys.argv[1:])], return_tensors="pt")
{null_text}torch.manual_seed(0)
steps = 10 * model.config.audio_encoder.frame_rate  # ten seconds
audio = model.generate(**text, do_sample=True, guidance_scale=3.0, max_new_tokens=steps)
scipy.io.wavfile.write("music.wav", model.config.audio_encoder.sampling_rate, audio[0].T.float().numpy())
"""


def export_transformers(exported: ExportedRun, out: Path, progress: Progress) -> dict[str, Any]:
    """Write a model folder for plain transformers, or the adapter with a script where it cannot be merged.

    A merged model is loaded again by transformers alone, and refused if its logits are not those with the adapter.
    UsageError for a base that transformers does not have.
    """
    from talim.backbones.load import load

    contents.check_free(out)
    reason, cls = merging_objection(exported.run.adapter), _class_name(exported)
    if reason:
        progress.log(f"not merged: {reason}. The folder holds the adapter, with the lines that add it to its base")
        return _write_adapter(exported, out, cls, reason, progress)
    progress.log(f"loading {exported.info['base']['name']} in float32 on the CPU")
    return _write_merged(exported, out, load(exported.run.base, "fp32", "cpu"), cls, progress)


def _class_name(exported: ExportedRun) -> str:
    """The class of transformers that reads the base; UsageError where there is none."""
    from talim.backbones import load, resolve

    source = resolve.resolve_source(exported.run.base)
    if resolve.source_family(source) == "mustango":
        why = "a Mustango is"
    else:
        source = resolve.described(source)
        if not load.register_nano(source):
            melody = load.read_config(source).model_type == "musicgen_melody"
            return "MusicgenMelodyForConditionalGeneration" if melody else "MusicgenForConditionalGeneration"
        why = f"the codec of {exported.info['base']['name']} is"
    raise UsageError(f"--to transformers: {why} no part of transformers; use --to folder, which needs talim")


def merging_objection(adapter: Path) -> str:
    """Why an adapter cannot be a part of the base's weights; empty for LoRA and its like, and for `full`."""
    config = serialization.read_config(adapter)
    if not isinstance(config, AdapterConfig):
        return ""
    kinds = sorted({str(block["kind"]) for block in config.blocks} or {str(config.kind)})
    if kinds == [FULL]:
        return ""
    others = " and ".join(kind for kind in kinds if kind != FULL)
    return f"what {others} adds depends on the input, which no weight of the base can hold"


def _write_merged(exported: ExportedRun, out: Path, backbone: Backbone, cls: str, progress: Progress) -> dict[str, Any]:
    model = backbone.model
    peft = serialization.load(backbone, exported.run.adapter)
    model.eval()
    text, steps = probe_inputs(backbone)
    expected = probe_logits(model, text, steps)
    plain = merge(peft)
    files, examples, left_out = contents.shared_files(exported)
    source = _base_folder(exported)
    copied = [path for path in sorted(source.iterdir()) if path.is_file() and COPIED.fullmatch(path.name)]
    script = script_lines(exported, cls, merged=True)
    files |= {SCRIPT: script.encode(), "README.md": _card(exported, cls, script, "", examples).encode()}
    tokenizer: Any = backbone.tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    difference = 0.0

    def finish(folder: Path) -> None:
        nonlocal difference, plain, model, peft
        with silence_transformers():
            plain.save_pretrained(folder)
        _name_class(folder / "config.json", cls)
        if not any(path.name.startswith("tokenizer") for path in copied):
            tokenizer.save_pretrained(folder)
        for path in copied:
            (folder / path.name).write_bytes(path.read_bytes())
        plain = model = peft = None
        backbone.model = None  # type: ignore[assignment]
        gc.collect()  # not two models at a time
        difference = _difference(folder, cls, text, steps, expected)
        progress.log(
            f"checked: logits of {cls} alone differ by at most {difference:.1e} from those with the adapter, which are "
            f"up to {float(expected.abs().max()):.1f}"
        )

    for line in left_out:
        progress.log(f"left out: {line}")
    contents.write_folder(out, files, finish)
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return {
        "to": "transformers",
        "out": str(out),
        "merged": True,
        "class": cls,
        "largest_difference": difference,
        "files": written,
        "left_out": left_out,
    }


def merge(peft: Any) -> Any:
    """The plain model with the adapter in its weights; TalimError where PEFT cannot do that."""
    config = next(iter(peft.peft_config.values()))
    try:
        if not isinstance(config, AdapterConfig):
            return peft.merge_and_unload(safe_merge=True)
        for layer in peft.modules():
            if isinstance(layer, AdapterLayer):
                (block,) = next(iter(layer.talim_blocks.values()))  # type: ignore[misc]
                layer.base_layer.load_state_dict(block.module.state_dict())
        peft.base_model.unload()
    except Exception as error:
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise TalimError(
            f"--to transformers: PEFT cannot merge a {peft_type_name(config)} adapter into this base ({cause}); use "
            "--to folder, or RUN/adapter with PEFT"
        ) from error
    return unwrap_peft(peft)


def probe_inputs(backbone: Backbone) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A tokenized prompt, and decoder input [K, S] drawn at random."""
    model: Any = backbone.model
    tokenizer: Any = backbone.tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    decoder = model.config.decoder
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(decoder.vocab_size, (decoder.num_codebooks, PROBE_STEPS), generator=generator)
    return dict(tokenizer([PROBE], return_tensors="pt")), steps


def probe_logits(model: Any, text: dict[str, torch.Tensor], steps: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(**text, decoder_input_ids=steps, use_cache=False).logits.float()


def _difference(
    folder: Path, cls: str, text: dict[str, torch.Tensor], steps: torch.Tensor, expected: torch.Tensor
) -> float:
    """The largest difference of logits of the folder, as transformers alone loads it; TalimError where it is no model.

    TalimError, too, where the difference is more than rounding, or its tokenizer reads another text.
    """
    import transformers

    with silence_transformers():
        read = dict(transformers.AutoTokenizer.from_pretrained(folder)([PROBE], return_tensors="pt"))
        if not torch.equal(read["input_ids"], text["input_ids"]):
            raise TalimError("--to transformers: the tokenizer in the folder reads other tokens than the base's own")
        model: Any = getattr(transformers, cls).from_pretrained(folder, dtype=torch.float32)
    difference = float((probe_logits(model.eval(), text, steps) - expected).abs().max())
    if not difference <= TOLERANCE * float(expected.abs().max()):
        raise TalimError(
            f"--to transformers: the merged model is not exact (logits differ by up to {difference:.2g}, of "
            f"{float(expected.abs().max()):.2g}); use --to folder"
        )
    return difference


def _name_class(config: Path, cls: str) -> None:
    """Write the class of transformers, which saved a subclass, and no path, into config.json."""
    values = json.loads(config.read_text(encoding="utf-8")) | {"architectures": [cls]}
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_adapter(exported: ExportedRun, out: Path, cls: str, reason: str, progress: Progress) -> dict[str, Any]:
    files, examples, left_out = contents.shared_files(exported)
    adapter, others = contents.adapter_files(exported)
    base = exported.info["base"]["name"]
    left_out = [f"the base {base}: {SCRIPT} loads it by its name", *left_out, *others]
    script = script_lines(exported, cls)
    files = (
        adapter
        | files
        | {SCRIPT: script.encode(), "README.md": _card(exported, cls, script, reason, examples).encode()}
    )
    for line in left_out:
        progress.log(f"left out: {line}")
    contents.write_folder(out, files)
    names = [*sorted(files), contents.CHECKSUMS]
    return {"to": "transformers", "out": str(out), "merged": False, "class": cls, "files": names, "left_out": left_out}


def _base_folder(exported: ExportedRun) -> Path:
    from talim.backbones import resolve

    return Path(resolve.fetched(resolve.resolve_source(exported.run.base)).path_or_id)


def script_lines(exported: ExportedRun, cls: str, merged: bool = False) -> str:
    """The lines that generate with the folder: transformers alone, or with PEFT and talim."""
    null = WITHOUT_WORDS if exported.info.get(CAPTIONED) is False else ""
    if merged:
        load = LOAD_MERGED.format(cls=cls)
        return LINES.format(
            own_imports="", peft_import="", cls=cls, base="", load=load, tokenizer="folder", null_text=null
        )
    name, _, revision = exported.run.base.partition("@") if not exported.local_base else (exported.local_base, "", "")
    name = f"./{name}" if exported.local_base else str(exported.info["base"]["name"])
    at = f", revision={revision!r}" if revision else ""
    return LINES.format(
        own_imports="import talim.adapters  # registers the PEFT method\n",
        peft_import="from peft import PeftModel\n",
        cls=cls,
        base=f"base = {json.dumps(name)}\n",
        load=LOAD_ADAPTER.format(cls=cls, revision=at),
        tokenizer=f"base{at}",
        null_text=null,
    )


def _card(exported: ExportedRun, cls: str, script: str, reason: str, examples: list[dict[str, Any]]) -> str:
    """The adapter's card with a header, the lines for this folder, and links to the audio examples."""
    header, kept = contents.card_sections(exported)
    base, design = exported.info["base"]["name"], str(exported.recipe.design)
    header |= {"library_name": "peft" if reason else "transformers"}
    spelling = contents.spelling_note(exported, "transformers")
    if reason:
        local = f"`./{base}` stands for the folder of the base. " * bool(exported.local_base)
        what = (
            f"An adapter `{design}` for {base}. It is not merged: {reason}. {local}The lines need talim, peft, "
            "transformers and scipy:\n\n"
        )
        title = f"# Adapter `{design}` for {base}\n\n"
    else:
        what = f"{base} with the adapter `{design}` in its weights: a `{cls}`, which needs transformers alone:\n\n"
        title = f"# {base} with `{design}`\n\n"
    words = "" if exported.info.get(CAPTIONED) is False else f" {PROBE}"
    lines = f"```python\n{script}```\n\nThey are in `{SCRIPT}`: `python {SCRIPT}{words}` writes music.wav.\n\n"
    audio = contents.example_links(examples)
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n{title}{what}{lines}{spelling}{audio}{kept}"
