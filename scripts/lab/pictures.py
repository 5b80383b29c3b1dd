"""The pictures on disk: which are held out, and how they become planes in model units."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import click
import numpy as np

from bdinn_core.ycbcr import YCbCr

__all__ = [
    "HELD_OUT",
    "Picture",
    "is_posterised",
    "list_pictures",
    "load_picture",
    "load_pictures",
    "pictures_option",
    "read_png",
    "rgb_to_planes",
    "subsample_420",
]

INDEX = "INDEX.tsv"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "train"

HELD_OUT = {
    "BuddiesOfBudgie_budgie_backgrounds_dragonfly_on_lavender.png": "dragonfly",
    "elementary_wallpapers_Mr_Lee.png": "lantern",
    "gkjohnson_3d_demo_data_kloppenheim_05_1k.png": "field",
    "linuxdeepin_deepin_wallpapers_Colorful_Abstraction01.png": "abstraction",
    "linuxdeepin_deepin_wallpapers_kyaw_tun_k6BHLfw_jUg_unsplash.png": "fish",
    "peppercarrot_print_book_2015_02_17_shichimi_concept_art_by_David_Revoy.png": "drawing",
    "pmndrs_assets_sunset.png": "sunset",
    "ublue_os_artwork_images_09_bluefin_day.png": "forest",
}
"""Pictures that training never sees, for evaluation alone: file names, each with a short one."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture, at full resolution in all three planes."""

    name: str
    """File name."""
    planes: np.ndarray
    """Y, U, V: (3, height, width) float32 in model units (BT.709 matrix, limited range)."""
    smooth_is_true: bool
    """Whether its gradients are true beyond 8 bits; otherwise only its detail may teach."""


def pictures_option(*, required: bool = False) -> Callable[[Any], Any]:
    """The option `--pictures` of every command that takes pictures; None without a folder of them."""

    def checked(context: click.Context, parameter: click.Parameter, folder: Path | None) -> Path | None:
        if folder is None and required:
            raise click.MissingParameter(ctx=context, param=parameter)
        if folder is not None and not (folder / INDEX).is_file():
            raise click.BadParameter(f"{folder} has no {INDEX}, which names the pictures in it")
        return folder

    return click.option(
        "--pictures",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        default=lambda: SHARED if SHARED.is_dir() else None,
        show_default="../shared/data/train, where there is one",
        callback=checked,
        help=f"Folder of pictures with their {INDEX}.",
    )


def rgb_to_planes(rgb: np.ndarray) -> np.ndarray:
    """Converts display RGB, (height, width, 3) in 0..1, to Y, U, V of (3, height, width).

    BT.709 matrix, limited range, model units: luma 16..235, chroma 128 +- 112, not rounded.
    """
    return YCbCr(matrix="bt709").encode(np.moveaxis(rgb, -1, 0) * np.float32(255))


def subsample_420(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """4:2:0 from (3, height, width), both even: chroma is the mean of each 2x2 block."""
    luma, *chroma = planes
    height, width = luma.shape
    u, v = (c.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for c in chroma)
    return np.ascontiguousarray(luma), u, v


def list_pictures(folder: Path, *, held_out: bool) -> list[tuple[Path, bool]]:
    """The pictures named in `folder`/INDEX.tsv, in its order.

    Args:
        folder: Has INDEX.tsv (columns file, use, ...) and the files it names.
        held_out: Take the evaluation's pictures, or all others.

    Returns:
        Paths, each with whether its gradients are true beyond 8 bits (`use` is `smooth`).
    """
    lines = (folder / INDEX).read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines if line.strip()]
    return [(folder / row[0], row[1] == "smooth") for row in rows if (row[0] in HELD_OUT) == held_out]


def read_png(path: Path) -> np.ndarray:
    """A picture as RGB, (height, width, 3) uint16."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb48le")


def load_picture(path: Path, smooth_is_true: bool) -> Picture:
    """Reads a 16-bit RGB PNG."""
    planes = rgb_to_planes(read_png(path).astype(np.float32) / 65535)
    return Picture(name=path.name, planes=planes, smooth_is_true=smooth_is_true)


def load_pictures(folder: Path | None) -> list[Picture]:
    """All pictures of `folder` that aren't held out; none without a folder."""
    if folder is None:
        return []
    return [load_picture(path, smooth) for path, smooth in list_pictures(folder, held_out=False)]


def is_posterised(plane: np.ndarray) -> bool:
    """Whether a plane in model units has flat runs joined by steps: banding in the would-be truth.

    True 12-bit gradients have flat runs too, but joined by steps of 1/16.
    """
    for axis in (0, 1):
        change = np.abs(np.diff(plane, axis=axis))
        moving = change > 1e-3
        gentle = change[moving & (change < 2)]
        if moving.mean() < 0.3 and gentle.size and np.median(gentle) > 0.2:
            return True
    return False
