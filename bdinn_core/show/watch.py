"""Following a finished job: some pictures of its source, debanded once more, beside those of its result."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
import torch

from ..errors import InputError
from ..measure import banding_share, mean_change
from ..options import DebandOptions, Dither
from ..planes import Frame
from ..quantize import change_depth, quantize
from ..steps import plane_step
from ..transfer import upload
from ..video.cambi import Cambi
from ..video.codecs import Encoding
from ..video.job import VideoJob
from ..video.pipeline import open_filters, open_source, plan_encodings
from ..video.probe import VideoInfo
from ..video.progress import SILENT
from ..video.reader import Source
from ..video.track import Picture
from .preview import Window, crop, window_of
from .samples import one_stream

__all__ = ["VERSIONS", "Kept", "Watched", "luma_codes", "recode", "watch"]

POINTS = 100
"""Most pictures that are looked at: each is debanded, and scored three times."""
TOLD_SECONDS = 10
LATE_SECONDS = Fraction(1, 2)
"""How far a container may move pictures: some begin a few later."""
SHOWN = (960, 540)
"""Most of a picture that's kept, so that a page has a few MB."""
KEPT = 4
"""How many of these are kept to be shown: the most banded of as many parts of the video."""

Version = Literal["source", "filtered", "encoded"]
VERSIONS: tuple[Version, ...] = ("source", "filtered", "encoded")


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A picture to be shown, in each of its versions."""

    number: int
    time: Fraction
    banding: float
    window: Window
    """The part that's kept."""
    versions: dict[Version, Frame]


@dataclass(kw_only=True, eq=False)
class Watched:
    """What was seen."""

    source: VideoInfo
    result: VideoInfo
    encoding: Encoding
    times: list[Fraction] = field(default_factory=list)
    """In seconds after the source's first picture."""
    banding: dict[Version, list[float]] = field(default_factory=lambda: {name: [] for name in VERSIONS})
    """Share of luma's pixels that are beside an edge of a band."""
    change: dict[Version, list[float]] = field(default_factory=lambda: {"filtered": [], "encoded": []})
    """Mean change of luma since the source, in 8-bit steps."""
    cambi: dict[Version, list[float]] | None = None
    """CAMBI at 10 bits; `None` where it doesn't score pictures of that size."""
    kept: dict[int, Kept] = field(default_factory=dict)
    """By the part of the video, in order."""


def watch(job: VideoJob, options: DebandOptions, tell: Callable[[str], None]) -> Watched:
    """Looks at pictures of a job that's done, evenly spaced, as far as its result goes.

    Args:
        job: names source and result; of several video streams the first is looked at.
        options: how it was debanded.
        tell: is told now and then how far it is.

    Raises:
        BdinnError: if one of them can't be read.
    """
    job = one_stream(job)
    with ExitStack() as opened:
        source = opened.enter_context(closing(open_source(job, options, SILENT.warn)))
        track = source.tracks[0]
        encoding = plan_encodings(job, source, options)[track.index]
        result = opened.enter_context(
            closing(Source(job.output, None, None, threads=job.threads, video_stream=job.video_stream))
        )
        depths = {track.index: encoding.pixel.depth}
        deband = opened.enter_context(open_filters(job, options, source, depths, SILENT.warn))[0]
        watched = Watched(source=track.info, result=result.tracks[0].info, encoding=encoding)
        scorers = _scorers(track.info)
        for scorer in scorers.values():
            opened.enter_context(closing(scorer))
        _compare(result, track.info)
        frames = result.estimated_frames or 1
        every = max(1, -(-frames // POINTS))
        told = time.monotonic()
        # The result first: behind its end, the source may not be readable.
        originals = _pictures(source)
        for encoded in _pictures(result):
            original = next(originals, None)
            late = 0 if original is None else abs(encoded.time - original.time + source.skipped)
            if original is None or (result.has_times and late > LATE_SECONDS):
                raise InputError(f"{job.output} has other pictures than this job makes")
            if original.number % every == 0:
                [filtered] = deband([original])
                versions = dict(zip(VERSIONS, (original.frame, filtered.frame, encoded.frame), strict=True))
                _look(watched, original, versions, scorers, min(KEPT - 1, original.number * KEPT // frames))
                if time.monotonic() - told >= TOLD_SECONDS:
                    told = time.monotonic()
                    tell(f"looked at {len(watched.times)} of {-(-frames // every)} pictures")
        if not job.keep_partial and next(originals, None) is not None:
            raise InputError(f"{job.output} has fewer pictures than this job makes")
        if scorers:
            watched.cambi = {name: scorer.finish() for name, scorer in scorers.items()}
    if not watched.times:
        raise InputError(f"{job.output} has no picture to be looked at")
    return watched


def _compare(result: Source, info: VideoInfo) -> None:
    """Refuses a result that another job has made."""
    found = result.tracks[0].info
    kinds = [(i.width, i.height, i.format.family, i.format.subsampling) for i in (info, found)]
    if kinds[0] != kinds[1]:
        made = f"{found.width}x{found.height} {found.pixel.name}"
        wanted = f"{info.width}x{info.height} {info.pixel.name}"
        raise InputError(f"{result.name} is {made}, which isn't made of {wanted}")


def _scorers(info: VideoInfo) -> dict[Version, Cambi]:
    if not Cambi.takes(info.width, info.height):
        return {}
    return {name: Cambi(info.width, info.height) for name in VERSIONS}


def _pictures(source: Source) -> Iterator[Picture]:
    return (item for item in source.items(set()) if isinstance(item, Picture))


def _look(
    watched: Watched,
    picture: Picture,
    versions: dict[Version, Frame],
    scorers: dict[Version, Cambi],
    part: int,
) -> None:
    """Measures a picture, and keeps it if it's the most banded of its part."""
    watched.times.append(picture.time)
    luma = versions["source"].format.luma_plane
    step = plane_step(versions["source"], luma)
    for name, frame in versions.items():
        watched.banding[name].append(banding_share(frame, luma, step))
        if name in watched.change:
            watched.change[name].append(mean_change(versions["source"], frame, luma))
        if name in scorers:
            scorers[name].push(luma_codes(frame))
    banding = watched.banding["source"][-1]
    if part in watched.kept and banding <= watched.kept[part].banding:
        return
    window = window_of(versions["source"], step, *SHOWN)
    watched.kept[part] = Kept(
        number=picture.number,
        time=picture.time,
        banding=banding,
        window=window,
        versions={name: crop(frame, window) for name, frame in versions.items()},
    )


def luma_codes(frame: Frame) -> np.ndarray:
    """Luma as codes of 10 bits for `Cambi`: dithered where there are more."""
    form = frame.format
    plane = form.luma_plane
    if not form.is_float and form.bit_depth <= 10:
        return frame.planes[plane].astype(np.uint16) << (10 - form.bit_depth)
    return recode(frame, plane, 10, "blue_noise")


def recode(frame: Frame, plane: int, depth: int, dither: Dither) -> np.ndarray:
    """A plane of a frame as codes of another depth."""
    target = frame.format.with_depth(depth)
    values = upload(frame.planes[plane], torch.device("cpu"))
    return quantize(change_depth(values, frame.format, target, plane), target, dither, plane, 0)
