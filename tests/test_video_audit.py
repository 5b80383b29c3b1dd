"""What counts as lost."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.packet import Packet
from av.video.stream import VideoStream
from lab.media import make, smooth

from bdinn_core.video.audit import Audit
from bdinn_core.video.damage import Damage

FRAME = 40
"""Milliseconds, in which Matroska counts."""


@pytest.fixture(params=["ffv1", "mpeg4", "libvpx-vp9"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VideoStream]:
    clip = make(tmp_path / "in.mkv", codec=request.param, draw=smooth, width=96, height=64)
    with av.open(str(clip)) as container:
        yield container.streams.video[0]


def packet(pts: int | None, size: int = 100) -> Packet:
    result = Packet(bytes(size))
    result.pts = result.dts = pts
    return result


def lost(
    stream: VideoStream,
    went_in: list[Packet],
    came_out: list[int],
    *,
    interlaced: bool = False,
    end: Fraction | None = None,
    cut: bool = False,
) -> int:
    damage = Damage("a.mkv")
    audit = Audit(stream, damage, of_stills=False)
    for each in went_in:
        audit.goes_in(each)
    for pts in came_out:
        audit.comes_out(pts, FRAME, interlaced)
    audit.close(end, Fraction(0), Fraction(25), cut)
    return damage.counts["lost"]


def test_what_does_not_come_out_is_lost(stream):
    went_in = [packet(FRAME * n) for n in range(10)]
    expected = 0 if "vp9" in stream.codec_context.name else 3  # its packets may hold hidden pictures
    assert lost(stream, went_in, [FRAME * n for n in range(7)]) == expected
    assert lost(stream, went_in, [FRAME * n for n in range(10)]) == 0


def test_what_is_not_wanted_is_not_lost(stream):
    went_in = [packet(FRAME * n) for n in range(10)]
    assert lost(stream, went_in, [FRAME * n for n in range(3, 7)], end=Fraction(7, 25)) == 0


def test_a_field_is_no_picture(stream):
    fields = [packet(FRAME // 2 * n) for n in range(20)]
    assert lost(stream, fields, [FRAME * n for n in range(10)], interlaced=True) == 0
    if "vp9" not in stream.codec_context.name:
        assert lost(stream, fields, [FRAME * n for n in range(10)]) == 10
        assert lost(stream, fields, [FRAME * n for n in range(8)], interlaced=True) == 4


def test_a_packet_that_repeats_a_picture_is_none(stream):
    went_in = [packet(FRAME * n, 100 if n % 2 else 8) for n in range(1, 11)]
    expected = 5 if stream.codec_context.name == "ffv1" else 0
    assert lost(stream, went_in, [FRAME * n for n in range(1, 11, 2)]) == expected
    assert lost(stream, went_in, [FRAME * n for n in range(1, 11)]) == 0  # a flat one may be as short


def test_packets_without_times_count_where_all_are_wanted(stream):
    went_in = [packet(None) for _ in range(10)]
    expected = 0 if "vp9" in stream.codec_context.name else 3
    assert lost(stream, went_in, [FRAME * n for n in range(7)]) == expected
    assert lost(stream, went_in, [FRAME * n for n in range(3, 7)], end=Fraction(7, 25), cut=True) == 0
