"""The tables of a report: what was read and written, what was asked for, and what did it."""

import platform
from dataclasses import fields
from typing import Any

from av.video.reformatter import ChromaLocation, ColorPrimaries, ColorTrc

from ..checks import version_of
from ..options import DebandOptions
from ..video.job import VideoJob
from ..video.probe import VideoInfo
from .watch import Watched

__all__ = ["tables"]

_RANGES = ("unspecified", "limited", "full")
_MATRICES = {
    0: "RGB", 1: "BT.709", 2: "unspecified", 4: "FCC", 5: "BT.470BG", 6: "SMPTE 170M", 7: "SMPTE 240M",
    8: "YCgCo", 9: "BT.2020 ncl", 10: "BT.2020 cl", 14: "ICtCp",
}  # fmt: skip
"""By H.273's numbers."""
_PACKAGES = ("bdinn", "torch", "numpy", "numba", "av")


def tables(job: VideoJob, options: DebandOptions, watched: Watched, command: str) -> list[dict[str, Any]]:
    """The tables: each has a title, rows whose first cell names them, and maybe names of columns."""
    before, after = _describe(watched.source), _describe(watched.result)
    return [
        {
            "title": "Picture",
            "columns": ["source", "result"],
            "rows": [[name, before[name], after[name]] for name in before],
        },
        {"title": "Encoding", "rows": _encoding(watched)},
        {"title": "Settings", "rows": [["command", command], *_settings(job, options)]},
        {"title": "Versions", "rows": _versions()},
    ]


def _describe(info: VideoInfo) -> dict[str, str]:
    tags = info.tags
    return {
        "size": f"{info.width}x{info.height}",
        "pixel format": info.pix_fmt,
        "frame rate": f"{float(info.rate):.3f}",
        "range": _RANGES[tags.range] if tags.range < len(_RANGES) else f"{tags.range}",
        "matrix": _MATRICES.get(tags.matrix, f"{tags.matrix}"),
        "primaries": _named(ColorPrimaries, tags.primaries),
        "transfer": _named(ColorTrc, tags.transfer),
        "chroma location": _named(ChromaLocation, tags.chroma_location),
        "pixel aspect": "unspecified" if tags.sample_aspect_ratio is None else f"{tags.sample_aspect_ratio}",
        "high dynamic range": f"{info.hdr}" if info.hdr else "nothing beyond the tags",
    }


def _named(names: Any, number: int) -> str:
    """H.273's number in FFmpeg's words."""
    try:
        return names(number).name.lower()
    except ValueError:
        return f"{number}"


def _encoding(watched: Watched) -> list[list[str]]:
    codec, pixels, options = watched.encoding.codec, watched.encoding.pix_fmt, watched.encoding.options
    return [["codec", codec], ["pixel format", pixels], *(list(option) for option in options.items())]


def _settings(job: VideoJob, options: DebandOptions) -> list[list[str]]:
    """All of debanding's."""
    rows = [["mask", job.mask]] if job.mask else []
    for field in fields(options):
        if field.name != "mask":
            value = getattr(options, field.name)
            rows.append([field.name, "automatic" if value is None else f"{value}"])
    return rows


def _versions() -> list[list[str]]:
    rows = [["Python", platform.python_version()], ["system", platform.platform()]]
    return [*rows, *([package, version_of(package) or "not installed by pip"] for package in _PACKAGES)]
