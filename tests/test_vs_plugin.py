"""`core.bdinn` as programs meet it: vspipe, editors that reload, missing parts, the wheel."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import vapoursynth
import wheels
from banded import FORMATS, banded_frame
from lab.media import planes

from bdinn_core import Debander, DebandOptions, Frame

ROOT = Path(__file__).parent.parent
VSPIPE = Path(sys.executable).with_name("vspipe")
FRAMES = 5


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Of processes that find this Python's VapourSynth, whatever the user's own settings."""
    folder = tmp_path_factory.mktemp("config")
    found = {**os.environ, "XDG_CONFIG_HOME": str(folder)}
    command = [sys.executable, "-m", "vapoursynth", "config"]
    subprocess.run(command, env=found, check=True, capture_output=True)
    return found


@pytest.fixture
def run(environment, tmp_path):
    """Runs vspipe on a script's text."""

    def run(script: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        path = tmp_path / "script.vpy"
        path.write_text(script)
        command = [VSPIPE, *arguments, path, "-"]
        return subprocess.run(command, env=environment, capture_output=True, timeout=120)

    return run


@pytest.fixture
def script(tmp_path) -> str:
    """A script that debands the frames of `source_frames`."""
    np.savez(tmp_path / "frames.npz", *[plane for frame in source_frames() for plane in frame.planes])
    return f"""
import numpy as np
import vapoursynth as vs
planes = list(np.load({str(tmp_path / "frames.npz")!r}).values())
def fill(n, f):
    out = f.copy()
    for p in range(3):
        np.asarray(out[p])[:] = planes[3 * n + p]
    return out
clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=96, height=74, length={FRAMES}, keep=True)
clip = vs.core.std.ModifyFrame(clip, clip, fill)
vs.core.bdinn.Deband(clip, output_depth=10, grain=1).set_output()
"""


def source_frames() -> list[Frame]:
    return [banded_frame(FORMATS[2], 96, 74, offset=7.0 * i) for i in range(FRAMES)]


def decode(y4m: bytes) -> list[list[np.ndarray]]:
    with av.open(io.BytesIO(y4m), "r") as container:
        return [planes(frame) for frame in container.decode(video=0)]


def test_vspipe_the_engine_and_bdinn_video_give_the_same_picture(run, script, tmp_path, environment):
    piped = run(script, "-c", "y4m")
    assert piped.returncode == 0
    assert re.fullmatch(rb"(Frame: [^\r\n]*\r)*Output 5 frames in [^\n]*\n", piped.stderr), piped.stderr
    debander = Debander(DebandOptions(output_depth=10, grain=1))
    expected = [debander(frame, number) for number, frame in enumerate(source_frames())]
    pictures = decode(piped.stdout)
    assert len(pictures) == FRAMES
    for picture, frame in zip(pictures, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(picture, frame.planes, strict=True))

    plain = run(script.replace("vs.core.bdinn.Deband(clip, output_depth=10, grain=1)", "clip"), "-c", "y4m")
    (tmp_path / "in.y4m").write_bytes(plain.stdout)
    options = ["--output-depth", "10", "--grain", "1"]
    command = [sys.executable, "-m", "bdinn_core", "in.y4m", "out.y4m", *options]
    subprocess.run(command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, check=True)
    for picture, frame in zip(decode((tmp_path / "out.y4m").read_bytes()), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(picture, frame.planes, strict=True))


def test_a_wrong_argument_is_one_line_of_vspipes_error(run):
    script = "import vapoursynth as vs\nvs.core.std.BlankClip().bdinn.Deband(seed=-1).set_output()\n"
    result = run(script)
    assert result.returncode == 1
    assert result.stdout == b""
    assert b"Deband: seed must be a whole number 0..2147483647, not -1" in result.stderr


@pytest.mark.parametrize(
    ("module", "words"),
    [("torch", "Deband: can't be loaded with the Python in .*torch"), ("bdinn_vs", "Deband: .*bdinn_vs")],
)
def test_what_cannot_be_imported_is_told_through_vspipe(run, module, words):
    script = (
        f"import sys\nsys.modules[{module!r}] = None\n"  # Python's own way to say that it isn't there
        "import vapoursynth as vs\nvs.core.std.BlankClip().bdinn.Deband().set_output()\n"
    )
    result = run(script)
    assert result.returncode == 1
    assert result.stdout == b""
    assert re.search(words, result.stderr.decode()), result.stderr


def test_ctrl_c_stops_vspipe(environment, tmp_path):
    path = tmp_path / "endless.vpy"
    path.write_text(
        "import vapoursynth as vs\n"
        "clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=320, height=240, length=10**6)\n"
        "clip.bdinn.Deband().set_output()\n"
    )
    process = subprocess.Popen(
        [VSPIPE, "-c", "y4m", path, "-"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches all processes of a terminal's foreground group
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        process.stdout.read(10**6)  # it's at work
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # nothing is left of the group
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_200_evaluations_leak_nothing(environment):
    command = [sys.executable, ROOT / "tests" / "reload.py", "200"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    assert found["alive"] == 0
    assert found["models"] == 0
    early, late = found["memory"][19], found["memory"][-1]
    print(f"resident after 20 evaluations {early / 1e6:.0f} MB, after 200 {late / 1e6:.0f} MB")
    assert late < 1.05 * early


@pytest.mark.parametrize(
    "platform",
    [
        "manylinux_2_28_x86_64",
        "macosx_11_0_arm64",
        pytest.param("win_amd64", marks=pytest.mark.slow),  # the compiler's first run takes minutes
    ],
)
def test_wheels_hold_the_plugin(platform, tmp_path):
    assert wheels.check(wheels.build(platform, tmp_path)).startswith("vapoursynth/plugins/")


@pytest.mark.skipif(sys.platform != "linux", reason="installs the Linux wheel")
def test_the_wheel_installs_works_and_uninstalls(tmp_path, environment):
    """In an environment with a VapourSynth of its own; all else it needs is this Python's."""
    wheel = wheels.build("manylinux_2_28_x86_64", tmp_path)
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    ignored = shutil.ignore_patterns("plugins", "__pycache__")
    shutil.copytree(Path(vapoursynth.__file__).parent, site / "vapoursynth", ignore=ignored)
    here = Path(torch.__file__).parent.parent
    (site / "others.pth").write_text(f"{here}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "venv"), "--disable-pip-version-check"]

    def python(code: str) -> str:
        command = [tmp_path / "venv" / "bin" / "python", "-W", "error", "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    frame = (
        "import vapoursynth as vs; clip = vs.core.std.BlankClip(format=vs.YUV420P8, length=1)\n"
        "clip.bdinn.Deband().get_frame(0); import bdinn_vs; print(vs.__file__, bdinn_vs.__file__)"
    )
    assert python(frame).count(str(site)) == 2
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "bdinn"], check=True)
    left = [path for path in site.rglob("*") if "bdinn" in str(path.relative_to(site)) and path.is_file()]
    assert all(path.parent.name == "__pycache__" for path in left), left  # numba's compiled loops
    assert python("import vapoursynth as vs; print(hasattr(vs.core, 'bdinn'))") == "False\n"


def test_stubs_know_the_plugin(tmp_path):
    """Pyright on code that uses `bdinn_vs.Core`: right calls pass, wrong ones are found."""
    (tmp_path / "script.py").write_text(
        "from typing import cast\n"
        "import vapoursynth as vs\n"
        "import bdinn_vs\n"
        "core = cast('bdinn_vs.Core', vs.core)\n"
        "def good(clip: vs.VideoNode) -> vs.VideoNode:\n"
        "    return core.bdinn.Deband(clip, strength=[1, 0.5, 0.5], step=0.25, planes=[0], props=True)\n"
        "def bad(clip: vs.VideoNode) -> None:\n"
        "    core.bdinn.Deband(clip, strenght=1)\n"
        "    core.bdinn.Deband(clip, seed='x')\n"
    )
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    errors = [e for e in json.loads(done.stdout)["generalDiagnostics"] if e["severity"] == "error"]
    assert [error["range"]["start"]["line"] for error in errors] == [7, 8], errors
