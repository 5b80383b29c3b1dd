"""Draws where the network looks: grids of its banded deformable convolutions, and how far a pixel sees.

All of it is taken from a run on a glow rounded to 8 bits: rings of bands, whose edges run in all directions.
Left, the taps of one layer beside those of an ordinary convolution. Right, how much one pixel of the result
depends on each pixel of the picture. Prints the figures of all such layers, and the distances.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import click
import numpy as np
import torch
from lab.canvas import Colour, circle, outline, stroke, write
from lab.looking import Figures, Layer, dependence, measure, radii, run

from bdinn_core import BDINN, BdinnError, ModelError, load_model
from bdinn_core.network.subnet import MAX_RESCALE
from bdinn_core.show.colours import RADIUS_PX, raise_contrast
from bdinn_core.show.lettering import PAPER
from bdinn_core.show.png import encode_png

HEIGHT, WIDTH = 960, 1280
DARKEST, BRIGHTEST = 40, 48
"""Of the glow, in 8-bit steps."""
SPREAD, CENTRE = 0.31, 0.34
"""How wide the glow is, in heights of the picture, and where it stands, in widths."""
LOOKER = 41
"""The pixel whose dependence is drawn lies amid the band of this code: it's 111 px wide."""
LOOKED_AT = ((47.5, 0), (47, 22.5))
"""Values of the glow where grids are drawn, of an edge and amid a band, and the first of 8 directions."""
SHARES = (0.5, 0.9, 0.99)
ZOOM = 2
"""The right panel shows the whole picture so much smaller, the left one its middle so much larger."""
CONTRAST, GREY = 80, 72
DECADES = 4
"""Powers of ten from black to the brightest of the heat map."""
TITLES = "Where {}'s kernels read; contrast of bands raised", "What one pixel of {}'s result depends on"
LINE_PX = 24
GAP_PX = 12
WHITE, EDGE = (236, 236, 236), 95
HEAT = ((0, 0, 0), (60, 15, 110), (190, 45, 80), (255, 160, 50), (255, 255, 225))
BDC, ORDINARY, MARK = (255, 150, 40), (215, 215, 215), (60, 220, 255)


class Glow(NamedTuple):
    """A round glow in the dark."""

    truth: np.ndarray
    """(height, width) in 8-bit steps, not rounded."""
    centre: tuple[int, int]
    """(y, x) of its brightest pixel."""
    spread_px: float

    @classmethod
    def of_size(cls, height: int, width: int) -> Self:
        """The glow in a picture of this size."""
        centre, spread = (height // 2, round(width * CENTRE)), height * SPREAD
        y, x = np.mgrid[0:height, 0:width]
        fall = np.exp(-np.square(y - centre[0], dtype=float) / spread**2)
        fall *= np.exp(-np.square(x - centre[1], dtype=float) / spread**2)
        return cls(DARKEST + (BRIGHTEST - DARKEST) * fall, centre, spread)

    def pixel_at(self, value: float, degrees: float) -> tuple[int, int]:
        """(y, x) at which the glow has fallen to a value, clockwise from the right of its centre."""
        radius = self.spread_px * np.sqrt(np.log((BRIGHTEST - DARKEST) / (value - DARKEST)))
        angle = np.radians(degrees)
        return self.centre[0] + round(radius * np.sin(angle)), self.centre[1] + round(radius * np.cos(angle))


def draw_grids(layer: Layer, glow: Glow) -> np.ndarray:
    """The middle of the glow, contrast raised, and grids of a layer on it.

    Returns:
        (H / ZOOM, W / ZOOM, 3) float of 0..255, for a glow (H, W).
    """
    codes = torch.from_numpy(np.rint(glow.truth)).float()
    shown = raise_contrast(codes, CONTRAST, GREY, RADIUS_PX).clamp(0, 255).numpy()
    top, left, height, width = magnified(glow)
    shown = shown[top : top + height, left : left + width]
    canvas = np.repeat(np.kron(shown, np.ones((ZOOM, ZOOM)))[..., None], 3, 2)
    places = np.stack(layer.positions(), -1) - (top, left)  # (taps, rows, columns, 2)
    regular = layer.pitch * np.stack(np.meshgrid((-1, 0, 1), (-1, 0, 1), indexing="ij"), -1).reshape(9, 2)
    for value, first in LOOKED_AT:
        for degrees in range(0, 360, 45):
            y, x = glow.pixel_at(value, first + degrees)
            taps = places[:, y // layer.pitch, x // layer.pitch]
            for grid, colour in ((taps[4] + regular, ORDINARY), (taps, BDC)):
                grid = (grid + 0.5) * ZOOM - 0.5
                outline(canvas, grid[[0, 2, 8, 6]], colour)
                for tap in grid:
                    stroke(canvas, tap, tap, 4, colour)
    return canvas


def magnified(glow: Glow) -> tuple[int, int, int, int]:
    """The part of the picture that is shown enlarged: top, left, height, width."""
    height, width = (size // ZOOM**2 for size in glow.truth.shape)
    return glow.centre[0] - height // 2, glow.centre[1] - width // 2, height, width


def draw_field(field: np.ndarray, pixel: tuple[int, int], glow: Glow) -> np.ndarray:
    """A heat map of a field, with the edges of bands and the circles that hold its shares.

    Returns:
        As `draw_grids`.
    """
    height, width = (size // ZOOM for size in field.shape)
    small = field.reshape(height, ZOOM, width, ZOOM).mean((1, 3))
    heat = 1 + np.log10(np.maximum(small / small.max(), 10.0**-DECADES)) / DECADES
    steps = np.linspace(0, 1, len(HEAT))
    canvas = np.stack([np.interp(heat, steps, channel) for channel in zip(*HEAT, strict=True)], -1)
    codes = np.rint(glow.truth)[::ZOOM, ::ZOOM]
    edges = (np.diff(codes, axis=0, append=codes[-1:]) != 0) | (np.diff(codes, append=codes[:, -1:]) != 0)
    canvas = np.maximum(canvas, EDGE * edges[..., None])
    top, left, high, wide = (size / ZOOM for size in magnified(glow))
    box = np.array([(top, left), (top, left + wide), (top + high, left + wide), (top + high, left)])
    outline(canvas, box, ORDINARY)
    centre = (np.array(pixel) + 0.5) / ZOOM - 0.5
    stroke(canvas, centre, centre, 5, MARK)
    for share, radius in zip(SHARES, radii(field, pixel, SHARES), strict=True):
        circle(canvas, centre, radius / ZOOM, MARK)
        top = round(centre[0] + radius / ZOOM) - LINE_PX
        write(canvas, f"{100 * share:.0f} %", top, round(centre[1]) - 24, MARK)
    return canvas


def captioned(panel: np.ndarray, title: str, lines: Sequence[tuple[str, Colour]]) -> np.ndarray:
    """A panel as uint8 with a title above it and lines of text in their colours below."""
    above, below = (np.full((LINE_PX * n, *panel.shape[1:]), PAPER, float) for n in (1, len(lines)))
    write(above, title, 0, 0, WHITE)
    for number, (line, colour) in enumerate(lines):
        write(below, line, LINE_PX * number, 0, colour)
    return np.rint(np.vstack([above, panel, below])).astype(np.uint8)


def caption_grids(layer: Layer, figures: Figures) -> list[tuple[str, Colour]]:
    """What stands below the grids."""
    turned = "turned {:.0f} degrees (5 to 95 %: {:.0f} to {:.0f})".format(*figures.turned)
    sizes = "stretched {:.1f} ({:.1f} to {:.1f}), grown {:.1f} ({:.1f} to {:.1f})"
    return [
        (f"ordinary 3x3 convolution: taps {layer.pitch} px apart", ORDINARY),
        (f"banded deformable: scale {layer.scale}, layer {layer.number}, as it predicts them", BDC),
        (f"{turned}, following bands: {figures.following:.2f} of 1", BDC),
        (sizes.format(*figures.stretched, *figures.grown), BDC),
    ]


def caption_field(distances: Sequence[float], glow: Glow) -> list[tuple[str, Colour]]:
    """What stands below the heat map."""
    height, width = glow.truth.shape
    shares = ", ".join(f"{100 * share:.0f}" for share in SHARES)
    within = ", ".join(f"{distance:.0f}" for distance in distances)
    return [
        ("a pixel amid a wide band, and circles that hold", MARK),
        (f"{shares} % of what its result depends on: {within} px", MARK),
        (f"picture of {width}x{height}, edges of bands in grey; box: the part on the left", ORDINARY),
        (f"brightness: {DECADES} powers of ten, black for less", HEAT[-2]),
    ]


def table(layers: Sequence[Layer], figures: Sequence[Figures]) -> list[str]:
    """A Markdown table of all layers' figures: of each, the mean (5th to 95th percentile).

    Where grids have grown beyond what's read, only the centre is.
    """
    head = "| scale, layer | turned, degrees | stretched | grown | reach, px | following | outside |"
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for layer, values in zip(layers, figures, strict=True):
        spreads = [
            "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(*spread, d=digits)
            for spread, digits in zip(values[:4], (0, 1, 1, 0), strict=True)
        ]
        if values.grown[1] > MAX_RESCALE:
            spreads[2:] = f"beyond {MAX_RESCALE:g}", "none"
        others = f"{values.following:.2f} | {100 * values.outside:.0f} %"
        lines.append(f"| {layer.scale}, {layer.number} | {' | '.join(spreads)} | {others} |")
    return lines


def draw(model: BDINN, name: str, height: int, width: int) -> tuple[np.ndarray, list[str]]:
    """Draws where a network looks in a glow of this size, in multiples of 4 px.

    Returns:
        (rows, columns, 3) uint8, and the figures in lines of text.

    Raises:
        ModelError: the network has no banded deformable convolutions.
    """
    glow = Glow.of_size(height, width)
    picture = torch.from_numpy(np.rint(glow.truth)).float()[None, None].requires_grad_()
    result, layers = run(model.requires_grad_(False), picture)
    if not layers:
        raise ModelError(f"{name} has no banded deformable convolutions to draw")
    pixel = glow.pixel_at(LOOKER, 0)
    field = dependence(result, picture, pixel)
    distances = radii(field, pixel, SHARES)
    figures = [measure(layer, glow.centre, (height, width)) for layer in layers]
    finest = [i for i, layer in enumerate(layers) if layer.scale == layers[0].scale]
    most = max(finest, key=lambda i: figures[i].reach_px[2] - figures[i].reach_px[1])
    grids, heat = draw_grids(layers[most], glow), draw_field(field, pixel, glow)
    left = captioned(grids, TITLES[0].format(name), caption_grids(layers[most], figures[most]))
    right = captioned(heat, TITLES[1].format(name), caption_field(distances, glow))
    gap = np.full((len(left), GAP_PX, 3), PAPER, np.uint8)
    within = ", ".join(f"{100 * s:.0f} % within {d:.0f} px" for s, d in zip(SHARES, distances, strict=True))
    own = f"One pixel of the result depends on: {within}; on itself {100 * field[pixel] / field.sum():.1f} %"
    return np.hstack([left, gap, right]), [*table(layers, figures), "", own]


@click.command(help=__doc__)
@click.option("--model", default="fast", show_default=True, help="fast, quality or a .safetensors file.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="PNG to write.")
def main(model: str, out: Path) -> None:
    try:
        picture, lines = draw(load_model(model), Path(model).stem, HEIGHT, WIDTH)
    except BdinnError as error:
        raise click.UsageError(str(error)) from error
    out.write_bytes(encode_png(picture))
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
