"""Packs the training pictures into few megabytes, to train where only little can be brought.

Pictures are reduced by the largest common scale at which all fit; their 12 bits stay. The folder that is
written is what `train.py --pictures` takes.
"""

from pathlib import Path

import click
import numpy as np
from lab.filters import resize
from lab.pictures import list_pictures, pictures_option, read_png

from bdinn_core.show.png import encode_png

SHRINK = 0.95
"""What a scale that turned out too large is multiplied by."""


def reduced_png(path: Path, scale: float) -> bytes:
    """A picture as a 16-bit RGB PNG of `scale` times the size."""
    rgb = read_png(path)
    height, width = (round(side * scale) for side in rgb.shape[:2])
    planes = [resize(rgb[..., c].astype(np.float32), height, width) for c in range(3)]
    # The lowest 4 of 16 bits hold nothing but what resampling leaves; they'd double the size.
    codes = np.clip(np.rint(np.stack(planes, -1) / 16), 0, 4095).astype(np.uint16) * 16
    return encode_png(codes)


@click.command(help=__doc__)
@pictures_option(required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@click.option("--mebibytes", default=24.0, show_default=True, help="Largest size of all files.")
def main(pictures: Path, out: Path, mebibytes: float) -> None:
    paths = [path for path, _ in list_pictures(pictures, held_out=False)]
    limit = mebibytes * 2**20
    scale = min(1.0, (limit / sum(path.stat().st_size for path in paths)) ** 0.5)
    while sum(map(len, (files := {p.name: reduced_png(p, scale) for p in paths}).values())) > limit:
        click.echo(f"scale {scale:.2f} is too large")
        scale *= SHRINK
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (out / name).write_bytes(data)
    lines = (pictures / "INDEX.tsv").read_text(encoding="utf-8").splitlines()
    kept = [line for i, line in enumerate(lines) if i == 0 or line.split("\t")[0] in files]
    (out / "INDEX.tsv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    size = sum(map(len, files.values())) / 2**20
    click.echo(f"{len(files)} pictures at scale {scale:.2f}: {size:.1f} MiB in {out}")


if __name__ == "__main__":
    main()
