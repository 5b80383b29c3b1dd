"""How fast a device debands, for `bdinn-doctor`."""

import time
from typing import Any

__all__ = ["describe_gpu", "find_gpus", "measure"]

SECONDS = 2
WIDTH, HEIGHT = 1920, 1080


def find_gpus() -> list[str]:
    """The names of the GPUs that the engine can run on here."""
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())]


def describe_gpu(device: Any) -> str:
    """The name and memory of a CUDA `torch.device`."""
    import torch

    gpu = torch.cuda.get_device_properties(device)
    return f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"


def measure(device: str) -> dict[str, Any]:
    """What a device is, what computes the network there, and how many frames of 1080p it debands a second.

    With the model `fast` and 4:2:0 of 8 bits, for about two seconds. Loops and kernels are compiled before,
    which takes 10 to 20 seconds once.
    """
    import numpy as np
    import torch

    from . import Debander, DebandOptions, Frame, FrameFormat

    debander = Debander(DebandOptions(device=device))
    size = debander.batch_size
    fmt = FrameFormat(family="yuv", subsampling=(1, 1), bit_depth=8)
    shapes = (HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2), (HEIGHT // 2, WIDTH // 2)
    random = np.random.default_rng(0)
    # By turns, so that none equals one of the last two, whose results are reused.
    batches = [
        [Frame(tuple(random.integers(60, 70, s, np.uint8) for s in shapes), fmt) for _ in range(size)]
        for _ in range(4)
    ]
    for batch in batches[2:]:
        debander.process(batch, 0)
    count, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < SECONDS:
        debander.process(batches[count % len(batches)], 0)
        count += 1
    if debander.device.type == "cuda":
        detail = describe_gpu(debander.device)
    else:
        detail = f"{torch.get_num_threads()} threads"
    return {
        "name": device,
        "detail": detail,
        "backend": debander.backend,
        "frames_per_second_1080p": round(count * size / seconds, 2),
    }
