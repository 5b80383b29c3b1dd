"""Running a job: reading, debanding and writing at the same time, a bounded way ahead of each other."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import batched
from typing import NamedTuple

import numpy as np
from av.packet import Packet

from ..errors import InputError, OptionError
from ..options import DebandOptions
from ..planes import Frame
from .codecs import Encoding, choose_codec, plan_encoding
from .damage import Damage
from .formats import alpha_to_depth
from .hwaccel import find_accelerator
from .images import ImageWriter, is_image
from .job import VideoJob
from .masks import Mask, MaskClip, open_mask
from .output import Writer, check_output
from .progress import Progress
from .reader import Source
from .track import Picture, Track
from .workers import Pipe, Workers
from .writer import MediaWriter
from .y4m import Y4MWriter, is_y4m, plan_y4m

__all__ = ["Report", "deband", "open_source", "plan_encodings", "run_job"]

AHEAD = 4
"""Pictures a stage may be ahead of the next: enough to even out key frames and scene cuts."""
AHEAD_BYTES = 2**27
"""What they may take of memory: of pictures larger than 4K, only those in work are held."""


class Report(NamedTuple):
    """How a job ended."""

    frames: int
    """Pictures written."""
    damages: Sequence[Damage] = ()
    """What's wrong with the source, and with a mask."""
    failure: str | None = None
    """Why there are no more pictures, where that's to be lived with."""

    @property
    def damaged(self) -> bool:
        """Whether something of the source is missing in the result, or wrong."""
        return bool(self.damages or self.failure)

    def tell(self, progress: Progress) -> None:
        """Says what's missing or wrong."""
        if self.failure is not None:
            progress.warn(f"{self.failure}; what came before is kept: {self.frames} pictures")
        for damage in self.damages:
            progress.warn(f"{damage}")


def run_job(job: VideoJob, options: DebandOptions, progress: Progress) -> Report:
    """Debands a video in one go.

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
        source = opened.enter_context(closing(open_source(job, options, progress.warn)))
        encodings = plan_encodings(job, source, options)
        writer = opened.enter_context(closing(_open_writer(job, source, encodings, progress.warn)))
        progress.begin(source.estimated_frames)
        report = deband(job, options, source, encodings, writer, progress)
        for track in source.tracks:
            if not track.count and report.failure is None:
                where = f"{source.name}, stream {track.index},"
                raise OptionError(f"{where} has no picture between start and end; move one of them")
        writer.finish()
    report.tell(progress)
    return report


def deband(
    job: VideoJob,
    options: DebandOptions,
    source: Source,
    encodings: Mapping[int, Encoding],
    writer: Writer,
    progress: Progress,
) -> Report:
    """Hands a source's pictures on to a writer, debanded, and the packets it wants as they are.

    Args:
        job: how source and mask are read.
        options: how to deband; `mask` is the job's.
        source: what's read, to its end.
        encodings: what the pictures become, by the index of their track.
        writer: takes the result; it isn't finished.
        progress: is told how it goes.

    Raises:
        BdinnError: if anything is wrong.
    """
    masks: dict[int, Mask] = {}
    with ExitStack() as opened:
        if job.mask is not None:
            for track in source.tracks:
                mask = masks[track.index] = open_mask(job, job.mask, source, track.info)
                if isinstance(mask, MaskClip):
                    opened.enter_context(closing(mask))
        opened.enter_context(_torch_threads(job.threads))
        filters = [
            _Filter(track.index, options, encodings[track.index], masks.get(track.index), progress.warn)
            for track in source.tracks
        ]
        count, failure = _run_stages(source, filters, writer, progress, job.keep_partial)
    clips = [mask for mask in masks.values() if isinstance(mask, MaskClip)]
    damages = [damage for damage in (source.damage, *(clip.damage for clip in clips)) if damage]
    return Report(count, damages, None if failure is None else f"{failure}")


def open_source(job: VideoJob, options: DebandOptions, warn: Callable[[str], None]) -> Source:
    """What a job reads.

    Raises:
        BdinnError: if it can't be read, or debanded by such options.
    """
    accelerator = find_accelerator(job.hwaccel, options.device, warn)
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
        keep_hdr=job.hdr == "keep" and not is_y4m(job.output),
    )
    for track in source.tracks:
        if accelerator is not None and not track.accelerated:
            codec = track.stream.codec_context.name
            warn(f"hwaccel {job.hwaccel} can't decode this {codec} picture: the CPU does")
        options.check_source(track.info.format.num_planes)
    return source


def plan_encodings(
    job: VideoJob, source: Source, options: DebandOptions, joint: bool = False
) -> dict[int, Encoding]:
    """How each track of a source is going to be encoded, by its index; with `joint` to be joined with others.

    Raises:
        BdinnError: as `plan_encoding`.
    """
    return {track.index: _plan(job, track, options, joint) for track in source.tracks}


def _plan(job: VideoJob, track: Track, options: DebandOptions, joint: bool) -> Encoding:
    if is_y4m(job.output):
        return plan_y4m(job, track.info, options.output_depth)
    return plan_encoding(
        choose_codec(job.codec, job.output),
        track.info,
        pix_fmt=job.pix_fmt,
        output_depth=options.output_depth,
        crf=job.crf,
        preset=job.preset,
        encoder_options=job.encoder_options,
        threads=job.threads,
        drop_hdr=job.hdr == "drop",
        joint=joint,
    )


def _open_writer(
    job: VideoJob, source: Source, encodings: Mapping[int, Encoding], warn: Callable[[str], None]
) -> Writer:
    """What writes a job's result, as its output is named.

    Raises:
        BdinnError: if it can't hold what the source has.
    """
    first = source.tracks[0]
    if len(source.tracks) > 1 and (is_y4m(job.output) or is_image(job.output)):
        raise OptionError(f"{job.output} holds one video stream, not all: name one, as --video-stream 0")
    hdr = next((track.info.hdr for track in source.tracks if track.info.hdr), None)
    if is_y4m(job.output):
        if hdr is not None:
            warn(f"y4m can't say the source's {hdr}, nor its colours: tell the encoder")
        return Y4MWriter(job, first.info, encodings[first.index], warn)
    if hdr is not None and job.hdr == "drop":
        warn(f"left out: {hdr}; the colour tags are kept")
    if is_image(job.output):
        return ImageWriter(job, source, encodings[first.index], warn)
    return MediaWriter(job, source, encodings, warn)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """PyTorch with so many threads; 0 leaves it as it is."""
    # Importing torch takes seconds: not before everything that can be wrong has been looked at.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Filter:
    """Debands the pictures of one track."""

    def __init__(
        self,
        index: int,
        options: DebandOptions,
        encoding: Encoding,
        mask: Mask | None,
        warn: Callable[[str], None],
    ) -> None:
        from ..engine import Debander

        self._index = index
        still = mask if isinstance(mask, np.ndarray) else None
        depth = 32 if encoding.pixel.is_float else encoding.pixel.bit_depth
        self._engine = Debander(replace(options, mask=still, output_depth=depth), warn)
        self._clip = mask if isinstance(mask, MaskClip) else None
        self.batch_size = self._engine.batch_size

    def __call__(self, batch: Sequence[Picture]) -> list[Picture]:
        """What becomes of those that are of this track."""
        own = [p for p in batch if p.stream == self._index]
        if not own:
            return []
        masks = None if self._clip is None else [self._clip.at(p) for p in own]
        frames = self._engine.process([p.content for p in own], own[0].number, masks)
        return [_result(p, frame) for p, frame in zip(own, frames, strict=True)]


def _ahead(source: Source, batch_size: int) -> int:
    """How many pictures may wait for a stage: one for each in a batch, and some to even out."""
    info = max((track.info for track in source.tracks), key=lambda info: info.width * info.height)
    bytes_each = 2 * sum(  # the planes, and the decoded frame
        info.format.dtype.itemsize * math.prod(info.format.plane_size(info.width, info.height, p))
        for p in range(info.format.num_planes)
    )
    return batch_size + min(AHEAD, AHEAD_BYTES // bytes_each)


def _run_stages(
    source: Source,
    filters: Sequence[_Filter],
    writer: Writer,
    progress: Progress,
    keep_partial: bool,
) -> tuple[int, InputError | None]:
    """Reads and writes in threads of their own and debands in this one, where Ctrl-C arrives.

    Returns:
        The number of pictures, and why there are no more of them, if that's a failure to be lived with.
    """
    batch_size = max(deband.batch_size for deband in filters)
    ahead = _ahead(source, batch_size)
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
        for batch in batched(decoded, batch_size):
            count += len(batch)
            # In one name, so that what they were made of is held no longer.
            batch = [picture for deband in filters for picture in deband(batch)]
            for picture in batch:
                results.put(picture)
        results.finish()
        workers.join()
    return count, failure


def _result(picture: Picture, frame: Frame) -> Picture:
    alpha = picture.alpha
    if alpha is not None:
        alpha = alpha_to_depth(alpha, picture.content.format, frame.format)
    return replace(picture, content=frame, alpha=alpha)
