"""One error tree.

    BdinnError
    ├── OptionError (ValueError)   an option out of range, unknown or contradictory
    ├── FormatError (ValueError)   a picture or frame this engine can't work on
    ├── ModelError                 weights that can't be read or don't fit their configuration
    ├── WorkerError                a worker that died, failed unforeseen or isn't like the others
    ├── DeviceMemoryError          a device whose memory holds not even the smallest tiles
    └── MediaError                 a file that can't be read or written
        ├── InputError             ... read, or has no picture in it
        └── OutputError            ... written, or can't hold what the source has

Every message names the offending value and what to do. Fronts translate: the command line prints
the message in one line, VapourSynth raises `vs.Error("Deband: ...")`.
"""

import traceback
from pathlib import Path

__all__ = [
    "BdinnError",
    "DeviceMemoryError",
    "FormatError",
    "InputError",
    "MediaError",
    "ModelError",
    "OptionError",
    "OutputError",
    "WorkerError",
    "is_out_of_memory",
    "unexpected",
]


class BdinnError(Exception):
    """Base of everything this package raises on purpose."""


class OptionError(BdinnError, ValueError):
    """An option is out of range, unknown, or contradicts another."""


class FormatError(BdinnError, ValueError):
    """A picture or frame has a shape, type or format the engine can't work on."""


class ModelError(BdinnError):
    """Weights can't be read, or don't fit the configuration stored with them."""


class DeviceMemoryError(BdinnError):
    """A device's memory doesn't suffice for the network, even in the smallest tiles."""


class WorkerError(BdinnError):
    """Workers that share a job died, or failed in a way that nobody foresaw."""


class MediaError(BdinnError):
    """A media file can't be read or written."""


class InputError(MediaError):
    """A media file can't be read, or has nothing to deband in it."""


class OutputError(MediaError):
    """A media file can't be written, or its codec or container can't hold what the source has."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the machine's memory doesn't suffice, by Python or by PyTorch."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def unexpected(error: Exception) -> str:
    """One line about a failure that nobody foresaw: what it is, where, and what to do."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    what = " ".join(str(error).split())
    return f"unexpected {type(error).__name__} at {where}: {what}; please report it"
