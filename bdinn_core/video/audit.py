"""Whether all that went into a decoder came out, and whether it's as much as the file says."""

from array import array
from bisect import bisect_right
from fractions import Fraction
from math import ceil, inf

import av
from av.packet import Packet
from av.video.stream import VideoStream

from .damage import Damage
from .probe import fraction

__all__ = ["Audit", "moment"]

TOLERATED_FRAMES = 2
"""How much shorter than stated a video may be: some files count what players drop."""
_WITH_HIDDEN_PICTURES = {"vp8", "vp9", "libdav1d", "av1", "libvpx", "libvpx-vp9", "libaom-av1"}
"""Decoders of codecs in which packets may hold pictures that are only referred to."""
_REPEAT_BYTES = 19
"""The largest packet of MPEG-4 Visual that only says that the picture stays."""


class Audit:
    """Keeps account of one video stream. Times are in ticks of the stream, as in the file.

    Args:
        stream: the stream.
        damage: is told what's missing.
        of_stills: whether its pictures are files of their own, none of which may be missing.
    """

    def __init__(self, stream: VideoStream, damage: Damage, of_stills: bool) -> None:
        self._stream = stream
        self._damage = damage
        self._of_stills = of_stills
        self._since: int | None = None
        self._before: float = inf
        self.rewind()

    def rewind(self) -> None:
        """Starts anew, where reading goes on at another place."""
        self._went_in, self._failed, self._came_out = array("q"), array("q"), array("q")
        self._repeats: set[int] = set()
        self._untimed = 0
        self._until = 0
        self._interlaced = False

    def narrow(self, since: int, before: float) -> None:
        """Says which pictures are wanted, by when they are shown; else those that come out tell."""
        self._since, self._before = since, before

    def wants(self, time: int | None) -> bool:
        """Whether what is shown at a time is wanted, as far as is known."""
        return time is None or ((self._since is None or self._since <= time) and time < self._before)

    def goes_in(self, packet: Packet) -> None:
        """A packet goes into the decoder."""
        time = moment(packet)
        if not packet.size or packet.is_discard:
            return
        if time is None:
            self._untimed += 1
            return
        self._went_in.append(time)
        if self._stream.codec_context.name == "mpeg4" and packet.size <= _REPEAT_BYTES:
            self._repeats.add(time)

    def fails(self, packet: Packet, why: str, time: Fraction | None) -> None:
        """The decoder refuses a packet.

        Raises:
            InputError: if damage is strict.
        """
        time_in = moment(packet)
        if time_in is None:
            self._untimed -= 1
        else:
            self._failed.append(time_in)
        if self.wants(time_in):
            self._damage.add("lost", why, time=time)

    def comes_out(self, pts: int, duration: int, interlaced: bool) -> None:
        """A picture that's wanted is shown."""
        self._came_out.append(pts)
        self._until = pts + duration
        self._interlaced |= interlaced

    def close(self, end: Fraction | None, origin: Fraction, rate: Fraction, cut: bool) -> None:
        """Takes note of what's missing.

        Args:
            end: first second of the file that isn't wanted any more.
            origin: when its first picture is shown, in seconds.
            rate: frames a second.
            cut: whether not all of the file is wanted.

        Raises:
            InputError: if there's anything and damage is strict.
        """
        if not self._came_out and self._since is None:
            return
        tick = fraction(self._stream.time_base)
        hidden = self._stream.codec_context.name in _WITH_HIDDEN_PICTURES
        if not hidden and not (cut and self._untimed):  # who knows which of them are wanted?
            expected = self._expected(inf if end is None else ceil(end / tick), 1 / (rate * tick))
            silent = expected - len(self._came_out)
            why = f"{silent} of {expected} pictures didn't come out of the decoder"
            self._damage.add("lost", why, count=silent)
        if self._stream.duration is not None and self._went_in and self._came_out:
            # It counts from the first packet, which may hold a picture that can't be decoded.
            start = self._stream.start_time
            lead = Fraction(0) if start is None else max(Fraction(0), origin - start * tick)
            stated = self._stream.duration * tick - lead
            wanted = stated if end is None else min(stated, end - origin)
            # What came but couldn't be decoded is counted already.
            came = max(self._went_in) - min(self._went_in) + 1 / (rate * tick)
            reached = max(self._until * tick - origin, came * tick - lead)
            if reached < wanted - (0 if self._of_stills else TOLERATED_FRAMES / rate):
                self.misses(wanted - reached, rate)

    def misses(self, seconds: Fraction, rate: Fraction) -> None:
        """Takes note that so much is missing at the end.

        Raises:
            InputError: if damage is strict.
        """
        why = f"it ends {float(seconds):.3f} s before it says"
        self._damage.add("missing", why, count=max(1, round(seconds * rate)))

    def _expected(self, last: float, frame: Fraction) -> int:
        """How many pictures should have come out, of those shown before `last`.

        What is shown before the first picture refers to others that aren't there. A field may have a packet
        of its own, but a picture with the one before it.
        """
        first, shown = self._came_out[0] if self._since is None else self._since, set(self._came_out)
        wanted = [time for time in self._went_in if first <= time < last]
        wanted = [time for time in wanted if time in shown or time not in self._repeats]
        if self._interlaced:
            wanted = [t for t in wanted if t in shown or t - self._last_before(t) >= frame * 3 / 4]
        return len(wanted) + self._untimed - sum(first <= time < last for time in self._failed)

    def _last_before(self, time: int) -> int:
        """When the picture that is shown at a time began to be; long ago, if none was."""
        place = bisect_right(self._came_out, time)
        return self._came_out[place - 1] if place else -(2**62)


def moment(item: av.VideoFrame | Packet) -> int | None:
    """When a frame is shown, or what's in a packet is, in ticks; `None` where the file doesn't say."""
    return item.dts if item.pts is None else item.pts
