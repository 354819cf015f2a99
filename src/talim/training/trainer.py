"""The training loop of one run: steps, validation, checkpoints, interruption, the stored adapter."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from talim import recipe as recipes
from talim.adapters import injection, serialization
from talim.atomic_io import append_jsonl, friendly_os_errors, read_json, write_json
from talim.corpus.manifest import Corpus
from talim.design import budget, peft_methods
from talim.design.site_selection import select_sites
from talim.errors import DivergedError, TalimError
from talim.html.formatting import format_counted
from talim.interrupts import RESUME_PREFIX, Interrupted, InterruptHandler
from talim.progress import Progress, format_duration
from talim.recipe import Recipe, Training
from talim.run import Run, is_poc
from talim.training import (
    batches,
    checkpoint,
    frozen_cache,
    model_card,
    not_finite,
    reference_predictors,
    start_adapter,
    step,
)
from talim.training.checkpoint import TrainerState
from talim.training.distributed import SINGLE_PROCESS, DistributedContext
from talim.training.resource_usage import ResourceMeter, combine_usage, count_flops

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone, Batch, Loss
    from talim.corpus.manifest import Clip
    from talim.design.expression import Design
    from talim.training.crops import EncodedClip
    from talim.training.start_adapter import StoredAdapter


LOOKS_IN_VAIN = 2  # validations without a loss below that before training, after which a warning is due
TIMED_STEPS = 4  # after which it is told how long the rest takes; the first one is slower than the others
LONG_SECONDS = 30.0  # of training that is left: less is not told in advance


def attach_recipe_design(backbone: Backbone, recipe: Recipe, start: StoredAdapter | None = None) -> Any:
    """Attach the recipe's design, or the adapter it begins from, ready to be trained; returns the PEFT model."""
    if start is not None:
        with torch.random.fork_rng():  # PEFT draws weights before it reads the stored ones
            torch.manual_seed(recipe.seed)
            peft = start_adapter.load_start(start, recipe.design, backbone)
    else:
        peft = injection.attach(
            backbone.model, recipe.design, backbone.sites(), seed=recipe.seed, kind_options=recipe.kind_options
        )
    injection.set_mixed_precision(peft, recipe.training.adapter_compute_dtype == "same_as_base")
    return peft


def budget_notes(design: Design, backbone: Backbone) -> list[str]:
    """A line for a method of PEFT whose parameters are not near its budget, as its sizes may be coarse."""
    lines = []
    for part in design.parts:
        asked = part.size.parameters(backbone.num_parameters) if part.size is not None else None
        if asked is None or not peft_methods.is_method(part.kind):
            continue
        sites = select_sites(part.site, backbone.sites())
        widths = budget.solve_width(part, sites, backbone.num_parameters)
        reached = budget.part_parameters(part, sites, widths)
        if note := budget.rounding_note(part, sites, widths, reached, backbone.num_parameters):
            lines.append(f"{part}: {reached:,} parameters where {asked:,} were asked for ({note})")
    return lines


class Trainer:
    """Trains one run; `fit` returns when the adapter is stored.

    Every rank of a distributed training has a Trainer and takes the same decisions; only the main one writes files.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        corpus: Corpus,
        backbone: Backbone,
        progress: Progress,
        processes: DistributedContext = SINGLE_PROCESS,
        start: StoredAdapter | None = None,
        seconds: float | None = None,
    ) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self.run, self.recipe, self.training, self.start = run, recipe, recipe.training, start
        self.corpus, self.backbone, self.progress, self.processes = corpus, backbone, progress, processes
        self.peft = attach_recipe_design(backbone, recipe, start)
        self._enable_training()
        self.weights = {name: p for name, p in self.peft.named_parameters() if p.requires_grad}
        for line in (
            budget_notes(recipe.design, backbone) if start is None else start_adapter.precision_notes(self.weights)
        ):
            progress.log(line)
        self.optimiser = step.make_optimizer(self.weights, self.training)
        self.state = TrainerState(recipes.run_id(recipe, corpus.hash, None if start is None else start.hash))
        self.best: dict[str, Tensor] = {}
        self.cache: frozen_cache.FrozenLayerCache | None = None
        self.step_seconds: list[float] = []  # of this session's first steps
        self.validation_seconds: float | None = None  # when it was last measured in this session

    def fit(self) -> None:
        """Encode the clips, resume from the last checkpoint, train to the end and store the adapter."""
        subset = batches.training_subset(self.corpus, self.training.train_fraction, self.recipe.seed)
        self.train_items = self._encode(subset)
        for line in batches.unusual_settings(self.train_items, self.training, self.backbone.frame_rate_hz):
            self.progress.log(line)
        if summary := batches.beats_chords_summary(self.train_items):
            self.progress.log(summary)
        eval_clips = batches.stratified_sample(self.corpus.validation, self.training.eval_clips)
        self.validation_items = self._encode(eval_clips) if eval_clips else []
        self.progress.log(batches.choice_sentence(self.corpus, self.training))
        if eval_clips and (note := batches.few_evaluations(self.training)):
            self.progress.log(note)
        options = self.backbone, self.recipe.seed, self.training.crop_seconds
        crops = [batches.fixed_crop(item, *options) for item in self.train_items]
        whole = [item.full_length for item in self.validation_items]
        self.cache, self.cache_facts = frozen_cache.make_frozen_cache(
            self.recipe, self.corpus, self.backbone, self.progress, crops, whole
        )
        self._resume()
        with InterruptHandler() as interrupt:
            if self.state.best_loss is None:
                first = f"; first the loss on {format_counted(len(self.validation_items), 'validation clip')}"
                steps = format_counted(self.training.steps, "step")
                self.progress.log(f"training: {steps}{first if self.validation_items else ''}")
                self._validate()
            while self.state.step < self.training.steps and not self.state.stopped_early:
                self._take_step()
                self._stop_for_time()
                if self.processes.any_true(interrupt.requested):
                    self._checkpoint()
                    done = f"stopped after step {self.state.step} of {self.training.steps}"
                    raise Interrupted.saved(done, self.run.resume_command)
            self._checkpoint()
            self._finish()
        if self.processes.any_true(interrupt.requested):  # too late to stop this run, not what would follow it
            raise Interrupted(f"{self.run.folder} was finished all the same. {RESUME_PREFIX}run the same command again")

    def _encode(self, clips: Sequence[Clip]) -> list[EncodedClip]:
        options = self.backbone, self.progress, self.training.predict_beats_chords, self.training.melody_from
        if self.processes.count > 1:  # each rank encodes its shard, then all read the cache
            if shard := self.processes.shard(clips):
                batches.encode_clips(self.corpus, shard, *options)
            self.processes.barrier()
        return batches.encode_clips(self.corpus, clips, *options)

    def _enable_training(self) -> None:
        self.backbone.enable_training(self.training.gradient_checkpointing, self.training.loss_weighting)

    def _resume(self) -> None:
        """Restore the last checkpoint; log lines that were written after it are removed."""
        if self.run.checkpoint.is_file():
            run_id = self.state.run_id
            self.state, self.best = checkpoint.read(self.run.checkpoint, self.weights, self.optimiser, run_id)
            self.progress.log(f"resuming from step {self.state.step} of {self.training.steps}")
        if self.processes.is_main and self.run.log.is_file():
            with friendly_os_errors(self.run.log):
                os.truncate(self.run.log, min(self.state.log_bytes, self.run.log.stat().st_size))
        self.first_step = self.state.step
        usage = self.state.usage if self.processes.is_main else {}  # the stored usage is that of all ranks
        self.meter = ResourceMeter(self.backbone.device, usage)
        frozen_cache.restore_counters(self.cache, usage)

    def _take_step(self) -> None:
        number, begun = self.state.step + 1, time.monotonic()
        rate = learning_rate(number, self.training)
        loss = self.meter.timed(lambda: self._update(number, rate))
        self.state.step = number
        if len(self.step_seconds) < TIMED_STEPS:
            self.step_seconds.append(time.monotonic() - begun)
            self._tell_time_left()
        self._log("train", loss.mean.item(), loss.parts.tolist(), loss.part_names, rate)
        if number % self.training.eval_every == 0 or number == self.training.steps:
            self._validate()
        if number % self.training.checkpoint_every == 0:
            self._checkpoint()
        speed = (number - self.first_step) / max(self.meter.elapsed_this_session, 1e-9)
        facts = f"loss {loss.mean.item():.3f}, {validation_facts(self.state)}{speed:.2f} steps/s"
        self.progress.step("training", number, self.training.steps, facts)

    def _tell_time_left(self) -> None:
        """After the first few steps: how long the others will take, with the validations among them."""
        left = self.training.steps - self.state.step
        if len(self.step_seconds) < TIMED_STEPS or left < 1:
            return
        looks = math.ceil(self.training.steps / self.training.eval_every) - self.state.step // self.training.eval_every
        looks = 0 if self.validation_seconds is None else looks
        seconds = left * statistics.median(self.step_seconds[1:]) + looks * (self.validation_seconds or 0.0)
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - time.monotonic())
        if seconds >= LONG_SECONDS:
            validated = f", with {format_counted(looks, 'validation')}" if looks else ""
            self.progress.log(f"{format_counted(left, 'more step')}{validated}: about {format_duration(seconds)}")

    def _stop_for_time(self) -> None:
        """End the training with this step if its time is over; what it has learnt until then is validated and kept."""
        state = self.state
        if self.deadline is None or state.step == self.training.steps or state.stopped_early:
            return
        if self.processes.any_true(time.monotonic() > self.deadline):
            if state.step % self.training.eval_every:
                self._validate()
            state.stopped_early = state.stopped_for_time = True
            self.progress.log(f"stopping at step {state.step} of {self.training.steps}: the time for it is over")

    def _update(self, number: int, rate: float) -> Loss:
        """Step `number` at this learning rate. TalimError, with no weight changed, if the loss is not finite."""
        batch = batches.training_batch(
            self.train_items, self.backbone, self.training, self.recipe.seed, number, self.cache, self.processes
        )
        with rng_state_at(self.recipe.seed, number, self.backbone.device, self.processes.rank):
            if "flops_per_step" in self.state.usage:
                loss = step.forward_backward(self.backbone, batch)
            else:
                loss, flops = count_flops(lambda: step.forward_backward(self.backbone, batch))
                self.state.usage["flops_per_step"] = sum(self.processes.all_gather(flops))
        loss = self.processes.reduce_gradients(self.weights, loss)
        if not step.optimizer_step(self.weights, self.optimiser, loss, rate, self.training.max_grad_norm):
            raise self._not_finite(batch, number)
        return loss

    def _not_finite(self, batch: Batch, number: int) -> TalimError:
        """The error for a step whose loss or gradient is not finite, with its cause."""
        with rng_state_at(self.recipe.seed, number, self.backbone.device, self.processes.rank):
            cause = not_finite.find_cause(self.backbone, batch, self.weights)
        advice = f"train into another folder with --set training.learning_rate={self.training.peak_rate / 10:g}"
        if not cause.by_training:
            advice = "a smaller learning rate does not help: check the corpus, the base's files and the precision"
        error = DivergedError if cause.by_training else TalimError
        return error(
            f"{self.run.folder}: the loss or its gradient is not finite at step {number}: {cause.text}; {advice}"
        )

    def _validate(self) -> None:
        """Validation loss, every clip weighted equally; keeps the weights if it is the best one.

        Nothing without validation clips: the last weights are then the ones to store.
        """
        if not self.validation_items:
            return
        begun = time.monotonic()
        terms = self.meter.timed(self._validation_terms)
        self.validation_seconds = time.monotonic() - begun
        loss = terms.mean().item()
        if not math.isfinite(loss):
            raise DivergedError(f"{self.run.folder}: the validation loss is not finite at step {self.state.step}")
        rate = learning_rate(max(1, self.state.step), self.training)
        known = {} if self.state.step else {"references": self._reference_losses()}
        self._log("validation", loss, terms.tolist(), self.backbone.validation_terms, rate, **known)
        state = self.state
        state.last_loss = loss
        if state.best_loss is None or loss < state.best_loss:
            state.best_loss, state.best_step, state.evals_without_improvement = loss, state.step, 0
            self.best = {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}
            return
        state.evals_without_improvement += 1
        if state.best_step == 0 and state.evals_without_improvement == LOOKS_IN_VAIN:
            self._warn_nothing_learnt(loss)
        patience = self.training.early_stopping_patience
        if state.evals_without_improvement >= patience and state.step < self.training.steps:
            state.stopped_early = True
            self.progress.log(
                f"stopping early at step {state.step}: no better validation loss in "
                f"{format_counted(patience, 'evaluation')}; "
                f"the best was at step {state.best_step}"
            )

    def _warn_nothing_learnt(self, loss: float) -> None:
        """Not in a proof of concept: it tries learning rates itself, and Ctrl-C would stop all of it."""
        if any(is_poc(parent) for parent in self.run.folder.resolve().parents):
            return
        stored = "the adapter is stored as it was before training"
        if self.training.save_weights == "last":
            stored = "the last weights are stored all the same (training.save_weights=last)"
        advice = (
            "What may help: stop with Ctrl-C and train into a new folder with a lower learning rate "
            f"(--set {self.training.gentler_rate}), or with more recordings to train on"
        )
        self.progress.log(
            f"warning: at {LOOKS_IN_VAIN} validations in a row the loss was not below the {self.state.best_loss:.3f} "
            f"before training (it is {loss:.3f} now): the model predicts music that it is not trained on no better "
            f"than before. If that stays so, {stored}. {advice}"
        )

    def _validation_terms(self) -> Tensor:
        """Each term (codebook, noise level) of the validation loss, mean over clips, [K], without dropout."""
        self.peft.eval()
        with torch.no_grad():
            shard = self.processes.shard(self.validation_items)
            groups = batches.held_out_batches(shard, self.backbone, self.training.batch_size, self.cache)
            title, losses = f"validation at step {self.state.step}, clips", list[Tensor]()
            for number, (_, batch) in enumerate(groups):  # its end is told by the next step of the training
                self.progress.step(title, number * self.training.batch_size, len(shard))
                losses.append(self.backbone.loss(batch).per_item.cpu())
        self._enable_training()
        return torch.cat([loss for rank in self.processes.all_gather(losses) for loss in rank]).mean(dim=0)

    def _reference_losses(self) -> dict[str, float]:
        """The validation loss that needs no model, by predictor: what the curve is read against."""
        items = self.train_items, self.validation_items
        measured = reference_predictors.measure_reference_losses(*items, self.backbone, self.training.batch_size)
        return {name: float(losses.mean()) for name, losses in measured.losses.items()}

    def _log(self, split: str, loss: float, parts: list[float], names: Sequence[str], rate: float, **more: Any) -> None:
        if not self.processes.is_main:
            return
        row = {"step": self.state.step, "split": split, "loss": loss, "parts": parts, "part_names": [*names], **more}
        seconds = round(self.meter.wall_seconds, 3)
        append_jsonl(self.run.log, row | {"learning_rate": rate, "seconds": seconds})

    def _checkpoint(self) -> None:
        """Written by the main rank; every rank returns only once it is on disk."""
        usage = self.meter.usage() | (self.cache.counts if self.cache else {})
        self.state.usage |= combine_usage(self.processes.all_gather(usage))
        if self.processes.is_main:
            with friendly_os_errors(self.run.log), open(self.run.log, "ab") as log:
                os.fsync(log.fileno())
                self.state.log_bytes = os.fstat(log.fileno()).st_size
            checkpoint.write(self.run.checkpoint, self.state, self.weights, self.optimiser, self.best)
        self.processes.barrier()

    def _finish(self) -> None:
        """Store the adapter with its model card, then cost.json, which marks the run as finished."""
        if self._keeps_best:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(self.best[name])
        cost = self._cost()
        if not self.processes.is_main:
            return
        base = {name: getattr(self.backbone, name) for name in ("name", "fingerprint")}
        base |= {"local": True} if self.backbone.is_local else {}
        base |= {"revision": self.backbone.revision} if self.backbone.revision else {}
        facts, start = model_card.base_facts(self.backbone), None if self.start is None else self.start.facts()
        music = read_json(self.run.facts_file)
        stored: dict[str, Any] = {serialization.TRANSLITERATED: self.backbone.transliterate}
        stored |= {} if start is None else {start_adapter.START: start}
        clips = [item.clip for item in self.train_items]
        stored |= {start_adapter.TRAINED_ON: start_adapter.trained_sources(clips, self.start)}
        stored |= {} if any(clip.caption for clip in clips) else {model_card.CAPTIONED: False}
        card = model_card.render_card(self.recipe, facts, music, cost, scores=None, start=start, adapter=stored)
        licence = model_card.render_licence(facts, music, start)
        begun_unchanged = self.start is None or serialization.changes_nothing(self.start.folder)
        stored |= {serialization.UNTRAINED: True} if begun_unchanged and cost["stored_step"] == 0 else {}
        serialization.save(self.peft, self.run.adapter, base=base, card=card, licence=licence, facts=stored)
        write_json(self.run.cost, cost)
        self.run.checkpoint.unlink(missing_ok=True)
        best = ""
        if self.state.best_loss is not None:
            best = f"; lowest validation loss {self.state.best_loss:.4f} at step {self.state.best_step}"
        self.progress.log(f"{self.run.folder}: adapter stored{best}")

    @property
    def _keeps_best(self) -> bool:
        """Whether the weights of the best step are stored, not those of the last one."""
        return self.training.save_weights == "best" and bool(self.best)

    def _cost(self) -> dict[str, Any]:
        frozen_cache.restore_counters(self.cache, self.state.usage)  # of all ranks, as in the last checkpoint
        return {
            **self.meter.report(self.processes.all_gather(self.meter.usage())),
            "flops": int(self.state.usage["flops_per_step"]) * self.state.step,
            "flops_note": "forward and backward of all training steps, without cached layers; counted on the first one",
            "frozen_cache": frozen_cache.cache_summary(self.cache, self.cache_facts),
            "trainable_parameters": sum(p.numel() for p in self.weights.values()),
            "total_parameters": self.backbone.num_parameters,
            "precision": self.backbone.precision_reason,
            "steps": self.state.step,
            "stopped_early": self.state.stopped_early,
            "stopped_for_time": self.state.stopped_for_time,
            "stored_step": self.state.best_step if self._keeps_best else self.state.step,
            "best_step": self.state.step if self.state.best_loss is None else self.state.best_step,
            "recordings": len({item.clip.sound_group for item in self.train_items}),
            "best_validation_loss": self.state.best_loss,  # None without validation clips
            "loss_unit": self.backbone.loss_unit,
        }


def validation_facts(state: TrainerState) -> str:
    """Latest and lowest validation loss, for a line of progress; nothing where it is not measured."""
    if state.best_loss is None or state.last_loss is None:
        return ""
    return f"validation {state.last_loss:.3f} (lowest {state.best_loss:.3f} at step {state.best_step}), "


def learning_rate(step: int, training: Training) -> float:
    """The learning rate of step `step` (from 1): linear warm-up, then cosine decay towards 0."""
    warmup = min(training.warmup_steps, training.steps - 1)
    if step <= warmup:
        return training.peak_rate * step / warmup
    progress = (step - warmup - 1) / (training.steps - warmup)
    return training.peak_rate * 0.5 * (1 + math.cos(math.pi * progress))


@contextlib.contextmanager
def rng_state_at(seed: int, step: int, device: torch.device, rank: int = 0) -> Iterator[None]:
    """Seed torch (noise, adapter dropout) from seed, step and rank; the global random state is restored."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(batches.make_rng(seed, batches.TORCH_SEED, step, rank).integers(2**63)))
        yield
