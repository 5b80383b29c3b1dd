"""Joining segments by copying their packets, with everything else of the source muxed once."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain, islice
from math import inf

from av.packet import Packet

from ..video.reader import Source
from ..video.track import time_of
from ..video.writer import MediaWriter

__all__ = ["join", "order_decoding"]


def order_decoding(packets: Iterable[Packet], delay: int) -> Iterator[Packet]:
    """Sets the times of decoding as encoders do: `delay` packets behind the order in which they are shown."""
    packets = iter(packets)
    # The first that are shown are among these, whatever the order.
    first = list(islice(packets, 2 * delay + 1))
    shown = sorted(packet.pts or 0 for packet in first)
    lead = shown[min(delay, len(shown) - 1)] - shown[0] if shown else 0
    times = [time - lead for time in shown[:delay]]
    for packet in chain(first, packets):
        heappush(times, packet.pts or 0)
        packet.dts = heappop(times)
        yield packet


def join(pictures: Iterator[Packet], source: Source, writer: MediaWriter) -> None:
    """Muxes encoded pictures, and beside them what else of the source is wanted.

    Args:
        pictures: in the order of decoding, with the times of the result.
        source: where the rest is.
        writer: takes both; it isn't finished.

    Raises:
        BdinnError: if something can't be read or written.
    """
    track = source.tracks[0]
    following = next(pictures, None)

    def write_until(time: Fraction | float) -> None:
        nonlocal following
        while following is not None and (following.dts or 0) * track.tick <= time:
            writer.encoded(following, track.index)
            following = next(pictures, None)

    for packet in source.others(writer.streams) if writer.streams else ():
        if packet.stream_index == track.index:
            write_until(time_of(packet) - source.timeline.offset)
        else:
            writer.packet(packet)
    write_until(inf)
