"""Reads damaged copies of media files and says what came of each: `mutants.py SEEDS FOLDER NUMBER...`.

A program, as FFmpeg may crash or hang. A mutant is made from its number and the files in SEEDS alone. Prints
a line of JSON before and after each, and leaves in FOLDER those from which comes what shouldn't.
"""

import faulthandler
import gc
import json
import os
import resource
import sys
import traceback
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bdinn_core.errors import BdinnError
from bdinn_core.video.reader import Source
from bdinn_core.video.track import Picture

SEED = 2026
HEADER = 1024
"""Bytes in which most of the damage is done."""
MEMORY = 3 * 2**30
"""Bytes of address space, threads' stacks and heaps included: no mutant may take more."""
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)


def _place(rng: np.random.Generator, size: int) -> int:
    """Somewhere in a file of that size; half the time in its header."""
    return int(rng.integers(min(size, HEADER) if rng.random() < 0.5 else size))


def _length(rng: np.random.Generator, most: int) -> int:
    """Mostly short: 1 to `most`, all magnitudes alike."""
    return int(most ** rng.random())


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(_length(rng, 100)):
        data[_place(rng, len(data))] ^= 1 << int(rng.integers(8))


def flip_header_bits(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(_length(rng, 30)):
        data[int(rng.integers(min(len(data), HEADER)))] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, rng: np.random.Generator) -> None:
    start = _place(rng, len(data))
    end = min(len(data), start + _length(rng, 5000))
    data[start:end] = rng.bytes(end - start) if rng.random() < 0.5 else bytes(end - start)


def truncate(data: bytearray, rng: np.random.Generator) -> None:
    del data[_place(rng, len(data)) :]


def delete(data: bytearray, rng: np.random.Generator) -> None:
    start = _place(rng, len(data))
    del data[start : start + _length(rng, 5000)]


def duplicate(data: bytearray, rng: np.random.Generator) -> None:
    start, place = _place(rng, len(data)), _place(rng, len(data))
    data[place:place] = data[start : start + _length(rng, 5000)]


def make_extreme(data: bytearray, rng: np.random.Generator) -> None:
    """Puts the smallest and largest numbers of 1 to 8 bytes, in either order, where something else was."""
    for _ in range(_length(rng, 10)):
        start, size = _place(rng, len(data)), 2 ** int(rng.integers(4))
        first, rest = (int(rng.choice(EXTREMES)) for _ in range(2))
        number = bytes([first, *[rest] * (size - 1)])
        number = number if rng.random() < 0.5 else number[::-1]
        data[start : start + size] = number[: len(data) - start]


MUTATIONS = (flip_bits, flip_header_bits, overwrite, truncate, delete, duplicate, make_extreme, make_extreme)


def make_mutant(seeds: Path, number: int) -> tuple[str, bytes, dict[str, Any]]:
    """The name of the file it comes from, its content, and how it's to be read."""
    rng = np.random.default_rng([SEED, number])
    files = sorted(seeds.iterdir())
    seed = files[number % len(files)]
    content = seed.read_bytes()
    # Of some the header stays: they get as far as the decoder.
    kept = HEADER if rng.random() < 0.4 and len(content) > 2 * HEADER else 0
    data = bytearray(content[kept:])
    for _ in range(int(rng.integers(1, 4))):
        if data:
            MUTATIONS[rng.integers(len(MUTATIONS))](data, rng)
    reading = ({}, {}, {"strict": True}, {"start": Fraction(1, 10), "end": Fraction(1, 5)})
    return seed.name, content[:kept] + data, reading[rng.integers(len(reading))]


def read(path: Path, options: dict[str, Any]) -> tuple[str, bool]:
    """What came of a file, and whether that may be: pictures, a `BdinnError` of one line, or both."""
    count = 0
    try:
        source = Source(str(path), threads=2, **options)
        try:
            source.timeline.chapters(source.container)
            for item in source.items({stream.index for stream in source.container.streams}):
                if isinstance(item, Picture):
                    count += 1
                    peak, largest = item.frame.format.peak, max(map(np.max, item.frame.planes))
                    if largest > peak:
                        return f"picture {count} holds {largest}, though {peak} is the most", False
        finally:
            source.close()
    except BdinnError as error:
        refused = f"{type(error).__name__} after {count} pictures: {error}"
        return refused, len(str(error).splitlines()) == 1
    except BaseException as error:
        traceback.print_exc()
        return f"{type(error).__name__} after {count} pictures: {error}", False
    return f"{count} pictures", True


def usage() -> dict[str, int]:
    """Resident bytes, open files and threads of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident": pages * resource.getpagesize(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def main() -> None:
    seeds, folder = map(Path, sys.argv[1:3])
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number in map(int, sys.argv[3:]):
        name, content, options = make_mutant(seeds, number)
        path = folder / f"{number}-{name}"
        path.write_bytes(content)
        print(json.dumps({"number": number, "name": path.name}), flush=True)
        result, fine = read(path, options)
        if fine:
            path.unlink()
        done = {"number": number, "name": path.name, "result": result, "fine": fine, **usage()}
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
