"""Make the blue-noise mask that dithers: the void-and-cluster method (Ulichney 1993).

Points are ranked so that every prefix of the ranking is spread as evenly as it can be; used as
thresholds, the mask rounds without clumps or pattern. Deterministic; overwrites the shipped file.
"""

from pathlib import Path

import click
import numpy as np

TARGET = Path(__file__).parent.parent / "bdinn_core" / "blue_noise.npy"


def void_and_cluster(side: int, sigma: float = 1.9, seed: int = 1) -> np.ndarray:
    """Ranks 0..side**2 - 1, uint16 (side, side), that tile without a seam."""
    distance = np.minimum(np.arange(side), side - np.arange(side)) ** 2
    kernel = np.exp(-(distance[:, None] + distance) / (2 * sigma**2))
    ones = np.zeros((side, side), bool)
    ones.flat[np.random.default_rng(seed).choice(side**2, side**2 // 10, replace=False)] = True
    energy = np.zeros((side, side))

    def toggle(point: int, on: bool) -> None:
        nonlocal energy
        ones.flat[point] = on
        energy += np.roll(kernel, divmod(point, side), (0, 1)) * (1 if on else -1)

    def tightest() -> int:
        return int(np.where(ones, energy, -np.inf).argmax())

    def emptiest() -> int:
        return int(np.where(ones, np.inf, energy).argmin())

    for point in np.flatnonzero(ones):
        toggle(int(point), True)
    while True:  # move the tightest point into the largest void until that is where it came from
        point = tightest()
        toggle(point, False)
        void = emptiest()
        toggle(void, True)
        if void == point:
            break
    start, start_energy = ones.copy(), energy.copy()
    ranks = np.zeros((side, side), np.uint16)
    for rank in range(int(start.sum()) - 1, -1, -1):
        point = tightest()
        toggle(point, False)
        ranks.flat[point] = rank
    ones[:], energy = start, start_energy
    for rank in range(int(start.sum()), side**2):
        point = emptiest()
        toggle(point, True)
        ranks.flat[point] = rank
    return ranks


@click.command(help=__doc__)
@click.option("--side", default=128, show_default=True)
def main(side: int) -> None:
    np.save(TARGET, void_and_cluster(side))
    click.echo(f"{TARGET}: {side}x{side}")


if __name__ == "__main__":
    main()
