"""Compiles every kernel that the networks and a gradient need, for GPUs that aren't there.

Run in a process of its own: Triton's driver is replaced by one that says which GPU there would be, and
kernels are compiled down to machine code where they'd be launched. Results are not computed.
"""

import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from bdinn_core import load_model
from bdinn_core.network.cuda import CudaPyramid
from bdinn_core.ops.banded_deform_conv import triton as bdc
from bdinn_core.ops.banded_deform_conv.geometry import Geometry


class AbsentGPU:
    """As much of a driver as compiling takes."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0


def compile_everything(capability: int) -> dict[str, int]:
    """Kernels compiled, by name; the most shared memory that any takes, in bytes, under `shared`."""
    counts: dict[str, int] = {"shared": 0}
    launch = JITFunction.run

    def compile_only(self: Any, *args: Any, **options: Any) -> Any:
        kernel: Any = launch(self, *args, **options | {"warmup": True})
        assert kernel.asm["cubin"]
        counts[self.__name__] = counts.get(self.__name__, 0) + 1
        counts["shared"] = max(counts["shared"], kernel.metadata.shared)
        return kernel

    JITFunction.run = compile_only
    driver.set_active(AbsentGPU(capability))  # type: ignore[arg-type]
    for half in (True, False):
        CudaPyramid(load_model("fast"), half).forward(torch.zeros(1, 1, 100, 150))
    geometry = Geometry(kernel=(3, 3), stride=(2, 1), padding=(1, 1), dilation=(1, 2))
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for channels in (3, 64):
            x = torch.zeros(2, channels, 20, 30, dtype=dtype, requires_grad=True)
            weight = torch.zeros(channels, channels, 3, 3, dtype=dtype, requires_grad=True)
            grid = torch.zeros(2, 4, *geometry.output_size(20, 30))
            bdc._SampleAndMultiply.apply(x, grid, weight, None, geometry).sum().backward()
    JITFunction.run = launch
    return counts


if __name__ == "__main__":
    print(triton.__version__, compile_everything(int(sys.argv[1])))
