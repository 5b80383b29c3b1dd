"""Reading a source: pictures in the order they are shown, everything else as packets."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from math import ceil, inf, prod
from typing import Literal, NamedTuple, NoReturn

import av
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition

from ..errors import InputError, OptionError
from .damage import Damage
from .opening import STDIO, Y4M_FRAME, Y4M_MAGIC, open_input, reason
from .probe import find_videos, fraction
from .timeline import Timeline
from .track import Picture, Track, time_of

__all__ = ["Source"]

SKEW_SECONDS = 10
"""How far behind the picture a file's sound may be stored."""
SUBTITLE_SECONDS = 30
"""How long before a cut a subtitle that is still shown there may have begun."""
TOLERATED_SECONDS = Fraction(1, 5)
"""How much shorter than stated a whole file may be: not all packets say how long they last."""
MOST_FAILURES = 16
"""Attempts to read on from a place that can't be read."""
HELD_BYTES = 2**28
"""What may be held while the first pictures are looked for."""
BYTES_A_PIXEL = 3
"""What a decoded picture takes, about."""
SEEK_MARGINS = (0, 1, 10, 60, 10**9)
"""How many seconds before the first picture wanted reading begins; the next where that comes too late.
Containers seek by decoding time, which runs ahead of the times shown; some not to key pictures. The first
is for key pictures alone: others may refer to some before the one that is landed on."""
_TELLING_LENGTH = ("matroska,webm", "flv")
"""FFmpeg's names of containers that say how long they are; of others, it guesses that from the bitrate."""


class Decoded(NamedTuple):
    """A frame and what it's of."""

    track: Track
    frame: av.VideoFrame


_Place = tuple[int, int | None, bytes]


def _place(packet: Packet) -> _Place:
    """What tells a packet from others."""
    return packet.stream_index, packet.pts, bytes(packet)


def _is_before(packet: Packet, moment: Fraction) -> bool:
    """Whether what's in a packet begins before a moment; cover art is for all times."""
    return time_of(packet) < moment and not packet.stream.disposition & Disposition.attached_pic


class Source:
    """A media file being read, from `start` to `end`.

    Args:
        name: a file's path, or `-` for y4m on standard input; with `allow_url` also an address.
        start: first moment wanted, in seconds after the first picture; `None` is the beginning.
        end: first moment not wanted any more, likewise; `None` is the end.
        threads: how many the decoder may have; 0 is one a core.
        accelerator: what decodes the picture if it can; `None` is the CPU.
        allow_url: whether other files and addresses that this one names may be opened.
        strict: whether the first damage is an error; else what can be decoded is.
        video_stream: which video stream is decoded, counted from 0 without cover art, or all of them.
        rate: pictures a second of an image sequence or a single picture.
        keep_hdr: whether it matters what is said of high dynamic range.

    Where either is given the file is cut: times are counted from the first picture kept. Where
    neither is, times stay as they are, even if the first isn't 0.

    Raises:
        InputError: if it can't be read, or no picture can be decoded.
        OptionError: if `start` is past the last picture.
    """

    def __init__(
        self,
        name: str,
        start: Fraction | None = None,
        end: Fraction | None = None,
        threads: int = 0,
        accelerator: HWAccel | None = None,
        allow_url: bool = False,
        strict: bool = False,
        video_stream: int | Literal["all"] = 0,
        rate: Fraction | None = None,
        keep_hdr: bool = True,
    ) -> None:
        self.name = "standard input" if name == STDIO else name
        self._opened = open_input(name, accelerator, allow_url, rate)
        self.container = self._opened.container
        self.damage = Damage(self.name)
        """What was found wrong so far, in what was wanted."""
        videos = find_videos(self.container, self.name, video_stream)
        self.tracks = [Track(video, self.name, self.damage, threads, keep_hdr) for video in videos]
        """The video streams that are decoded."""
        self._by_index = {track.index: track for track in self.tracks}
        self.cut = start is not None or end is not None
        self._reached = Fraction(0)
        self._held: deque[Decoded | Packet] = deque()
        self._items = self._decode()
        firsts = self._hold_firsts(None)
        if len(firsts) < len(self.tracks):
            which = f"of {len(self.tracks) - len(firsts)} video streams " if firsts else ""
            raise InputError(
                f"{self.name}: no picture {which}could be decoded; it may be damaged or encrypted"
            )
        for first in firsts:
            first.track.describe(first.frame, self._opened.start)
        self._origin = min(time_of(first.frame) for first in firsts)
        past = None if end is None else self._origin + end
        if start:
            firsts = self._skip_to(self._origin + start, SEEK_MARGINS[1:])
            if len(firsts) < len(self.tracks):
                which = " of a video stream" if len(self.tracks) > 1 else ""
                raise OptionError(
                    f"start ({float(start):g} s) is past the last picture{which} of {self.name}"
                )
            for first in firsts:
                first.track.describe(first.frame, self._opened.start)
            self.damage.forget()  # what isn't wanted may be damaged, or lack what it refers to
        elif strict and self.damage:
            raise InputError(f"{self.damage}")
        self.damage.strict = strict
        begin = min(time_of(first.frame) for first in firsts)
        self.timeline = Timeline(begin, past, self.cut, self.damage)
        """When everything happens in the result."""
        for track in self.tracks:
            track.begin(self.timeline.offset, self._origin)
        self.begin = begin
        """When the first picture of the result is shown, in seconds of the file."""
        self.skipped = begin - self._origin
        """How many seconds later than the source the result begins."""
        opened, ticks = self._opened, int(self.timeline.offset / self.tracks[0].tick)
        self.first_number = None if opened.first is None else opened.first + ticks
        """Of an image sequence, the number of the file shown at 0; each tick is one more."""
        self.estimated_frames = self._estimate_frames(start or Fraction(0), end)
        """How many pictures there will be, going by the file's own data; `None` if it has none."""

    @property
    def has_times(self) -> bool:
        """Whether the file says when each picture is shown."""
        return not (self.tracks[0].of_stills or self._is_y4m)

    @property
    def _is_y4m(self) -> bool:
        return self._opened.start.startswith(Y4M_MAGIC)

    def close(self) -> None:
        """Closes the file."""
        try:
            self._items.close()
        except ValueError:
            return  # another thread is stuck reading it; freeing it would crash that thread
        self._held.clear()
        self.container.close()

    def narrow(self, begin: Fraction, end: Fraction | None, number: int, at_key: bool) -> None:
        """Goes on to a part of what was wanted, whose pictures come as they would have in the whole.

        There may be none, if they're damaged.

        Args:
            begin: first moment of the part, in seconds of the file.
            end: first moment behind it, likewise; `None` is where the whole ends.
            number: how many pictures of the whole are before it.
            at_key: whether a key picture is shown then.

        Raises:
            InputError: for damage if that's strict.
        """
        track, strict = self.tracks[0], self.damage.strict
        if end is not None:
            self.timeline.end = end
        before = inf if self.timeline.end is None else ceil(self.timeline.end / track.tick)
        track.audit.narrow(ceil(begin / track.tick), before)
        if number:
            self.damage.strict = False
            self._skip_to(begin, SEEK_MARGINS if at_key else SEEK_MARGINS[1:])
            self.damage.keep("lost", "faulty")  # the rest was found in what isn't wanted
            self.damage.strict = strict
            if strict and self.damage:
                raise InputError(f"{self.damage}")
        self.cut = True
        self.begin, self.skipped = begin, begin - self._origin
        track.count = number

    def others(self, streams: set[int]) -> Iterator[Packet]:
        """The packets of `streams` (indices) as `items` has them; those of the pictures undecoded in between.

        The latter have the file's times, and only tell how far reading is.
        """
        for item in chain(self._drain_held(), self._demux()):
            if not isinstance(item, Packet):
                continue
            time = time_of(item)
            past = self.timeline.is_past(time)
            if item.stream_index in self._by_index:
                if item.size:
                    yield item
            elif item.size and item.stream_index in streams and not past and self.timeline.move(item):
                yield item
            if self.timeline.is_past(time - SKEW_SECONDS):
                break

    def items(self, streams: set[int]) -> Iterator[Picture | Packet]:
        """The pictures, and the packets of `streams` (indices), in the order they are stored.

        Raises:
            InputError: where size, format or colours change or time starts anew, and if `strict`, at the
                first damage; the message names the time.
        """
        late = {s.index for s in self.container.streams.audio} & streams
        try:
            for item in chain(self._drain_held(), self._items):
                time = time_of(item if isinstance(item, Packet) else item.frame)
                past = self.timeline.is_past(time)
                if not isinstance(item, Packet):
                    if not item.track.ended:
                        yield from item.track.push(item.frame, wanted=not past)
                elif past:
                    late.discard(item.stream_index)
                elif item.stream_index in streams and self.timeline.move(item):
                    yield item
                ended = all(track.ended for track in self.tracks)
                if ended and (not late or self.timeline.is_past(time - SKEW_SECONDS)):
                    break
        except InputError:
            yield from self._last_pictures()  # they are whole, and may be wanted
            raise
        yield from self._last_pictures()
        self._compare_with_size()
        self._compare_with_claims()

    def _last_pictures(self) -> Iterator[Picture]:
        """Those whose successors never came."""
        for track in self.tracks:
            yield from track.flush()

    def _decode(self) -> Generator[Decoded | Packet, None, None]:
        """Decoded video frames, each with its time, and other streams' packets."""
        for packet in self._demux():
            track = self._by_index.get(packet.stream.index)  # which packets of no bytes know alone
            if track is not None:
                for frame in track.decode(packet):
                    yield Decoded(track, frame)
            elif packet.size:
                yield packet

    def _demux(self) -> Iterator[Packet]:
        """Packets; after a place that can't be read, those behind it, if any can be found."""
        failures = 0
        most = 0 if self.tracks[0].of_stills else MOST_FAILURES  # FFmpeg doesn't get past a file that is gone
        while True:
            try:
                for packet in self.container.demux():
                    failures = 0
                    if packet.size:
                        end = time_of(packet) + (packet.duration or 0) * fraction(packet.time_base)
                        self._reached = max(self._reached, end)
                    yield packet
                return
            except FFmpegError as error:
                failures += 1
                self.damage.add("unreadable", reason(error), time=self.tracks[0].last_time)
                if failures > most:
                    return
            except OSError as error:
                raise InputError(f"{self.name} can't be read on ({error.strerror})") from error

    def _compare_with_size(self) -> None:
        """A y4m is whole pictures: of one that's cut, FFmpeg says nothing."""
        if not self._is_y4m or self.timeline.end is not None:
            return
        info = self.tracks[0].info
        sizes = [
            prod(info.format.plane_size(info.width, info.height, p)) for p in range(info.format.num_planes)
        ]
        picture = Y4M_FRAME + info.format.dtype.itemsize * (sum(sizes) + info.pixel.alpha * sizes[0])
        cut = (self._opened.size() - len(self._opened.start)) % picture
        self.damage.add("missing", "it ends within a picture", count=cut > 0)

    def _compare_with_claims(self) -> None:
        """Nothing may be lost in silence: compares what came with what went in and what the file says."""
        for track in self.tracks:
            track.audit.close(self.timeline.end, self._origin, track.info.rate, self.cut)
        stated = self._stated_seconds
        if self.timeline.end is not None or stated is None:
            return
        if any(track.stated_seconds for track in self.tracks):
            return
        missing = stated + Fraction(self.container.start_time or 0, av.time_base) - self._reached
        if missing > TOLERATED_SECONDS and self.container.format.name in _TELLING_LENGTH:
            self.tracks[0].audit.misses(missing, self.tracks[0].info.rate)

    @property
    def _stated_seconds(self) -> Fraction | None:
        """How long the longest stream is, going by the container."""
        return None if self.container.duration is None else Fraction(self.container.duration, av.time_base)

    def _hold_firsts(self, moment: Fraction | None) -> list[Decoded]:
        """Reads on to the first picture (at or after `moment`) of each track; all stays to be read again.

        Returns:
            The first pictures in the order of the tracks, without those that there are none of.
        """
        firsts: dict[int, Decoded] = {}
        size = 0
        before = iter(self._held)
        self._held = deque()
        for item in chain(before, self._items):
            if isinstance(item, Packet):
                if moment is not None and _is_before(item, moment - SUBTITLE_SECONDS):
                    continue
                size += item.size
            elif moment is not None and time_of(item.frame) < moment:
                continue
            else:
                firsts.setdefault(item.track.index, item)
                size += item.frame.width * item.frame.height * BYTES_A_PIXEL
            self._held.append(item)
            if len(firsts) == len(self.tracks):
                break
            if size > HELD_BYTES:
                self._refuse_late(bool(firsts))
        self._held.extend(before)
        return [firsts[track.index] for track in self.tracks if track.index in firsts]

    def _refuse_late(self, others: bool) -> NoReturn:
        if others:
            raise InputError(
                f"{self.name}: another video stream begins too late to be done beside the first; "
                "do one after the other, by number (--video-stream)"
            )
        mebibytes = HELD_BYTES >> 20
        raise InputError(
            f"{self.name}: no picture within {mebibytes} MiB could be decoded; it may be damaged or encrypted"
        )

    def _drain_held(self) -> Iterator[Decoded | Packet]:
        while self._held:
            yield self._held.popleft()

    def _skip_to(self, moment: Fraction, margins: Sequence[int]) -> list[Decoded]:
        """Goes to the first pictures at or after `moment`, by index where the file has one."""
        bare = self.container.format.flags & Flags.no_timestamps.value
        if bare or not self._opened.seekable or len(self.tracks) > 1:  # whose key pictures needn't coincide
            return self._hold_firsts(moment)
        texts = self._texts_before(moment)
        # Of stills the very one: before the first, FFmpeg would read all and find none.
        for margin in (0,) if self.tracks[0].of_stills else margins:
            try:
                self._seek(max(moment - margin, Fraction(0)))
            except FFmpegError:
                break  # an index that can't be read: all is, up to there
            self._items.close()
            self._items = self._decode()
            self._held.clear()
            self.tracks[0].rewind()
            self.damage.forget()
            landed = self._hold_firsts(None)
            whole = margin or not self.damage  # where the key picture is damaged, those before help
            if landed and time_of(landed[0].frame) <= moment and whole:
                break  # else it begins with the next key picture, which is too late
        firsts = self._hold_firsts(moment)
        rest = [i for i in self._held if not (isinstance(i, Packet) and _place(i) in texts)]
        self._held = deque([*texts.values(), *rest])
        return firsts

    def _seek(self, moment: Fraction) -> None:
        track = self.tracks[0]
        self.container.seek(int(moment / track.tick), stream=track.stream)

    def _texts_before(self, moment: Fraction) -> dict[_Place, Packet]:
        """Subtitles that began a good while before `moment`, by their place; some may still be shown."""
        streams = self.container.streams.subtitles
        if not streams:
            return {}
        video = self.tracks[0].stream
        texts: dict[_Place, Packet] = {}
        try:
            self._seek(moment - SUBTITLE_SECONDS)
            for packet in self.container.demux(video, *streams):
                if packet.size and time_of(packet) >= moment:
                    break
                if packet.size and packet.stream is not video:
                    texts[_place(packet)] = packet
        except FFmpegError:
            pass  # a pipe, or damage that reading the pictures will meet
        return texts

    def _estimate_frames(self, start: Fraction, end: Fraction | None) -> int | None:
        counts: list[int] = []
        for track in self.tracks:
            ends = [s for s in (track.stated_seconds or self._stated_seconds, end) if s is not None]
            count = track.estimate_frames(min(ends) - start if ends else None, self.cut)
            if count is None:
                return None
            counts.append(count)
        return sum(counts)
