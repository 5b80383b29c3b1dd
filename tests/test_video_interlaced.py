"""Interlaced pictures: each field debanded by itself, and the result says of them what the source says."""

import re
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import av.logging
import numpy as np
import pytest
from jobs import FAST_X265
from lab.media import make, make_interlaced, planes, read

from bdinn_core import Debander, DebandOptions, Frame, FrameFormat
from bdinn_core.errors import OutputError


def field_orders(path: Path) -> set[str]:
    """What FFmpeg says of each frame: T or B, by the field that is first, or P."""
    graph = av.filter.Graph()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        nodes = graph.add_buffer(template=stream), graph.add("showinfo"), graph.add("buffersink")
        graph.link_nodes(*nodes).configure()
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        with av.logging.Capture(local=False) as log:
            for frame in container.decode(stream):
                graph.push(frame)
                graph.pull()
        av.logging.set_level(level)
    return {found[1] for _, _, line in log if (found := re.search(r" i:([TBP]) ", line))}


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize(
    ("codec", "pix_fmt", "container"),
    [
        ("ffv1", "yuv420p", "mkv"),
        ("libx264", "yuv420p", "mkv"),
        ("libx264", "yuv420p", "mp4"),
        ("prores_ks", "yuv422p10le", "mov"),
    ],
)
def test_the_order_of_fields_is_kept(run, tmp_path, order, codec, pix_fmt, container):
    source = make_interlaced(tmp_path / "in.mkv", order, pix_fmt=pix_fmt)
    assert field_orders(source) == {order[0].upper()}
    output = tmp_path / f"out.{container}"
    assert run(source, output, codec=codec).warnings == []
    assert field_orders(output) == {order[0].upper()}


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_y4m_says_the_order(run, tmp_path, order):
    run(make_interlaced(tmp_path / "in.ts", order), tmp_path / "out.y4m", pix_fmt="source")
    assert f" I{order[0]} ".encode() in (tmp_path / "out.y4m").read_bytes().splitlines()[0]
    assert field_orders(tmp_path / "out.y4m") == {order[0].upper()}


def test_flags_of_the_users_come_on_top(run, tmp_path):
    source = make_interlaced(tmp_path / "in.mkv", "tff")
    run(source, tmp_path / "out.mkv", codec="libx264", encoder_options=[("flags", "+bitexact")])
    assert field_orders(tmp_path / "out.mkv") == {"T"}


def test_a_codec_that_cant_say_it_is_refused(run, tmp_path):
    source = make_interlaced(tmp_path / "in.mkv", "tff")
    with pytest.raises(OutputError, match=r"libx265 can't say .* codecs that can: libx264.*bwdif"):
        run(source, tmp_path / "out.mkv", **FAST_X265)
    assert not (tmp_path / "out.mkv").exists()


def test_fields_are_debanded_one_by_one(run, tmp_path):
    source = make_interlaced(tmp_path / "in.mkv", "tff")
    run(source, tmp_path / "out.mkv", {"model": "fast"}, codec="ffv1")
    engine = Debander(DebandOptions(device="cpu", output_depth=10))
    form = FrameFormat(family="yuv", subsampling=(1, 1))
    for number, (a, b) in enumerate(zip(read(source).frames, read(tmp_path / "out.mkv").frames, strict=True)):
        by_fields, whole = (engine(Frame(tuple(planes(a)), form, kind), number) for kind in (True, False))
        assert all(np.array_equal(x, y) for x, y in zip(by_fields.planes, planes(b), strict=True))
        assert not all(np.array_equal(x, y) for x, y in zip(whole.planes, planes(b), strict=True))


def test_fields_that_begin_midway_are_refused(run, tmp_path):
    parts = [
        make(tmp_path / "progressive.ts", codec="libx264", options={"crf": "10"}, width=96, height=64),
        make_interlaced(tmp_path / "interlaced.ts", "tff", times=range(60, 66)),
    ]
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    message = r"at (\d\.\d+) s the picture becomes interlaced; cut .*--end, --start.*bwdif"
    with pytest.raises(OutputError, match=message) as refused:
        run(tmp_path / "in.ts", tmp_path / "out.mkv", codec="ffv1")
    assert not (tmp_path / "out.mkv").exists()
    there = Fraction(re.match(message, str(refused.value))[1])
    assert run(tmp_path / "in.ts", tmp_path / "out.mkv", codec="ffv1", end=there).frames == 6
    assert field_orders(tmp_path / "out.mkv") == {"P"}
    assert run(tmp_path / "in.ts", tmp_path / "rest.mkv", codec="ffv1", start=there).frames == 6
    assert field_orders(tmp_path / "rest.mkv") == {"T"}
