"""What is found in a source, plane by plane, and the settings that would be used on it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from statistics import mean
from typing import NamedTuple

from ..engine import Debander
from ..measure import measure_plane
from ..options import DebandOptions
from ..planes import Frame
from ..video.job import VideoJob
from ..video.pipeline import open_source
from ..video.progress import SILENT
from ..views import View, see
from .samples import one_stream, pictures, result_depth

__all__ = ["analyze"]

LOOKED_AT = 8
_PLANE_NAMES = {"gray": ("Y",), "yuv": ("Y", "U", "V"), "rgb": ("R", "G", "B")}


class _Found(NamedTuple):
    """What's found in a plane of one picture, and how it would be debanded; lengths are in 8-bit steps."""

    banding: float
    noise: float
    step: float
    limit: float
    """Largest change at strength 1."""
    strength: float


def analyze(job: VideoJob, options: DebandOptions) -> Iterator[str]:
    """Looks at some pictures of a source, spread evenly over what the job wants of it.

    Args:
        job: names the source and how it's read.
        options: how it would be debanded.

    Yields:
        Lines that say what was found.

    Raises:
        BdinnError: if it can't be read.
    """
    with closing(open_source(one_stream(job), options, SILENT.warn)) as source:
        depth = result_depth(job, source, options)
    engine = Debander(options)
    frames = [picture.frame for picture in pictures(job, options, LOOKED_AT)]
    form = frames[0].format
    kind = "float" if form.is_float else f"{form.bit_depth} bits"
    size = f"{frames[0].width}x{frames[0].height}"
    yield f"{job.source}: {size}, {form.family}, {kind}, {form.range} range; looked at: {len(frames)}"
    yield "plane   banding   noise    step   limit  strength"
    views = [see(frame, range(len(frame.planes)), options.step, engine.device) for frame in frames]
    for p, name in enumerate(_PLANE_NAMES[form.family]):
        yield _row(name, [_look(frame, view, engine, p) for frame, view in zip(frames, views, strict=True)])
    behind = sum(view.to_rgb is not None for view in views)
    if behind:
        yield f"{behind} of {len(frames)} pictures have their bands in Y'CbCr, and are debanded there"
    yield f"result: {'float' if depth == 32 else f'{depth} bits'}, dither {options.dither}"
    yield f"model {options.model} on {engine.device} ({engine.backend})"
    yield "banding: pixels beside an edge of a band; noise, step and limit (largest change): 8-bit steps"


def _look(frame: Frame, view: View, engine: Debander, plane: int) -> _Found:
    """What's found in a plane of a picture, of RGB in the luma behind it if its bands were made there."""
    signal = view.signals[plane if view.to_rgb is None else 0]
    measured = measure_plane(frame, plane, signal.step)
    limit = min(engine.options.limit, signal.limit) * signal.step
    return _Found(measured.banding, measured.noise, signal.step, limit, engine.strength_of(frame, plane))


def _row(name: str, planes: Sequence[_Found]) -> str:
    """A line of the table: means, and the step that most pictures have."""
    [(step, count)] = Counter(plane.step for plane in planes).most_common(1)
    limit = next(plane.limit for plane in planes if plane.step == step)
    also = "" if count == len(planes) else f"  (step {step:g} in {count} of {len(planes)} pictures)"
    return (
        f"{name:6}{100 * mean(p.banding for p in planes):7.1f} %{mean(p.noise for p in planes):8.2f}"
        f"{step:8g}{limit:8g}{planes[0].strength:10g}{also}"
    )
