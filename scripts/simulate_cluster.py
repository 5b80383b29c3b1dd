"""A library on a cluster: how long it takes, what is moved, and where it bends.

python scripts/simulate_cluster.py [--hours 10000] [--gpus 100] ...

GPUs take the next chunk as they become free; some are lost midway, and their chunks done again. One process
cuts the films and takes in what comes back: it writes, checks, records and joins the segments. What that
costs its disk is measured here; how fast a GPU debands and its machine's CPUs encode are
assumptions: give your own.
"""

import hashlib
import heapq
import os
import random
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import click

HOUR, DAY = 3600, 86400
MOST_SIMULATED = 200_000
"""Chunks of which shares and rates are found; more would change neither."""


def measure(folder: Path, size: int) -> float:
    """Seconds to write a segment, check it, record it, and to join it."""
    data = os.urandom(size)
    repeat = 10
    began = time.monotonic()
    with open(folder / "joined", "wb") as joined:
        for number in range(repeat):
            with open(folder / f"{number}", "wb") as file, open(folder / "journal", "ab") as journal:
                for written, part in ((file, data), (journal, b"a record")):
                    written.write(part)
                    written.flush()
                    os.fsync(written.fileno())
            hashlib.sha256(data)
            joined.write((folder / f"{number}").read_bytes())
    return (time.monotonic() - began) / repeat


@dataclass(frozen=True)
class Outcome:
    """How a library went."""

    seconds: float
    gpu_share: float
    """Of the time, how much the GPUs were at work."""
    lost: int
    """Chunks that were done again."""


def simulate(chunks: int, gpus: int, service: float, intake_cost: float, lost_an_hour: float) -> Outcome:
    """Runs so many chunks.

    Args:
        chunks: how many.
        gpus: how many there are.
        service: seconds that a chunk takes a GPU.
        intake_cost: seconds that a chunk takes the process that takes results in.
        lost_an_hour: how often a GPU is lost, and is back at once.
    """
    rng = random.Random(0)
    free = [0.0] * gpus
    taken_in: deque[float] = deque()  # when that will be so, of results that are still waiting
    ready = busy = 0.0
    lost = 0
    while chunks:
        begin = heapq.heappop(free)
        if len(taken_in) > 2 * gpus:  # no more are submitted than can wait
            begin = max(begin, taken_in.popleft())
        spent = service
        if rng.random() < service / HOUR * lost_an_hour:
            spent *= rng.random()
            lost += 1
        else:
            chunks -= 1
            ready = max(ready, begin + spent) + intake_cost
            taken_in.append(ready)
        busy += spent
        heapq.heappush(free, begin + spent)
    end = max(ready, *free)
    return Outcome(end, busy / (end * gpus), lost)


@click.command(help=__doc__)
@click.option("--hours", default=10_000, show_default=True, help="Length of the library.")
@click.option("--gpus", default=100, show_default=True)
@click.option("--fps", default=24.0, show_default=True, help="Of the films.")
@click.option("--chunk-seconds", default=10.0, show_default=True)
@click.option(
    "--network-fps", default=400.0, show_default=True, help="1080p pictures a GPU debands a second."
)
@click.option("--encode-fps", default=40.0, show_default=True, help="... and the CPUs beside it encode.")
@click.option("--overhead", default=1.0, show_default=True, help="Seconds to open a source and an encoder.")
@click.option("--source-mbps", default=8.0, show_default=True, help="Megabits a second of the sources.")
@click.option("--result-mbps", default=10.0, show_default=True, help="... and of the results.")
@click.option("--network-gbps", default=10.0, show_default=True, help="Of the machine that cuts and joins.")
@click.option("--lost-an-hour", default=0.01, show_default=True, help="How often a GPU is lost in an hour.")
def main(
    hours: int, gpus: int, fps: float, chunk_seconds: float, network_fps: float, encode_fps: float,
    overhead: float, source_mbps: float, result_mbps: float, network_gbps: float, lost_an_hour: float,
) -> None:  # fmt: skip
    pictures = chunk_seconds * fps
    service = overhead + pictures / min(network_fps, encode_fps)
    size = int(result_mbps * 1e6 / 8 * chunk_seconds)
    with tempfile.TemporaryDirectory() as folder:
        disk = measure(Path(folder), size)
    bandwidth = network_gbps * 1e9 / 8
    source = source_mbps * 1e6 / 8 * chunk_seconds
    intake = disk + (size + 2 * source) / bandwidth
    chunks = round(hours * HOUR / chunk_seconds)
    read, back = chunks * source / 1e12, chunks * size / 1e12
    print(f"{hours} h: {chunks} chunks of {chunk_seconds:g} s; {service:.1f} s each on a GPU and its CPUs")
    print(f"read: {read:.1f} TB by the GPUs' machines; as much twice by the process that cuts and joins")
    print(f"back: {back:.1f} TB, which that process writes twice, as segments and joined")
    print(
        f"it takes {intake * 1e3:.1f} ms for each, {disk * 1e3:.1f} of them for its disk (measured here); "
        f"so it can serve {service / intake:.0f} GPUs"
    )
    print("   GPUs      days  GPUs busy  process busy  tasks a second  Gbit/s back  chunks done again")
    simulated = min(chunks, MOST_SIMULATED)
    for count in sorted({max(1, gpus // 10), *(gpus * factor for factor in (1, 2, 4, 8))}):
        outcome = simulate(simulated, count, service, intake, lost_an_hour)
        seconds = outcome.seconds * chunks / simulated
        rate = chunks / seconds
        print(
            f"{count:7} {seconds / DAY:9.1f} {outcome.gpu_share:10.1%} {rate * intake:13.1%} "
            f"{rate:15.1f} {rate * size * 8 / 1e9:12.2f} {round(outcome.lost * chunks / simulated):18}"
        )


if __name__ == "__main__":
    main()
