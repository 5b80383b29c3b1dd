"""Pictures in files of their own: PNG, TIFF and AVIF, single and in sequences."""

import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from jobs import LOSSLESS
from lab.media import Clip, assert_same_pictures, make, picture, planes, read, smooth

from bdinn_core import cli, flags
from bdinn_core.errors import InputError, OptionError, OutputError
from bdinn_core.video.part_files import PartFolder
from bdinn_core.video.sequences import Pattern

ROOT = Path(__file__).parent.parent
EXACT = {"pix_fmt": "source"}
_PLANAR = {
    "rgb24": "gbrp", "rgb48be": "gbrp16le", "rgb48le": "gbrp16le", "rgba": "gbrap", "rgba64be": "gbrap16le",
    "rgba64le": "gbrap16le", "gray16be": "gray16le",
}  # fmt: skip


def noise(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    """A frame of noise in a packed format."""
    if pix_fmt == "pal8":
        rng = np.random.default_rng(number)
        palette = rng.integers(0, 256, (256, 4), np.uint8)
        codes = rng.integers(0, 256, (height, width), np.uint8)
        return av.VideoFrame.from_ndarray((codes, palette), format="pal8")
    return picture(_PLANAR.get(pix_fmt, pix_fmt), width, height, number).reformat(format=pix_fmt)


def still(path: Path, pix_fmt: str = "rgb24", number: int = 0, **changes: object) -> Path:
    """A picture."""
    codec = {".tif": "tiff"}.get(path.suffix, path.suffix[1:])
    clip = {"codec": codec, "pix_fmt": pix_fmt, "times": [0], "width": 37, "height": 23, **changes}
    return make(path, Clip(**{"draw": lambda f, w, h, _: noise(f, w, h, number), **clip}))


def frames(folder: Path, numbers: Sequence[int] = range(1, 6), **changes: object) -> str:
    """A sequence of pictures, and its pattern."""
    folder.mkdir(exist_ok=True)
    for number in numbers:  # not made in the folder, whose name FFmpeg's muxer might take for a pattern
        still(folder.parent / "new.png", number=number, **changes).rename(folder / f"f{number:03d}.png")
    return str(folder / "f%03d.png")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(one: Path, other: Path) -> bool:
    a, b = (planes(read(path).frames[0]) for path in (one, other))
    return all(map(np.array_equal, a, b))


def chunks(path: Path) -> dict[bytes, bytes]:
    """The content of a PNG, by its chunks' names."""
    data, at, found = path.read_bytes(), 8, {}
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + size]
        at += 12 + size
    return found


def with_chunk(path: Path, kind: bytes, content: bytes) -> Path:
    """A PNG with a chunk more."""
    data = path.read_bytes()
    check = struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(data[:33] + struct.pack(">I", len(content)) + kind + content + check + data[33:])
    return path


PROFILE = struct.pack(">I", 600) + bytes(32) + b"acsp" + bytes(range(200)) * 2 + bytes(160)


def with_profile(path: Path) -> Path:
    return with_chunk(path, b"iCCP", b"a profile\0\0" + zlib.compress(PROFILE))


def adam7(path: Path, pixels: np.ndarray) -> Path:
    """A grey PNG whose lines are stored in seven passes."""
    height, width = pixels.shape
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    lines = [b"\0" + row.tobytes() for x, y, dx, dy in steps for row in pixels[y::dy, x::dx]]
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 1)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def test_a_png_stored_in_passes_has_no_fields(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48), np.uint8)
    source = adam7(tmp_path / "in.png", pixels)
    assert run(source, tmp_path / "out.png", **EXACT).warnings == []
    assert np.array_equal(planes(read(tmp_path / "out.png").frames[0])[0], pixels)
    assert run(source, tmp_path / "out.mkv", **LOSSLESS).warnings == []
    assert not read(tmp_path / "out.mkv").frames[0].interlaced_frame


def test_half_a_jpeg_is_told(run, tmp_path):
    """Its decoder says so in the log alone."""
    clip = make(tmp_path / "in.mkv", codec="mjpeg", pix_fmt="yuvj420p", draw=noise, times=[0])
    with av.open(str(clip)) as container:
        data = bytes(next(container.demux(video=0)))
    (tmp_path / "in.jpg").write_bytes(data)
    assert not run(tmp_path / "in.jpg", tmp_path / "whole.mkv", **LOSSLESS).report.damaged
    (tmp_path / "in.jpg").write_bytes(data[: len(data) // 2])
    assert run(tmp_path / "in.jpg", tmp_path / "half.mkv", **LOSSLESS).ended == (1, True)


@pytest.mark.parametrize(
    ("extension", "pix_fmt"),
    [
        ("png", "rgb24"), ("png", "rgb48be"), ("png", "rgba"), ("png", "rgba64be"), ("png", "gray"),
        ("png", "gray16be"), ("tif", "rgb24"), ("tif", "rgb48le"), ("tif", "rgba64le"), ("tiff", "gray"),
        ("tiff", "gray16le"),
    ],
)  # fmt: skip
def test_a_picture_is_kept_bit_for_bit(run, tmp_path, extension, pix_fmt):
    source = still(tmp_path / f"in.{extension}", pix_fmt)
    news = run(source, tmp_path / f"out.{extension}", **EXACT)
    assert (news.warnings, news.ended) == ([], (1, False))
    assert read(tmp_path / f"out.{extension}").pix_fmt == pix_fmt
    assert_same_pictures(read(source), read(tmp_path / f"out.{extension}"))
    assert names(tmp_path) == [f"in.{extension}", f"out.{extension}"]


@pytest.mark.parametrize(
    ("source", "pix_fmt", "extension", "expected"),
    [
        ("png", "rgb24", "png", "rgb48be"),
        ("png", "rgba", "png", "rgba64be"),
        ("png", "gray", "png", "gray16be"),
        ("png", "rgb24", "tif", "rgb48le"),
        ("tif", "gray", "tif", "gray16le"),
        ("tif", "gray", "png", "gray16be"),
        ("png", "pal8", "png", "rgba64be"),
    ],
)
def test_eight_bits_become_sixteen(run, tmp_path, source, pix_fmt, extension, expected):
    before = still(tmp_path / f"in.{source}", pix_fmt)
    run(before, tmp_path / f"out.{extension}")
    frame = read(tmp_path / f"out.{extension}").frames[0]
    assert frame.format.name == expected
    layout = {"gray": "gray", "pal8": "rgba"}.get(pix_fmt, pix_fmt)
    sixteen = {"gray": "gray16le", "rgb24": "rgb48le", "rgba": "rgba64le"}[layout]
    codes = read(before).frames[0].to_ndarray(format=layout).astype(np.uint16)
    np.testing.assert_array_equal(frame.to_ndarray(format=sixteen), codes * 257)


def test_the_result_is_debanded(run, tmp_path):
    source = still(tmp_path / "in.png")
    run(source, tmp_path / "out.png", {"strength": 1}, **EXACT)
    assert not same(source, tmp_path / "out.png")


@pytest.mark.parametrize("rate", [None, Fraction(24000, 1001)])
def test_a_sequence_becomes_a_video(run, tmp_path, rate):
    source = frames(tmp_path / "a%03d%%b%d", range(98, 103))
    run(source, tmp_path / "out.mkv", rate=rate, **LOSSLESS)
    video = read(tmp_path / "out.mkv")
    assert video.times == [Fraction(round(1000 * n / (rate or 25)), 1000) for n in range(5)]
    for n, frame in enumerate(video.frames, 98):
        original = read(tmp_path / "a%03d%%b%d" / f"f{n:03d}.png").frames[0]
        np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), original.to_ndarray(format="rgb24"))


def test_numbers_without_zeros_in_front(run, tmp_path):
    frames(tmp_path / "in", range(8, 12))
    for path in (tmp_path / "in").iterdir():
        path.rename(path.with_name(f"{int(path.stem[1:])}.png"))
    (tmp_path / "in" / "009.png").write_bytes(b"of another sequence")
    run(tmp_path / "in" / "%d.png", tmp_path / "%03d.png", **EXACT)
    assert names(tmp_path) == ["008.png", "009.png", "010.png", "011.png", "in"]
    assert all(same(tmp_path / f"{n:03d}.png", tmp_path / "in" / f"{n}.png") for n in range(8, 12))


def test_a_sequence_keeps_its_numbers_through_a_cut(run, tmp_path):
    source = frames(tmp_path / "in", range(7, 17))
    (tmp_path / "out").mkdir()
    cut = {"start": Fraction(3, 10), "end": Fraction(6, 10), "rate": Fraction(10)}
    run(source, tmp_path / "out" / "%04d.tif", **EXACT, **cut)
    assert names(tmp_path / "out") == ["0010.tif", "0011.tif", "0012.tif"]
    for n in (10, 11, 12):
        expected = read(tmp_path / "in" / f"f{n:03d}.png").frames[0]
        assert np.array_equal(planes(read(tmp_path / "out" / f"{n:04d}.tif").frames[0]), planes(expected))


def test_pictures_of_a_video_are_numbered_from_1(run, tmp_path):
    source = make(tmp_path / "in.mkv", pix_fmt="gbrp16le", times=[0, 1, 3, 4], sound="flac")
    news = run(source, tmp_path / "%d.png", {"strength": 0}, threads=1)
    assert names(tmp_path) == ["1.png", "2.png", "3.png", "4.png", "in.mkv"]
    assert news.warnings == [
        f"{tmp_path / '%d.png'} has no timestamps: the source's variable frame rate becomes constant"
    ]
    for n, frame in enumerate(read(source).frames, 1):
        found = read(tmp_path / f"{n}.png").frames[0].to_ndarray(format="rgb48le")
        np.testing.assert_array_equal(found, frame.to_ndarray(format="rgb48le"))


@pytest.mark.parametrize("end", [None, Fraction(3, 50)])
def test_a_sequence_as_mask_goes_in_step(run, tmp_path, end):
    clock = {"rate": Fraction(50), "time_base": Fraction(1, 50)}
    source = make(tmp_path / "in.mkv", pix_fmt="gray", draw=smooth, times=range(6), **clock)
    (tmp_path / "masks").mkdir()

    def plain(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
        codes = np.full((height, width), 255 * (number % 2), np.uint8)
        return av.VideoFrame.from_ndarray(codes, format=pix_fmt)

    options = {"codec": "png", "pix_fmt": "gray", "times": range(6), "draw": plain}
    make(tmp_path / "masks" / "%d.png", **options)
    run(source, tmp_path / "out.mkv", {"strength": 1}, mask=f"{tmp_path}/masks/%d.png", end=end, **LOSSLESS)
    before, after = read(source).frames, read(tmp_path / "out.mkv").frames
    kept = [np.array_equal(planes(a)[0], planes(b)[0]) for a, b in zip(before, after, strict=False)]
    assert kept == [True, False] * 3 if end is None else [True, False, True]


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ([3], r"f003\.png is missing: .*f%03d\.png has numbers 1 to 5"),
        ([2, 4], r"f002\.png is missing"),
        ([1, 2, 3, 4, 5], r"f%03d\.png: no such file, nor any with a number in its place"),
    ],
)
def test_a_gap_is_refused(run, tmp_path, remove, message):
    source = frames(tmp_path / "in")
    for number in remove:
        (tmp_path / "in" / f"f{number:03d}.png").unlink()
    with pytest.raises(InputError, match=message):
        run(source, tmp_path / "out.mkv", **LOSSLESS)
    assert names(tmp_path) == ["in"]


def test_an_empty_file_in_a_sequence_is_refused(run, tmp_path):
    source = frames(tmp_path / "in")
    (tmp_path / "in" / "f005.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"f005\.png is empty"):
        run(source, tmp_path / "out.mkv", **LOSSLESS)


@pytest.mark.parametrize("damaged", [[3], [1], [5], [2, 3, 4, 5], [1, 2, 3]])
def test_damaged_pictures_are_counted_once_and_the_others_keep_their_names(run, tmp_path, damaged):
    source = frames(tmp_path / "in")
    for number in damaged:
        path = tmp_path / "in" / f"f{number:03d}.png"
        path.write_bytes(path.read_bytes()[:1500])
    (tmp_path / "out").mkdir()
    news = run(source, tmp_path / "out" / "f%03d.png", **EXACT)
    intact = [n for n in range(1, 6) if n not in damaged]
    assert news.ended == (len(intact), True)
    assert len(news.warnings) == 1
    count = f"{len(damaged)} picture{'s' * (len(damaged) > 1)} couldn't be decoded"
    assert news.warnings[0].partition(";")[0] == f"{source} is damaged: {count}"
    assert names(tmp_path / "out") == [f"f{n:03d}.png" for n in intact]
    assert all(same(tmp_path / "in" / f"f{n:03d}.png", tmp_path / "out" / f"f{n:03d}.png") for n in intact)


def test_damage_is_exit_code_3(tmp_path, model, capfd):
    source = frames(tmp_path / "in")
    (tmp_path / "in" / "f003.png").write_bytes((tmp_path / "in" / "f003.png").read_bytes()[:1500])
    arguments = [source, str(tmp_path / "out.mkv"), "--codec", "ffv1", "--model", model, "--device", "cpu"]
    assert cli.main([*arguments, "--rate", "23.976"]) == 3
    assert read(tmp_path / "out.mkv").times == [Fraction(round(n * 1001 / 24), 1000) for n in (0, 1, 3, 4)]
    assert cli.main([*arguments, "-y", "--strict"]) == 1
    assert "is damaged after 0.040 s" in capfd.readouterr().err


def test_files_that_go_while_they_are_read_are_missed(run, tmp_path, monkeypatch):
    from bdinn_core.video import images

    # FFmpeg reads 5 MB ahead to see what it is.
    source = frames(tmp_path / "in", [1], width=300, height=200)
    for number in range(2, 41):
        shutil.copy(tmp_path / "in" / "f001.png", tmp_path / "in" / f"f{number:03d}.png")
    made = images.ImageWriter.picture

    def remove(self: images.ImageWriter, item: object) -> None:
        for number in (39, 40):
            (tmp_path / "in" / f"f{number:03d}.png").unlink(missing_ok=True)
        made(self, item)

    monkeypatch.setattr(images.ImageWriter, "picture", remove)
    (tmp_path / "out").mkdir()
    news = run(source, tmp_path / "out" / "%d.png", **EXACT)
    assert news.ended == (38, True)
    assert "1 place that couldn't be read, 2 pictures missing at the end" in news.warnings[-1]


def test_a_picture_of_another_size_stops_the_job_and_leaves_nothing(run, tmp_path):
    source = frames(tmp_path / "in")
    still(tmp_path / "new.png", width=40).replace(tmp_path / "in" / "f004.png")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"the picture changes from 37x23 rgb24 to 40x23 rgb24 at 0\.120 s"):
        run(source, tmp_path / "out" / "%d.png")
    assert names(tmp_path / "out") == []
    news = run(source, tmp_path / "out" / "%d.png", keep_partial=True)
    assert news.ended == (3, True)
    assert names(tmp_path / "out") == ["1.png", "2.png", "3.png"]


def test_one_file_takes_one_picture(run, tmp_path, seen):
    source = frames(tmp_path / "in")
    with pytest.raises(OptionError, match=r"out\.png is one picture, .*, as .*out-%05d\.png"):
        run(source, tmp_path / "out.png", {"strength": 1})
    assert seen == []  # before any work
    run(source, tmp_path / "out.png", end=Fraction(1, 25))
    assert read(tmp_path / "out.png").pix_fmt == "rgb48be"
    # It doesn't say how many it has.
    bare = make(tmp_path / "in.apng", codec="apng", pix_fmt="rgb24", draw=noise, times=range(3))
    with pytest.raises(OptionError, match="is one picture"):
        run(bare, tmp_path / "two.png", {"strength": 1})
    assert seen
    assert names(tmp_path) == ["in", "in.apng", "out.png"]


def test_existing_files_are_replaced_only_if_asked(run, tmp_path):
    source = frames(tmp_path / "in")
    output = tmp_path / "out"
    output.mkdir()
    for number in (4, 5, 6, 7, 8):
        (output / f"{number}.png").write_bytes(b"precious")
    (output / "08.png").write_bytes(b"of another sequence")
    with pytest.raises(OptionError, match=r"output .*4\.png exists; add -y"):
        run(source, output / "%d.png", **EXACT)
    assert all((output / f"{n}.png").read_bytes() == b"precious" for n in (4, 5, 6, 7, 8))
    news = run(source, output / "%d.png", overwrite=True, **EXACT)
    left = f"{output / '6.png'} to {output / '8.png'}"
    assert news.warnings == [f"{left}: of an earlier sequence, left as it was"]
    assert names(output) == ["08.png", *(f"{n}.png" for n in range(1, 9))]
    assert all(same(tmp_path / "in" / f"f{n:03d}.png", output / f"{n}.png") for n in range(1, 6))
    assert (output / "7.png").read_bytes() == b"precious"


@pytest.mark.parametrize("output", ["f%03d.png", "f%d.png", "f003.png"])
def test_a_source_is_not_replaced(run, tmp_path, output):
    source = frames(tmp_path / "in", range(100, 103) if output == "f%d.png" else range(1, 4))
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    with pytest.raises(OptionError, match="is the same file as the input"):
        run(source, tmp_path / "in" / output, overwrite=True, **EXACT)
    assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before


def test_files_whose_names_are_taken_meanwhile_are_not_put_in_place(tmp_path):
    pattern = Pattern.parse(f"{tmp_path}/%d.png")
    assert pattern is not None
    part = PartFolder(pattern, overwrite=False)
    for number in (1, 2, 3):
        (part.path / f"{number}.png").write_bytes(b"new")
    (tmp_path / "2.png").write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"2\.png has come to exist meanwhile"):
        part.commit()
    part.discard()
    assert names(tmp_path) == ["2.png"]
    assert (tmp_path / "2.png").read_bytes() == b"precious"


@pytest.mark.parametrize("stop", range(9))
def test_a_sequence_is_replaced_wholly_or_not_at_all(tmp_path, monkeypatch, stop):
    """Whatever fails, at any of the moves."""
    pattern = Pattern.parse(f"{tmp_path}/%d.png")
    assert pattern is not None
    for number in (1, 2):
        (tmp_path / f"{number}.png").write_bytes(b"old")
    part = PartFolder(pattern, overwrite=True)
    for number in (1, 2, 3):
        (part.path / f"{number}.png").write_bytes(b"new")
    calls = itertools.count()

    def interrupted(act: Callable[..., None]) -> Callable[..., None]:
        def acting(*paths: Path) -> None:
            number = next(calls)
            if number == stop // 2 and not stop % 2:
                raise KeyboardInterrupt
            act(*paths)
            if number == stop // 2:
                raise KeyboardInterrupt

        return acting

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted(os.replace))
        patch.setattr(os, "link", interrupted(os.link))
        with pytest.raises(KeyboardInterrupt):
            part.commit()
    part.discard()
    assert names(tmp_path) == ["1.png", "2.png"]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"old"}


def test_a_signal_waits_until_a_sequence_is_in_place(tmp_path, monkeypatch):
    pattern = Pattern.parse(f"{tmp_path}/%d.png")
    assert pattern is not None
    part = PartFolder(pattern, overwrite=False)
    for number in (1, 2, 3):
        (part.path / f"{number}.png").write_bytes(b"new")
    link = os.link

    def interrupted(*paths: Path) -> None:
        link(*paths)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "link", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            part.commit()
    finally:
        signal.signal(signal.SIGINT, before)
    part.discard()
    assert names(tmp_path) == ["1.png", "2.png", "3.png"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), r"f002\.png is missing"),
        (lambda path: path.write_bytes(b""), r"f002\.png is empty"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), r"f002\.png can't be read"),
        (lambda path: (path.unlink(), path.mkdir()), r"f002\.png can't be read"),
    ],
)
def test_no_picture_of_a_sequence_is_passed_over(run, tmp_path, spoil, message):
    source = frames(tmp_path / "in")
    spoil(tmp_path / "in" / "f002.png")
    with pytest.raises(InputError, match=message):
        run(source, tmp_path / "out.mkv", **EXACT)


def test_numbers_beyond_what_ffmpeg_counts_are_refused(run, tmp_path):
    (tmp_path / "20240101120000.png").write_bytes(b"a picture")
    with pytest.raises(InputError, match="FFmpeg counts no further"):
        run(tmp_path / "%d.png", tmp_path / "out.mkv")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's signals")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_that_is_ended_leaves_no_final_names(tmp_path, model, sent):
    # A pipe that falls silent after a few pictures: the job can't be done before the signal comes.
    command = [sys.executable, "-m", "bdinn_core", "-", str(tmp_path / "%d.png"), "--strength", "0"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = ["--model", model, "--device", "cpu", "--threads", "1"]
    with subprocess.Popen([*command, *options], **pipes, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 Cmono\n" + (b"FRAME\n" + bytes(256)) * 8)
        process.stdin.flush()
        deadline = time.monotonic() + 100
        while not list(tmp_path.glob(".*.part/*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(sent)
        process.wait(30)
    assert not list(tmp_path.glob("*.png"))
    assert len(names(tmp_path)) == (sent == signal.SIGKILL)


def test_a_disk_that_is_full_is_told_and_leaves_nothing(run, tmp_path, monkeypatch):
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    source = frames(tmp_path / "in")
    monkeypatch.setattr(Path, "write_bytes", full)
    for output in ("out.png", "%d.png"):
        with pytest.raises(OutputError, match=r"png can't be written on \(No space left on device\)"):
            run(source, tmp_path / output, end=Fraction(1, 25), **EXACT)
    assert names(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("source", "job", "error", "message"),
    [
        ("in.mkv", {"rate": Fraction(24)}, OptionError, "rate is for image .*in.mkv has times of its own"),
        ("in.png", {"output": "no/%d.png"}, OptionError, "output directory no doesn't exist"),
        ("in.png", {"output": "o.png", "codec": "libx265"}, OptionError, "libx265 contradicts o.png"),
        ("in.png", {"output": "o.tif", "codec": "png"}, OptionError, "png contradicts o.tif, which is tiff"),
        ("in.png", {"output": "o.png", "crf": 3.0}, OptionError, "png has no crf"),
        ("in.png", {"output": "o.png", "encoder_options": [("pred", "x")]}, OptionError, "refuses pred=x"),
        ("in.mkv", {"output": "%d.png"}, OutputError, "png can't encode this picture: it takes no yuv420p"),
        ("in.png", {"output": "o.avif"}, OutputError, "libsvtav1 can't .*: it takes no gbrp"),
        ("in.avif", {"output": "o.avif", "codec": "libx264"}, OutputError, "avif can't hold libx264"),
        ("in.avif", {"rate": Fraction(24)}, OptionError, "has times of its own"),
        ("100%.mkv", {}, InputError, "100%.mkv: no such file"),
        ("%d-%d.png", {}, InputError, "%d-%d.png: no such file$"),
        ("http://127.0.0.1:1/%d.png", {}, InputError, "is an address"),
    ],
)  # fmt: skip
def test_what_is_refused(run, tmp_path, monkeypatch, source, job, error, message):
    monkeypatch.chdir(tmp_path)
    make(Path("in.mkv"))
    still(Path("in.png"))
    make(Path("in.avif"), codec="libsvtav1", draw=smooth, times=[0], options={"preset": "12"})
    with pytest.raises(error, match=message):
        run(source, **{"output": "out.mkv", **job})
    assert names(tmp_path) == ["in.avif", "in.mkv", "in.png"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24", Fraction(24)), ("23.976", Fraction(24000, 1001)), ("29.97", Fraction(30000, 1001)),
        ("24000/1001", Fraction(24000, 1001)), ("12.5", Fraction(25, 2)),
    ],
)  # fmt: skip
def test_rates(text, expected):
    assert flags._rate(text) == expected


@pytest.mark.parametrize("text", ["0", "-5", "x", "1/0", "2000", "1/2/3"])
def test_wrong_rates(tmp_path, capfd, text):
    assert cli.main([str(tmp_path / "%d.png"), str(tmp_path / "out.mkv"), f"--rate={text}"]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_a_single_picture_has_the_rate_asked_for(run, tmp_path):
    run(still(tmp_path / "in.png"), tmp_path / "out.mkv", rate=Fraction(10), **LOSSLESS)
    with av.open(str(tmp_path / "out.mkv")) as video:
        assert video.streams.video[0].average_rate == 10


@pytest.mark.parametrize("output", ["out.png", "out%d.png", "out.mov"])
def test_an_icc_profile_comes_along_in_png(run, tmp_path, output):
    source = with_profile(still(tmp_path / "in.png"))
    news = run(source, tmp_path / output, codec="png", **EXACT)
    assert news.warnings == []
    made = tmp_path / output.replace("%d", "1")
    if made.suffix == ".mov":
        made = tmp_path / "again.png"
        run(tmp_path / output, made, **EXACT)
    kept = chunks(made)[b"iCCP"]
    assert zlib.decompress(kept[kept.index(b"\0") + 2 :]) == PROFILE


@pytest.mark.parametrize(("output", "codec"), [("o.tif", "tiff"), ("o.mkv", "ffv1"), ("o.mp4", "libx265")])
def test_an_icc_profile_that_is_lost_is_told_once(run, tmp_path, output, codec):
    source = frames(tmp_path / "in", [1], width=64, height=64)
    with_profile(tmp_path / "in" / "f001.png")
    for number in (2, 3):
        (tmp_path / "in" / f"f00{number}.png").write_bytes((tmp_path / "in" / "f001.png").read_bytes())
    output = output.replace("o.tif", "%d.tif")
    news = run(source, tmp_path / output, codec=codec)
    assert news.warnings == [f"the ICC profile is lost: {codec} doesn't hold it; png does"]


COLOURS = {"color_range": 2, "color_primaries": 9, "color_trc": 16, "colorspace": 0}


def test_colours_and_shape_of_pixels_are_kept_in_png_and_told_where_lost(run, tmp_path):
    tags = {**COLOURS, "sample_aspect_ratio": Fraction(4, 3)}
    source = make(tmp_path / "in.mov", codec="png", pix_fmt="rgb24", times=[0], tags=tags, draw=noise)
    assert run(source, tmp_path / "out.png").warnings == []
    kept = read(tmp_path / "out.png")
    assert (kept.tags, kept.aspect) == ((2, 0, 9, 16), Fraction(4, 3))
    news = run(tmp_path / "out.png", tmp_path / "out.tif")
    assert news.warnings == ["tags of colour are lost: tiff has no place for primaries 9, transfer 16"]
    assert read(tmp_path / "out.tif").aspect == Fraction(4, 3)


def test_limited_range_is_refused(run, tmp_path):
    source = make(tmp_path / "in.mkv", pix_fmt="gray", times=[0], tags={"color_range": 1})
    for output in ("out.png", "out.tif"):
        with pytest.raises(OutputError, match="can't say that the picture has limited range"):
            run(source, tmp_path / output)


@pytest.mark.parametrize("output", ["out.png", "out.tif", "out.mov"])
def test_rotation_is_kept(run, tmp_path, output):
    source = make(tmp_path / "in.mov", codec="png", pix_fmt="rgb24", times=[0], rotation=90, draw=noise)
    run(source, tmp_path / "in.png", **EXACT)
    run(tmp_path / "in.png", tmp_path / output, codec="png" if output == "out.mov" else "auto")
    assert read(tmp_path / output).rotation == 90


def test_high_dynamic_range_of_a_picture_is_refused_or_dropped(run, tmp_path):
    light = struct.pack(">2I", 10_000_000, 4_000_000)
    display = struct.pack(">8H2I", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, 10_000_000, 50)
    source = with_chunk(with_chunk(still(tmp_path / "in.png"), b"cLLI", light), b"mDCV", display)
    with pytest.raises(
        OutputError, match="png can't say the source's mastering display, content light level"
    ):
        run(source, tmp_path / "out.png")
    news = run(source, tmp_path / "out.png", hdr="drop")
    assert len(news.warnings) == 1
    assert not {b"cLLI", b"mDCV"} & chunks(tmp_path / "out.png").keys()


def test_avif_in_and_out(run, tmp_path):
    tags = {"color_range": 2, "color_primaries": 9, "color_trc": 16, "colorspace": 9}
    clip = {"codec": "libsvtav1", "draw": smooth, "width": 96, "height": 64, "options": {"preset": "12"}}
    source = make(tmp_path / "in.avif", times=[0], tags=tags, **clip)
    news = run(source, tmp_path / "out.avif", preset="12", crf=1.0)
    assert (news.warnings, news.ended) == ([], (1, False))
    before, after = read(source), read(tmp_path / "out.avif")
    assert after.tags == before.tags == (2, 9, 9, 16)
    assert (after.codec, after.pix_fmt, len(after.frames)) == ("av1", "yuv420p10le", 1)
    difference = planes(after.frames[0])[0] / 1023 - planes(before.frames[0])[0] / 255
    assert np.abs(difference).mean() < 0.01


def test_what_avif_cannot_hold_is_told_or_refused(run, tmp_path):
    clip = {"draw": smooth, "width": 96, "height": 64, "times": [0]}
    turned = make(tmp_path / "in.mkv", **clip, rotation=90)
    assert run(turned, tmp_path / "out.avif", preset="12").warnings == [
        "rotation is lost: avif has no place for it here"
    ]
    assert read(tmp_path / "out.avif").rotation == 0
    loud = make(tmp_path / "loud.mkv", **{**clip, "times": range(5)}, sound="flac")
    with pytest.raises(OutputError, match=r"avif can't hold audio stream 1 \(flac\)"):
        run(loud, tmp_path / "loud.avif", preset="12")
    news = run(loud, tmp_path / "loud.avif", preset="12", drop_incompatible=True)
    assert news.ended == (5, False)
    with pytest.raises(OutputError, match="avif can't hold video stream 1"):
        run(tmp_path / "loud.avif", tmp_path / "again.avif", preset="12")  # a still, and those that move


def test_webm_gets_vp9(run, tmp_path):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64)
    run(source, tmp_path / "out.webm")
    assert read(tmp_path / "out.webm").codec == "vp9"


def test_of_a_video_percent_is_itself(run, tmp_path):
    source = make(tmp_path / "in.mkv", times=range(2))
    run(source, tmp_path / "out%d.mkv", **LOSSLESS)
    assert_same_pictures(read(source), read(tmp_path / "out%d.mkv"))


@pytest.mark.parametrize(
    ("text", "number", "name"),
    [
        ("%d.png", 5, "5.png"), ("a%05d.png", 12, "a00012.png"), ("%02d", 123, "123"),
        ("100%_%03d.png", 7, "100%_007.png"), ("%%03d.png", 7, "%007.png"),
    ],
)  # fmt: skip
def test_patterns(tmp_path, text, number, name):
    pattern = Pattern.parse(f"{tmp_path}/{text}")
    assert pattern.path(number) == tmp_path / name
    assert str(pattern) == f"{tmp_path}/{text}"
    (tmp_path / name).write_bytes(b"1")
    assert pattern.numbers() == [number]


@pytest.mark.parametrize("text", ["a.png", "%s.png", "%5d.png", "%d-%d.png", "%d/a.png", "%.png", "% d.png"])
def test_no_patterns(text):
    assert Pattern.parse(text) is None
