"""Running a job: what reads, what debands, what writes, and how it ended."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..errors import OptionError
from ..options import DebandOptions
from ..planes import Frame
from .banding import BandingLooks
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
from .stages import Stages
from .track import Picture, Track
from .writer import MediaWriter
from .y4m import Y4MWriter, is_y4m, plan_y4m

__all__ = ["Filter", "Report", "deband", "open_filters", "open_source", "plan_encodings", "run_job"]


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

    @property
    def lines(self) -> list[str]:
        """What's missing or wrong."""
        lines = [f"{damage}" for damage in self.damages]
        if self.failure is None:
            return lines
        return [f"{self.failure}; what came before is kept: {self.frames} pictures", *lines]

    def tell(self, progress: Progress) -> None:
        """Says what's missing or wrong."""
        for line in self.lines:
            progress.warn(line)


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
    looks: BandingLooks | None = None,
) -> Report:
    """Hands a source's pictures on to a writer, debanded, and the packets it wants as they are.

    Args:
        job: how source and mask are read.
        options: how to deband; `mask` is the job's.
        source: what's read, to its end.
        encodings: what the pictures become, by the index of their track.
        writer: takes the result; it isn't finished.
        progress: is told how it goes.
        looks: measures the banding of some; `None` begins with the first.

    Raises:
        BdinnError: if anything is wrong.
    """
    depths = {index: encoding.pixel.depth for index, encoding in encodings.items()}
    with open_filters(job, options, source, depths, progress.warn) as filters:
        batch_size = max(each.batch_size for each in filters)
        looks = looks or BandingLooks()
        stages = Stages(source, filters, batch_size, looks, writer, progress, job.keep_partial)
        stages.run()
    damages = [damage for damage in (source.damage, *(each.mask_damage for each in filters)) if damage]
    return Report(stages.count, damages, None if stages.failure is None else f"{stages.failure}")


@contextmanager
def open_filters(
    job: VideoJob,
    options: DebandOptions,
    source: Source,
    depths: Mapping[int, int],
    warn: Callable[[str], None],
) -> Iterator[list["Filter"]]:
    """What debands the pictures of each track of a source, while its mask is open.

    Args:
        job: how the mask is read.
        options: how to deband; `mask` is the job's.
        source: what's read.
        depths: of the results, by the index of their track, as `DebandOptions.output_depth`.
        warn: is told when tiles become smaller.

    Raises:
        BdinnError: if the mask can't be read, or the model can't be loaded.
    """
    with ExitStack() as opened:
        masks: list[Mask | None] = []
        for track in source.tracks:
            mask = None if job.mask is None else open_mask(job, job.mask, source, track.info)
            if isinstance(mask, MaskClip):
                opened.enter_context(closing(mask))
            masks.append(mask)
        opened.enter_context(_torch_threads(job.threads))
        tracks = zip(source.tracks, masks, strict=True)
        yield [Filter(track.index, options, depths[track.index], mask, warn) for track, mask in tracks]


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


class Filter:
    """Debands the pictures of one track."""

    def __init__(
        self,
        index: int,
        options: DebandOptions,
        depth: int,
        mask: Mask | None,
        warn: Callable[[str], None],
    ) -> None:
        from ..engine import Debander

        self._index = index
        still = mask if isinstance(mask, np.ndarray) else None
        self._engine = Debander(replace(options, mask=still, output_depth=depth), warn)
        self._clip = mask if isinstance(mask, MaskClip) else None
        self.batch_size = self._engine.batch_size
        """How many pictures are best handed over at once."""

    @property
    def mask_damage(self) -> Damage | None:
        """What was found wrong with the mask, if that's a clip."""
        return None if self._clip is None else self._clip.damage

    def __call__(self, batch: Sequence[Picture]) -> list[Picture]:
        """What becomes of those that are of this track."""
        own = [p for p in batch if p.stream == self._index]
        if not own:
            return []
        masks = None if self._clip is None else [self._clip.at(p) for p in own]
        frames = self._engine.process([p.content for p in own], own[0].number, masks)
        return [_result(p, frame) for p, frame in zip(own, frames, strict=True)]


def _result(picture: Picture, frame: Frame) -> Picture:
    alpha = picture.alpha
    if alpha is not None:
        alpha = alpha_to_depth(alpha, picture.content.format, frame.format)
    return replace(picture, content=frame, alpha=alpha)
