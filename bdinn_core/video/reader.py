"""Reading a source: pictures in the order they are shown, everything else as packets."""

from array import array
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from math import ceil, inf, prod
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream

from ..errors import InputError, OptionError
from ..planes import Frame
from .damage import Damage, Kind
from .formats import Repacker, read_planes
from .hwaccel import without_pixels, wrap_planes
from .opening import STDIO, Y4M_FRAME, Y4M_MAGIC, holds_stills, open_input, reason
from .probe import describe, find_video, fraction, stored_format

if TYPE_CHECKING:  # importing torch takes seconds
    from ..transfer import AnyFrame

__all__ = ["Picture", "Source"]

SKEW_SECONDS = 10
"""How far behind the picture a file's sound may be stored."""
SUBTITLE_SECONDS = 30
"""How long before a cut a subtitle that is still shown there may have begun."""
TOLERATED_FRAMES, TOLERATED_SECONDS = 2, Fraction(1, 2)
"""How much shorter than stated a picture, and a whole file, may be: some count what players drop."""
_WITH_HIDDEN_PICTURES = {"vp8", "vp9", "libdav1d", "av1", "libvpx", "libvpx-vp9", "libaom-av1"}
"""Decoders of codecs in which packets may hold pictures that are only referred to."""
MOST_FAILURES = 16
"""Attempts to read on from a place that can't be read."""
NEW_START_SECONDS = 1
"""How far times may go back by damage; farther, another recording begins."""
SEEK_MARGIN_SECONDS = 1
"""Containers seek by decoding time, which runs ahead of the time a picture is shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture of the source, or of the result."""

    number: int
    """Counts from 0 at the first picture of the job."""
    content: "AnyFrame"
    """Its planes, which may have stayed on the GPU that decoded them."""
    alpha: np.ndarray | None
    """Alpha plane (height, width), or `None`."""
    pts: int
    """When it's shown, in ticks of the source's time base; the first may be after 0."""
    duration: int
    """For how many ticks, >= 1."""
    carrier: av.VideoFrame
    """The decoded frame it came from, or another in the host's memory with its side data, which is handed to
    the encoder; few encoders write any."""

    @property
    def frame(self) -> Frame:
        """The planes of a result, or of a source that no GPU decodes."""
        assert isinstance(self.content, Frame)
        return self.content


def _time(item: av.VideoFrame | Packet) -> Fraction:
    """When a frame is shown or a packet plays, in seconds of the file."""
    ticks = item.dts if item.pts is None else item.pts
    return (ticks or 0) * fraction(item.time_base)


def _padding(stream: Stream) -> Fraction:
    """Seconds that a player drops from the beginning of `stream`: what an audio decoder needs to warm up."""
    if not isinstance(stream, AudioStream) or not stream.codec_context.sample_rate:
        return Fraction(0)
    return Fraction(stream.codec_context.initial_padding, stream.codec_context.sample_rate)


def _place(packet: Packet) -> tuple[int, int | None]:
    """The packet's stream and time, which tell it from others."""
    return packet.stream_index, packet.pts


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
        video_stream: which video stream is read, counted from 0 without cover art.
        rate: pictures a second of an image sequence or a single picture.

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
        video_stream: int = 0,
        rate: Fraction | None = None,
    ) -> None:
        self.name = "standard input" if name == STDIO else name
        self._opened = open_input(name, accelerator, allow_url, rate)
        self.container = self._opened.container
        self._of_stills = holds_stills(self.container)
        self.video = find_video(self.container, self.name, video_stream)
        self.video.codec_context.thread_count = threads
        # Not several pictures at once: after damage, what other threads hold would be lost.
        self.video.thread_type = "SLICE"
        try:
            self.video.codec_context.open(strict=False)
        except FFmpegError as error:
            raise InputError(f"{self.name} can't be decoded ({reason(error)})") from error
        self.cut = start is not None or end is not None
        self.damage = Damage()
        """What was found wrong so far, in what was wanted."""
        self._strict = False
        self._repack = Repacker()
        self._last_pts: int | None = None
        self._last_dts: dict[int, int] = {}
        self._packet_times = array("q")
        self._first_pts = 0
        self._reached = Fraction(0)
        self._held: deque[av.VideoFrame | Packet] = deque()
        self._items = self._decode()
        first = self._hold_until(None)
        if first is None:
            raise InputError(f"{self.name}: no picture could be decoded; it may be damaged or encrypted")
        self.info = describe(self.video, first, self.name, self._opened.start)
        origin = _time(first)
        self._origin = origin
        self._end = None if end is None else origin + end
        if start:
            first = self._skip_to(origin + start)
            if first is None:
                raise OptionError(f"start ({float(start):g} s) is past the last picture of {self.name}")
            self.damage = Damage()  # what isn't wanted may be damaged, or lack what it refers to
        elif strict and self.damage:
            raise InputError(f"{self.name} is damaged: {self.damage}")
        self._strict = strict
        self._first_pts = first.pts or 0
        self.offset = _time(first) if self.cut else min(origin, Fraction(0))
        """Seconds to take off every time: a result starts at 0 if cut, and never before 0."""
        opened, ticks = self._opened, int(self.offset / self.info.time_base)
        self.first_number = None if opened.first is None else opened.first + ticks
        """Of an image sequence, the number of the file shown at 0; each tick is one more."""
        self.estimated_frames = self._estimate_frames(start or Fraction(0), end)
        """How many pictures there will be, going by the file's own data; `None` if it has none."""

    @property
    def accelerated(self) -> bool:
        """Whether the picture is decoded on a GPU."""
        return self.video.codec_context.pix_fmt == "cuda"

    def close(self) -> None:
        """Closes the file."""
        try:
            self._items.close()
        except ValueError:
            return  # another thread is stuck reading it; freeing it would crash that thread
        self._held.clear()
        self.container.close()

    def items(self, streams: set[int]) -> Iterator[Picture | Packet]:
        """The pictures, and the packets of `streams` (indices), in the order they are stored.

        Raises:
            InputError: where size or format change or time starts anew, and if `strict`, at the first damage;
                the message names the time.
        """
        picture: Picture | None = None
        last: Picture | None = None
        late = {s.index for s in self.container.streams.audio} & streams
        ended = False
        try:
            for item in chain(self._drain_held(), self._items):
                time = _time(item)
                past_end = self._end is not None and time >= self._end
                if isinstance(item, Packet):
                    if past_end:
                        late.discard(item.stream_index)
                    elif item.stream_index in streams and self._retime(item):
                        yield item
                elif not ended:
                    following = self._picture(item, picture)
                    if picture is not None:
                        last = replace(picture, duration=following.pts - picture.pts)
                        yield last
                    ended, picture = past_end, None if past_end else following
                if ended and (not late or (self._end is not None and time > self._end + SKEW_SECONDS)):
                    break
        except InputError:
            if picture is not None:  # it's whole, and may be wanted
                yield replace(picture, duration=self._ticks_a_frame())
            raise
        if picture is not None:
            last = replace(picture, duration=picture.carrier.duration or self._ticks_a_frame())
            yield last
        if last is not None:
            self._compare_with_size()
            self._compare_with_packets(last.number + 1)
            self._compare_with_claims(last)

    def chapters(self) -> list[Any]:
        """The chapters as PyAV's dicts, cut and shifted as everything else."""
        chapters = []
        for chapter in self.container.chapters():
            tick = fraction(chapter["time_base"])
            start, end = chapter["start"] * tick, chapter["end"] * tick
            if self.cut:
                start, end = max(start, self.offset), end if self._end is None else min(end, self._end)
            if start < end:
                moved = chapter.copy()
                moved["start"] = round((start - self.offset) / tick)
                moved["end"] = round((end - self.offset) / tick)
                chapters.append(moved)
        return chapters

    def _decode(self) -> Generator[av.VideoFrame | Packet, None, None]:
        """Decoded video frames, each with its time, and other streams' packets."""
        for packet in self._demux():
            if packet.stream is not self.video:
                if packet.size:
                    yield packet
                continue
            if packet.size and not packet.is_discard:
                self._packet_times.append((packet.dts if packet.pts is None else packet.pts) or 0)
            try:
                frames = self.video.decode(packet)
            except FFmpegError as error:
                self._damaged("lost", reason(error))
                continue
            if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
                self._damaged("faulty", "faults in the stream")
            for frame in frames:
                frame.pts = self._last_pts = self._timestamp(frame)
                yield frame

    def _demux(self) -> Iterator[Packet]:
        """Packets; after a place that can't be read, those behind it, if any can be found."""
        failures = 0
        most = 0 if self._of_stills else MOST_FAILURES  # FFmpeg doesn't get past a file that is gone
        while True:
            try:
                for packet in self.container.demux():
                    failures = 0
                    if packet.size:
                        end = _time(packet) + (packet.duration or 0) * fraction(packet.time_base)
                        self._reached = max(self._reached, end)
                    yield packet
                return
            except FFmpegError as error:
                failures += 1
                self._damaged("unreadable", reason(error))
                if failures > most:
                    return
            except OSError as error:
                raise InputError(f"{self.name} can't be read on ({error.strerror})") from error

    def _damaged(self, kind: Kind, why: str) -> None:
        """Takes note of damage, or stops for it."""
        if self._strict:
            raise InputError(f"{self.name} is damaged{self._whereabouts()} ({why})")
        self.damage.add(kind, time=self._last_time)

    def _fewer(self, kind: Kind, count: int, why: str) -> None:
        """Takes note of pictures that didn't come, found at the end."""
        if count > 0:
            if self._strict:
                raise InputError(f"{self.name} is damaged: {why}")
            self.damage.add(kind, count)

    def _compare_with_packets(self, count: int) -> None:
        """Nothing may be lost in silence: whatever goes into a decoder is to come out."""
        if self.video.codec_context.name in _WITH_HIDDEN_PICTURES:
            return
        # What is shown before the first picture refers to others that aren't there.
        end = inf if self._end is None else ceil(self._end / self.info.time_base)
        expected = sum(self._first_pts <= time < end for time in self._packet_times)
        lost = expected - self.damage.counts["lost"] - count
        self._fewer("lost", lost, f"{lost} of {expected} pictures didn't come out of the decoder")

    def _compare_with_size(self) -> None:
        """A y4m is whole pictures: of one that's cut, FFmpeg says nothing."""
        if not self._opened.start.startswith(Y4M_MAGIC) or self._end is not None:
            return
        form, info = self.info.format, self.info
        sizes = [prod(form.plane_size(info.width, info.height, p)) for p in range(form.num_planes)]
        picture = Y4M_FRAME + form.dtype.itemsize * (sum(sizes) + info.pixel.alpha * sizes[0])
        cut = (self._opened.size() - len(self._opened.start)) % picture
        self._fewer("missing", cut > 0, "it ends within a picture")

    def _compare_with_claims(self, last: Picture) -> None:
        """Compares where the file ends with where it says it does."""
        if self.video.duration is not None:
            stated = self.video.duration * self.info.time_base
            wanted = stated if self._end is None else min(stated, self._end - self._origin)
            reached = (last.pts + last.duration) * self.info.time_base + self.offset - self._origin
            # What came but couldn't be decoded is counted already.
            came = max(self._packet_times) - min(self._packet_times) + self._ticks_a_frame()
            reached = max(reached, came * self.info.time_base)
            tolerated = 0 if self._of_stills else TOLERATED_FRAMES / self.info.rate
        elif self.container.duration is not None and self._telling_length and self._end is None:
            # That's how long the longest stream is: has any of them come so far?
            began = Fraction(self.container.start_time or 0, av.time_base)
            wanted, reached = Fraction(self.container.duration, av.time_base), self._reached - began
            tolerated = TOLERATED_SECONDS
        else:
            return
        if reached < wanted - tolerated:
            missing = round((wanted - reached) * self.info.rate)
            self._fewer("missing", missing, f"it ends {float(wanted - reached):.3f} s before it says")

    @property
    def _telling_length(self) -> bool:
        """Whether the container says how long it is; of others, FFmpeg guesses it from the bitrate."""
        return self.container.format.name in ("matroska,webm", "flv")

    def _stated_seconds(self) -> Fraction | None:
        """How long the picture is, going by the file's own data."""
        video = self.video
        if video.duration is not None:
            return video.duration * fraction(video.time_base)
        if self.container.duration is not None:
            return Fraction(self.container.duration, av.time_base)
        return None

    def _timestamp(self, frame: av.VideoFrame) -> int:
        """When `frame` is shown, in ticks; counted on where the file doesn't say."""
        pts = frame.dts if frame.pts is None else frame.pts
        if self._last_pts is None:
            return pts or 0
        if pts is None:
            return self._last_pts + self._ticks_a_frame()
        if pts > self._last_pts:
            return pts
        if (self._last_pts - pts) * fraction(self.video.time_base) > NEW_START_SECONDS:
            raise InputError(f"{self.name}: time starts anew{self._whereabouts()}; remux the file first")
        self._damaged("misplaced", "time goes back")
        return self._last_pts + 1

    def _whereabouts(self) -> str:
        """Where reading is, for messages."""
        return "" if self._last_time is None else f" after {float(self._last_time):.3f} s"

    @property
    def _last_time(self) -> Fraction | None:
        """When the last picture decoded is shown, in seconds of the file."""
        return None if self._last_pts is None else self._last_pts * fraction(self.video.time_base)

    def _hold_until(self, moment: Fraction | None) -> av.VideoFrame | None:
        """Reads on to the first picture (at or after `moment`), which stays to be read again."""
        for item in self._items:
            if isinstance(item, Packet):
                self._held.append(item)
            elif moment is None or _time(item) >= moment:
                self._held.append(item)
                return item
        return None

    def _drain_held(self) -> Iterator[av.VideoFrame | Packet]:
        while self._held:
            yield self._held.popleft()

    def _skip_to(self, moment: Fraction) -> av.VideoFrame | None:
        """Goes to the first picture at or after `moment`, by index where the file has one."""
        texts = self._texts_before(moment)
        try:
            # Of stills the very one: before the first, FFmpeg would read all and find none.
            self._seek(moment - (0 if self._of_stills else SEEK_MARGIN_SECONDS))
        except FFmpegError:
            pass  # a pipe: read up to there
        else:
            self._items.close()
            self._items = self._decode()
            self._last_pts = None
        self._held.clear()
        first = self._hold_until(moment)
        rest = [i for i in self._held if not (isinstance(i, Packet) and _place(i) in texts)]
        self._held = deque([*texts.values(), *rest])
        return first

    def _seek(self, moment: Fraction) -> None:
        self.container.seek(int(moment / self.info.time_base), stream=self.video)

    def _texts_before(self, moment: Fraction) -> dict[tuple[int, int | None], Packet]:
        """Subtitles that began a good while before `moment`, by their place; some may still be shown."""
        streams = self.container.streams.subtitles
        if not streams:
            return {}
        texts: dict[tuple[int, int | None], Packet] = {}
        try:
            self._seek(moment - SUBTITLE_SECONDS)
            for packet in self.container.demux(self.video, *streams):
                if packet.size and _time(packet) >= moment:
                    break
                if packet.size and packet.stream is not self.video:
                    texts[_place(packet)] = packet
        except FFmpegError:
            pass  # a pipe, or damage that reading the pictures will meet
        return texts

    def _retime(self, packet: Packet) -> bool:
        """Moves a copied packet to the result's times; false if it isn't part of the result."""
        if packet.stream.disposition & Disposition.attached_pic:
            return True
        if packet.pts is None:
            packet.pts = packet.dts
        if packet.pts is None:
            return not self.cut
        tick = fraction(packet.time_base)
        shift = round(self.offset / tick)
        if self.cut:
            if packet.stream.type == "subtitle":
                self._trim(packet, shift)
            if packet.pts < shift - round(_padding(packet.stream) / tick):
                return False
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        self._keep_order(packet)
        return True

    def _keep_order(self, packet: Packet) -> None:
        """Containers take no packet of sound that would be decoded before its predecessor."""
        assert packet.dts is not None
        assert packet.pts is not None
        last = self._last_dts.get(packet.stream_index)
        if last is not None and packet.dts <= last and packet.stream.type == "audio":
            self._damaged("unsound", f"time goes back in stream {packet.stream_index}")
            packet.dts = last + 1
            packet.pts = max(packet.pts, packet.dts)
        self._last_dts[packet.stream_index] = packet.dts

    def _trim(self, packet: Packet, start: int) -> None:
        """Takes off a subtitle what is shown before `start` (ticks) or after the end."""
        end = (packet.pts or 0) + (packet.duration or 0)
        if self._end is not None:
            end = min(end, round(self._end / fraction(packet.time_base)))
        if (packet.pts or 0) < start < end:
            packet.pts = packet.dts = start
        packet.duration = max(0, end - (packet.pts or 0))

    def _picture(self, video: av.VideoFrame, previous: Picture | None) -> Picture:
        info, pix_fmt = self.info, stored_format(video)
        if (video.width, video.height, pix_fmt) != (info.width, info.height, info.pix_fmt):
            raise InputError(
                f"{self.name}: the picture changes from {info.width}x{info.height} {info.pix_fmt} to "
                f"{video.width}x{video.height} {pix_fmt} at {float(_time(video)):.3f} s; "
                "cut the file there (--end, --start) and do the parts one by one"
            )
        on_gpu = video.sw_format is not None
        content, alpha = wrap_planes(video, info.format) if on_gpu else None, None
        if content is not None:
            carrier = without_pixels(video, info.pixel.name)
        else:
            planar = video if info.pix_fmt.startswith("yuvj") else self._repack(video, info.pixel.name)
            content, alpha = read_planes(planar, info.pixel, info.format)
            carrier = planar if on_gpu else video
        return Picture(
            number=0 if previous is None else previous.number + 1,
            content=content,
            alpha=alpha,
            pts=(video.pts or 0) - int(self.offset / info.time_base),
            duration=1,
            carrier=carrier,
        )

    def _ticks_a_frame(self) -> int:
        return max(1, round(1 / (self.info.rate * self.info.time_base)))

    def _estimate_frames(self, start: Fraction, end: Fraction | None) -> int | None:
        seconds = self._stated_seconds()
        if not self.cut and self.video.frames:
            return self.video.frames
        if seconds is None:
            return None if end is None else ceil((end - start) * self.info.rate)
        return max(1, ceil((min(seconds, end or seconds) - start) * self.info.rate))
