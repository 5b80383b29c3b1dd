"""The evaluation's rows as a table and as a picture."""

from collections.abc import Sequence
from pathlib import Path

import click

from .score import Row, mean, select

__all__ = ["plot", "print_table"]

COLUMNS = (
    "Y smooth",
    "drawn",
    "Y detail",
    "contour",
    "U smooth",
    "V smooth",
    "U detail",
    "V detail",
    "CAMBI",
    "coarse",
)


def _number(value: float | None, width: int = 9) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.2f}"


def print_table(rows: Sequence[Row]) -> None:
    """One block a degradation and one line a method; PSNR in dB, the contour error over the input's."""
    methods = list(dict.fromkeys(row.method for row in rows))
    click.echo(
        "PSNR in dB to the float truth, before rounding: luma of smooth regions (all scenes; drawn scenes),\n"
        "luma of detail, chroma. Contour error over the input's. CAMBI at 10 bits, dithered, above the\n"
        "truth's own, at its defaults and with coarse steps counted; the truth's own is"
        f"{_number(mean(rows, 'cambi_of_truth'), 6)} and{_number(mean(rows, 'cambi_coarse_of_truth'), 6)}."
    )
    for degradation in dict.fromkeys(row.degradation for row in rows):
        click.echo(f"\n{degradation:20}" + "".join(f"{name:>9}" for name in COLUMNS))
        here = select(rows, degradation=degradation)
        before = mean(select(here, method=methods[0], plane="Y"), "contour")
        for method in methods:
            y, u, v = (select(here, method=method, plane=plane) for plane in "YUV")
            contour = mean(y, "contour")
            cells = (
                mean(y, "smooth"),
                mean(select(y, drawn=True), "smooth"),
                mean(y, "detail"),
                contour / before if contour and before else None,
                mean(u, "smooth"),
                mean(v, "smooth"),
                mean(u, "detail"),
                mean(v, "detail"),
                mean(y, "cambi"),
                mean(y, "cambi_coarse"),
            )
            click.echo(f"{method:20}" + "".join(map(_number, cells)))


def plot(rows: Sequence[Row], path: Path) -> None:
    """Bars: what each method gains over the input in smooth and in detail regions, by degradation."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    degradations = list(dict.fromkeys(row.degradation for row in rows))
    before, *methods = dict.fromkeys(row.method for row in rows)
    figure, axes = pyplot.subplots(2, 1, figsize=(11, 7), sharex=True, layout="constrained")
    width = 0.85 / len(methods)
    for axis, region in zip(axes, ("smooth", "detail"), strict=True):
        for i, method in enumerate(methods):
            gains = []
            for degradation in degradations:
                here = select(rows, degradation=degradation, plane="Y")
                after, first = (mean(select(here, method=m), region) for m in (method, before))
                gains.append(after - first if after is not None and first is not None else 0.0)
            positions = [d + (i - (len(methods) - 1) / 2) * width for d in range(len(degradations))]
            axis.bar(positions, gains, width, label=method)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_ylabel(f"{region} regions: gain, dB")
    axes[1].set_ylim(bottom=max(axes[1].get_ylim()[0], -6))  # what destroys detail would hide the rest
    axes[1].set_xticks(range(len(degradations)), degradations)
    axes[0].legend(ncols=4, fontsize="small")
    figure.suptitle("Luma PSNR to the float truth, held-out scenes, mean")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
