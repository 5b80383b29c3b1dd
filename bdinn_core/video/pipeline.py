"""Running a job: reading, debanding and writing at the same time, a bounded way ahead of each other."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from av.packet import Packet

from ..options import DebandOptions
from ..planes import Frame
from .codecs import Encoding, plan_encoding
from .formats import alpha_to_depth
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

__all__ = ["run_job"]

AHEAD = 4
"""Pictures a stage may be ahead of the next: enough to even out key frames and scene cuts."""


def run_job(job: VideoJob, options: DebandOptions, progress: Progress) -> int:
    """Debands a video.

    Args:
        job: what to read and to write.
        options: how to deband. `output_depth` -1 means at least 10 bits where the encoder has them;
            `mask` is the job's.
        progress: is told how it goes.

    Returns:
        The number of pictures written.

    Raises:
        BdinnError: if anything is wrong; then there is no output. Wrong options and files are found
            before the work starts.
    """
    check_output(job)
    with ExitStack() as opened:
        source = opened.enter_context(closing(Source(job.source, job.start, job.end)))
        options.check_source(source.info.format.num_planes)
        encoding = _plan(job, source, options)
        mask = None if job.mask is None else open_mask(job.mask, source.info, job.start, job.end)
        if isinstance(mask, MaskClip):
            opened.enter_context(closing(mask))
        writer = opened.enter_context(closing(_open_writer(job, source, encoding, progress)))
        engine = _load_engine(options, encoding, mask)
        progress.begin(source.estimated_frames)
        count = _run_stages(source, engine, mask, writer, progress)
        writer.finish()
        expected = source.estimated_frames if source.tells_length else None
    if expected is not None and count < 0.95 * expected - 1:
        progress.warn(f"{source.name} ended after {count} of about {expected} frames; it may be damaged")
    return count


def _plan(job: VideoJob, source: Source, options: DebandOptions) -> Encoding:
    if is_y4m(job.output):
        return plan_y4m(job, source.info, options.output_depth)
    return plan_encoding(
        job.codec,
        source.info,
        pix_fmt=job.pix_fmt,
        output_depth=options.output_depth,
        crf=job.crf,
        preset=job.preset,
        encoder_options=job.encoder_options,
    )


def _open_writer(job: VideoJob, source: Source, encoding: Encoding, progress: Progress) -> Writer:
    if source.info.interlaced:
        progress.warn("the source is interlaced: its fields are debanded one by one, but their order is lost")
    if source.info.hdr:
        progress.warn(f"HDR metadata ({', '.join(source.info.hdr)}) is lost; the colour tags are kept")
    if is_y4m(job.output):
        return Y4MWriter(job.output, source.info, encoding, progress.warn)
    return MediaWriter(job, source, encoding, progress.warn)


def _load_engine(
    options: DebandOptions, encoding: Encoding, mask: np.ndarray | MaskClip | None
) -> "Debander":
    # Importing torch takes seconds: not before everything that can be wrong has been looked at.
    from ..engine import Debander

    still = mask if isinstance(mask, np.ndarray) else None
    depth = 32 if encoding.pixel.is_float else encoding.pixel.bit_depth
    return Debander(replace(options, mask=still, output_depth=depth))


def _run_stages(
    source: Source, engine: "Debander", mask: np.ndarray | MaskClip | None, writer: Writer, progress: Progress
) -> int:
    """Reads and writes in threads of their own and debands in this one, where Ctrl-C arrives."""
    decoded: Pipe[Picture] = Pipe(AHEAD + engine.batch_size)
    results: Pipe[Picture | Packet] = Pipe(AHEAD + engine.batch_size)
    count = 0

    def read() -> None:
        for item in source.items(writer.streams):
            if isinstance(item, Picture):
                decoded.put(item)
            else:
                results.put(item)
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
        for batch in _batches(decoded, engine.batch_size):
            for picture in _deband(batch, engine, mask):
                results.put(picture)
            count += len(batch)
        results.finish()
        workers.join()
    return count


def _batches(pictures: Pipe[Picture], size: int) -> Iterator[list[Picture]]:
    """Groups of `size` pictures; the last may be smaller."""
    batch: list[Picture] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _deband(batch: list[Picture], engine: "Debander", mask: np.ndarray | MaskClip | None) -> list[Picture]:
    first = batch[0].number
    masks = [mask.next(p.number) for p in batch] if isinstance(mask, MaskClip) else None
    frames = engine.process([p.frame for p in batch], first, masks)
    return [_result(p, frame) for p, frame in zip(batch, frames, strict=True)]


def _result(picture: Picture, frame: Frame) -> Picture:
    alpha = picture.alpha
    if alpha is not None:
        alpha = alpha_to_depth(alpha, picture.frame.format, frame.format)
    return replace(picture, frame=frame, alpha=alpha)
