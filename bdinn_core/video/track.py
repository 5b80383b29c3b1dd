"""One video stream being decoded: its pictures in the order they are shown, and what is wrong with them."""

from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import heappop, heappush
from math import ceil
from typing import TYPE_CHECKING

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from ..errors import InputError
from ..planes import Frame
from .audit import Audit, moment
from .damage import Damage
from .ffmpeg_log import overhear
from .formats import Repacker, read_planes
from .hdr import read_hdr
from .hwaccel import without_pixels, wrap_planes
from .opening import holds_stills, reason
from .probe import VideoInfo, describe, fraction, has_fields, stated_tags, stored_format
from .side_data import read_side_data, without_fields

if TYPE_CHECKING:  # importing torch takes seconds
    from ..transfer import AnyFrame

__all__ = ["Picture", "Track", "time_of"]

NEW_START_SECONDS = 1
"""How far times may go back by damage; farther, another recording begins."""
_REORDERED = {"h264", "hevc"}
"""Codecs whose pictures are stored in another order than shown, however far apart."""
_TELLING_BY_LOG = {"ffv1", "mjpeg"}
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
    time: Fraction
    """When it's shown in the source, in seconds after the first picture of the file, as `--start` counts."""
    pts: int
    """When it's shown in the result, in ticks of the stream's time base; the first may be after 0."""
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
    return (moment(item) or 0) * fraction(item.time_base)


class Track:
    """A video stream of a source.

    Args:
        stream: the stream, whose decoder is opened.
        name: the source's, for messages.
        damage: is told what's wrong.
        threads: how many the decoder may have; 0 is one a core.
        keep_hdr: whether it matters what is said of high dynamic range.

    Raises:
        InputError: if there's no decoder for it.
    """

    info: VideoInfo
    """What its pictures are, once the first is known."""

    def __init__(
        self, stream: VideoStream, name: str, damage: Damage, threads: int = 0, keep_hdr: bool = True
    ) -> None:
        self.stream = stream
        self._name = name
        self._damage = damage
        assert isinstance(stream.container, InputContainer)
        self.of_stills = holds_stills(stream.container)
        """Whether its pictures are files of their own, which tell no times."""
        self.audit = Audit(stream, damage, self.of_stills)
        self._keep_hdr = keep_hdr
        context = stream.codec_context
        context.thread_count = threads
        # Not several pictures at once: after damage, what other threads hold would be lost.
        stream.thread_type = "SLICE"
        try:
            context.open(strict=False)
        except FFmpegError as error:
            raise InputError(f"{name} can't be decoded ({reason(error)})") from error
        self._repack = Repacker()
        # AVI has but one time a packet, in the order of decoding, and FFmpeg takes it for the other.
        self.reorders = stream.container.format.name == "avi" and context.name in _REORDERED
        """Whether the file says in which order pictures are shown, but not when."""
        self._moments: list[int] = []
        self._keys: deque[int] = deque()
        self._last_pts: int | None = None
        self._aspect: Fraction | None = None
        self._aspects: list[tuple[int, Fraction]] = []
        self._offset = 0
        self._origin = Fraction(0)
        self.count = 0
        """Of the pictures that are wanted, so far."""
        self._held: Picture | None = None
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
        return None if self._last_pts is None else self._last_pts * self.tick

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
        if self.reorders:
            packet.pts = packet.dts
        self.audit.goes_in(packet)
        name = self.stream.codec_context.name
        try:
            with overhear(name) if name in _TELLING_BY_LOG else nullcontext([]) as errors:
                frames = self.stream.decode(packet)
        except FFmpegError as error:
            self.audit.fails(packet, reason(error), self.last_time)
            return
        self._watch_aspect(packet)
        if self.reorders and packet.size:
            heappush(self._moments, moment(packet) or 0)
            if packet.is_keyframe:
                self._keys.append(moment(packet) or 0)
        if packet.is_corrupt or (errors and not any(frame.is_corrupt for frame in frames)):
            self._add_fault(moment(packet))
        for frame in frames:
            frame.pts = self._last_pts = self._timestamp(frame)
            if frame.is_corrupt:
                self._add_fault(frame.pts)
            yield frame

    def _add_fault(self, time: int | None) -> None:
        """Takes note of a fault in what is shown at a time, if that's wanted."""
        if self.audit.wants(time):
            self._damage.add("faulty", "faults in the stream", time=self.last_time)

    def rewind(self) -> None:
        """Forgets what came, where reading goes on at another place."""
        self._last_pts = None
        self._moments.clear()
        self._keys.clear()
        self.audit.rewind()

    def describe(self, first: av.VideoFrame, file_start: bytes) -> None:
        """Finds out what the pictures are, by the first one wanted and the first bytes of the file."""
        self.info = describe(self.stream, first, self._name, file_start)
        self._aspect = self._aspect_at(first.pts or 0)
        if self._aspects and self._aspect != self._aspects[0][1]:  # the container's is that of the beginning
            tags = replace(self.info.tags, sample_aspect_ratio=self._aspect)
            self.info = replace(self.info, tags=tags)

    def begin(self, offset: Fraction, origin: Fraction) -> None:
        """Says how many seconds are taken off all times, and when the first picture is shown."""
        self._offset = int(offset / self.tick)
        self._origin = origin

    def push(self, frame: av.VideoFrame, wanted: bool) -> Iterator[Picture]:
        """Takes the next frame and gives the picture before it, if any: only now its duration is known.

        Args:
            frame: the next one.
            wanted: false for the first one that is past the end.

        Raises:
            InputError: if size, format or colours change; the message names the time.
        """
        following = self._picture(frame) if wanted else None
        held, self._held = self._held, following
        self.count += wanted
        self.ended = not wanted
        if held is not None:
            yield self._shown(held, (frame.pts or 0) - self._offset - held.pts)

    def flush(self) -> Iterator[Picture]:
        """The last picture, if it hasn't been given yet."""
        held, self._held = self._held, None
        if held is not None:
            yield self._shown(held, held.carrier.duration or self._ticks_a_frame())

    def _shown(self, picture: Picture, duration: int) -> Picture:
        self.audit.comes_out(picture.pts + self._offset, duration, picture.content.interlaced)
        return replace(picture, duration=duration)

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
        pts = self._reordered(frame) if self.reorders else moment(frame)
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

    def _reordered(self, frame: av.VideoFrame) -> int | None:
        """The earliest time that no frame has had; those before a key picture belong to lost ones."""
        if frame.key_frame and self._keys:
            key = self._keys.popleft()
            while self._moments and self._moments[0] < key:
                heappop(self._moments)
        return heappop(self._moments) if self._moments else None

    def _picture(self, video: av.VideoFrame) -> Picture:
        info, time = self.info, time_of(video) - self._origin
        change = self._change(video)
        if change is not None:
            raise InputError(
                f"{self._name}: the {change} at {float(time):.3f} s; "
                "cut the file there (--end, --start) and do the parts one by one"
            )
        on_gpu = video.sw_format is not None
        content, alpha = wrap_planes(video, info.format) if on_gpu else None, None
        if content is not None:
            carrier = without_pixels(video, info.pixel.name)
        else:
            planar = video if info.pix_fmt.startswith("yuvj") else self._repack(video, info.pixel.name)
            if planar.interlaced_frame and not has_fields(self.stream, planar):
                video = planar = without_fields(planar)
            content, alpha = read_planes(planar, info.pixel, info.format)
            carrier = planar if on_gpu else video
        return Picture(
            stream=self.index,
            number=self.count,
            content=content,
            alpha=alpha,
            time=time,
            pts=(video.pts or 0) - self._offset,
            duration=1,
            carrier=carrier,
        )

    def _change(self, video: av.VideoFrame) -> str | None:
        """What a frame says of itself that the first one said otherwise, so that the result couldn't."""
        info, pix_fmt = self.info, stored_format(video)
        if (video.width, video.height, pix_fmt) != (info.width, info.height, info.pix_fmt):
            before = f"{info.width}x{info.height} {info.pix_fmt}"
            return f"picture changes from {before} to {video.width}x{video.height} {pix_fmt}"
        for name, value in stated_tags(video).items():
            if value != (before := getattr(info.tags, name)):
                return f"{name} of its colours changes from {before} to {value} (as H.273 numbers it)"
        aspect = self._aspect_at(video.pts or 0)
        if aspect != self._aspect:
            return f"sample aspect ratio changes from {self._aspect} to {aspect}"
        matrix = read_side_data(video).get("DISPLAYMATRIX")
        if matrix is not None and bytes(matrix) != info.display_matrix:
            return "rotation changes"
        hdr = read_hdr(video)
        if hdr and hdr != info.hdr and self._keep_hdr:
            return f"dynamic range changes ({hdr}; --hdr drop leaves it out)"
        return None

    def _watch_aspect(self, packet: Packet) -> None:
        """Takes note of the sample aspect ratio: frames don't say theirs, and decoders are ahead."""
        ratio = self.stream.codec_context.sample_aspect_ratio
        if ratio and (not self._aspects or self._aspects[-1][1] != fraction(ratio)):
            self._aspects.append((moment(packet) or 0, fraction(ratio)))

    def _aspect_at(self, pts: int) -> Fraction | None:
        """That of a frame shown at a time; the first one, for those before."""
        known = [aspect for i, (since, aspect) in enumerate(self._aspects) if since <= pts or i == 0]
        return known[-1] if known else None

    def _ticks_a_frame(self) -> int:
        return max(1, round(1 / (self.info.rate * self.tick)))
