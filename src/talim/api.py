"""The public Python API: one function per stage, the same as the commands of the same names.

Every function reads what earlier stages left on disk, shows progress on a terminal or in a notebook unless another
`progress` is passed, and raises `talim.errors.TalimError` (`UsageError` for arguments) with one line that says what
to do. Interrupted by Ctrl-C, a long call leaves a state from which the same call resumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim import progress as progress_module
from talim.errors import TalimError, UsageError
from talim.html.formatting import GB
from talim.out_of_memory import memory_detail, memory_that_ran_out
from talim.progress import Progress
from talim.recipe import CLIP_SECONDS, Recipe
from talim.run import Run
from talim.terminal_text import one_line

if TYPE_CHECKING:
    from peft import PeftModel

    from talim.audio import Audio
    from talim.backbones.protocol import Backbone
    from talim.beats_chords import BeatsAndChords
    from talim.corpus.manifest import Corpus
    from talim.experiments.goals import SelectionCriteria
    from talim.generation.sources import GenerationSource


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    format: str | None = None,
    caption: str | None = None,
    clip_seconds: float = CLIP_SECONDS,
    sample_rate: int = 32000,
    channels: int = 1,
    held_out_fraction: float | None = None,
    held_out: Sequence[str] = (),
    split_by: str = "auto",
    license_use: str = "any",
    base: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Corpus:
    """Turn recordings into a corpus: clips with captions, labels and rights, split by recording.

    `source` is a folder of recordings, with or without metadata.csv, or any other source that `format` names;
    `held_out_fraction` (0 to 0.5; None: 0.2, or 0.3 of fewer than 20 recordings) of the music is kept for the test;
    `license_use="commercial"` leaves out recordings whose licence forbids commercial use or is unknown. Files that are
    left out, AI-generated ones among them, are listed with their reasons in `corpus.summary["skipped"]`. `base` is the
    base whose tokenizer the captions are checked with (None: plain letters). Calling it again updates the corpus and
    decodes only new files.

    >>> corpus = talim.prepare("my-recordings", "my-corpus", caption="sitar, raga Yaman")
    >>> print(len(corpus.train), "training clips,", len(corpus.held_out), "held-out clips")
    """
    from talim.corpus.prepare import prepare as prepare_corpus

    reader = None
    if base is not None:
        from talim.backbones.load import base_reader

        reader = base_reader(base)
    return prepare_corpus(
        source,
        out,
        format=format,
        caption=caption,
        clip_seconds=clip_seconds,
        sample_rate=sample_rate,
        channels=channels,
        held_out_fraction=held_out_fraction,
        held_out=tuple(held_out),
        split_by=split_by,
        license_use=license_use,
        reader=reader,
        seed=seed,
        progress=progress or progress_module.default(),
    )


def designs(
    base: str, *, budgets: Sequence[str] = (), designs: Sequence[str] = (), crop_seconds: float | None = None
) -> dict[str, Any]:
    """Exact parameters, FLOPs, file size and activation memory of adapter designs; needs no weights.

    Without `designs` (`KIND@SITE:SIZE`) every kind at every site is listed at each of `budgets` ("40M", "2.5%").

    >>> table = talim.designs("musicgen-small", designs=["conv@all:8M", "lora@all:8M"])
    >>> for row in table["designs"]:
    ...     print(row["design"], row["parameters"])
    """
    from talim.planning.design_costs import design_costs

    return design_costs(base, budgets, designs, crop_seconds)


def plan(
    base: str,
    designs: Sequence[str],
    *,
    gpu: str | None = None,
    crop_seconds: float | None = None,
    batch_size: int | None = None,
    steps: int | None = None,
    hours_of_music: float | None = None,
    corpus: Path | str | None = None,
    precision: str | None = None,
    gradient_checkpointing: bool = False,
    memory_gb: float | None = None,
    price_per_hour: float | None = None,
    price_per_kwh: float | None = None,
    watts: float | None = None,
    recalibrate: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Predict memory, time, energy and money of training `designs` by tracing the real training step.

    `gpu` is a name such as "rtx-3060"; None plans for this machine's CPU, which is timed once and remembered. Clips are
    `crop_seconds` long, `batch_size` in each of `steps`; None is what `prepare` and `train` do by default.
    With `hours_of_music` to train on, or a prepared `corpus`, whose clip length counts then, the result tells how many
    passes over that music the steps are, and what a full training takes.

    >>> planned = talim.plan("nano-musicgen", ["linear@all:2.5%"], gpu="rtx-3060")
    >>> planned["designs"][0]["memory_bytes"] / 1e9
    """
    from talim.planning import plan as planning
    from talim.planning.cpu_calibration import hardware_profile
    from talim.planning.trace_cache import default_cache_folder

    progress = progress or progress_module.default()
    prices = {"price_per_hour": price_per_hour, "price_per_kwh": price_per_kwh}
    planning.check_options(precision, memory_gb=memory_gb, watts=watts, hours_of_music=hours_of_music, **prices)
    music, crop_seconds = planning.music_to_train_on(base, hours_of_music, corpus, crop_seconds)
    planning.check_request(base, designs, crop_seconds, batch_size, steps)
    cache = default_cache_folder()
    planned = planning.plan_designs(
        base,
        designs,
        hardware_profile(gpu, watts, cache, recalibrate, progress),
        crop_seconds=crop_seconds,
        batch_size=batch_size,
        steps=steps,
        precision=precision,
        gradient_checkpointing=gradient_checkpointing,
        memory_limit_bytes=None if memory_gb is None else memory_gb * GB,
        music=music,
        prices=planning.EnergyPrices(price_per_hour, price_per_kwh),
        cache=cache,
        progress=progress,
    )
    return planned | {"corpus": None if corpus is None else str(corpus)}


def train(recipe: Recipe, out: Path | str, *, device: str = "auto", progress: Progress | None = None) -> Run:
    """Train the recipe's adapter into the folder `out`, or resume from its last checkpoint.

    A finished run is left as it is. With `init_from` in the recipe a stored adapter, of talim or of PEFT, is trained
    further. UsageError if `out` holds a run of another recipe.

    >>> recipe = talim.Recipe(corpus="my-corpus", design="linear@all:2.5%", training={"steps": 20})
    >>> run = talim.train(recipe, "my-run")
    """
    return train_checked(checked_recipe(recipe, out, device), out, device=device, progress=progress)


def train_checked(recipe: Recipe, out: Path | str, *, device: str = "auto", progress: Progress | None = None) -> Run:
    """As `train`, with a recipe that `checked_recipe` has returned for the same folder."""
    progress = progress or progress_module.default()
    try:
        from talim.training.train import train as train_recipe

        return train_recipe(recipe, out, progress, device)
    except Exception as error:
        place = memory_that_ran_out(error)
        if not place:
            raise
        reason = memory_detail(error)
    # outside of the handler, so that what the failed step held is free again
    raise TalimError(f"{place} is too small for this training ({reason}): {_training_advice(recipe, device, progress)}")


def checked_recipe(recipe: Recipe, out: Path | str, device: str = "auto") -> Recipe:
    """The complete recipe of a training; UsageError or TalimError for what is wrong with it, before torch is loaded."""
    from talim.backbones.devices import check_device_name
    from talim.planning.base_facts import check_sites
    from talim.training.checks import check_recipe

    check_device_name(device)
    if recipe.init_from is not None and not Run(out).finished:
        from talim.training.start_adapter import complete_recipe

        recipe = complete_recipe(recipe, Run(out))
    check_recipe(Run(out), recipe)
    if not recipe.design.is_stored:
        check_sites(recipe.design, recipe.base)
    return recipe


def _training_advice(recipe: Recipe, device: str, progress: Progress) -> str:
    """What the training needs and what would fit; general advice where that cannot be predicted."""
    try:
        import torch

        from talim.backbones.devices import pick_device
        from talim.corpus.manifest import Corpus
        from talim.planning.fit_memory import training_advice
        from talim.planning.trace_cache import TraceCache, default_cache_folder
        from talim.training.resource_usage import memory_limit_bytes

        target = torch.device(pick_device(device))
        clip_seconds = max(clip.seconds for clip in Corpus.load(recipe.corpus).clips)
        cache = TraceCache(default_cache_folder(), progress)
        return training_advice(recipe, clip_seconds, memory_limit_bytes(target), target, cache)
    except Exception as error:  # memory may run out again, and advice must not hide the reason
        progress.log(f"what would fit could not be predicted ({one_line(str(error), 160)})")
        return "try --set training.batch_size=1, --set training.gradient_checkpointing=true or shorter crops"


def generate(
    source: Run | GenerationSource | Path | str,
    prompts: str | Sequence[str],
    *,
    seconds: float | None = None,
    num_samples: int = 1,
    seed: int = 0,
    adapter_scale: float = 1.0,
    guidance_scale: float = 3.0,
    temperature: float | None = None,
    top_k: int | None = None,
    sampling_steps: int | None = None,
    sampler: str | None = None,
    beats_chords: Sequence[BeatsAndChords] = (),
    predict_beats_chords: bool = False,
    continue_from: Audio | Path | str | Sequence[Audio | Path | str] = (),
    continue_seconds: float | None = None,
    keep_phrase: bool = True,
    strength: float | None = None,
    melody: Audio | Path | str | Sequence[Audio | Path | str] = (),
    melody_from: str | None = None,
    transliterate: bool | None = None,
    precision: str = "auto",
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Audio]:
    """Generate music from text: `num_samples` pieces per prompt with the seeds `seed`, `seed` + 1, ...

    `source` is a run (or its folder), an adapter's folder, or the name of a base model, used without an adapter.
    `adapter_scale` runs from 0 (the base alone) to 1.5; 1 is as trained. Temperature and top-k are for bases that
    sample tokens (MusicGen), sampling steps and sampler for diffusion bases (Mustango). `seconds` is 10 if not given.

    `continue_from` is a recording (a file or an Audio), or one per prompt: MusicGen goes on from its last
    `continue_seconds` (None: all of it) for `seconds`, and the result begins with them unless `keep_phrase` is false;
    Mustango makes a variation of the same length, as far from it as `strength` says (0 to 1; None is 0.5).

    `melody` is a hummed or played melody, or one per prompt, that MusicGen-melody follows: by its chroma, or with
    `melody_from` "pitch" by the pitch of its leading melody. Prompts are read as they are written if `transliterate` is
    false, else words that the base does not know in letters that it knows; None is as the adapter was trained.
    `precision` is auto (that of a GenerationSource, or bf16 where the hardware has it), bf16, fp32, or int8 (MusicGen
    on a CPU).

    >>> clip = talim.generate("my-run", "raga Yaman, slow alap", seconds=2)[0]
    >>> clip.save("alap.flac")
    >>> longer = talim.generate("my-run", "raga Yaman, slow alap", seconds=2, continue_from="alap.flac")[0]
    """
    from talim.audio import Audio
    from talim.generation.generate import DEFAULT_SECONDS, GenerationOptions, generate_audio
    from talim.generation.phrase import PhraseOptions
    from talim.planning.generation_memory import memory_explained

    chosen = _generation_source(source, adapter_scale)
    if transliterate is not None:
        chosen = replace(chosen, transliterate=transliterate)
    if precision != "auto":  # else that of a given source
        chosen = replace(chosen, precision=precision)
    options = GenerationOptions(guidance_scale, temperature, top_k, sampling_steps, sampler)
    pieces = generate_audio(
        source=chosen,
        prompts=[prompts] if isinstance(prompts, str) else list(prompts),
        seconds=seconds,
        num_samples=num_samples,
        seed=seed,
        options=options,
        beats_chords=beats_chords,
        predict_beats_chords=predict_beats_chords,
        phrases=[continue_from] if isinstance(continue_from, Audio | Path | str) else list(continue_from),
        phrase_options=PhraseOptions(continue_seconds, keep_phrase, strength),
        melodies=[melody] if isinstance(melody, Audio | Path | str) else list(melody),
        melody_from=melody_from,
        device=device,
        progress=progress or progress_module.default(),
    )
    with memory_explained("generate", lambda: chosen.base, DEFAULT_SECONDS if seconds is None else seconds, device):
        return list(pieces)


def evaluate(
    run: Run | Path | str | None = None,
    *,
    real: Path | str | None = None,
    generated: Path | str | None = None,
    adapter: Path | str | None = None,
    corpus: Path | str | None = None,
    base: str | None = None,
    out: Path | str | None = None,
    num_prompts: int = 3,
    num_continuations: int | None = None,
    seconds: float = 10.0,
    seed: int = 0,
    sampling_steps: int | None = None,
    sampler: str | None = None,
    protocol: str = "default",
    num_workers: int = 1,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a finished run or an adapter on held-out recordings, or a folder of generated audio against real audio.

    With `run`: loss with and without the adapter, samples and continuations of held-out phrases before and after
    (`num_continuations`: None as many as prompts, 0 none), music scores; written to scores.json in the run's folder.
    With `adapter` (a folder of talim or PEFT, or a Hub id): the same on the held-out recordings of `corpus`, on `base`
    (None: the one that it names); written into the folder `out`.
    With `real` and `generated`: music scores and distances between the two folders, no model; written to `out` where it
    is given. Intervals are by recording.

    >>> scores = talim.evaluate("my-run", num_prompts=1, seconds=2)
    >>> scores["held_out_loss"]["loss_reduction"]["mean"]
    >>> scores = talim.evaluate(real="my-recordings", generated="my-run/samples")
    """
    _check_what_is_evaluated(run, real, generated, adapter, corpus, base, out)
    progress = progress or progress_module.default()
    scored = generated if real is not None else adapter if run is None else _folder(run)
    progress.log(f"{scored}: loading what is scored")
    if real is not None:
        from talim.evaluation.evaluate_folders import evaluate_folders

        assert generated is not None
        return evaluate_folders(
            Path(real),
            Path(generated),
            out=None if out is None else Path(out),
            protocol=protocol,
            num_workers=num_workers,
            seed=seed,
            progress=progress,
        )
    from talim.planning.generation_memory import memory_explained

    def base_name() -> str:
        return base or str(adapter) if run is None else Run(_folder(run)).recipe.base

    with memory_explained("evaluate", base_name, seconds, device):
        from talim.evaluation.evaluate import evaluate as evaluate_run
        from talim.evaluation.evaluate_adapter import evaluate_adapter
        from talim.generation.generate import GenerationOptions

        settings: dict[str, Any] = {
            "num_prompts": num_prompts,
            "num_continuations": num_continuations,
            "seconds": seconds,
            "seed": seed,
            "options": GenerationOptions(sampling_steps=sampling_steps, sampler=sampler),
            "device": device,
            "protocol": protocol,
            "num_workers": num_workers,
        }
        if run is not None:
            return evaluate_run(_folder(run), progress, **settings)
        assert adapter is not None
        assert corpus is not None
        assert out is not None
        return evaluate_adapter(adapter, corpus, out, progress, base=base, **settings)


def _check_what_is_evaluated(
    run: Any, real: Any, generated: Any, adapter: Any, corpus: Any, base: Any, out: Any
) -> None:
    """UsageError unless exactly one thing is to be scored, with all that it needs."""
    if sum(each is not None for each in (run, real, adapter)) != 1 or (real is None) != (generated is None):
        raise UsageError(
            "evaluate takes either a run, or --real FOLDER together with --generated FOLDER, or --adapter ADAPTER with "
            "--corpus CORPUS and --out FOLDER"
        )
    if adapter is None and (unused := [f"--{n}" for n, v in (("corpus", corpus), ("base", base)) if v is not None]):
        raise UsageError(f"{' and '.join(unused)}: only with --adapter; a run says itself what it has")
    if run is not None and out is not None:
        raise UsageError(
            f"--out {out}: only with --adapter or --real; what is scored of a run is kept in its own folder"
        )
    missing = [
        f"--{name} {what}" for name, value, what in (("corpus", corpus, "CORPUS"), ("out", out, "FOLDER")) if not value
    ]
    if adapter is not None and missing:
        raise UsageError(
            f"{adapter} is an adapter, which does not say on which recordings to score it: add {' and '.join(missing)} "
            "(a corpus made by talim prepare, whose held-out clips are used; a new folder for the results)"
        )


def report(
    folder: Run | Path | str,
    criteria: SelectionCriteria | None = None,
    claims: Path | str | None = None,
    *,
    audio: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Write one self-contained HTML page about a run, a folder of runs or a study, and return its path.

    `criteria` and `claims` are for a study: how to choose a design, and a YAML file of hypotheses to test. Reads files
    only; no torch is loaded.

    >>> page = talim.report("my-run")
    """
    (progress or progress_module.default()).log(f"{_folder(folder)}: writing its page")
    from talim.poc.report_section import write_report

    return write_report(_folder(folder), criteria, None if claims is None else Path(claims), audio=audio)


def study(
    file: Path | str,
    out: Path | str,
    *,
    retry_failed: bool = False,
    num_workers: int = 1,
    ray: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run every trial of the study file that has no result in `out` yet.

    `num_workers` trials run at a time (0: one per GPU or core), or on the Ray cluster at `ray`.

    >>> summary = talim.study("my-study.yaml", "my-study")
    >>> print(summary["done"], "of", summary["trials"])
    """
    from talim.experiments import progress_table, runner

    reporter = progress or progress_table.for_terminal()
    executor = runner.executor_for(num_workers, ray, device, Path(file).parent, reporter)
    return runner.run_study(Path(file), Path(out), reporter, retry_failed=retry_failed, device=device, execute=executor)


def export(
    run: Run | Path | str,
    to: str,
    out: Path | str | None = None,
    *,
    with_base: bool = False,
    repo: str | None = None,
    public: bool = False,
    permission: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take a finished run out of talim; nothing is overwritten, and recordings, caches and paths stay here.

    `to` is one of
    - "folder": the new folder `out` works on another machine as a run does, without its corpus; `with_base` copies a
      base that is a folder of this machine, too;
    - "transformers": `out` is a model of transformers with the adapter in its weights, where that is exact (LoRA and
      its like, `full`); else the adapter with the lines that add it to its base;
    - "onnx": `out` holds the base with the adapter as graphs for onnxruntime, and a script that makes music with them;
    - "space": a page on gradio for a Hugging Face Space, which makes music with these graphs, in the new folder `out`,
      or sent to the Space `repo` as with "hub";
    - "hub": the adapter with card, conditions and audio examples is sent to the repository `repo` (OWNER/NAME),
      private unless `public`; `dry_run` only says what would be sent. TalimError where rights do not allow publishing,
      unless `permission` says who allowed it.

    Returned are what was written and what was left out.

    >>> exported = talim.export("my-run", "folder", "for-a-colleague")
    >>> again = talim.generate("for-a-colleague", "raga Yaman", seconds=1)
    """
    from talim.exporting.options import ExportOptions

    options = ExportOptions(None if out is None else Path(out), with_base, repo, public, permission, dry_run)
    options.check(to)
    progress = progress or progress_module.default()
    progress.log(f"exporting {_folder(run)}")  # before torch and the like are loaded
    from talim.exporting.targets import export_run

    return export_run(_folder(run), to, options, progress)


def load_base(name: str, *, precision: str = "auto", device: str = "auto") -> Backbone:
    """Load a base model by known name ("musicgen-small"), Hub id or local folder.

    >>> base = talim.load_base("nano-musicgen")
    """
    from talim.backbones.load import load

    return load(name, precision=precision, device=device)


def load_adapter(base: Backbone, folder: Run | Path | str, *, scale: float = 1.0) -> PeftModel:
    """Load a stored adapter (a run, or an adapter's folder) into a loaded base; `scale` from 0 to 1.5.

    TalimError where the adapter was trained on another base or does not fit.

    >>> model = talim.load_adapter(base, "my-run", scale=0.8)
    """
    from talim.adapters import injection, serialization

    path = _folder(folder)
    run = Run(path)
    model = serialization.load(base, run.adapter if run.recipe_file.is_file() else path)
    injection.set_adapter_scales(model, {injection.DEFAULT_NAME: scale})
    injection.cast_adapters(model, base.dtype)
    base.model.eval()  # PEFT adds its dropout in training mode
    return model


def _folder(run: Run | Path | str) -> Path:
    return run.folder if isinstance(run, Run) else Path(run)


def _generation_source(source: Run | GenerationSource | Path | str, adapter_scale: float) -> GenerationSource:
    """A run's folder, an adapter's folder, or a base model's name, in this order."""
    from talim.generation.sources import GenerationSource, choose_source

    if isinstance(source, GenerationSource):
        return source
    path = _folder(source)
    if Run(path).recipe_file.is_file():
        return choose_source(path, None, [], False, [adapter_scale])
    if (path / "adapter_config.json").is_file():
        return choose_source(None, None, [path], False, [adapter_scale])
    return choose_source(None, str(source), [], False)
