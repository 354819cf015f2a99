"""The training loop of one run: steps, looks at held-out clips, checkpoints, a clean stop, the adapter."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from talim import recipe as recipes
from talim.adapters import injection, serialization
from talim.atomic_io import append_jsonl, friendly_os_errors, write_json
from talim.corpus.manifest import Corpus
from talim.designs import expression
from talim.errors import TalimError
from talim.interrupts import Interrupted, InterruptHandler
from talim.progress import Progress
from talim.recipe import Recipe, Training
from talim.run import Run
from talim.training import batches, checkpoint, frozen_cache, model_card, step
from talim.training.checkpoint import TrainerState
from talim.training.distributed import SINGLE_PROCESS, DistributedContext
from talim.training.resource_usage import ResourceMeter, combine_usage, count_flops

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone, Loss
    from talim.corpus.manifest import Clip
    from talim.training.batches import EncodedClip


def attach_recipe_design(backbone: Backbone, recipe: Recipe) -> Any:
    """The recipe's design in the backbone's model, ready to be trained; the PEFT model."""
    design, sites = expression.Design.parse(recipe.design), backbone.sites()
    peft = injection.attach(backbone.model, design, sites, seed=recipe.seed, kind_options=recipe.kind_options)
    injection.set_mixed_precision(peft, recipe.training.adapter_compute_dtype == "base")
    return peft


class Trainer:
    """One run between its folder and its model. `go` returns when the adapter is stored.

    Of many processes each has a loop; what they decide they decide alike, and only the first one writes.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        corpus: Corpus,
        backbone: Backbone,
        progress: Progress,
        processes: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        self.run, self.recipe, self.corpus, self.backbone, self.progress = (
            run,
            recipe,
            corpus,
            backbone,
            progress,
        )
        self.training, self.processes = recipe.training, processes
        self.peft = attach_recipe_design(backbone, recipe)
        self._start_or_resume()
        self.weights = {n: p for n, p in self.peft.named_parameters() if p.requires_grad}
        self.optimiser = step.make_optimizer(self.weights, self.training)
        self.state = TrainerState(recipes.run_id(recipe, corpus.hash))
        self.best: dict[str, Tensor] = {}

    def fit(self) -> None:
        """Encode what is missing, go on from the last checkpoint, train to the end, store the adapter."""
        learned = batches.training_subset(self.corpus, self.training.train_fraction, self.recipe.seed)
        self.train_items = self._items(learned)
        if music := batches.beats_chords_summary(self.train_items):
            self.progress.log(music)
        some = batches.stratified_sample(self.corpus.held_out, self.training.eval_clips)
        self.held_out_items = self._items(some)
        self.prefix, self.prefix_facts = self._make_frozen_cache()
        self._resume()
        with InterruptHandler() as stop:
            if self.state.best_loss is None:
                self._validate()
            while self.state.step < self.training.steps and not self.state.stopped_early:
                self._take_step()
                if self.processes.any(stop.asked):
                    self._checkpoint()
                    done = f"stopped after step {self.state.step} of {self.training.steps}"
                    raise Interrupted.saved(done, f"talim train --out {self.run.folder}")
            self._checkpoint()
            self._finish()

    def _items(self, clips: Sequence[Clip]) -> list[EncodedClip]:
        how = self.backbone, self.progress, self.training.predict_beats_chords
        if self.processes.count > 1:  # each encodes its share of what is missing
            if share := self.processes.share(clips):
                batches.encode_clips(self.corpus, share, *how)
            self.processes.wait()
        return batches.encode_clips(self.corpus, clips, *how)

    def _make_frozen_cache(self) -> tuple[frozen_cache.FrozenLayerCache | None, dict[str, Any]]:
        """Of the clips' only cuts, and of what is looked at."""
        how = self.backbone, self.recipe.seed, self.training.crop_seconds
        cuts = [batches.fixed_crop(item, *how) for item in self.train_items]
        looks = [item.whole for item in self.held_out_items]
        return frozen_cache.make_frozen_cache(
            self.recipe, self.corpus, self.backbone, self.progress, cuts, looks
        )

    def _start_or_resume(self) -> None:
        self.backbone.enable_training(self.training.gradient_checkpointing, self.training.loss_weighting)

    def _resume(self) -> None:
        """Back to the last checkpoint; log lines written after it will be written again, so they go."""
        if self.run.checkpoint.is_file():
            self.state, self.best = checkpoint.read(
                self.run.checkpoint, self.weights, self.optimiser, self.state.run_id
            )
            self.progress.log(f"going on from step {self.state.step} of {self.training.steps}")
        if self.processes.first and self.run.log.is_file():
            with friendly_os_errors(self.run.log):
                os.truncate(self.run.log, min(self.state.log_bytes, self.run.log.stat().st_size))
        self.began = self.state.step
        spent = self.state.spent if self.processes.first else {}  # the first one counts for all
        self.meter = ResourceMeter(self.backbone.device, spent)
        frozen_cache.restore_counters(self.prefix, spent)

    def _take_step(self) -> None:
        number = self.state.step + 1
        rate = learning_rate(number, self.training)
        loss = self.meter.timed(lambda: self._update(number, rate))
        self.state.step = number
        self._log("train", loss.mean.item(), loss.parts.tolist(), loss.part_names, rate)
        if number % self.training.eval_every == 0 or number == self.training.steps:
            self._validate()
        if number % self.training.checkpoint_every == 0:
            self._checkpoint()
        speed = (number - self.began) / max(self.meter.elapsed_this_session, 1e-9)
        facts = (
            f"loss {loss.mean.item():.3f}, held-out {self.state.best_loss:.3f} at best, {speed:.2f} steps/s"
        )
        self.progress.step("training", number, self.training.steps, facts)

    def _update(self, number: int, rate: float) -> Loss:
        """Step `number` at the given rate. TalimError, no weight touched yet, if the loss is NaN."""
        batch = batches.training_batch(
            self.train_items,
            self.backbone,
            batch_size=self.training.batch_size,
            seed=self.recipe.seed,
            step=number,
            condition_dropout=self.training.condition_dropout,
            clip_seconds=self.training.crop_seconds,
            crops=self.training.crop,
            prefix=self.prefix,
            processes=self.processes,
        )
        with rng_state_at(self.recipe.seed, number, self.backbone.device, self.processes.index):
            if "flops_per_step" in self.state.spent:
                loss = step.forward_backward(self.backbone, batch)
            else:
                loss, flops = count_flops(lambda: step.forward_backward(self.backbone, batch))
                self.state.spent["flops_per_step"] = sum(self.processes.all_gather(flops))
        loss = self.processes.whole(self.weights, loss)
        if not step.optimizer_step(self.weights, self.optimiser, loss, rate, self.training.max_grad_norm):
            raise TalimError(
                f"{self.run.folder}: the loss or its gradient is no longer a number at step {number}; begin "
                f"anew elsewhere with --set training.learning_rate={self.training.learning_rate / 10:g}"
            )
        return loss

    def _validate(self) -> None:
        """Held-out loss, each clip counting once; remember the weights if it is the best so far."""
        parts = self.meter.timed(self._validation_terms)
        loss = parts.mean().item()
        if not math.isfinite(loss):
            raise TalimError(
                f"{self.run.folder}: the held-out loss is not a number at step {self.state.step}"
            )
        rate = learning_rate(max(1, self.state.step), self.training)
        self._log("held_out", loss, parts.tolist(), self.backbone.validation_terms, rate)
        if self.state.best_loss is None or loss < self.state.best_loss:
            self.state.best_loss, self.state.best_step, self.state.looks_without_best = (
                loss,
                self.state.step,
                0,
            )
            self.best = {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}
            return
        self.state.looks_without_best += 1
        if self.state.looks_without_best >= self.training.early_stopping_patience and self.state.step < self.training.steps:
            self.state.stopped_early = True
            self.progress.log(
                f"stopping early at step {self.state.step}: no better held-out loss in "
                f"{self.training.early_stopping_patience} looks; the best was at step {self.state.best_step}"
            )

    def _validation_terms(self) -> Tensor:
        """Mean over the held-out clips of each part (codebook, noise level) of the loss, [K], with dropout off."""
        self.peft.eval()
        with torch.no_grad():
            how = self.backbone, self.training.batch_size, self.prefix
            groups = batches.held_out_batches(self.processes.share(self.held_out_items), *how)
            losses = [self.backbone.loss(batch).per_item.cpu() for _, batch in groups]
        self._start_or_resume()
        return torch.cat([loss for share in self.processes.all_gather(losses) for loss in share]).mean(dim=0)

    def _log(self, split: str, loss: float, parts: list[float], names: Sequence[str], rate: float) -> None:
        if not self.processes.first:
            return
        row = {"step": self.state.step, "split": split, "loss": loss, "parts": parts, "part_names": [*names]}
        append_jsonl(
            self.run.log, row | {"learning_rate": rate, "seconds": round(self.meter.wall_seconds, 3)}
        )

    def _checkpoint(self) -> None:
        """All have it when this returns, written by the first."""
        counted = self.meter.spent() | (self.prefix.counts if self.prefix else {})
        self.state.spent |= combine_usage(self.processes.all_gather(counted))
        if self.processes.first:
            with friendly_os_errors(self.run.log), open(self.run.log, "ab") as log:
                os.fsync(log.fileno())
                self.state.log_bytes = os.fstat(log.fileno()).st_size
            checkpoint.write(self.run.checkpoint, self.state, self.weights, self.optimiser, self.best)
        self.processes.wait()

    def _finish(self) -> None:
        """Store the weights as an adapter with its card, then the cost, which marks the run finished."""
        if self.training.save_weights == "best":
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(self.best[name])
        cost = self._cost()
        if not self.processes.first:
            return
        base = {"name": self.backbone.name, "fingerprint": self.backbone.fingerprint}
        text = model_card.render_card(
            self.recipe, model_card.base_facts(self.backbone), self.corpus.summary, cost, scores=None
        )
        serialization.save(self.peft, self.run.adapter, base=base, card=text)
        write_json(self.run.cost, cost)
        self.run.checkpoint.unlink(missing_ok=True)
        self.progress.log(f"{self.run.folder}: adapter stored, best held-out loss {self.state.best_loss:.4f}")

    def _cost(self) -> dict[str, Any]:
        per_step = int(self.state.spent["flops_per_step"])
        frozen_cache.restore_counters(
            self.prefix, self.state.spent
        )  # of all processes, as the last checkpoint has it
        return {
            **self.meter.report(self.processes.all_gather(self.meter.spent())),
            "flops": per_step * self.state.step,
            "flops_note": "forward and backward of the training steps above a kept prefix, counted on the first one",
            "prefix": frozen_cache.cache_summary(self.prefix, self.prefix_facts),
            "trainable_parameters": sum(p.numel() for p in self.weights.values()),
            "total_parameters": self.backbone.num_parameters,
            "precision": self.backbone.precision_reason,
            "steps": self.state.step,
            "stopped_early": self.state.stopped_early,
            "best_step": self.state.best_step,
            "recordings": len({item.clip.recording for item in self.train_items}),
            "best_held_out_loss": self.state.best_loss,
            "loss_unit": self.backbone.loss_unit,
        }


def learning_rate(step: int, training: Training) -> float:
    """The rate of step `step` (from 1): a linear rise over the warm-up, then half a cosine down towards 0."""
    warmup = min(training.warmup_steps, training.steps - 1)
    if step <= warmup:
        return training.learning_rate * step / warmup
    done = (step - warmup - 1) / (training.steps - warmup)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@contextlib.contextmanager
def rng_state_at(seed: int, step: int, device: torch.device, process: int = 0) -> Iterator[None]:
    """Torch's own draws (noise, adapter dropout) follow from seed, step and process; the global state is put back."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(batches.make_rng(seed, batches.WEIGHTS, step, process).integers(2**63)))
        yield
