"""Trains a BDINN on pairs made on the fly; see `python scripts/train.py --help`.

Results in the folder --out: `NAME.safetensors` (averaged weights with configuration and record), one
such file for each validation in `steps`, `checkpoint.pt` (to --resume from), `log.jsonl` (one JSON
object a report) and TensorBoard's curves, if it is installed. On a CPU the same seed, options, versions
and number of threads give the same weights; a resumed run sees the same data.
"""

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import av
import click
import numpy as np
import torch
from lab.loss import LossWeights, restoration_loss
from lab.optimizer import make_optimizers
from lab.pairs import KINDS
from lab.pictures import load_pictures, pictures_option
from lab.pool import PairPool
from lab.scenes import SCENES
from lab.validation import Score, make_validation_set, score
from torch import nn
from torch.optim.swa_utils import AveragedModel

from bdinn_core.checkpoint import save_model
from bdinn_core.network import BDINN, CONFIGS


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that shapes the weights; kept in their record."""

    config: str
    """Name of the network's configuration."""
    steps: int
    """Optimizer steps."""
    seed: int
    """Of data and initial weights."""
    threads: int
    """PyTorch's threads: sums are ordered by them."""
    device: str = "cpu"
    """`cpu` or `cuda`; there, convolutions compute in half precision."""
    batch: int = 4
    """Crops a step."""
    crop: int = 256
    """Side of a training crop in pixels."""
    learning_rate: float = 1.5e-3
    """Rises linearly over `warmup` steps, stays, and falls linearly to 0 over the last `decay` of them: a
    run can be made longer until it falls."""
    warmup: int = 200
    decay: float = 0.6
    """Share of the steps."""
    weight_decay: float = 0.1
    """Share of the hidden convolutions' weights that a step of rate 1 would take away."""
    gradient_clip: float = 1.0
    average: float = 0.999
    """Decay per step of the averaged weights, approached from below in the first steps."""
    initial_pairs: int = 256
    pairs_per_step: float = 0.5
    """New pairs made, on average."""
    pool: int = 1024
    """Pairs kept."""
    loss: LossWeights = field(default_factory=LossWeights)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = (step + 1) / self.warmup
        fall = (self.steps - step) / max(self.decay * self.steps, 1)
        return self.learning_rate * min(rise, 1.0, fall)

    def averaged(self, average: torch.Tensor, new: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        """The running average after one more value, the `count`-th."""
        decay = min(self.average, (1 + int(count)) / (10 + int(count)))
        return average + (new - average) * (1 - decay)


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
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        out.mkdir(parents=True, exist_ok=True)
        self.recipe, self.out, self.folder = recipe, out, pictures
        self.device = torch.device(recipe.device)
        self.model = (make() if make else BDINN(CONFIGS[recipe.config])).to(self.device)
        self.average = AveragedModel(self.model, avg_fn=recipe.averaged)
        self.optimizers = make_optimizers(self.model, recipe.learning_rate, recipe.weight_decay)
        self.scaler = torch.amp.GradScaler(recipe.device, enabled=recipe.device == "cuda")
        loaded = load_pictures(pictures)
        self.picture_names = [picture.name for picture in loaded]
        self.validation = make_validation_set(loaded)
        self.step = 0
        self.seconds = 0.0

    @cached_property
    def curves(self) -> Any:
        """Where `log` draws TensorBoard's curves; opened when there is something to draw."""
        return _open_curves(self.out)

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
        self.step, self.seconds = state["step"], state["seconds"]

    def save_checkpoint(self) -> None:
        """Writes checkpoint.pt; a crash while writing leaves the old one."""
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
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
        self.log({"step": self.step, "seconds": round(self.seconds), "validation": values})
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

    def log(self, entry: dict[str, Any]) -> None:
        """Appends one JSON object to log.jsonl, and its numbers to TensorBoard's curves."""
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self.curves is not None:
            for name, value in _numbers(entry):
                self.curves.add_scalar(name, value, self.step)

    def train(
        self,
        report_every: int,
        validate_every: int,
        *,
        workers: int = 1,
        save_every_seconds: float = 60,
        stop_after_seconds: float = math.inf,
    ) -> None:
        """Runs the remaining steps, or as many as fit into `stop_after_seconds`; then saves a checkpoint."""
        recipe = self.recipe
        losses: list[torch.Tensor] = []
        saved = begun = time.perf_counter()
        started = begun - self.seconds
        with self.pool(workers) as pool:
            while self.step < recipe.steps:
                losses.append(self.train_step(pool))
                now = time.perf_counter()
                self.seconds = now - started
                if self.step % report_every == 0:
                    self._report(losses)
                    losses.clear()
                ended = self.step == recipe.steps
                if ended or now - saved > save_every_seconds or now - begun > stop_after_seconds:
                    self.save_checkpoint()
                    saved = now
                if ended or self.step % validate_every == 0:
                    self.validate()
                if now - begun > stop_after_seconds:
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
            torch.from_numpy(array).to(self.device, non_blocking=True)
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
        torch.nn.utils.clip_grad_norm_(
            self.model.parameters(),
            self.recipe.gradient_clip,
            error_if_nonfinite=not self.scaler.is_enabled(),  # where it is, it skips such steps itself
        )
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.average.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def _report(self, losses: list[torch.Tensor]) -> None:
        mean, rate = torch.stack(losses).mean().item(), self.recipe.rate(self.step - 1)
        left = self.seconds / self.step * (self.recipe.steps - self.step) / 60
        click.echo(
            f"step {self.step} of {self.recipe.steps}: loss {mean:.4f}, rate {rate:.2e}, {left:.0f} min left"
        )
        self.log({"step": self.step, "seconds": round(self.seconds), "loss": mean, "rate": rate})


def _numbers(entry: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested dictionaries, by names with slashes."""
    for name, value in entry.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _open_curves(folder: Path) -> Any:
    """A TensorBoard writer, or None where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        click.echo("no curves: tensorboard isn't installed (pip install '.[train]')")
        return None
    return SummaryWriter(str(folder))


@click.command()
@click.option("--config", type=click.Choice(sorted(CONFIGS)), default="fast", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=16000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=1), default=2, show_default=True, help="PyTorch's threads."
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=4, show_default=True, help="Crops a step.")
@click.option("--rate", type=float, default=1.5e-3, show_default=True, help="Peak learning rate.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that make pairs."
)
@pictures_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for results."
)
@click.option("--report-every", type=click.IntRange(min=1), default=50, show_default=True, help="Steps.")
@click.option("--validate-every", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps.")
@click.option("--minutes", type=float, default=math.inf, help="Stop after so long, to be resumed.")
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
    pictures: Path,
    out: Path,
    report_every: int,
    validate_every: int,
    minutes: float,
    resume: bool,
) -> None:
    """Trains a configuration of BDINN on pairs made on the fly."""
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
    run = Run(recipe, out, pictures if pictures.is_dir() else None)
    if resume:
        run.resume()
    elif (out / "checkpoint.pt").exists():
        raise click.ClickException(f"{out} holds a run already: add --resume, or choose another folder")
    click.echo(
        f"{sum(p.numel() for p in run.model.parameters())} parameters, {len(run.picture_names)} pictures"
    )
    run.train(report_every, validate_every, workers=workers, stop_after_seconds=60 * minutes)


if __name__ == "__main__":
    main()
