"""Files made to do harm: to have other files read, addresses called, or memory taken."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from jobs import LOSSLESS
from lab.media import make, read, smooth

from bdinn_core.errors import InputError
from bdinn_core.show.png import encode_png
from bdinn_core.video.reader import Source
from bdinn_core.video.track import Picture

SIDES = [65535, 14000]
"""More than FFmpeg takes, and more than we do."""


@pytest.fixture
def limited_memory() -> Iterator[None]:
    """At most 2 GiB more than now: asking for more fails at once."""
    resource = pytest.importorskip("resource")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def count(path: Path, **options: bool) -> int:
    source = Source(str(path), **options)
    try:
        return sum(isinstance(item, Picture) for item in source.items(set()))
    finally:
        source.close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.ts\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile other.ts\n"),
        ("disguised.mkv", "ffconcat version 1.0\nfile other.ts\n"),
    ],
)
def test_files_that_name_others_are_opened_only_if_asked(tmp_path, name, text):
    make(tmp_path / "other.ts", codec="libx264", draw=smooth)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}.*--allow-url"):
        count(tmp_path / name)
    assert count(tmp_path / name, allow_url=True) == 6


def _referring(content: bytes, path: str) -> bytes:
    """A MOV without its pictures, which says that they are in another file."""
    name = path.encode() + bytes(len(path) % 2)
    levels_up_and_down = struct.pack(">HH", 1, 1)
    alias = bytes(10 + 28 + 12 + 64 + 16) + levels_up_and_down + bytes(16)
    alias += struct.pack(">hH", 2, len(name)) + name + struct.pack(">hH", -1, 0)
    alias = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    here = struct.pack(">I4sI", 12, b"url ", 1)
    place = content.index(here)
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = content.rindex(box, 0, place) - 4
        (size,) = struct.unpack_from(">I", content, start)
        content = content[:start] + struct.pack(">I", size + len(alias) - len(here)) + content[start + 4 :]
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    return content[:start] + bytes(end - start) + content[end:].replace(here, alias)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_mov_whose_pictures_are_in_another_file_has_none(tmp_path, absolute):
    other = make(tmp_path / "other.mov", codec="libx264", draw=smooth)
    path = tmp_path / "in.mov"
    path.write_bytes(_referring(other.read_bytes(), f"{other}" if absolute else "/other.mov"))
    asked = {"enable_drefs": "1", "use_absolute_path": f"{absolute:d}"}
    with av.open(f"file:{path}", options=asked) as container:  # FFmpeg could, but we never ask for it
        assert len(list(container.decode(video=0))) == 6
    with pytest.raises(InputError, match="no picture could be decoded"):
        count(path)


def test_a_matroska_file_that_names_others_is_played_alone(tmp_path):
    other = make(tmp_path / "other.mkv", draw=smooth)
    content = make(tmp_path / "in.mkv", draw=smooth, chapters=[(0, 240, "x" * 40)]).read_bytes()
    uid = other.read_bytes().partition(b"\x73\xa4\x90")[2][:16]  # SegmentUID
    title = b"\x80\xb0\x85\xa8" + b"x" * 40 + b"\x43\x7c\x83und"  # ChapterDisplay
    linked = b"\x6e\x67\x90" + uid + b"\xec\x9d" + bytes(29)  # ChapterSegmentUID, and nothing
    default, ordered = b"\x45\xdb\x81\x01", b"\x45\xdd\x81\x01"
    assert len(title) == len(linked)
    assert content.count(title) == content.count(default) == 1
    (tmp_path / "in.mkv").write_bytes(content.replace(title, linked).replace(default, ordered))
    assert count(tmp_path / "in.mkv") == 6


@pytest.mark.parametrize("name", ["../../evil.ttf", "/tmp/evil.ttf", "C:\\evil.ttf"])
def test_attachments_are_written_nowhere_but_into_the_result(run, tmp_path, name):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    source = make(folder / "in.mkv", fonts=[(name, b"font")])
    run(source, folder / "out.mkv", **LOSSLESS)
    run(source, folder / "out.mp4", **LOSSLESS, drop_incompatible=True)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"a/b/in.mkv", "a/b/out.mkv", "a/b/out.mp4"}
    assert not Path("/tmp/evil.ttf").exists()
    assert read(folder / "out.mkv").fonts == {name: b"font"}


def test_addresses_are_called_only_if_asked():
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:1/in\.mkv is an address: give --allow-url"):
        Source("http://127.0.0.1:1/in.mkv")
    with pytest.raises(InputError, match="refused"):  # nobody listens there
        Source("http://127.0.0.1:1/in.mkv", allow_url=True)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(100))) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def _bmp(side: int) -> bytes:
    header = struct.pack("<IHHIIiiHHIIIIII", 154, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + header + bytes(100)


def _ivf(codec: bytes, side: int) -> bytes:
    picture = bytes([0x10, 0, 0, 0x9D, 0x01, 0x2A]) + struct.pack("<HH", side, side) + bytes(40)
    header = struct.pack("<HHIHHIIII", 0, 32, int.from_bytes(codec, "little"), side, side, 25, 1, 1, 0)
    return b"DKIF" + header + struct.pack("<IQ", len(picture), 0) + picture


def _mkv(path: Path, side: int) -> bytes:
    """FFV1, whose size only the container tells, in a Matroska file that claims another one."""
    make(path, draw=smooth, width=320, height=288)
    real, claimed = (
        struct.pack(">2sH2sH", b"\xb0\x82", w, b"\xba\x82", h) for w, h in ((320, 288), (side,) * 2)
    )
    content = path.read_bytes()
    assert real in content
    return content.replace(real, claimed)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["png", "bmp", "y4m", "vp8", "vp9", "av1", "mkv"])
def test_a_claim_of_an_absurd_size_is_refused_before_memory_is_taken(tmp_path, kind, side, limited_memory):
    header = f"YUV4MPEG2 W{side} H{side} F25:1 Ip A1:1 C420\nFRAME\n".encode()
    content = {
        "png": lambda: _png(side),
        "bmp": lambda: _bmp(side),
        "y4m": lambda: header + bytes(100),
        "vp8": lambda: _ivf(b"VP80", side),
        "vp9": lambda: _ivf(b"VP90", side),
        "av1": lambda: _ivf(b"AV01", side),
        "mkv": lambda: _mkv(tmp_path / "small.mkv", side),
    }[kind]()
    path = tmp_path / f"large.{'ivf' if kind in ('vp8', 'vp9', 'av1') else kind}"
    path.write_bytes(content)
    ours = rf"claims to be {side}x{side}" if side < 2**15 else ""
    by_the_decoder = "no picture could be decoded|isn't media|can't be decoded"
    with pytest.raises(InputError, match=rf"{path.name}.*({ours or 'claims to be'}|{by_the_decoder})"):
        count(path)
    if ours and kind in ("mkv", "y4m"):  # nothing but the header was there to be looked at
        with pytest.raises(InputError, match=ours):
            count(path)


@pytest.mark.parametrize("name", ["a.jpg", "%03d.png"])
def test_a_picture_is_opened_by_its_very_name(tmp_path, name):
    if name.endswith("png"):
        content = encode_png(np.full((48, 64), 90, np.uint8))
    else:
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuvj420p"
        frame = av.VideoFrame(64, 48, "yuvj420p")
        content = b"".join(bytes(p) for f in (frame, None) for p in encoder.encode(f))
    (tmp_path / name).write_bytes(content)
    (tmp_path / "001.png").write_bytes(content)
    assert count(tmp_path / name) == 1


def test_a_rate_of_a_thousand_million_is_not_believed(tmp_path):
    path = tmp_path / "fast.y4m"
    path.write_bytes(b"YUV4MPEG2 W16 H16 F1000000000:1 Ip A1:1 C420\n" + (b"FRAME\n" + bytes(384)) * 3)
    source = Source(str(path))
    assert source.tracks[0].info.rate == 25
    source.close()
    assert count(path) == 3
