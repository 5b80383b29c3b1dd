import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from lab.media import make, read, smooth

from bdinn_core import cli, flags
from bdinn_core.checkpoint import save_model
from bdinn_core.network import BDINN, CONFIGS
from bdinn_core.options import DebandOptions
from bdinn_core.video import VideoJob

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def bdinn_video(*arguments: object, **settings: object) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "bdinn_core", *map(str, arguments)]
    return subprocess.run(command, **{"capture_output": True, "env": ENVIRONMENT, "timeout": 120, **settings})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    save_model(BDINN(CONFIGS["fast"]), path, {})
    return str(path)


@pytest.fixture
def clip(tmp_path):
    return make(tmp_path / "in.mkv", draw=smooth, width=96, height=64)


def test_every_option_is_a_flag_with_its_own_words(capsys):
    assert cli.main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for options in (DebandOptions, VideoJob):
        for field in fields(options):
            if field.name not in ("source", "output"):
                name = {"encoder_options": "encoder-option"}.get(field.name, field.name.replace("_", "-"))
                assert f"--{name}" in text
    assert "what protects detail from a wrong guess" in text
    assert "[default: auto]" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'IN'"),
        (["in.mkv"], "Missing argument 'OUT'"),
        (["in.mkv", "out.mkv", "--nosuch"], "--nosuch"),
        (["in.mkv", "out.mkv", "--strength", "3"], "strength must be a number 0..2, not 3"),
        (
            ["in.mkv", "out.mkv", "--strength", "1,2"],
            "strength takes one value or one for each of three planes",
        ),
        (["in.mkv", "out.mkv", "--strength", "x"], "'x' isn't a number"),
        (["in.mkv", "out.mkv", "--step", "17"], "step must be"),
        (["in.mkv", "out.mkv", "--planes", "0,3"], "planes must be"),
        (["in.mkv", "out.mkv", "--output-depth", "7"], "output_depth must be"),
        (["in.mkv", "out.mkv", "--dither", "silly"], "dither must be"),
        (["in.mkv", "out.mkv", "--tile-size", "100"], "tile_size must be"),
        (["in.mkv", "out.mkv", "--device", "tpu"], "device must be"),
        (["in.mkv", "out.mkv", "--threads", "-1"], "threads must be a whole number 0..1024, not -1"),
        (["in.mkv", "out.mkv", "--hwaccel", "vaapi"], "hwaccel must be none, cuda or cuda:N, not 'vaapi'"),
        (["in.mkv", "out.mkv", "--start", "1:2:3:4"], "'1:2:3:4' isn't seconds or hh:mm:ss.ms"),
        (["in.mkv", "out.mkv", "--start", "2", "--end", "1"], "end must be after start"),
        (["in.mkv", "out.mkv", "-e", "novalue"], "'novalue' isn't key=value"),
        (["in.mkv", "out.mkv", "--codec", "nosuch"], "codec must be a video encoder such as libx265"),
        (["in.mkv", "out.mkv", "--crf", "99"], "crf must be 0..51 for libx265, not 99"),
        (["in.mkv", "out.mkv", "--pix-fmt", "yuv444p"], "hasn't the source's planes"),
        (["in.mkv", "nodir/out.mkv"], "output directory nodir doesn't exist"),
        (["in.mkv", "in.mkv"], "is the same file as the input"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_line(clip, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(clip.parent)
    assert cli.main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert message in err
    assert [p.name for p in clip.parent.iterdir()] == ["in.mkv"]


def test_wrong_usage_and_bad_input_are_told_before_torch_is_imported(clip):
    script = (
        "import sys; from bdinn_core import cli\n"
        f"assert cli.main([{str(clip)!r}, 'o.mkv', '--strength', '9']) == 2\n"
        f"assert cli.main([{str(clip)!r}, 'o.mkv', '--codec', 'nosuch']) == 2\n"
        "assert cli.main(['missing.mkv', 'o.mkv']) == 1\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, check=True, cwd=clip.parent, timeout=60)


def _sound_only(folder: Path) -> Path:
    whole = make(folder / "whole.mkv", sound="flac", times=range(3))
    import av

    with av.open(str(whole)) as source, av.open(str(folder / "sound.mka"), "w") as target:
        copy = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    return folder / "sound.mka"


@pytest.mark.parametrize("kind", ["missing", "text", "damaged", "sound", "directory"])
def test_bad_input_exits_with_1_and_one_line(tmp_path, data_dir, kind):
    source = tmp_path / f"{kind}.mp4"
    message = {
        "missing": "no such file",
        "text": "isn't media",
        "damaged": "no picture could be decoded",
        "sound": "no video stream",
        "directory": "has no video in it",
    }[kind]
    if kind == "text":
        source.write_text("Not a film at all.\n" * 50)
    elif kind == "damaged":
        source = data_dir / "invalid-bitstream.webm"
    elif kind == "sound":
        source = _sound_only(tmp_path)
    elif kind == "directory":
        source = tmp_path
    result = bdinn_video(source, tmp_path / "out.mkv")
    assert result.returncode == 1
    assert result.stdout == b""
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert message in lines[0]
    assert not list(tmp_path.glob("*out*"))


def test_a_file_with_the_shipped_model(tmp_path):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64, sound="flac", times=range(4))
    result = bdinn_video(source, tmp_path / "out.mkv", "--preset", "ultrafast")
    assert (result.returncode, result.stdout) == (0, b"")
    # Before the last line comes one about progress where the loops had to be compiled first.
    assert re.search(r"^4 frames in [\d.]+ s \([\d.]+ fps\), .*\n\Z", result.stderr.decode(), re.MULTILINE)
    before, after = read(source), read(tmp_path / "out.mkv")
    assert after.codec == "hevc"
    assert after.pix_fmt == "yuv420p10le"
    assert after.times == before.times
    assert [d for _, d in after.packets[1]] == [d for _, d in before.packets[1]]


def test_a_warning_is_a_line_and_the_output_replaced_only_with_y(tmp_path, model, capfd):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64, subtitles="subrip")
    arguments = [str(source), str(tmp_path / "out.mp4"), "--model", model, "--preset", "ultrafast"]
    assert cli.main(arguments) == 0
    assert "Warning: subtitle stream 1 (srt) is converted to mov_text for mp4\n" in capfd.readouterr().err
    first = (tmp_path / "out.mp4").read_bytes()
    assert cli.main([*arguments, "--strength", "0"]) == 2
    assert "exists; add -y" in capfd.readouterr().err
    assert (tmp_path / "out.mp4").read_bytes() == first
    assert cli.main([*arguments, "--end", "0.1", "-y"]) == 0
    assert len(read(tmp_path / "out.mp4").frames) == 3


def _y4m(frames: int, layout: str = "420p10 XCOLORRANGE=FULL") -> bytes:
    header = f"YUV4MPEG2 W64 H48 F24000:1001 Ip A1:1 C{layout}\n".encode()
    planes = b"".join((400 + 4 * x).to_bytes(2, "little") for x in range(64)) * 48
    return header + (b"FRAME\n" + planes + b"\0\2" * (32 * 24 * 2)) * frames


def test_y4m_from_pipe_to_pipe(model):
    result = bdinn_video("-", "-", "--strength", 0, "--output-depth", 12, "--model", model, input=_y4m(3))
    assert result.returncode == 0
    header, rest = result.stdout.split(b"\n", 1)
    assert header == b"YUV4MPEG2 W64 H48 F24000:1001 Ip A1:1 C420p12 XCOLORRANGE=FULL"
    assert len(rest) == 3 * (len(b"FRAME\n") + 64 * 48 * 3)
    assert rest.startswith(b"FRAME\n" + round(400 * 4095 / 1023).to_bytes(2, "little"))
    assert result.stderr.startswith(b"3 frames")


def test_what_is_not_y4m_on_standard_input_is_refused():
    result = bdinn_video("-", "-", input=b"This is not a film.")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"Error: standard input isn't y4m")
    assert result.stderr.count(b"\n") == 1


def test_a_reader_that_goes_away_ends_the_job(tmp_path, model):
    source = make(tmp_path / "in.mkv", times=range(200))
    command = [sys.executable, "-m", "bdinn_core", str(source), "-", "--strength", "0", "--model", model]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b"Error: y4m can't be written on (Broken pipe)\n"
        assert process.wait(60) == 1


def _limit_files() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX's")
@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "out.y4m"])
def test_a_disk_that_is_full_leaves_nothing(tmp_path, model, name):
    source = make(tmp_path / "in.mkv", times=range(50))  # noise: 10 kB a picture
    codec = [] if name.endswith("y4m") else ["--codec", "libx264", "--crf", "1"]
    arguments = [source, tmp_path / name, "--strength", 0, "--model", model, *codec]
    result = bdinn_video(*arguments, preexec_fn=_limit_files)
    assert (result.returncode, result.stdout) == (1, b"")
    assert re.fullmatch(
        rb"Error: .* can't be (written on|completed) \(file too large\)\n", result.stderr, re.IGNORECASE
    )
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_job_leaves_nothing(tmp_path, sent, code, model):
    # A pipe that falls silent after a few pictures: the job can't be done before the signal comes.
    command = [sys.executable, "-m", "bdinn_core", "-", str(tmp_path / "out.mkv")]
    command += ["--codec", "ffv1", "--strength", "0", "--model", model]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(_y4m(3))
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".*.part*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not (tmp_path / "out.mkv").exists()
        process.send_signal(sent)
        assert process.wait(30) == code
        assert re.fullmatch(rb"Error: \w+; nothing incomplete is left\n", process.stderr.read())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's pipes and signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), ("SIGHUP", 129)])
def test_a_job_stopped_while_a_named_pipe_is_silent(tmp_path, sent, code, model):
    os.mkfifo(tmp_path / "in")
    command = [sys.executable, "-m", "bdinn_core", str(tmp_path / "in"), str(tmp_path / "out.mkv")]
    with subprocess.Popen([*command, "--model", model], stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        with open(tmp_path / "in", "wb"):  # returns when the job opens it too
            process.send_signal(getattr(signal, sent) if isinstance(sent, str) else sent)
            assert process.wait(30) == code
        assert process.stderr is not None
        assert re.fullmatch(rb"Error: \w+; nothing incomplete is left\n", process.stderr.read())
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's descriptors")
def test_messages_never_go_to_standard_output(tmp_path):
    result = bdinn_video(tmp_path / "missing", "-", preexec_fn=lambda: os.close(2))
    assert (result.returncode, result.stdout) == (1, b"")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("1:30", 90), ("00:01:30.5", 90.5), ("1:00:00", 3600), (".25", 0.25)],
)
def test_times(text, expected):
    assert flags.seconds(text) == expected


def test_public_names():
    assert cli.__all__ == ["Terminated", "main"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_pictures_through_x265(tmp_path, count):
    source = make(tmp_path / "in.mkv", draw=smooth, width=96, height=64, times=range(count))
    # x265 sets their decoding times by memory it hasn't written, which glibc fills with 0xfe here.
    environment = {**ENVIRONMENT, "MALLOC_PERTURB_": "1"}
    arguments = (source, tmp_path / "out.mp4", "--preset", "ultrafast", "--strength", 0, "--device", "cpu")
    done = bdinn_video(*arguments, env=environment)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "out.mp4").times == read(source).times
