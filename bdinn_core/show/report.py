"""Reports: one page about a job, to be looked at in a browser, without a network.

A picture's result depends on the picture, its number and the options alone. So a report is made behind a job,
however that was done: some pictures of the source are debanded once more, and compared with the file's.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from ..options import DebandOptions
from ..planes import Frame
from ..video.job import VideoJob
from ..video.probe import VideoInfo
from .colours import GREY_FACTOR, RADIUS_PX, Colours
from .facts import tables
from .preview import FULL_CHANGE, LOWERED, RAISED
from .samples import clock
from .verdict import Sentence, judge
from .watch import Kept, Watched, recode, watch

__all__ = ["make_report"]

MOST_DEPTH = 12
"""Bits that are kept of a picture: a 16th of an 8-bit step is more than the highest contrast shows."""
_THREE = "source → filtered → file"


def make_report(
    job: VideoJob,
    options: DebandOptions,
    run: Mapping[str, str],
    damage: Sequence[str],
    command: str,
    tell: Callable[[str], None],
) -> str:
    """Makes the report of a job that's done.

    Args:
        job: names source and result.
        options: how it was debanded.
        run: figures of the run, by name, such as its speed.
        damage: what's missing or wrong in the result, in lines.
        command: the command line.
        tell: is told now and then how far it is, and at last what the report says.

    Returns:
        A page of HTML.

    Raises:
        BdinnError: if source or result can't be read.
    """
    watched = watch(job, options, tell)
    verdict = [*(Sentence(line, warn=True) for line in damage), *judge(watched, options, job.output)]
    data = {
        "files": {"source": job.source, "output": job.output},
        "verdict": [sentence._asdict() for sentence in verdict],
        "figures": [*_figures(watched).items(), *run.items()],
        "curves": _curves(watched),
        "frames": [_pack_picture(kept, watched.source) for kept in watched.kept.values()],
        "colours": asdict(Colours.of(watched.source)),
        "radius": RADIUS_PX,
        "greyFactor": GREY_FACTOR,
        "fullChange": FULL_CHANGE,
        "raised": RAISED,
        "lowered": LOWERED,
        "tables": tables(job, options, watched, command),
    }
    for sentence in verdict:
        tell(sentence.text)
    return _page(data)


def _figures(watched: Watched) -> dict[str, str]:
    figures = {"pictures looked at": f"{len(watched.times)}"}
    if watched.cambi is not None:
        figures[f"CAMBI: {_THREE}"] = "→".join(f"{mean(scores):.1f}" for scores in watched.cambi.values())
    shares = (100 * mean(shares) for shares in watched.banding.values())
    figures[f"pixels at edges of bands, %: {_THREE}"] = "→".join(f"{share:.1f}" for share in shares)
    figures["mean change, in 8-bit steps"] = f"{mean(watched.change['filtered']):.2f}"
    return figures


def _curves(watched: Watched) -> dict[str, Any]:
    shares = {name: [100 * share for share in shares] for name, shares in watched.banding.items()}
    charts = {
        "Pixels at edges of bands, up to 4 steps high, %": shares,
        "Mean change, in 8-bit steps": watched.change,
    }
    if watched.cambi is not None:
        charts = {"CAMBI at 10 bits, up to 1 step high: 5 is slightly annoying": watched.cambi, **charts}
    return {
        "times": [float(time) for time in watched.times],
        "clocks": [clock(time) for time in watched.times],
        "charts": charts,
    }


def _pack_picture(kept: Kept, info: VideoInfo) -> dict[str, Any]:
    left, top, width, height = kept.window
    whole = (width, height) == (info.width, info.height)
    part = "" if whole else f"; {width}x{height} of it, from {left}, {top}, where it has most bands"
    return {
        "clock": clock(kept.time),
        "where": f"picture {kept.number}, {info.width}x{info.height}{part}",
        "versions": {name: _pack_frame(frame) for name, frame in kept.versions.items()},
    }


def _pack_frame(frame: Frame) -> list[dict[str, Any]]:
    """The planes of a frame; what has more bits, or is float, gets `MOST_DEPTH`."""
    less = frame.format.is_float or frame.format.bit_depth > MOST_DEPTH
    form = frame.format.with_depth(MOST_DEPTH) if less else frame.format
    planes: list[dict[str, Any]] = []
    for p, plane in enumerate(frame.planes):
        if less:
            plane = recode(frame, p, MOST_DEPTH, "none")
        planes.append(
            {
                "width": plane.shape[1],
                "height": plane.shape[0],
                "zero": form.scale(p).zero,
                "span": form.scale(p).span,
                "codes": _pack(plane),
            }
        )
    return planes


def _pack(codes: np.ndarray) -> str:
    """Codes as text: each one's difference to that before, low bytes before high ones, zlib, base64."""
    flat = codes.astype(np.uint16).ravel()
    steps = np.diff(flat, prepend=np.uint16(0))
    data = (steps & 255).astype(np.uint8).tobytes() + (steps >> 8).astype(np.uint8).tobytes()
    return b64encode(zlib.compress(data)).decode()


def _page(data: dict[str, Any]) -> str:
    """The page; nothing in the data can end the element that it's in."""
    here = Path(__file__).parent
    parts = {
        "/*STYLE*/": (here / "report.css").read_text(encoding="utf-8"),
        "/*SCRIPT*/": (here / "report.js").read_text(encoding="utf-8"),
        "/*DATA*/": json.dumps(data).replace("<", "\\u003c"),
    }
    page = (here / "report.html").read_text(encoding="utf-8")
    for place, part in parts.items():
        page = page.replace(place, part)
    return page
