"""Trains a BDINN on pairs made on the fly; see `python scripts/train.py --help`.

Results in the folder --out: `NAME.safetensors` (averaged weights with configuration and record), one
such file for each validation in `steps`, `checkpoint.pt` (to --resume from), `log.jsonl` (one JSON
object a report) and TensorBoard's curves, if it is installed. On a CPU the same seed, options, versions
and number of threads give the same weights; a resumed run sees the same data.
"""

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import cast

import av
import click
import numpy as np
import torch
from lab.journal import Journal
from lab.loss import restoration_loss
from lab.optimizer import make_optimizers
from lab.pairs import KINDS
from lab.pictures import load_pictures, pictures_option
from lab.pool import PairPool
from lab.recipe import Recipe
from lab.scenes import SCENES
from lab.validation import Score, make_validation_set, score
from torch import nn
from torch.optim.swa_utils import AveragedModel

from bdinn_core.checkpoint import save_model
from bdinn_core.network import BDINN, CONFIGS


class Run:
    """One training run and its files.

    Args:
        recipe: What to do.
        out: Folder for results.
        pictures: Folder of pictures with their INDEX.tsv, or None.
        make: Makes the model to train; None is that of `recipe.config`.
    """

    def __init__(
        self, recipe: Recipe, out: Path, pictures: Path | None, make: Callable[[], nn.Module] | None = None
    ) -> None:
        self.created = time.perf_counter()
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        out.mkdir(parents=True, exist_ok=True)
        self.recipe, self.out, self.folder = recipe, out, pictures
        self.device = torch.device(recipe.device)
        self.model = (make() if make else BDINN(CONFIGS[recipe.config])).to(self.device)
        self.average = AveragedModel(self.model, multi_avg_fn=recipe.update_averages)
        self.optimizers = make_optimizers(self.model, recipe.learning_rate, recipe.weight_decay)
        self.scaler = torch.amp.GradScaler(recipe.device, enabled=recipe.device == "cuda")
        loaded = load_pictures(pictures)
        self.picture_names = [picture.name for picture in loaded]
        self.validation = make_validation_set(loaded)
        self.journal = Journal(out)
        self.step = 0
        self.seconds = 0.0
        self.losses: list[torch.Tensor] = []
        """Of the steps since the last report."""

    def resume(self) -> None:
        """Goes on from the folder's checkpoint.

        Raises:
            click.ClickException: if there is none or it belongs to another recipe.
        """
        path = self.out / "checkpoint.pt"
        if not path.exists():
            raise click.ClickException(f"nothing to resume: {path} doesn't exist")
        state = torch.load(path, weights_only=True, map_location=self.device)
        if {**state["recipe"], "steps": 0} != {**asdict(self.recipe), "steps": 0}:
            raise click.ClickException(f"{path} was made with other options: {state['recipe']}")
        if state["pictures"] != self.picture_names:
            raise click.ClickException(
                f"{path} was made with {len(state['pictures'])} pictures, and these are"
                f" {len(self.picture_names)}, or others: give it the same --pictures"
            )
        lengths = self.recipe.steps, state["recipe"]["steps"]
        if lengths[0] != lengths[1] and state["step"] > (1 - self.recipe.decay) * min(lengths):
            raise click.ClickException(
                f"step {state['step']} is too late for --steps: the rate falls already"
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        self.journal.forget_after(self.step)

    def save_checkpoint(self) -> None:
        """Writes checkpoint.pt; a crash while writing leaves the old one."""
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "pictures": self.picture_names,
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
        }
        partial = self.out / "checkpoint.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / "checkpoint.pt")

    def scores(self) -> dict[str, Score]:
        """Scores of the averaged weights on the validation set."""
        return score(self.average.module.eval(), self.validation, self.device)

    def validate(self) -> None:
        """Scores the averaged weights, logs the scores and saves the weights with their record."""
        scores = self.scores()
        for name, s in scores.items():
            click.echo(
                f"  {name:12} smooth {s.smooth_input:6.2f} -> {s.smooth:6.2f} dB"
                f"   detail {s.detail_input:6.2f} -> {s.detail:6.2f} dB"
            )
        values = {name: asdict(s) for name, s in scores.items()}
        self.journal.add(self.step, {"seconds": round(self.seconds), "validation": values})
        folder = self.out / "steps"
        folder.mkdir(exist_ok=True)
        for path in (folder / f"{self.step:06}.safetensors", self.out / f"{self.recipe.config}.safetensors"):
            save_model(cast(BDINN, self.average.module), path, self.record(values))

    def record(self, validation: dict) -> dict:
        """What a user needs to know to judge or repeat these weights."""
        return {
            "recipe": asdict(self.recipe),
            "steps_done": self.step,
            "training_seconds": round(self.seconds),
            "data": {
                "procedural": {draw.__name__: share for draw, share in SCENES.items()},
                "degradations": KINDS,
                "pictures": self.picture_names,
            },
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "av": av.__version__,
            },
            "validation_psnr_db": validation,
        }

    def train(
        self,
        report_every: int,
        validate_every: int,
        *,
        workers: int = 1,
        save_every_seconds: float = 60,
        stop_after_seconds: float = math.inf,
    ) -> None:
        """Runs the remaining steps, or what fits into `stop_after_seconds` since this `Run` was made.

        Then validates once more and saves a checkpoint.
        """
        recipe = self.recipe
        if self.step == recipe.steps:
            click.echo(f"nothing left to do: {self.step} of {recipe.steps} steps are done")
            return
        saved = begun = time.perf_counter()
        started = begun - self.seconds
        with self.pool(workers) as pool:
            made = pool.fill(self.step)
            waited = time.perf_counter() - begun
            click.echo(f"{made} pairs to begin with took {waited:.0f} s: {made / waited:.1f} a second")
            while self.step < recipe.steps:
                self.losses.append(self.train_step(pool))
                now = time.perf_counter()
                self.seconds = now - started
                ended = self.step == recipe.steps
                stopped = ended or now - self.created > stop_after_seconds
                if self.step % report_every == 0:
                    self._report()
                if stopped or self.step % validate_every == 0:
                    self.validate()
                if stopped or now - saved > save_every_seconds:
                    self.save_checkpoint()  # last: killed before it, a resumed run does the rest again
                    saved = now
                if stopped and not ended:
                    click.echo(f"stopped after step {self.step} of {recipe.steps}: go on with --resume")
                    return

    def pool(self, workers: int = 1) -> PairPool:
        """The pairs from here on, made by so many processes; to be used in a `with` statement."""
        recipe = self.recipe
        return PairPool(
            recipe.seed,
            self.folder,
            start_step=self.step,
            initial=recipe.initial_pairs,
            pairs_per_step=recipe.pairs_per_step,
            capacity=recipe.pool,
            workers=workers,
        )

    def train_step(self, pool: PairPool) -> torch.Tensor:
        """One step; its loss, on the device."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.step)
        batch = pool.batch(self.step, self.recipe.batch, self.recipe.crop)
        degraded, truth, smooth_is_true = (
            torch.from_numpy(array).to(self.device)
            for array in (batch.degraded, batch.truth, batch.smooth_is_true)
        )
        self.model.train()
        with torch.autocast(self.device.type, torch.float16, enabled=self.scaler.is_enabled()):
            restored = self.model(degraded)
        loss = restoration_loss(restored.float(), degraded, truth, smooth_is_true, self.recipe.loss)
        self.model.zero_grad()
        self.scaler.scale(loss).backward()
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(),
            self.recipe.gradient_clip,
            error_if_nonfinite=not self.scaler.is_enabled(),
        )
        if not norm.isfinite():
            # Half precision overflowed, and the scaler will scale less. It knows of each optimizer's own
            # gradients alone, and clipping has spread the fault to the other's: neither may step.
            self.model.zero_grad()
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.average.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def _report(self) -> None:
        mean, rate = torch.stack(self.losses).mean().item(), self.recipe.rate(self.step - 1)
        self.losses.clear()
        left = self.seconds / self.step * (self.recipe.steps - self.step) / 60
        click.echo(
            f"step {self.step} of {self.recipe.steps}: loss {mean:.4f}, rate {rate:.2e}, {left:.0f} min left"
        )
        self.journal.add(self.step, {"seconds": round(self.seconds), "loss": mean, "rate": rate})


@click.command()
@click.option("--config", type=click.Choice(sorted(CONFIGS)), default="fast", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=16000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=1), default=2, show_default=True, help="PyTorch's threads."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--batch", type=click.IntRange(min=1), default=Recipe.batch, show_default=True, help="Crops a step."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=Recipe.learning_rate,
    show_default=True,
    help="Peak learning rate.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that make pairs."
)
@pictures_option()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for results."
)
@click.option("--report-every", type=click.IntRange(min=1), default=50, show_default=True, help="Steps.")
@click.option("--validate-every", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps.")
@click.option(
    "--minutes", type=click.FloatRange(min=0), default=math.inf, help="Stop after so long, to be resumed."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
def main(
    config: str,
    steps: int,
    seed: int,
    threads: int,
    device: str,
    batch: int,
    rate: float,
    workers: int,
    pictures: Path | None,
    out: Path,
    report_every: int,
    validate_every: int,
    minutes: float,
    resume: bool,
) -> None:
    """Trains a configuration of BDINN on pairs made on the fly."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("no CUDA device: leave --device out, or see whether PyTorch finds the GPU")
    recipe = Recipe(
        config=config,
        steps=steps,
        seed=seed,
        threads=threads,
        device=device,
        batch=batch,
        learning_rate=rate,
        pairs_per_step=batch / 8,
    )
    run = Run(recipe, out, pictures)
    if resume:
        run.resume()
    elif (out / "checkpoint.pt").exists():
        raise click.ClickException(f"{out} holds a run already: add --resume, or choose another folder")
    else:
        run.journal.forget_after(0)  # a run that ended before its first checkpoint
    click.echo(
        f"{sum(p.numel() for p in run.model.parameters())} parameters, {len(run.picture_names)} pictures"
    )
    run.train(report_every, validate_every, workers=workers, stop_after_seconds=60 * minutes)


if __name__ == "__main__":
    main()
