"""Scenes for evaluation only: generators, parameters and seeds that training doesn't share.

They work in linear light or display RGB, where training draws planes of code values; they share no
drawing code with `scenes.py`, and the pictures are those of `pictures.HELD_OUT`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .pictures import HELD_OUT, list_pictures, load_picture, rgb_to_planes, subsample_420

__all__ = ["Scene", "held_out_scenes"]

HEIGHT, WIDTH = 544, 768
SEEDS = (9001, 9002)
PICTURE_HEIGHT, PICTURE_WIDTH = 512, 704


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One frame's truth."""

    name: str
    """Generator and variant, or the picture's short name."""
    planes: tuple[np.ndarray, np.ndarray, np.ndarray]
    """4:2:0: Y (height, width), U and V (half of both), float32, model units."""
    full: np.ndarray
    """4:4:4: Y, U, V, (3, height, width) float32, model units."""
    smooth_is_true: bool
    """Whether smooth regions can be scored: the truth has no bands of its own."""
    drawn: bool
    """Procedural, not a picture."""


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres: y (H, 1) and x (1, W), both in units of the height."""
    return (np.arange(HEIGHT)[:, None] + 0.5) / HEIGHT, (np.arange(WIDTH)[None, :] + 0.5) / HEIGHT


def _display(linear: np.ndarray) -> np.ndarray:
    """BT.709 opto-electronic transfer of linear light 0..1."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear < 0.018, 4.5 * linear, 1.099 * np.maximum(linear, 0.018) ** 0.45 - 0.099)


def _sky(rng: np.random.Generator) -> np.ndarray:
    """Horizon glow, zenith and a low sun, in linear light."""
    y, x = _grid()
    horizon, zenith = (
        rng.uniform((0.5, 0.35, 0.25), (0.8, 0.6, 0.6)),
        rng.uniform((0.02, 0.06, 0.2), (0.1, 0.2, 0.5)),
    )
    height = np.exp(-(1 - y) * rng.uniform(1.2, 2.8))[..., None]
    sun = 1 / (1 + ((x - rng.uniform(0.2, 1.2)) ** 2 + (y - rng.uniform(0.7, 1)) ** 2) / 0.03)[..., None]
    return _display(zenith + (horizon - zenith) * height + sun * np.array((0.25, 0.15, 0.05)))


def _dark(rng: np.random.Generator) -> np.ndarray:
    """A night room: three to six codes over the whole frame, so bands of 100 to 300 px, and a dim lamp."""
    y, x = _grid()
    slope = rng.uniform(3, 6) / 219
    floor = rng.uniform(0.02, 0.06)
    room = floor + slope * (0.6 * np.sin(y * rng.uniform(1, 2)) + 0.4 * np.cos(x * rng.uniform(1, 1.6)))
    lamp = rng.uniform(0.008, 0.02) / (
        1 + 9 * np.hypot(x - rng.uniform(0.1, 1.3), y - rng.uniform(0.1, 0.5)) ** 1.5
    )
    tint = rng.uniform((0.9, 0.9, 1.0), (1.0, 1.0, 1.25))
    return room[..., None] * tint + lamp[..., None] * np.array((1.2, 0.9, 0.6))


def _anime(rng: np.random.Generator) -> np.ndarray:
    """Cells of a drawing: each with its own flat colour, gentle shade and dark outline."""
    y, x = _grid()
    sites = rng.uniform((0, 0), (1, WIDTH / HEIGHT), (11, 2))
    wobble = 0.02 * np.sin(9 * x + 3 * np.sin(5 * y)) + 0.015 * np.sin(13 * y + 2 * x)
    distance = np.stack([np.hypot(x - sx, y - sy) + wobble * (1 + i % 3) for i, (sy, sx) in enumerate(sites)])
    order = np.argsort(distance, 0)
    cell = order[0]
    gap = np.take_along_axis(distance, order[1:2], 0)[0] - np.take_along_axis(distance, order[:1], 0)[0]
    colours = rng.uniform(0.12, 0.92, (len(sites), 3))
    angles, shades = rng.uniform(0, 2 * np.pi, len(sites)), rng.uniform(0.01, 0.22, len(sites))
    ramp = np.cos(angles)[cell] * (x - sites[cell, 1]) + np.sin(angles)[cell] * (y - sites[cell, 0])
    fill = colours[cell] * (1 + (shades[cell] * np.tanh(2 * ramp))[..., None])
    line = np.clip(1.4 - gap * HEIGHT / 2.2, 0, 1)[..., None]
    return fill * (1 - line) + 0.07 * line


def _fog(rng: np.random.Generator) -> np.ndarray:
    """Ridges that fade into fog, layer behind layer, each brighter towards its foot."""
    y, x = _grid()
    haze = rng.uniform((0.45, 0.5, 0.55), (0.6, 0.65, 0.75))
    picture = haze * (1.05 - 0.12 * y[..., None]) * np.ones((1, WIDTH, 1))
    for layer in range(4):
        waves = sum(
            rng.uniform(0.01, 0.06) * np.sin(x * f + rng.uniform(0, 7)) for f in (2.3, 5.1, 11.7, 23.9)
        )
        crest = 0.25 + 0.19 * layer + waves
        depth = np.clip((y - crest) * HEIGHT / 1.5, 0, 1)[..., None]
        density = np.exp(-np.clip(y - crest, 0, None) * rng.uniform(1.5, 4))[..., None]
        ground = haze * (0.85 - 0.2 * layer) + 0.1 * (1 - density)
        picture = picture * (1 - depth) + ground * depth
    return picture


def _gabor(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Gabor noise, (H, W), standard deviation 1: random wave packets of periods `low`..`high` px."""
    plane = np.zeros((HEIGHT + 64, WIDTH + 64))
    offset = np.arange(-16, 17)
    for _ in range(9000):
        angle, period = rng.uniform(0, np.pi), rng.uniform(low, high)
        wave = np.cos(angle) * offset[None, :] + np.sin(angle) * offset[:, None]
        packet = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / 60)
        top, left = rng.integers(0, HEIGHT + 31), rng.integers(0, WIDTH + 31)
        plane[top : top + 33, left : left + 33] += packet * np.cos(
            2 * np.pi * wave / period + rng.uniform(0, 7)
        )
    plane = plane[32:-32, 32:-32]
    return plane / plane.std()


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Fine texture over a slow ramp: columns of 0.5, 1, 2 and 4 codes, fine to coarse down the frame."""
    y, x = _grid()
    fine, coarse = _gabor(rng, 2.5, 5), _gabor(rng, 5, 14)
    share = np.clip((y - 0.4) / 0.2, 0, 1)
    strength = np.array((0.5, 1, 2, 4))[np.minimum((x * HEIGHT / WIDTH * 4).astype(int), 3)] / 219
    ramp = rng.uniform(0.2, 0.6) + 0.06 * y + 0.05 * x
    return (ramp + strength * ((1 - share) * fine + share * coarse))[..., None] * rng.uniform(0.85, 1.1, 3)


def _grain(rng: np.random.Generator) -> np.ndarray:
    """Film: a still gradient of light seen through clumps of silver, one to two codes strong."""
    y, x = _grid()
    light = 0.5 + 0.16 * np.cos(2 * (x - rng.uniform(0, 1))) - 0.2 * y
    dots = rng.poisson(3.0, (HEIGHT + 2, WIDTH + 2)) - 3.0
    clumps = np.zeros((HEIGHT, WIDTH))
    for i, j in np.ndindex(3, 3):
        clumps += (2 - abs(i - 1)) * (2 - abs(j - 1)) * dots[i : i + HEIGHT, j : j + WIDTH]
    clumps = clumps / clumps.std()
    strength = rng.uniform(1, 2) / 219
    return (light + strength * clumps)[..., None] * rng.uniform(0.9, 1.05, 3)


GENERATORS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "sky": _sky,
    "dark": _dark,
    "anime": _anime,
    "fog": _fog,
    "texture": _texture,
    "grain": _grain,
}
"""Each returns display RGB, (HEIGHT, WIDTH, 3), about 0..1."""


def _scene(name: str, full: np.ndarray, smooth_is_true: bool, drawn: bool) -> Scene:
    return Scene(name=name, planes=subsample_420(full), full=full, smooth_is_true=smooth_is_true, drawn=drawn)


def held_out_scenes(pictures: Path | None) -> list[Scene]:
    """Every drawn scene, and the held-out pictures of the folder if there is one."""
    scenes = []
    for number, (name, draw) in enumerate(GENERATORS.items()):
        for variant, seed in enumerate(SEEDS):
            rgb = np.clip(draw(np.random.default_rng([seed, number])), 0, 1)
            scenes.append(_scene(f"{name} {variant + 1}", rgb_to_planes(rgb), True, True))
    for path, smooth_is_true in list_pictures(pictures, held_out=True) if pictures else []:
        full = load_picture(path, smooth_is_true).planes
        _, height, width = full.shape
        rows, columns = min(height, PICTURE_HEIGHT) // 2 * 2, min(width, PICTURE_WIDTH) // 2 * 2
        top, left = (height - rows) // 2, (width - columns) // 2
        full = np.ascontiguousarray(full[:, top : top + rows, left : left + columns])
        scenes.append(_scene(HELD_OUT[path.name], full, smooth_is_true, False))
    return scenes
