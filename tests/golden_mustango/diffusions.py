"""Scheduler, training loss with gradients, and whole denoising runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from talim.backbones.mustango import diffusion
from talim.backbones.mustango.model import MustangoModel
from talim.backbones.mustango.unet import SamplingMemory
from talim.backbones.mustango.unet_config import UNetConfig
from tests.golden_mustango import conditions
from tests.golden_mustango.cases import Check, Golden, Parts, compare, same

STEP_TOLERANCE, RUN_TOLERANCE, LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-6, 1e-4, 1e-5, 1e-4
NO_GRADIENT = 1e-6
DRAW = "diffusers.schedulers.scheduling_ddpm.randn_tensor"


def scheduler(golden: Golden) -> Iterator[Check]:
    """Noise levels, single steps, targets and weights."""
    theirs = golden.tensors("scheduler.safetensors")
    ours = diffusion.make_scheduler("ddpm")
    config = golden.json("scheduler_config.json")
    shared = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type", "clip_sample")
    yield same("scheduler configuration", [ours.config[k] for k in shared], [config[k] for k in shared])
    yield compare("betas", ours.betas, theirs["betas"], STEP_TOLERANCE)
    yield compare("alphas_cumprod", ours.alphas_cumprod, theirs["alphas_cumprod"], STEP_TOLERANCE)
    for key in sorted(theirs):
        if key.startswith("timesteps."):
            ours.set_timesteps(int(key.removeprefix("timesteps.")))
            yield same(key, ours.timesteps, theirs[key])
        elif key.startswith("step.n") and key.endswith(".prev_sample"):
            yield from one_step(ours, theirs, key.removesuffix(".prev_sample"))
    sample, noise = theirs["step.sample"], theirs["step.noise"]
    at = theirs["add_noise.timesteps"]
    yield compare("add_noise", ours.add_noise(sample, noise, at), theirs["add_noise.out"], STEP_TOLERANCE)
    yield compare("get_velocity", ours.get_velocity(sample, noise, at), theirs["get_velocity.out"], STEP_TOLERANCE)
    at, kept = theirs["snr.timesteps"], ours.alphas_cumprod
    snr = kept[at] / (1 - kept[at])
    yield Check("snr, relative", ((snr - theirs["snr.snr"]) / theirs["snr.snr"]).abs().max().item(), STEP_TOLERANCE)
    weights = diffusion.min_snr_weights(kept, at, "min_snr_eps")
    yield compare("min-SNR weight as coded", weights, theirs["snr.weight_gamma5_as_coded"], STEP_TOLERANCE)


def one_step(ours: Any, theirs: dict[str, Tensor], case: str) -> Iterator[Check]:
    _, steps, level = case.split(".")
    ours.set_timesteps(int(steps[1:]))
    with mock.patch(DRAW, return_value=theirs["step.noise"]):
        made = ours.step(theirs["step.model_output"], int(level[1:]), theirs["step.sample"])
    yield compare(case, made.prev_sample, theirs[f"{case}.prev_sample"], STEP_TOLERANCE)
    clean = theirs[f"{case}.pred_original_sample"]
    yield compare(f"{case} x0", made.pred_original_sample, clean, STEP_TOLERANCE * max(1.0, clean.abs().max().item()))
    yield compare(
        f"{case} variance", ours._get_variance(int(level[1:])).reshape(1), theirs[f"{case}.variance"], STEP_TOLERANCE
    )


class Training:
    """The fixed batch of the golden loss."""

    def __init__(self, golden: Golden, unet: str) -> None:
        self.model = conditions.model(golden, unet)
        self.theirs, self.case = (golden.tensors("training_loss.safetensors"), golden.json("training_loss.json"))
        self.schedule = diffusion.make_scheduler("ddpm")
        self.ids, self.mask = conditions.word_ids(self.case["prompts"])
        self.beats = conditions.beat_tokens(self.case["beats"])
        self.chords = conditions.chord_tokens(list(zip(self.case["chords"], self.case["chords_time"], strict=True)))

    def tokens(self) -> list[Tensor]:
        """Text, beats and chords as the U-Net gets them, text without gradient."""
        with torch.no_grad():
            said = self.model.encode_text(self.ids, self.mask)
        beats = self.model.beat_embedding_layer(self.beats.ids, self.beats.times_seconds)
        return [said, beats, self.model.chord_embedding_layer(self.chords.ids, self.chords.times_seconds)]

    def errors(self, levels: Tensor, without: int | None = None) -> tuple[Tensor, Tensor]:
        """Squared error of each clip, and the prediction; `without` a clip's conditions, as the reference does."""
        latents, noise = self.theirs["latents"], self.theirs["noise"]
        tokens = self.tokens()
        if without is not None:
            kept = torch.ones(len(latents), 1, 1)
            kept[without] = 0
            tokens = [token * kept for token in tokens]
        noisy = self.schedule.add_noise(latents, noise, levels)
        masks = (self.mask.bool(), self.beats.mask, self.chords.mask)
        made = self.model.unet(noisy, levels, *tokens, *masks)
        target = self.schedule.get_velocity(latents, noise, levels)
        return diffusion.velocity_losses(made, target), made

    def weighted(self, errors: Tensor, levels: Tensor) -> Tensor:
        """The reference's loss."""
        return (errors * diffusion.min_snr_weights(self.schedule.alphas_cumprod, levels, "min_snr_eps")).mean()


def training(golden: Golden, unet: str) -> Iterator[Check]:
    """Losses, the U-Net's inputs and output, and every gradient."""
    batch = Training(golden, unet)
    theirs, levels = batch.theirs, batch.theirs["timesteps"]
    noisy = batch.schedule.add_noise(theirs["latents"], theirs["noise"], levels)
    yield compare("training noisy latents", noisy, theirs["unet_in.noisy_latents"], LOSS_TOLERANCE)
    target = batch.schedule.get_velocity(theirs["latents"], theirs["noise"], levels)
    yield compare("training target", target, theirs["target.velocity"], LOSS_TOLERANCE)
    for name, ours in zip(("text", "beats", "chords"), batch.tokens(), strict=True):
        yield compare(f"training {name}", ours, theirs[f"unet_in.{name}"], LOSS_TOLERANCE)
    errors, made = batch.errors(levels)
    # a row without beats is in the batch: the U-Net's tolerance for such rows
    yield compare("training prediction", made, theirs["unet_out.pred"], 1e-3)
    yield compare("training error of each clip", errors, theirs["loss.per_sample_mse"], LOSS_TOLERANCE)
    yield compare("training plain loss", errors.mean()[None], theirs["loss.plain_mse"], LOSS_TOLERANCE)
    loss = batch.weighted(errors, levels)
    yield compare("training min-SNR loss", loss[None], theirs["loss.snr5"], LOSS_TOLERANCE)
    middle = torch.full_like(levels, 500)
    at_middle = batch.weighted(batch.errors(middle)[0], middle)
    yield compare("training loss at 500", at_middle[None], theirs["loss.validation_t500_snr5"], LOSS_TOLERANCE)
    dropped = batch.weighted(batch.errors(levels, without=0)[0], levels)
    key = "loss.uncondition_row0_dropped_snr5"
    yield compare("training loss, one clip unconditioned", dropped[None], theirs[key], LOSS_TOLERANCE)
    loss.backward()
    yield from gradients(batch.model, batch)


def gradients(model: MustangoModel, batch: Training) -> Iterator[Check]:
    """Relative to the largest entry, or to the norm."""
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    ours["FME.translation_bias"] = ours.pop("chord_embedding_layer.FME.translation_bias")
    # a row without a single valid beat makes float32 scores coarse; the golden note grants 1e-3 there
    blind = not batch.beats.mask.any(dim=1).all() or not batch.chords.mask.any(dim=1).all()
    allowed = GRADIENT_TOLERANCE * (10 if blind else 1)
    for key, theirs in batch.theirs.items():
        if key.startswith("grad."):
            found = ours[key.removeprefix("grad.")]
            error = float("inf") if found is None else (found - theirs).abs().max() / theirs.abs().max()
            yield Check(f"gradient of {key.removeprefix('grad.')}, relative", float(error), allowed)
    worst, residue, unlike = 0.0, 0.0, 0
    for name, norm in batch.case["grad_l2_norm_for_loss_snr5"].items():
        found = ours[name]
        if norm is None or found is None:
            unlike += (norm is None) != (found is None)
        elif norm > NO_GRADIENT:
            worst = max(worst, abs(found.norm().item() - norm) / norm)
        else:  # a bias before a norm of one channel a group: zero but for rounding
            residue = max(residue, found.norm().item())
    yield Check("gradient norms of all parameters, worst relative", worst, GRADIENT_TOLERANCE)
    yield Check("gradient norms that are zero but for rounding, largest", residue, NO_GRADIENT)
    yield Check("parameters with a gradient on one side only", float(unlike), 0.0)


@torch.no_grad()
def inference(golden: Golden, name: str, default_unet: str, memory: SamplingMemory | None = None) -> Iterator[Check]:
    """One stored denoising run, with the reference's own noise; with a memory, as the backbone samples."""
    theirs = golden.tensors(f"{name}.safetensors")
    case = golden.json("inference_inputs.json")[name.removeprefix("inference_")]
    model = conditions.model(golden, case.get("unet", default_unet))
    guidance, copies = float(case["guidance_scale"]), case.get("num_samples_per_prompt", 1)

    def repeated(clips: list[Any], null: Any) -> list[Any]:
        bound = [clip for clip in clips for _ in range(copies)]
        return ([null] * len(bound) if guidance > 1 else []) + bound

    ids, mask = conditions.word_ids(repeated(case["prompts"], ""))
    beats = conditions.beat_tokens(repeated(case["beats"], [[], []]))
    chords = conditions.chord_tokens(repeated(list(zip(case["chords"], case["chords_time"], strict=True)), ([], [])))
    states, heard = model.encode_text(ids, mask), []

    def predict(latents: Tensor, levels: Tensor) -> Tensor:
        heard.append(model(latents, levels, states, mask.bool(), beats, chords, memory))
        return heard[-1]

    steps = int(case["num_steps"])
    noise = [theirs[f"step_noise.{index}"] for index in range(steps - 1)]
    sampler = diffusion.make_scheduler("ddpm")
    with mock.patch(DRAW, side_effect=noise):
        made = diffusion.denoise(diffusion.with_guidance(predict, guidance), theirs["initial_noise"], steps, sampler)
    name += "" if memory is None else " with a memory"
    if "timesteps" in theirs:
        yield same(f"{name} timesteps", sampler.timesteps, theirs["timesteps"])
    for index, ours in enumerate(heard):
        if f"unet_out.{index}" in theirs:
            yield compare(f"{name} prediction {index}", ours, theirs[f"unet_out.{index}"], RUN_TOLERANCE)
    yield compare(f"{name} final latents", made, theirs["final_latents"], RUN_TOLERANCE)


def default_unet(golden: Golden) -> str:
    """The U-Net that the small diffusion module was built with: as wide as its beats, and called unet if any."""
    width = golden.tensors("ldm_extra.safetensors")["beat_embedding_layer.beat_ffn.bias"].shape[0]
    fitting = [
        name for name in golden.unets if set(UNetConfig.of(golden.json(f"{name}_config.json")).context_width) == {width}
    ]
    return "unet" if "unet" in fitting else fitting[0]


def all_checks(golden: Golden) -> Parts:
    """Whatever the folder has."""
    if golden.has("scheduler.safetensors", "scheduler_config.json"):
        yield "scheduler", scheduler(golden)
    if not golden.unets or not golden.has("ldm_extra.safetensors"):
        return
    default = default_unet(golden)
    if golden.has("training_loss.safetensors", "training_loss.json"):
        yield "training", training(golden, default)
    for path in sorted(golden.folder.glob("inference_*.safetensors")):
        yield path.stem, inference(golden, path.stem, default)
        yield f"{path.stem} with a memory", inference(golden, path.stem, default, SamplingMemory())
