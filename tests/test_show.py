import gc
import json
import re
import tempfile
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import pytest
import torch
from banded import FORMATS, banded_frame, name_of
from jobs import info
from lab.media import banded, make

from bdinn_core import DebandOptions, Frame, FrameFormat, InputError, cli
from bdinn_core.measure import measure_plane
from bdinn_core.show.analysis import analyze
from bdinn_core.show.colours import Colours, changes, draw, raise_contrast
from bdinn_core.show.lettering import letter
from bdinn_core.show.preview import GRID_PX, draw_preview, window_of
from bdinn_core.show.samples import clock, deband_at, pictures
from bdinn_core.video import VideoJob
from bdinn_core.video.cambi import Cambi


def half_noisy(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    """Bands, beside which there's noise until picture 5."""
    frame = banded(pix_fmt, width, height, number)
    noise = np.random.default_rng(number)
    for plane in frame.planes if number < 5 else ():
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        half = rows[:, plane.width // 2 : plane.width]
        half += noise.integers(-9, 10, half.shape).astype(np.uint8)  # modulo 256
    return frame


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make(
        tmp_path_factory.mktemp("show") / "in.mkv", draw=half_noisy, width=400, height=120, times=range(10)
    )


def job_of(source: Path, **changes) -> VideoJob:
    return VideoJob(**{"source": str(source), "output": "out.png", **changes})


OPTIONS = DebandOptions(device="cpu")


def read_png(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_frames_of_every_format_become_the_same_picture(fmt):
    frame = banded_frame(fmt)
    source = info("yuv444p", frame.width, frame.height)
    picture = draw(frame, Colours.of(replace(source, format=fmt)))
    assert picture.shape == (frame.height, frame.width, 3)
    luma = 90 + 0.05 * np.arange(frame.width)
    shown = picture[-5:].mean((0, 2))
    if fmt.family == "gray":
        scale = fmt.with_depth(8).scale(0)
        assert np.allclose(shown, (luma + 0.03 * 70 - scale.zero) * 255 / scale.span, atol=1.5)
    else:
        assert shown[-1] > shown[0] + 2


def test_colours_are_those_of_swscale():
    rng = np.random.default_rng(0)
    planes = tuple(rng.integers(60, 190, (32, 32), np.uint8) for _ in range(3))
    frame = Frame(planes, FrameFormat(family="yuv"))
    video = av.VideoFrame.from_ndarray(np.stack(planes), format="yuv444p")
    for number, name in ((1, "itu709"), (5, "itu601")):
        video.colorspace, video.color_range = number, 1
        expected = video.to_ndarray(format="rgb24", src_colorspace=name)
        source = info("yuv444p", 32, 32)
        tagged = replace(source, tags=replace(source.tags, matrix=number))
        difference = draw(frame, Colours.of(tagged)).astype(int) - expected
        assert np.abs(difference).max() <= 2, name


def test_raised_contrast_shows_a_step_and_keeps_flat_parts_grey():
    plane = torch.full((40, 200), 30.0)
    plane[:, 100:] += 1
    raised = raise_contrast(plane, 16, 126.0, 10)
    assert raised[20, 101] - raised[20, 98] > 12
    assert raised[20, 5] == pytest.approx(126, abs=0.01)
    assert torch.allclose(raise_contrast(plane, 1, 126.0, 10), plane, atol=1e-4)


def test_changes_are_the_largest_among_the_planes_with_their_sign():
    fmt = FrameFormat(family="yuv", subsampling=(1, 1))
    before = Frame((np.full((8, 8), 90, np.uint8), *[np.full((4, 4), 128, np.uint8)] * 2), fmt)
    deep = fmt.with_depth(10)
    planes = [
        np.full((8, 8), 362, np.uint16),
        np.full((4, 4), 512, np.uint16),
        np.full((4, 4), 512, np.uint16),
    ]
    planes[2][:, 2:] -= 4
    change = changes(before, Frame(tuple(planes), deep))
    assert change[0, 0] == pytest.approx(0.5)
    assert change[0, 7] == pytest.approx(-1)


def test_words_are_drawn_and_cut_off():
    strip = letter("source 0:00", 200)
    assert strip.shape[1:] == (200, 3)
    assert strip.max() > 200
    assert (strip[:, 120:] == strip[0, 0]).all()
    assert letter("a long title that doesn't fit", 20).shape[1] == 20
    assert np.array_equal(letter("é", 40), letter("?", 40))


def test_the_window_is_where_the_bands_are():
    frame = banded_frame(FrameFormat(family="yuv", subsampling=(1, 1)), width=400, height=200)
    planes = [plane.copy() for plane in frame.planes]
    planes[0][:, :200] = np.random.default_rng(0).integers(0, 255, (200, 200))
    left, top, width, height = window_of(Frame(tuple(planes), frame.format), 1, 120, 80)
    assert (width, height) == (120, 80)
    assert left >= 190
    assert left % GRID_PX == top % GRID_PX == 0
    assert window_of(frame, 1, 999, 999) == (0, 0, 400, 200)


def test_times_in_words():
    assert clock(Fraction(3723)) == "1:02:03.000"
    assert clock(Fraction(59999, 60000) + 59) == "0:01:00.000"


def numbers(job: VideoJob, count: int) -> list[int]:
    return [round(picture.time * 25) for picture in pictures(job, OPTIONS, count)]


def test_pictures_are_spread_over_what_is_wanted(source):
    assert numbers(job_of(source), 10) == list(range(10))
    assert numbers(job_of(source), 99) == list(range(10))
    assert numbers(job_of(source, start=Fraction(8, 25)), 2) == [8, 9]


@pytest.mark.parametrize("name", ["testvid_1022ms.mp4", "sample_h265.ts", "bear-vp9-odd-dimensions.webm"])
def test_pictures_of_real_clips(data_dir, name):
    assert len([*pictures(job_of(data_dir / name), OPTIONS, 8)]) == 8


def test_fewer_pictures_where_a_file_is_shorter_than_it_says(tmp_path):
    whole = make(tmp_path / "in.mkv", draw=banded, times=range(50), codec="mjpeg", pix_fmt="yuvj420p")
    part = tmp_path / "part.mkv"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    found = numbers(job_of(part), 10)
    assert 2 <= len(found) < 10
    assert found == sorted(set(found))


def test_the_picture_is_the_one_on_the_screen(tmp_path):
    ticks = [0, 100, 1000, 1040]  # milliseconds
    clip = make(tmp_path / "in.mkv", draw=banded, times=ticks, time_base=Fraction(1, 1000))
    for wanted, shown in (
        (0, 0),
        (0.05, 0),
        (0.1, 100),
        (0.9, 100),
        (1.0, 1000),
        (1.039, 1000),
        (1.04, 1040),
    ):
        sample = deband_at(job_of(clip), OPTIONS, Fraction(wanted).limit_denominator(1000))
        assert round(sample.time * 1000) == shown, wanted
    with pytest.raises(InputError, match=r"in\.mkv shows no picture at 0:00:09\.000"):
        deband_at(job_of(clip), OPTIONS, Fraction(9))


def test_a_mask_goes_with_the_picture(source, tmp_path):
    mask = make(tmp_path / "mask.mkv", draw=white_from_picture_5, width=400, height=120, times=range(10))
    masked = job_of(source, mask=str(mask), end=Fraction(1, 10))
    for number, changes_it in ((3, False), (7, True)):
        sample = deband_at(masked, OPTIONS, Fraction(number, 25))
        assert (changes(sample.source, sample.result).abs().max() > 0.1) == changes_it


def white_from_picture_5(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    frame = banded(pix_fmt, width, height, number)
    np.frombuffer(frame.planes[0], np.uint8)[...] = 235 if number >= 5 else 16
    return frame


@pytest.mark.parametrize(("codec", "depth"), [("libvpx-vp9", 8), ("ffv1", 10)])
def test_the_depth_is_the_encoders(source, codec, depth):
    sample = deband_at(job_of(source, codec=codec), OPTIONS, Fraction(0))
    assert sample.result.format.bit_depth == depth


def test_a_sample_has_the_result_that_a_job_would_encode(source, tmp_path, run):
    job = tmp_path / "out.mkv"
    run(source, job, {"model": "fast", "grain": 0.5}, codec="ffv1")
    with av.open(str(job)) as container:
        pictures = [frame.to_ndarray(format="yuv420p10le") for frame in container.decode(video=0)]
    sample = deband_at(job_of(source), DebandOptions(device="cpu", grain=0.5), Fraction(4, 25))
    assert np.array_equal(sample.result.planes[0], pictures[4][:120])
    assert sample.result.format.bit_depth == 10


def test_a_preview_of_one_time_has_six_pictures(source):
    said: list[str] = []
    picture = draw_preview(job_of(source), OPTIONS, [Fraction(6, 25)], said.append)
    title = letter("", 1).shape[0]
    assert picture.shape == (2 * (title + 120) + 4, 3 * 400 + 8, 3)
    cells = [
        [picture[y + title : y + title + 120, x : x + 400].mean(2) for x in (0, 404, 808)]
        for y in (0, title + 124)
    ]
    # What looks flat in the first row shows bands in the second, of the source alone.
    blocks = [[cell.reshape(24, 5, 80, 5).mean((1, 3))[4:-4, 6:-6] for cell in row] for row in cells]
    uneven = [[np.diff(block, axis=1).std() for block in row] for row in blocks]
    assert uneven[1][0] > 2 * uneven[0][0]
    assert uneven[1][0] > 2 * uneven[1][1]
    assert cells[0][2].max() > 50
    assert cells[1][2].max() > 50
    assert re.fullmatch(r"0:00:00\.240: banding \d+\.\d % -> \d+\.\d %, mean change 0\.\d\d of .*", said[0])


def test_auto_finds_the_most_banded_pictures(source):
    said: list[str] = []
    draw_preview(job_of(source), OPTIONS, "auto", said.append)
    assert len(said) == 4
    assert said[1].startswith("0:00:00.200")  # the first without noise, in the second of four parts


def test_preview_on_the_command_line(source, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(source), "--preview", "0.1,0:00:00.2", "--device", "cpu"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "in.preview.png is there to be looked at"
    picture = read_png(tmp_path / "in.preview.png")
    assert picture.shape[1] == 5 * 404 + 400
    assert cli.main([str(source), "--preview", "0"]) == 2
    assert "in.preview.png exists; add -y to replace it" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.preview.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preview", "x"], "'x' isn't auto, or times separated by commas"),
        (
            ["out.mkv", "--preview", "0"],
            "a preview is a picture: name one .png instead of out.mkv, or nothing",
        ),
        (["no/out.png", "--preview", "0"], "output directory no doesn't exist"),
        (["out.mkv", "--report", "page.pdf"], "a report is a page: name a .html instead of page.pdf"),
        (
            ["out.mkv", "--report", "a.html", "--analyze"],
            "analyze and report are asked for: give one at a time",
        ),
        (["a%d.png", "--preview", "0"], "a preview is a picture: name one .png instead of a%d.png"),
        (["-", "--report", "page.html"], "a report reads the result again: name a file instead of -"),
        (["out.mkv", "--report", "no/page.html"], "output directory no doesn't exist"),
    ],
)
def test_wrong_previews_and_reports_are_told_in_a_line(
    source, tmp_path, monkeypatch, capfd, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(source), *arguments]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_folder_or_a_pipe_has_no_preview(tmp_path, capfd):
    for mode in (["--preview", "0"], ["--analyze"], ["--report", "page.html"]):
        assert cli.main([str(tmp_path), str(tmp_path / "out"), *mode]) == 2
        assert "are for one video: name it, instead of many" in capfd.readouterr().err
    assert cli.main(["-", "--preview", "0"]) == 2
    assert "a pipe can be read but once" in capfd.readouterr().err


def test_analysis_says_what_is_found_and_used(source, capfd):
    assert cli.main([str(source), "--analyze", "--device", "cpu", "--strength", "1,0.5,0"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    with av.open(str(source)) as container:
        frame = next(iter(container.decode(video=0)))
    assert f"{source}:" in out.splitlines()[0]
    assert [rows[name][-1] for name in "YUV"] == ["1", "0.5", "0"]
    assert float(rows["Y"][0]) > 20
    assert f" {frame.width}x{frame.height}," in out
    assert "model fast on cpu (numba" in out


def test_analysis_finds_coarse_steps(tmp_path):
    def coarse(pix_fmt, width, height, number):
        frame = banded(pix_fmt, width, height, 9)
        for plane in frame.planes:
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
            y, x = np.mgrid[0 : plane.height, 0 : plane.width]
            rows[:, : plane.width] = np.rint((60 + 0.3 * x + 0.1 * y) / 4) * 4
        return frame

    path = make(tmp_path / "in.mkv", draw=coarse, width=200, height=120, times=range(3))
    lines = [*analyze(job_of(path), OPTIONS)]
    y = next(line for line in lines if line.startswith("Y")).split()
    assert y[4:6] == ["4", "2"]  # step; half a step is the limit
    [picture, *_] = pictures(job_of(path), OPTIONS, 3)
    assert measure_plane(picture.frame, 0).step == 4


@pytest.mark.parametrize("name", ["plain", "O'Brien", "a:b", "back\\slash", "sp ace"])
def test_cambi_logs_into_folders_of_any_name(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    ramp = np.tile(np.linspace(240, 280, 320).round(), (240, 1)).astype(np.uint16) // 4 * 4
    with closing(Cambi(320, 240)) as scorer:
        for _ in range(2):
            scorer.push(ramp)
        scores = scorer.finish()
    assert len(scores) == 2
    assert scores[0] > 2
    assert not [*(tmp_path / name).iterdir()]


def test_cambi_does_not_take_strips():
    assert Cambi.takes(1920, 1080)
    assert Cambi.takes(320, 180)
    assert Cambi.takes(1080, 1920)
    for width, height in ((1000, 64), (1920, 160), (3840, 240), (200, 200), (7680, 4320)):
        assert not Cambi.takes(width, height)


def test_cambi_is_that_of_the_file(tmp_path):
    """libvmaf on a file of 10 bits, and on its luma alone."""
    clip = make(
        tmp_path / "in.mkv", pix_fmt="yuv420p10le", draw=ten_bits, width=320, height=240, times=range(3)
    )
    log = tmp_path / "log.json"
    graph = av.filter.Graph()
    with av.open(str(clip)) as container, closing(Cambi(320, 240)) as scorer:
        stream = container.streams.video[0]
        inputs = [graph.add_buffer(template=stream, name=name) for name in ("distorted", "reference")]
        vmaf = graph.add("libvmaf", f"feature=name=cambi:log_path={log}:log_fmt=json:model=")
        sink = graph.add("buffersink")
        for pad, each in enumerate(inputs):
            each.link_to(vmaf, 0, pad)
        vmaf.link_to(sink)
        graph.configure()
        for frame in container.decode(video=0):
            scorer.push(frame.to_ndarray()[:240])
            for each in inputs:
                each.push(frame)
            sink.pull()
        found = scorer.finish()
    del graph, inputs, each, vmaf, sink
    gc.collect()
    expected = [frame["metrics"]["cambi"] for frame in json.loads(log.read_text())["frames"]]
    assert found == pytest.approx(expected, abs=1e-4)
    assert min(found) > 3


def ten_bits(pix_fmt: str, width: int, height: int, number: int) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint16).reshape(plane.height, -1)
        y, x = np.mgrid[0 : plane.height, 0 : plane.width]
        rows[:, : plane.width] = 4 * np.rint(60 + 0.04 * (x + number) + 0.03 * y)
    return frame
