"""The stages of a job at work at the same time, a bounded way ahead of each other."""

import math
from collections.abc import Callable, Sequence
from itertools import batched
from threading import Lock

from av.packet import Packet

from ..errors import InputError
from .banding import BandingLooks
from .output import Writer
from .progress import Progress, Work
from .reader import Source
from .track import Picture
from .workers import Pipe, Stopwatch, Workers

__all__ = ["Stages"]

AHEAD = 4
"""Pictures a stage may be ahead of the next: enough to even out key frames and scene cuts."""
AHEAD_BYTES = 2**27
"""What they may take of memory: of pictures larger than 4K, only those in work are held."""


class Stages:
    """Reads and writes in threads of their own and debands in the caller's, where Ctrl-C arrives.

    Args:
        source: what's read, to its end.
        filters: each makes results of those of some pictures that it's for.
        batch_size: how many pictures they get at once.
        looks: measures the banding of some.
        writer: takes the results, and the packets it wants as they are.
        progress: is told of pictures and of work.
        keep_partial: whether a source that can't be read on is to be lived with.
    """

    count = 0
    """Pictures debanded."""
    failure: InputError | None = None
    """Why there are no more of them, where that's to be lived with."""

    def __init__(
        self,
        source: Source,
        filters: Sequence[Callable[[Sequence[Picture]], list[Picture]]],
        batch_size: int,
        looks: BandingLooks,
        writer: Writer,
        progress: Progress,
        keep_partial: bool,
    ) -> None:
        self._source = source
        self._filters = filters
        self._batch_size = batch_size
        self._looks = looks
        self._writer = writer
        self._progress = progress
        self._keep_partial = keep_partial
        ahead = _ahead(source, batch_size)
        self._decoded: Pipe[Picture] = Pipe(ahead)
        self._results: Pipe[Picture | Packet] = Pipe(ahead)
        self._log = _Log()

    def run(self) -> None:
        """Does all of it.

        Raises:
            BdinnError: if anything is wrong.
        """
        with Workers(self._decoded, self._results) as workers:
            workers.start(self._read)
            workers.start(self._write)
            self._deband()
            workers.join()
        self._progress.work(self._log.take())

    def _read(self) -> None:
        watch = Stopwatch()
        try:
            for item in self._source.items(self._writer.streams):
                if isinstance(item, Picture):
                    self._log.add(Work(decode_seconds=watch.lap()))
                    self._decoded.put(item)
                else:
                    self._results.put(item)
        except InputError as error:
            if not self._keep_partial:
                raise
            self.failure = error
        self._log.add(Work(decode_seconds=watch.lap()))
        self._decoded.finish()

    def _deband(self) -> None:
        watch = Stopwatch()
        for batch in batched(self._decoded, self._batch_size):
            self.count += len(batch)
            # In one name, so that what they were made of is held no longer.
            batch = self._filter(batch)
            self._log.add(Work(deband_seconds=watch.lap()))
            for picture in batch:
                self._results.put(picture)
        self._results.finish()

    def _filter(self, batch: Sequence[Picture]) -> list[Picture]:
        """What becomes of pictures, at the first of which there may be a look."""
        first = batch[0]
        results = [picture for deband in self._filters for picture in deband(batch)]
        result = next(picture for picture in results if picture.stream == first.stream)
        self._log.add(self._looks(first.content, result.frame))
        return results

    def _write(self) -> None:
        watch = Stopwatch()
        for item in self._results:
            if isinstance(item, Picture):
                self._writer.picture(item)
                self._log.add(Work(encode_seconds=watch.lap()))
                self._progress.advance(1)
                self._progress.work(self._log.take())
            else:
                self._writer.packet(item)
        self._log.add(Work(encode_seconds=watch.lap()))


class _Log:
    """Adds up the work of several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._work = Work()

    def add(self, work: Work) -> None:
        with self._lock:
            self._work += work

    def take(self) -> Work:
        """What was added since it was last taken."""
        with self._lock:
            work, self._work = self._work, Work()
        return work


def _ahead(source: Source, batch_size: int) -> int:
    """How many pictures may wait for a stage: one for each in a batch, and some to even out."""
    info = max((track.info for track in source.tracks), key=lambda info: info.width * info.height)
    bytes_each = 2 * sum(  # the planes, and the decoded frame
        info.format.dtype.itemsize * math.prod(info.format.plane_size(info.width, info.height, p))
        for p in range(info.format.num_planes)
    )
    return batch_size + min(AHEAD, AHEAD_BYTES // bytes_each)
