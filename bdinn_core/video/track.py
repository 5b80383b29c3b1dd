"""One video stream being decoded: its pictures in the order they are shown, and what is wrong with them."""

from array import array
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, inf
from typing import TYPE_CHECKING

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from ..errors import InputError
from ..planes import Frame
from .damage import Damage
from .ffmpeg_log import overhear
from .formats import Repacker, read_planes
from .hdr import HDR, read_hdr
from .hwaccel import without_pixels, wrap_planes
from .opening import holds_stills, reason
from .probe import VideoInfo, describe, fraction, stated_tags, stored_format

if TYPE_CHECKING:  # importing torch takes seconds
    from ..transfer import AnyFrame

__all__ = ["Picture", "Track", "time_of"]

TOLERATED_FRAMES = 2
"""How much shorter than stated a picture may be: some count what players drop."""
NEW_START_SECONDS = 1
"""How far times may go back by damage; farther, another recording begins."""
_WITH_HIDDEN_PICTURES = {"vp8", "vp9", "libdav1d", "av1", "libvpx", "libvpx-vp9", "libaom-av1"}
"""Decoders of codecs in which packets may hold pictures that are only referred to."""
_TELLING_BY_LOG = {"ffv1"}
"""Decoders that replace what is damaged and say so nowhere else."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture of the source, or of the result."""

    stream: int
    """Index of its stream in the source."""
    number: int
    """Counts from 0 at the first picture of the stream in this job."""
    content: "AnyFrame"
    """Its planes, which may have stayed on the GPU that decoded them."""
    alpha: np.ndarray | None
    """Alpha plane (height, width), or `None`."""
    hdr: HDR
    """What it says of high dynamic range beyond its tags."""
    pts: int
    """When it's shown, in ticks of the stream's time base; the first may be after 0."""
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


def time_of(item: av.VideoFrame | Packet) -> Fraction:
    """When a frame is shown or a packet plays, in seconds of the file."""
    ticks = item.dts if item.pts is None else item.pts
    return (ticks or 0) * fraction(item.time_base)


class Track:
    """A video stream of a source.

    Args:
        stream: the stream, whose decoder is opened.
        name: the source's, for messages.
        damage: is told what's wrong.
        threads: how many the decoder may have; 0 is one a core.

    Raises:
        InputError: if there's no decoder for it.
    """

    info: VideoInfo
    """What its pictures are, once the first is known."""

    def __init__(self, stream: VideoStream, name: str, damage: Damage, threads: int = 0) -> None:
        self.stream = stream
        self._name = name
        self._damage = damage
        assert isinstance(stream.container, InputContainer)
        self.of_stills = holds_stills(stream.container)
        """Whether its pictures are files of their own, which tell no times."""
        context = stream.codec_context
        context.thread_count = threads
        # Not several pictures at once: after damage, what other threads hold would be lost.
        stream.thread_type = "SLICE"
        try:
            context.open(strict=False)
        except FFmpegError as error:
            raise InputError(f"{name} can't be decoded ({reason(error)})") from error
        self._repack = Repacker()
        self._last_pts: int | None = None
        self._packet_times = array("q")
        self._first_pts = 0
        self._lost = 0
        self._count = 0
        self._held: Picture | None = None
        self._last: Picture | None = None
        self.ended = False
        """Whether a picture has come that isn't wanted any more."""

    @property
    def index(self) -> int:
        """Of the stream in its file."""
        return self.stream.index

    @property
    def accelerated(self) -> bool:
        """Whether it's decoded on a GPU."""
        return self.stream.codec_context.pix_fmt == "cuda"

    @property
    def last_time(self) -> Fraction | None:
        """When the last frame decoded is shown, in seconds of the file."""
        return None if self._last_pts is None else self._last_pts * fraction(self.stream.time_base)

    @property
    def stated_seconds(self) -> Fraction | None:
        """How long it is, going by the file."""
        return None if self.stream.duration is None else self.stream.duration * self.tick

    @property
    def tick(self) -> Fraction:
        """Seconds a tick of its timestamps."""
        return fraction(self.stream.time_base)

    def decode(self, packet: Packet) -> Iterator[av.VideoFrame]:
        """The frames that come out where a packet goes in, each with its time.

        Raises:
            InputError: where time starts anew, or for damage if that's strict.
        """
        if packet.size and not packet.is_discard:
            self._packet_times.append((packet.dts if packet.pts is None else packet.pts) or 0)
        name = self.stream.codec_context.name
        try:
            with overhear(name) if name in _TELLING_BY_LOG else nullcontext([]) as errors:
                frames = self.stream.decode(packet)
        except FFmpegError as error:
            self._lost += 1
            self._damage.add("lost", reason(error), time=self.last_time)
            return
        if packet.is_corrupt or errors or any(frame.is_corrupt for frame in frames):
            self._damage.add("faulty", "faults in the stream", time=self.last_time)
        for frame in frames:
            frame.pts = self._last_pts = self._timestamp(frame)
            yield frame

    def rewind(self) -> None:
        """Forgets the time, where reading goes on at another place."""
        self._last_pts = None

    def describe(self, first: av.VideoFrame, file_start: bytes) -> None:
        """Finds out what the pictures are, by the first of them and the first bytes of the file."""
        self.info = describe(self.stream, first, self._name, file_start)

    def begin(self, first: av.VideoFrame, skipped: bool) -> None:
        """Says which is the first frame wanted, and whether what came before was skipped."""
        self._first_pts = first.pts or 0
        if skipped:
            self._lost = 0

    def push(self, frame: av.VideoFrame, offset: Fraction, wanted: bool) -> Iterator[Picture]:
        """Takes the next frame and gives the picture before it, if any: only now its duration is known.

        Args:
            frame: the next one.
            offset: seconds to take off its time.
            wanted: false for the first one that is past the end.

        Raises:
            InputError: if size, format or colours change; the message names the time.
        """
        following = self._picture(frame, offset)
        held, self._held = self._held, following if wanted else None
        self._count += wanted
        self.ended = not wanted
        if held is not None:
            self._last = replace(held, duration=following.pts - held.pts)
            yield self._last

    def flush(self) -> Iterator[Picture]:
        """The last picture, if it hasn't been given yet."""
        held, self._held = self._held, None
        if held is not None:
            self._last = replace(held, duration=held.carrier.duration or self._ticks_a_frame())
            yield self._last

    def compare_with_packets(self, end: Fraction | None) -> None:
        """Takes note of lost pictures: whatever goes into a decoder is to come out.

        Args:
            end: first second of the file that isn't wanted any more.

        Raises:
            InputError: if there are any and damage is strict.
        """
        if self.stream.codec_context.name in _WITH_HIDDEN_PICTURES:
            return
        # What is shown before the first picture refers to others that aren't there.
        last = inf if end is None else ceil(end / self.tick)
        expected = sum(self._first_pts <= time < last for time in self._packet_times)
        lost = expected - self._lost - self._count
        why = f"{lost} of {expected} pictures didn't come out of the decoder"
        self._damage.add("lost", why, count=lost)

    def compare_with_duration(self, wanted: Fraction, origin: Fraction) -> None:
        """Takes note of pictures that are missing at the end.

        Args:
            wanted: how many seconds there should be.
            origin: what they are counted from, in seconds of the result.

        Raises:
            InputError: likewise.
        """
        if self._last is not None:
            # What came but couldn't be decoded is counted already.
            came = max(self._packet_times) - min(self._packet_times) + self._ticks_a_frame()
            reached = max((self._last.pts + self._last.duration) * self.tick - origin, came * self.tick)
            tolerated = 0 if self.of_stills else TOLERATED_FRAMES / self.info.rate
            if reached < wanted - tolerated:
                self.miss(wanted - reached)

    def miss(self, seconds: Fraction) -> None:
        """Takes note that so much is missing at the end."""
        why = f"it ends {float(seconds):.3f} s before it says"
        self._damage.add("missing", why, count=max(1, round(seconds * self.info.rate)))

    def estimate_frames(self, seconds: Fraction | None, cut: bool) -> int | None:
        """How many pictures there will be; `None` if nothing tells.

        Args:
            seconds: how long it is, as far as that's known.
            cut: whether that's not all of it.
        """
        if not cut and self.stream.frames:
            return self.stream.frames
        return None if seconds is None else max(1, ceil(seconds * self.info.rate))

    def _timestamp(self, frame: av.VideoFrame) -> int:
        """When `frame` is shown, in ticks; counted on where the file doesn't say."""
        pts = frame.dts if frame.pts is None else frame.pts
        if self._last_pts is None:
            return pts or 0
        if pts is None:
            return self._last_pts + self._ticks_a_frame()
        if pts > self._last_pts:
            return pts
        time = self._last_pts * self.tick
        if (self._last_pts - pts) * self.tick > NEW_START_SECONDS:
            raise InputError(
                f"{self._name}: time starts anew after {float(time):.3f} s; remux the file first"
            )
        self._damage.add("misplaced", "time goes back", time=time)
        return self._last_pts + 1

    def _picture(self, video: av.VideoFrame, offset: Fraction) -> Picture:
        info = self.info
        self._refuse_change(video)
        on_gpu = video.sw_format is not None
        content, alpha = wrap_planes(video, info.format) if on_gpu else None, None
        if content is not None:
            carrier = without_pixels(video, info.pixel.name)
        else:
            planar = video if info.pix_fmt.startswith("yuvj") else self._repack(video, info.pixel.name)
            content, alpha = read_planes(planar, info.pixel, info.format)
            carrier = planar if on_gpu else video
        return Picture(
            stream=self.index,
            number=self._count,
            content=content,
            alpha=alpha,
            hdr=read_hdr(video),
            pts=(video.pts or 0) - int(offset / self.tick),
            duration=1,
            carrier=carrier,
        )

    def _refuse_change(self, video: av.VideoFrame) -> None:
        """Refuses a frame that the result couldn't show as what it is."""
        info, pix_fmt = self.info, stored_format(video)
        change = None
        if (video.width, video.height, pix_fmt) != (info.width, info.height, info.pix_fmt):
            before = f"{info.width}x{info.height} {info.pix_fmt}"
            change = f"picture changes from {before} to {video.width}x{video.height} {pix_fmt}"
        else:
            for name, value in stated_tags(video).items():
                if value != (before := getattr(info.tags, name)):
                    change = f"{name} of its colours changes from {before} to {value} (as H.273 numbers it)"
        if change is not None:
            raise InputError(
                f"{self._name}: the {change} at {float(time_of(video)):.3f} s; "
                "cut the file there (--end, --start) and do the parts one by one"
            )

    def _ticks_a_frame(self) -> int:
        return max(1, round(1 / (self.info.rate * self.tick)))
