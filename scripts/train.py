"""Trains a BDINN on pairs made on the fly; see `python scripts/train.py --help`.

Results in the folder --out: `NAME.safetensors` (averaged weights with configuration and record),
`checkpoint.pt` (to --resume from), `log.jsonl` (one JSON object a report). The same seed, options,
versions and number of threads give the same weights; a resumed run sees the same data.
"""

import json
import math
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import av
import click
import numpy as np
import torch
from lab.loss import LossWeights, restoration_loss
from lab.pairs import PairPool, load_pictures
from lab.pictures import pictures_option
from lab.validation import Score, make_validation_set, score
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
    batch: int = 4
    crop: int = 256
    """Side of a training crop in pixels."""
    learning_rate: float = 2e-3
    """Peak; rises linearly over `warmup` steps, then falls as a half cosine to `final_rate`."""
    final_rate: float = 1e-5
    warmup: int = 200
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    average: float = 0.998
    """Decay per step of the averaged weights, approached from below in the first steps."""
    initial_pairs: int = 256
    new_pair_every: int = 1
    """Steps."""
    pool: int = 1024
    """Pairs kept."""
    loss: LossWeights = field(default_factory=LossWeights)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.final_rate + (self.learning_rate - self.final_rate) * (1 + math.cos(math.pi * done)) / 2

    def averaged(self, average: torch.Tensor, new: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        """The running average after one more value, the `count`-th."""
        decay = min(self.average, (1 + int(count)) / (10 + int(count)))
        return average + (new - average) * (1 - decay)


class Run:
    """One training run and its files."""

    def __init__(self, recipe: Recipe, out: Path, pictures: Path | None) -> None:
        torch.manual_seed(recipe.seed)
        torch.set_num_threads(recipe.threads)
        out.mkdir(parents=True, exist_ok=True)
        self.recipe, self.out, self.folder = recipe, out, pictures
        self.model = BDINN(CONFIGS[recipe.config])
        self.average = AveragedModel(self.model, avg_fn=recipe.averaged)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        loaded = load_pictures(pictures)
        self.picture_names = [picture.name for picture in loaded]
        self.validation = make_validation_set(loaded)
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Goes on from the folder's checkpoint.

        Raises:
            click.ClickException: if there is none or it belongs to another recipe.
        """
        path = self.out / "checkpoint.pt"
        if not path.exists():
            raise click.ClickException(f"nothing to resume: {path} doesn't exist")
        state = torch.load(path, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise click.ClickException(f"{path} was made with other options: {state['recipe']}")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save_checkpoint(self) -> None:
        """Writes checkpoint.pt; a crash while writing leaves the old one."""
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.out / "checkpoint.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / "checkpoint.pt")

    def validate(self) -> dict[str, Score]:
        """Scores the averaged weights, logs the scores and saves the weights with their record."""
        network = cast(BDINN, self.average.module).eval()
        scores = score(network, self.validation)
        for name, s in scores.items():
            click.echo(
                f"  {name:12} smooth {s.smooth_input:6.2f} -> {s.smooth:6.2f} dB"
                f"   detail {s.detail_input:6.2f} -> {s.detail:6.2f} dB"
            )
        values = {name: asdict(s) for name, s in scores.items()}
        self.log({"step": self.step, "seconds": round(self.seconds), "validation": values})
        save_model(network, self.out / f"{self.recipe.config}.safetensors", self.record(values))
        return scores

    def record(self, validation: dict) -> dict:
        """What a user needs to know to judge or repeat these weights."""
        return {
            "recipe": asdict(self.recipe),
            "steps_done": self.step,
            "training_seconds": round(self.seconds),
            "data": {
                "procedural": "gradients, cel-shaded drawings, textures, film grain (scripts/lab/scenes.py)",
                "degradations": "8-bit rounding 40 %; x264, x265, VP9, SVT-AV1 15 % each",
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

    def log(self, entry: dict) -> None:
        """Appends one JSON object to log.jsonl."""
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def train(self, report_every: int, validate_every: int) -> None:
        """Runs the remaining steps."""
        recipe = self.recipe
        losses: list[float] = []
        started = time.perf_counter() - self.seconds
        with PairPool(
            recipe.seed,
            self.folder,
            start_step=self.step,
            initial=recipe.initial_pairs,
            every=recipe.new_pair_every,
            capacity=recipe.pool,
        ) as pool:
            while self.step < recipe.steps:
                losses.append(self._train_step(pool))
                self.step += 1
                self.seconds = time.perf_counter() - started
                if self.step % report_every == 0:
                    self._report(losses)
                    losses.clear()
                if self.step % validate_every == 0 or self.step == recipe.steps:
                    self.save_checkpoint()
                    self.validate()

    def _train_step(self, pool: PairPool) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        batch = pool.batch(self.step, self.recipe.batch, self.recipe.crop)
        degraded, truth, smooth_is_true = (
            torch.from_numpy(array) for array in (batch.degraded, batch.truth, batch.smooth_is_true)
        )
        self.model.train()
        loss = restoration_loss(self.model(degraded), degraded, truth, smooth_is_true, self.recipe.loss)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.recipe.gradient_clip, error_if_nonfinite=True
        )
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return loss.item()

    def _report(self, losses: list[float]) -> None:
        mean, rate = float(np.mean(losses)), self.recipe.rate(self.step - 1)
        left = self.seconds / self.step * (self.recipe.steps - self.step) / 60
        click.echo(
            f"step {self.step} of {self.recipe.steps}: loss {mean:.4f}, rate {rate:.2e}, {left:.0f} min left"
        )
        self.log({"step": self.step, "seconds": round(self.seconds), "loss": mean, "rate": rate})


@click.command()
@click.option("--config", type=click.Choice(sorted(CONFIGS)), default="fast", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=8000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=1), default=2, show_default=True, help="PyTorch's threads."
)
@pictures_option
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for results."
)
@click.option("--report-every", type=click.IntRange(min=1), default=50, show_default=True, help="Steps.")
@click.option("--validate-every", type=click.IntRange(min=1), default=500, show_default=True, help="Steps.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
def main(
    config: str,
    steps: int,
    seed: int,
    threads: int,
    pictures: Path,
    out: Path,
    report_every: int,
    validate_every: int,
    resume: bool,
) -> None:
    """Trains a configuration of BDINN on pairs made on the fly."""
    recipe = Recipe(config=config, steps=steps, seed=seed, threads=threads)
    run = Run(recipe, out, pictures if pictures.is_dir() else None)
    if resume:
        run.resume()
    elif (out / "checkpoint.pt").exists():
        raise click.ClickException(f"{out} holds a run already: add --resume, or choose another folder")
    click.echo(
        f"{sum(p.numel() for p in run.model.parameters())} parameters, {len(run.picture_names)} pictures"
    )
    run.train(report_every, validate_every)


if __name__ == "__main__":
    main()
