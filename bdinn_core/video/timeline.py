"""When everything of a source happens in the result, and what of it does."""

from fractions import Fraction
from math import ceil
from typing import Any

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

from .damage import Damage
from .probe import fraction

__all__ = ["Timeline"]

MICROSECOND = Fraction(1, 10**6)
LEAST_SECONDS = Fraction(1, 44100)
"""What two packets of sound are apart at least: a sample."""


def _padding(stream: Stream) -> Fraction:
    """Seconds that a player drops from the beginning of `stream`: what an audio decoder needs to warm up."""
    if not isinstance(stream, AudioStream) or not stream.codec_context.sample_rate:
        return Fraction(0)
    return Fraction(stream.codec_context.initial_padding, stream.codec_context.sample_rate)


class Timeline:
    """The times of the result, which starts at 0 if it's cut out of the source, and never before 0.

    Args:
        begin: when the first picture of the result is shown, in seconds of the source.
        end: the first of them that isn't wanted any more; `None` if all are.
        cut: whether something of the source isn't wanted.
        damage: is told of sound out of order.
    """

    def __init__(self, begin: Fraction, end: Fraction | None, cut: bool, damage: Damage) -> None:
        self.offset = begin if cut else min(begin, Fraction(0))
        """Seconds to take off every time."""
        self.end = end
        """First second of the source that isn't wanted any more; `None` if all are."""
        self._cut = cut
        self._damage = damage
        self._stored_times: dict[int, Fraction] = {}
        self._last_times: dict[int, Fraction] = {}

    def is_past(self, time: Fraction) -> bool:
        """Whether a time of the source isn't wanted any more."""
        return self.end is not None and time >= self.end

    def chapters(self, container: InputContainer) -> list[Any]:
        """The chapters of a file as PyAV's dicts, cut and shifted as everything else."""
        chapters = []
        for chapter in container.chapters():
            tick = fraction(chapter["time_base"])
            start, end = chapter["start"] * tick, chapter["end"] * tick
            if self._cut:
                start, end = max(start, self.offset), end if self.end is None else min(end, self.end)
            if start < end:
                moved = chapter.copy()
                moved["start"] = round((start - self.offset) / tick)
                moved["end"] = round((end - self.offset) / tick)
                chapters.append(moved)
        return chapters

    def move(self, packet: Packet) -> bool:
        """Moves a copied packet to the result's times; false if it isn't part of the result.

        Raises:
            InputError: for sound out of order, if damage is strict.
        """
        if packet.stream.disposition & Disposition.attached_pic:
            return True
        if packet.pts is None:
            packet.pts = packet.dts
        if packet.pts is None:
            return not self._cut
        tick = fraction(packet.time_base)
        shift = round(self.offset / tick)
        if self._cut:
            if packet.stream.type == "subtitle":
                self._trim(packet, shift)
            if packet.pts < shift - round(_padding(packet.stream) / tick):
                return False
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        self._keep_order(packet)
        return True

    def _keep_order(self, packet: Packet) -> None:
        """Containers take no packet of sound that would be decoded before its predecessor.

        Nor do most take equal times, which Matroska has of packets shorter than its millisecond.
        """
        assert packet.dts is not None
        assert packet.pts is not None
        time = packet.dts * fraction(packet.time_base)
        last = self._last_times.get(packet.stream_index)
        if last is not None and packet.stream.type == "audio" and time <= last:
            why = f"time goes back in stream {packet.stream_index}"
            back = time < self._stored_times[packet.stream_index]
            self._damage.add("unsound", why, count=back, time=time + self.offset)
            late = ceil((last + LEAST_SECONDS) / MICROSECOND)
            pts = round(packet.pts * fraction(packet.time_base) / MICROSECOND)
            packet.time_base = MICROSECOND
            packet.pts, packet.dts = max(pts, late), late
        self._stored_times[packet.stream_index] = time
        self._last_times[packet.stream_index] = packet.dts * fraction(packet.time_base)

    def _trim(self, packet: Packet, start: int) -> None:
        """Takes off a subtitle what is shown before `start` (ticks) or after the end."""
        end = (packet.pts or 0) + (packet.duration or 0)
        if self.end is not None:
            end = min(end, round(self.end / fraction(packet.time_base)))
        if (packet.pts or 0) < start < end:
            packet.pts = packet.dts = start
        packet.duration = max(0, end - (packet.pts or 0))
