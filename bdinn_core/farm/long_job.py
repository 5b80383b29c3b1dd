"""One video, from its plan to the joined result."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

from ..errors import OptionError, OutputError
from ..options import DebandOptions
from ..video.damage import Damage
from ..video.images import is_image
from ..video.job import VideoJob
from ..video.output import check_output
from ..video.part_files import sync
from ..video.pipeline import Report, open_source, plan_encodings
from ..video.progress import SILENT, Progress
from ..video.reader import Source
from ..video.writer import MediaWriter
from ..video.y4m import is_y4m
from .chunks import Chunk, cut, why_whole
from .fingerprint import describe_job
from .folder import Plan, WorkFolder, has_status, is_joined, read_status
from .join import join, order_decoding
from .options import FarmOptions
from .segments import Segment, Task, read_segment, segment_suffix, write_header
from .work import Crew, Order, Part, Whole

__all__ = ["LongJob"]


class LongJob:
    """A video being made: in chunks wherever these can be joined, else in one go.

    Args:
        job: what to read and to write.
        options: how to deband.
        farm: how long chunks are.
        crew: who is going to do it.
        progress: is told what of the source isn't in the result, and how it's done.

    Raises:
        BdinnError: if anything is wrong; nothing is begun then.
    """

    def __init__(
        self, job: VideoJob, options: DebandOptions, farm: FarmOptions, crew: Crew, progress: Progress
    ) -> None:
        self.job = replace(job, threads=crew.threads)
        self._options = replace(options, device=crew.device)
        self._progress = progress
        self._told: set[str] = set()
        self._segments: dict[int, Segment] = {}
        self._folder: WorkFolder | None = None
        self._chunks: Sequence[Chunk] = []
        self.report: Report | None = None
        """How it ended."""
        if is_joined(job.output):
            self._end_joined()
            return
        check_output(job)
        if farm.chunk_seconds and Path(job.source).is_file() and _is_media(job.output):
            self._plan(farm)
        if self._folder is None and has_status(job.output):
            self._discard_kept(farm.restart)

    @property
    def pictures(self) -> int | None:
        """How many there will be; `None` if that's not known."""
        return sum(chunk.pictures for chunk in self._chunks) if self._chunks else None

    @property
    def pictures_done(self) -> int:
        """How many are done."""
        return sum(segment.pictures for segment in self._segments.values())

    def orders(self) -> Iterator[Order]:
        """What has still to be done."""
        if self._folder is None:
            yield Whole(job=self.job, options=self._options)
            return
        for chunk in self._chunks:
            if chunk.number not in self._segments and not self._ends_before(chunk):
                task = replace(self._task, chunk=chunk)
                yield Part(task=task, path=self._folder.path / self._file(chunk))

    def accept(self, result: Segment | Report) -> None:
        """Takes what a worker has done; with the last of it, the job is finished.

        Raises:
            BdinnError: if the result can't be put together.
        """
        if isinstance(result, Report):
            self.report = result
            return
        assert self._folder is not None
        self._folder.add(result)
        self._segments[result.number] = result
        self._tell(*result.warnings)
        self.finish_if_done()

    def finish_if_done(self) -> None:
        """Joins the segments if all are there.

        Raises:
            BdinnError: if the result can't be put together.
        """
        if self._folder is not None and next(self.orders(), None) is None and self.report is None:
            self._join(self._folder)

    def close(self) -> None:
        """Lets go of the folder; what's done stays there unless the job is finished."""
        if self._folder is not None:
            self._folder.close()

    @property
    def kept(self) -> str | None:
        """What there is to go on with, in words; `None` if it's nothing."""
        if self._folder is None or self.report is not None or not self._chunks:
            return None
        return f"{len(self._segments)} of {len(self._chunks)} chunks are kept in {self._folder.path}"

    def _plan(self, farm: FarmOptions) -> None:
        """Decides how it's done, or goes on as it was decided."""
        lines: list[str] = []
        with closing(open_source(self.job, self._options, lines.append)) as source:
            why = self._find_chunks(source, farm, lines.append)
        if why is not None:
            self._progress.note(f"{self.job.output} is made in one go: {why}")
        if self._chunks:
            self._tell(*lines)

    def _find_chunks(self, source: Source, farm: FarmOptions, warn: Callable[[str], None]) -> str | None:
        """Opens the folder where it's to be done in chunks; else says why not, if that's worth a word."""
        track = source.tracks[0]
        encodings = plan_encodings(self.job, source, self._options, joint=True)
        with closing(MediaWriter(self.job, source, encodings, warn)) as writer:
            container, encoder = writer.container_name, writer.encoders[track.index]
            has_global_header, header = encoder.has_global_header, encoder.header
        why = why_whole(self.job, source, container)
        if why is not None:
            frames = source.estimated_frames
            is_short = frames is not None and frames / track.info.rate <= farm.chunk_seconds
            return None if is_short else why
        what = describe_job(self.job, self._options, farm.chunk_seconds)
        with ExitStack() as opened:
            folder = opened.enter_context(closing(WorkFolder(self.job.output)))
            before = folder.resume(what, farm.restart)
            chunks = cut(self.job, source, farm.chunk_seconds) if before is None else before[0].chunks
            if chunks is None:
                return "its source can't be read to the end, or doesn't say when pictures are shown"
            if len(chunks) < 2 and farm.ray is None:
                return None
            if before is not None and before[0].threads != self.job.threads:
                as_begun = replace(self.job, threads=before[0].threads)
                encodings = plan_encodings(as_begun, source, self._options, joint=True)
            self._task = Task(
                job=self.job,
                options=self._options,
                encoding=encodings[track.index],
                container=container,
                global_header=has_global_header,
                chunk=chunks[0],
            )
            if before is None:
                if write_header(self._task, folder.path / self._file(chunks[0]), track.info) != header:
                    return f"{encodings[track.index].codec} doesn't always make the same header"
                folder.begin(what, Plan(chunks, self.job.threads))
            else:
                self._segments = {segment.number: segment for segment in before[1]}
                done = f"{len(self._segments)} of {len(chunks)} chunks are done"
                self._progress.note(f"resuming {self.job.output}: {done}")
            opened.pop_all()
            self._folder, self._chunks = folder, chunks
        return None

    def _discard_kept(self, restart: bool) -> None:
        """Removes what another run has kept, which would be of no use any more."""
        status = read_status(self.job.output)
        with closing(WorkFolder(self.job.output)) as folder:
            if not restart:
                kept = f"{folder.path} keeps {status.done} of {status.chunks} chunks"
                raise OptionError(
                    f"{kept}, which one go has no use for; leave --chunk-seconds as it was, or discard them "
                    "by --restart"
                )
            folder.remove()

    def _file(self, chunk: Chunk) -> str:
        return f"{chunk.number:05}{segment_suffix(self._task.encoding)}"

    def _tell(self, *lines: str) -> None:
        """Says what hasn't been said yet: chunks have much in common."""
        for line in lines:
            if line not in self._told:
                self._told.add(line)
                self._progress.warn(line)

    def _join(self, folder: WorkFolder) -> None:
        """Makes the result of the segments, and all else of the source."""
        segments = self._wanted_segments()
        failure = segments[-1].failure
        with ExitStack() as opened:
            source = opened.enter_context(closing(open_source(self.job, self._options, SILENT.warn)))
            track = source.tracks[0]
            encodings = {track.index: self._task.encoding}
            writer = opened.enter_context(closing(MediaWriter(self.job, source, encodings, SILENT.warn)))
            if failure is not None:
                last = max(segment.times[-1] for segment in segments if segment.times)
                source.timeline.end = last * track.tick + source.timeline.offset
            header = writer.encoders[track.index].header if self._task.global_header else None
            stored = (read_segment(segment, folder.path, track.tick, header) for segment in segments)
            delay = max(segment.delay for segment in segments)
            join(order_decoding(chain.from_iterable(stored), delay), source, writer)
            source.damage.keep("unsound")  # the rest was found by those who made the segments
            self._put_in_place(writer, folder, _report(segments, source.damage))

    def _put_in_place(self, writer: MediaWriter, folder: WorkFolder, report: Report) -> None:
        """Gives the result its name; a stop right then leaves a mark by which the job is known to be done."""
        part = writer.complete()
        try:
            sync(part)
            folder.mark_joined(part)
            writer.commit()
            sync(Path(self.job.output).absolute().parent)
        except OSError as error:
            raise OutputError(f"{self.job.output} can't be put in place ({error.strerror})") from error
        self.report = report
        folder.remove()
        report.tell(self._progress)

    def _end_joined(self) -> None:
        """Ends a job that was stopped when its result was in place."""
        self._folder = WorkFolder(self.job.output)
        self.report = _report(self._folder.segments())
        self._progress.note(f"resuming {self.job.output}: it was complete")
        self._folder.remove()
        self.report.tell(self._progress)

    def _wanted_segments(self) -> list[Segment]:
        """In order; after one with a failure there is nothing more."""
        segments = [self._segments[number] for number in sorted(self._segments)]
        failed = next((i for i, segment in enumerate(segments) if segment.failure is not None), len(segments))
        return segments[: failed + 1]

    def _ends_before(self, chunk: Chunk) -> bool:
        """Whether the source can't be read on as far as a chunk."""
        return any(s.failure is not None and s.number < chunk.number for s in self._segments.values())


def _is_media(output: str) -> bool:
    return not is_y4m(output) and not is_image(output)


def _report(segments: Sequence[Segment], *others: Damage) -> Report:
    """How a job ended that was made of segments."""
    damages = [damage for segment in segments for damage in segment.damages]
    pictures = sum(segment.pictures for segment in segments)
    return Report(pictures, _merge([*damages, *others]), segments[-1].failure)


def _merge(damages: Iterable[Damage]) -> list[Damage]:
    """One for each file in which there's any."""
    merged: dict[str, Damage] = {}
    for damage in damages:
        merged.setdefault(damage.name, Damage(damage.name)).merge(damage)
    return [damage for damage in merged.values() if damage]
