"""The one table of options, shared by the Python API, the VapourSynth plugin and the command line.

Each field is checked here, once; every front passes values through unchanged, so a bad value gives
the same words everywhere. No torch in this file: the command line checks options before the slow
imports.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Literal

import numpy as np

from .errors import OptionError

__all__ = [
    "DITHERS",
    "TILE_GRID",
    "DebandOptions",
    "Dither",
    "PerPlane",
    "check_device",
    "check_integer",
    "check_mask",
]

PerPlane = float | tuple[float, ...]
Dither = Literal["blue_noise", "error_diffusion", "none"]

DITHERS = ("blue_noise", "error_diffusion", "none")
TILE_GRID = 64
"""Tile sizes and overlaps are multiples of this: a tile then starts on the same Haar grid as the
whole frame at every one of the network's levels (2**6 for six)."""


def _number(name: str, value: object, low: float, high: float, what: str) -> float:
    """`value` as a finite float within low..high, or an `OptionError` that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise OptionError(f"{name} must be {what}, not {value!r}")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise OptionError(f"{name} must be {what}, not {value!r}")
    return number


def check_mask(mask: object) -> np.ndarray:
    """`mask`, if it's one.

    Raises:
        OptionError: it isn't (height, width) of unsigned integers, or of floats 0..1.
    """
    what = "a (height, width) array of unsigned integers, or of floats 0..1"
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "uf":
        got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else repr(mask)
        raise OptionError(f"mask must be {what}, not {got}")
    if mask.dtype.kind == "f" and mask.size and not (mask.min() >= 0 and mask.max() <= 1):
        raise OptionError(f"mask must be {what}, not floats {mask.min()}..{mask.max()}")
    return mask


def check_integer(name: str, value: object, low: int, high: int, what: str) -> int:
    """`value` as an integer within low..high.

    Raises:
        OptionError: it's none; the message says that `name` must be `what`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise OptionError(f"{name} must be {what}, not {value!r}")
    return int(value)


def check_device(device: object) -> None:
    """Refuses what is no name of a device.

    Raises:
        OptionError: it's none.
    """
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise OptionError(f"device must be auto, cpu, cuda or cuda:N, not {device!r}")


def _per_plane(name: str, value: object, low: float, high: float, what: str) -> PerPlane:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        if len(value) not in (1, 3):
            raise OptionError(f"{name} takes one value or one for each of three planes, not {value!r}")
        values = tuple(_number(name, v, low, high, what) for v in value)
        return values if len(values) == 3 else values[0]
    return _number(name, value, low, high, what)


@dataclass(frozen=True, kw_only=True, eq=False)
class DebandOptions:
    """What to do to a frame.

    Raises:
        OptionError: for a value out of range; the message names the option and the value.
    """

    strength: float | Sequence[float] = 1.0
    """Scales the change, 0..2; one value or one per plane. 0 hands the input on bit for bit."""
    step: float | Literal["auto"] = "auto"
    """Height of the bands looked for, in 8-bit steps, 1/256..16. `auto`: the distance between levels
    where a plane's values all lie on coarser ones than 8 bits have, for RGB also in Y'CbCr; else 1."""
    limit: float = 2.0
    """Largest change at `strength` 1, >= 0, in units of `step`: what protects detail from a wrong guess.
    Half a step at most where `step` is `auto` and coarse levels were found: rounding is off by no more."""
    planes: Sequence[int] | None = None
    """Indices of the planes to work on; the others pass untouched. `None` is all."""
    mask: np.ndarray | None = None
    """Grey picture (height, width) of the frame's size that scales `strength` per pixel: integers
    over their dtype's full width, or floats 0..1. Subsampled planes use its box average."""
    grain: float | Sequence[float] = 0.0
    """Standard deviation, in 8-bit steps, of Gaussian grain added after debanding, 0..64; one
    value or one per plane."""
    dynamic_grain: bool = True
    """A new grain every frame; false keeps one pattern, which is cheaper to encode."""
    seed: int = 0
    """Selects the grain and shifts the dither, 0..2**31 - 1. Same seed, same picture."""
    output_depth: int = -1
    """Bits of the result: -1 as the input, 8..16, or 32 for single-precision float."""
    dither: Dither = "blue_noise"
    """How values between two codes are rounded: `blue_noise` (a still void-and-cluster mask: no
    visible pattern, nothing moves, kind to encoders), `error_diffusion` (Floyd-Steinberg: least
    noise in a still picture, slower) or `none` (nearest code; brings bands back at 8 bits)."""
    model: str | PathLike[str] = "fast"
    """`fast`, `quality`, or the path of a .safetensors file."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`."""
    fp16: bool | None = None
    """Half precision in the network: float16 on a GPU, bfloat16 on a CPU that computes in it. `None` is
    automatic: wherever it's faster."""
    tile_size: int | None = None
    """Largest side of the tiles that large planes are cut into, in pixels: a multiple of 64, >= 768.
    `None` is automatic: planes of more than 4 megapixels, into tiles of at most 1536. Either way tiles
    become smaller where a GPU's memory doesn't suffice."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share at least: a multiple of 64, at most half of `tile_size`.
    `None` is automatic: 384, at which tiles agree with the whole plane to 0.02 of a step."""
    batch: int | None = None
    """Tiles a network call, 1..256. `None` is automatic: 1 on a CPU."""

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("strength", _per_plane("strength", self.strength, 0, 2, "a number 0..2"))
        if not (isinstance(self.step, str) and self.step == "auto"):
            put("step", _number("step", self.step, 1 / 256, 16, '"auto" or a number 1/256..16'))
        put("limit", _number("limit", self.limit, 0, math.inf, "a number >= 0"))
        put("grain", _per_plane("grain", self.grain, 0, 64, "a number 0..64"))
        put("seed", check_integer("seed", self.seed, 0, 2**31 - 1, "a whole number 0..2147483647"))
        depth = "-1, 8..16 or 32"
        put("output_depth", check_integer("output_depth", self.output_depth, -1, 32, depth))
        if not (self.output_depth in (-1, 32) or 8 <= self.output_depth <= 16):
            raise OptionError(f"output_depth must be {depth}, not {self.output_depth!r}")
        if not isinstance(self.dither, str) or self.dither not in DITHERS:
            raise OptionError(
                f"dither must be {', '.join(DITHERS[:-1])} or {DITHERS[-1]}, not {self.dither!r}"
            )
        if not isinstance(self.dynamic_grain, (bool, np.bool_)):
            raise OptionError(f"dynamic_grain must be true or false, not {self.dynamic_grain!r}")
        put("dynamic_grain", bool(self.dynamic_grain))
        if not (self.fp16 is None or isinstance(self.fp16, (bool, np.bool_))):
            raise OptionError(f"fp16 must be true, false or automatic, not {self.fp16!r}")
        put("fp16", None if self.fp16 is None else bool(self.fp16))
        if isinstance(self.model, PathLike):
            put("model", fspath(self.model))
        if not isinstance(self.model, str) or not self.model:
            raise OptionError(
                f"model must be fast, quality or the path of a .safetensors file, not {self.model!r}"
            )
        check_device(self.device)
        if self.mask is not None:
            check_mask(self.mask)
        self._check_planes()
        self._check_tiles()

    def check_source(self, num_planes: int) -> None:
        """Refuse what needs planes that a source of `num_planes` planes doesn't have.

        Raises:
            OptionError: the message names the option and the value.
        """
        if num_planes > 1:
            return
        for name in ("strength", "grain"):
            value = getattr(self, name)
            if isinstance(value, tuple):
                raise OptionError(
                    f"{name} {value} is for three planes, but the source is grey; give one value"
                )
        if self.planes and max(self.planes) > 0:
            raise OptionError(f"planes {self.planes} aren't all in the source, which is grey: it has plane 0")

    def _check_planes(self) -> None:
        if self.planes is None:
            return
        what = "plane numbers 0, 1 or 2, each at most once"
        if isinstance(self.planes, (str, bytes)) or not isinstance(self.planes, (Sequence, np.ndarray)):
            raise OptionError(f"planes must be {what}, not {self.planes!r}")
        planes = tuple(check_integer("planes", p, 0, 2, what) for p in self.planes)
        if len(set(planes)) != len(planes):
            raise OptionError(f"planes must be {what}, not {self.planes!r}")
        object.__setattr__(self, "planes", planes)

    def _check_tiles(self) -> None:
        for name, low, high in (("tile_size", 768, 2**16), ("overlap", 0, 2**15)):
            value = getattr(self, name)
            if value is None:
                continue
            what = f"a multiple of {TILE_GRID} from {low} to {high}"
            if check_integer(name, value, low, high, what) % TILE_GRID:
                raise OptionError(f"{name} must be {what}, not {value!r}")
            object.__setattr__(self, name, int(value))
        if self.tile_size and self.overlap and self.overlap * 2 > self.tile_size:
            raise OptionError(
                f"overlap must be at most half of tile_size ({self.tile_size}), not {self.overlap}"
            )
        if self.batch is not None:
            batch = check_integer("batch", self.batch, 1, 256, "a whole number 1..256")
            object.__setattr__(self, "batch", batch)
