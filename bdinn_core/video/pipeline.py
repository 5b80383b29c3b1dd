"""Running a job: reading, debanding and writing at the same time, a bounded way ahead of each other."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import batched
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from av.packet import Packet

from ..errors import InputError
from ..options import DebandOptions
from ..planes import Frame
from .codecs import Encoding, choose_codec, plan_encoding
from .formats import alpha_to_depth
from .hwaccel import find_accelerator
from .images import ImageWriter, is_image
from .job import VideoJob
from .masks import MaskClip, open_mask
from .output import Writer, check_output
from .progress import Progress
from .reader import Picture, Source
from .workers import Pipe, Workers
from .writer import MediaWriter
from .y4m import Y4MWriter, is_y4m, plan_y4m

if TYPE_CHECKING:
    from ..engine import Debander

__all__ = ["Report", "run_job"]

AHEAD = 4
"""Pictures a stage may be ahead of the next: enough to even out key frames and scene cuts."""
AHEAD_BYTES = 2**27
"""What they may take of memory: of pictures larger than 4K, only those in work are held."""


class Report(NamedTuple):
    """How a job ended."""

    frames: int
    """Pictures written."""
    damaged: bool
    """Whether something of the source is missing in the result, or wrong."""


def run_job(job: VideoJob, options: DebandOptions, progress: Progress) -> Report:
    """Debands a video.

    Args:
        job: what to read and to write.
        options: how to deband. `output_depth` -1 means at least 10 bits where the encoder has them;
            `mask` is the job's.
        progress: is told how it goes.

    Returns:
        How it ended, if there is an output.

    Raises:
        BdinnError: if anything is wrong; then there is no output. Wrong options and files are found
            before the work starts.
    """
    check_output(job)
    with ExitStack() as opened:
        source = opened.enter_context(closing(_open_source(job, options.device, progress)))
        options.check_source(source.info.format.num_planes)
        encoding = _plan(job, source, options)
        mask = None
        if job.mask is not None:
            mask = open_mask(job.mask, source.info, job.start, job.end, job.threads)
        if isinstance(mask, MaskClip):
            opened.enter_context(closing(mask))
        writer = opened.enter_context(closing(_open_writer(job, source, encoding, progress)))
        engine = opened.enter_context(_engine(options, encoding, mask, job.threads, progress))
        progress.begin(source.estimated_frames)
        count, failure = _run_stages(source, engine, mask, writer, progress, job.keep_partial)
        writer.finish()
    if failure is not None:
        progress.warn(f"{failure}; what came before is kept: {count} pictures")
    if source.damage:
        progress.warn(f"{source.name} is damaged: {source.damage}")
    return Report(count, bool(failure or source.damage))


def _open_source(job: VideoJob, device: str, progress: Progress) -> Source:
    accelerator = find_accelerator(job.hwaccel, device, progress.warn)
    source = Source(
        job.source,
        job.start,
        job.end,
        threads=job.threads,
        accelerator=accelerator,
        allow_url=job.allow_url,
        strict=job.strict,
        video_stream=job.video_stream,
        rate=job.rate,
    )
    if accelerator is not None and not source.accelerated:
        codec = source.video.codec_context.name
        progress.warn(f"hwaccel {job.hwaccel} can't decode this {codec} picture: the CPU does")
    return source


def _plan(job: VideoJob, source: Source, options: DebandOptions) -> Encoding:
    if is_y4m(job.output):
        return plan_y4m(job, source.info, options.output_depth)
    return plan_encoding(
        choose_codec(job.codec, job.output),
        source.info,
        pix_fmt=job.pix_fmt,
        output_depth=options.output_depth,
        crf=job.crf,
        preset=job.preset,
        encoder_options=job.encoder_options,
        threads=job.threads,
        drop_hdr=job.hdr == "drop",
    )


def _open_writer(job: VideoJob, source: Source, encoding: Encoding, progress: Progress) -> Writer:
    hdr = source.info.hdr
    if is_y4m(job.output):
        if hdr:
            progress.warn(f"y4m can't say the source's {hdr}, nor its colours: tell the encoder")
        return Y4MWriter(job, source.info, encoding, progress.warn)
    if hdr and job.hdr == "drop":
        progress.warn(f"left out: {hdr}; the colour tags are kept")
    writer = ImageWriter if is_image(job.output) else MediaWriter
    return writer(job, source, encoding, progress.warn)


@contextmanager
def _engine(
    options: DebandOptions,
    encoding: Encoding,
    mask: np.ndarray | MaskClip | None,
    threads: int,
    progress: Progress,
) -> Iterator["Debander"]:
    """The engine, and torch set to as many threads as asked for."""
    # Importing torch takes seconds: not before everything that can be wrong has been looked at.
    import torch

    from ..engine import Debander

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        still = mask if isinstance(mask, np.ndarray) else None
        depth = 32 if encoding.pixel.is_float else encoding.pixel.bit_depth
        yield Debander(replace(options, mask=still, output_depth=depth), progress.warn)
    finally:
        torch.set_num_threads(before)


def _ahead(source: Source, batch_size: int) -> int:
    """How many pictures may wait for a stage: one for each in a batch, and some to even out."""
    info = source.info
    bytes_each = 2 * sum(  # the planes, and the decoded frame
        info.format.dtype.itemsize * math.prod(info.format.plane_size(info.width, info.height, p))
        for p in range(info.format.num_planes)
    )
    return batch_size + min(AHEAD, AHEAD_BYTES // bytes_each)


def _run_stages(
    source: Source,
    engine: "Debander",
    mask: np.ndarray | MaskClip | None,
    writer: Writer,
    progress: Progress,
    keep_partial: bool,
) -> tuple[int, InputError | None]:
    """Reads and writes in threads of their own and debands in this one, where Ctrl-C arrives.

    Returns:
        The number of pictures, and why there are no more of them, if that's a failure to be lived with.
    """
    ahead = _ahead(source, engine.batch_size)
    decoded: Pipe[Picture] = Pipe(ahead)
    results: Pipe[Picture | Packet] = Pipe(ahead)
    count = 0
    failure: InputError | None = None

    def read() -> None:
        nonlocal failure
        try:
            for item in source.items(writer.streams):
                if isinstance(item, Picture):
                    decoded.put(item)
                else:
                    results.put(item)
        except InputError as error:
            if not keep_partial:
                raise
            failure = error
        decoded.finish()

    def write() -> None:
        for item in results:
            if isinstance(item, Picture):
                writer.picture(item)
                progress.advance(1)
            else:
                writer.packet(item)

    with Workers(decoded, results) as workers:
        workers.start(read)
        workers.start(write)
        for batch in batched(decoded, engine.batch_size):
            count += len(batch)
            batch = _deband(batch, engine, mask)  # what it was made of is held no longer
            for picture in batch:
                results.put(picture)
        results.finish()
        workers.join()
    return count, failure


def _deband(
    batch: Sequence[Picture], engine: "Debander", mask: np.ndarray | MaskClip | None
) -> Sequence[Picture]:
    first = batch[0].number
    masks = [mask.next(p.number) for p in batch] if isinstance(mask, MaskClip) else None
    frames = engine.process([p.content for p in batch], first, masks)
    return [_result(p, frame) for p, frame in zip(batch, frames, strict=True)]


def _result(picture: Picture, frame: Frame) -> Picture:
    alpha = picture.alpha
    if alpha is not None:
        alpha = alpha_to_depth(alpha, picture.content.format, frame.format)
    return replace(picture, content=frame, alpha=alpha)
