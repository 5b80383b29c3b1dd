"""What a training run reports: `log.jsonl`, one JSON object a report, and TensorBoard's curves."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

__all__ = ["Journal"]


class Journal:
    """The reports of a run.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._log = folder, folder / "log.jsonl"
        self._last = 0
        self._curves: Any = None

    def forget_after(self, step: int) -> None:
        """Takes back what came after a step: a run that resumes there will report it again."""
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True) if self._log.exists() else []
        whole = [line for line in lines if line.endswith("\n")]  # the last may be torn by a crash
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        partial = self._folder / "log.jsonl.partial"
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, self._log)
        self._last = step

    def add(self, step: int, entry: dict[str, Any]) -> None:
        """Appends a report, and its numbers to the curves."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **entry}) + "\n")
        if self._curves is None:
            self._curves = _open_curves(self._folder, self._last)
        for name, value in _numbers(entry):
            self._curves.add_scalar(name, value, step)


class _NoCurves:
    """Where TensorBoard is missing."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        pass


def _open_curves(folder: Path, last: int) -> Any:
    """A TensorBoard writer that takes back what came after the step `last`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        click.echo("no curves: tensorboard isn't installed (pip install '.[train]')")
        return _NoCurves()
    return SummaryWriter(str(folder), purge_step=last + 1)


def _numbers(entry: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested dictionaries, by names with slashes."""
    for name, value in entry.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value
