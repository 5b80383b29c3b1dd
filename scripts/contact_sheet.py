"""Draws what debanders make of low-bitrate frames, contrast raised: one row a picture, one column a method.

The pictures are held-out photographs, encoded hard: the second of three frames, luma alone. Each row is
stretched about the mean of its window by the same factor in every column.
"""

from pathlib import Path

import click
import numpy as np
from evaluate import degrade
from lab.degrade import Coding
from lab.holdout import Scene, held_out_scenes
from lab.methods import PEERS, bdinn, nothing
from lab.pictures import pictures_option

from bdinn_core import BdinnError, DebandOptions
from bdinn_core.show.png import encode_png

WINDOW = 256
GAP = 4
ROWS = (
    ("sunset", (0, 400), Coding(codec="libx264", rate=32, options={"preset": "medium"})),
    ("field", (0, 64), Coding(codec="libx264", rate=34, options={"preset": "medium", "aq-mode": "0"})),
    ("lantern", (128, 384), Coding(codec="libx265", rate=34, options={"preset": "veryfast"})),
    (
        "dragonfly",
        (32, 32),
        Coding(codec="libvpx-vp9", rate=50, options={"deadline": "good", "cpu-used": "6"}),
    ),
)
"""Scene, top left corner of the window, coding."""
LOWEST, HIGHEST = 2, 98
"""Percentiles of the truth's window that become black and white; banding takes few codes."""


def draw_row(scene: Scene, corner: tuple[int, int], coding: Coding, methods: dict) -> np.ndarray:
    """The windows of one row, (WINDOW, columns): truth, then every method's result."""
    frame = degrade(scene, coding)
    window = np.s_[corner[0] : corner[0] + WINDOW, corner[1] : corner[1] + WINDOW]
    shown = [scene.planes[0][window], *(method(frame)[0][window] for method in methods.values())]
    black, white = np.percentile(shown[0], (LOWEST, HIGHEST))
    # Dithered, or rounding to 8 bits could draw bands of its own.
    noise = np.random.default_rng(0).random((WINDOW, WINDOW))
    cells = [np.clip(np.floor((x - black) / (white - black) * 255 + noise), 0, 255) for x in shown]
    gap = np.full((WINDOW, GAP), 255)
    return np.hstack([part for cell in cells for part in (cell, gap)][:-1]).astype(np.uint8)


@click.command(help=__doc__)
@click.option("--model", default="fast", show_default=True, help="fast, quality or a .safetensors file.")
@pictures_option(required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="PNG to write.")
def main(model: str, pictures: Path, out: Path) -> None:
    try:
        ours = bdinn(DebandOptions(model=model))
    except BdinnError as error:
        raise click.UsageError(str(error)) from error
    methods = {
        "input": nothing,
        "BDINN": ours,
        "vszip": PEERS["vszip"](),
        "placebo": PEERS["placebo, no grain"](),
    }
    scenes = {scene.name: scene for scene in held_out_scenes(pictures)}
    rows = [draw_row(scenes[name], corner, coding, methods) for name, corner, coding in ROWS]
    gap = np.full((GAP, rows[0].shape[1]), 255, np.uint8)
    out.write_bytes(encode_png(np.vstack([part for row in rows for part in (row, gap)][:-1])))
    click.echo(f"{out}: truth, {', '.join(methods)}")


if __name__ == "__main__":
    main()
