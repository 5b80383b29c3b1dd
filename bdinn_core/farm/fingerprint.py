"""All that a result depends on, so that parts of two different ones are never joined."""

import hashlib
from dataclasses import fields
from fractions import Fraction
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av

from ..errors import InputError
from ..options import DebandOptions
from ..video.job import VideoJob

__all__ = ["describe_file", "describe_job", "ffmpeg_versions", "versions"]

_SAMPLE = 2**20
_SAMPLES = 5
_PLACES = {"source", "output", "mask", "overwrite", "threads", "allow_url", "model", "device"}
"""Fields that say where things are or who does the work, not what is done; files are described by content."""


def describe_file(name: str) -> dict[str, Any]:
    """What tells a file from another: its size, when it was last changed, and a digest of some of its bytes.

    Reading all of a large file would take as long as a chunk.

    Raises:
        InputError: if it can't be read.
    """
    try:
        status = Path(name).stat()
        digest = hashlib.sha256()
        with open(name, "rb") as file:
            for part in range(_SAMPLES):
                file.seek(max(0, status.st_size - _SAMPLE) * part // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise InputError(f"{name} can't be read ({error.strerror})") from error
    return {"bytes": status.st_size, "changed": status.st_mtime_ns, "digest": digest.hexdigest()}


def describe_job(job: VideoJob, options: DebandOptions, chunk_seconds: Fraction) -> dict[str, Any]:
    """All that a job's result depends on, by name, as JSON can hold it.

    Args:
        job: what's asked for.
        options: how to deband.
        chunk_seconds: longest chunk.
    """
    from ..checkpoint import weights_path  # which imports torch: not before files and options are checked

    said: dict[str, Any] = {}
    for values in (job, options):
        given = {field.name: getattr(values, field.name) for field in fields(values)}
        said |= {name: _plain(value) for name, value in given.items() if name not in _PLACES}
    return said | {
        "source": describe_file(job.source),
        "mask": None if job.mask is None else describe_file(job.mask),
        "model": _describe_model(weights_path(str(options.model))),
        "device": _kind(options.device),
        "chunk_seconds": str(chunk_seconds),
        "versions": versions(),
    }


def _kind(device: str) -> str:
    """What kind of device it is: results of another differ a little."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device.partition(":")[0]


def _describe_model(path: Path) -> str | None:
    """The digest of its weights; `None` if there are none, which who loads them will say better."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _plain(value: object) -> object:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


@cache
def versions() -> dict[str, str]:
    """What makes a result, by name."""
    import torch

    packages = {"bdinn": version("bdinn"), "torch": torch.__version__, "av": av.__version__}
    return {**packages, **ffmpeg_versions()}


def ffmpeg_versions() -> dict[str, str]:
    """Of FFmpeg's libraries inside PyAV, by name."""
    return {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
