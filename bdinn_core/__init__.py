"""BDINN removes banding from pictures and video; see the README for the command line.

Names are imported when first used: torch takes seconds, which checking an option shouldn't, and Ctrl-C is to
be heard before numpy is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    BdinnError,
    DeviceMemoryError,
    FormatError,
    InputError,
    MediaError,
    ModelError,
    OptionError,
    OutputError,
    WorkerError,
)

if TYPE_CHECKING:
    from .checkpoint import load_model
    from .engine import Debander
    from .image import deband
    from .network import BDINN, BDINNConfig
    from .ops import BandedDeformConv2d, banded_deform_conv2d
    from .options import DebandOptions
    from .planes import Frame, FrameFormat

__all__ = [
    "BDINN",
    "BDINNConfig",
    "BandedDeformConv2d",
    "BdinnError",
    "DebandOptions",
    "Debander",
    "DeviceMemoryError",
    "FormatError",
    "Frame",
    "FrameFormat",
    "InputError",
    "MediaError",
    "ModelError",
    "OptionError",
    "OutputError",
    "WorkerError",
    "banded_deform_conv2d",
    "deband",
    "load_model",
]

_LATE = {
    "BDINN": "network",
    "BDINNConfig": "network",
    "BandedDeformConv2d": "ops",
    "DebandOptions": "options",
    "Debander": "engine",
    "Frame": "planes",
    "FrameFormat": "planes",
    "banded_deform_conv2d": "ops",
    "deband": "image",
    "load_model": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATE[name]}", __name__), name)
