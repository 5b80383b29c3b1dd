"""What `bdinn-doctor` looks at, in a process of its own: what's tried here may crash.

Nothing that may be missing or broken is imported before its check.
"""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any, Literal, NamedTuple

from .environment import FOR_TORCH
from .errors import BdinnError
from .speed import describe_gpu, find_gpus, measure

__all__ = ["CHECKS", "NO_TORCH", "PIP", "REPORT", "Finding", "main", "one_line", "version_of"]

MODELS = "fast", "quality"
_SCRIPTS = sysconfig.get_path("scripts")
_ACTIVE = shutil.which("pip") == shutil.which("pip", path=_SCRIPTS)
PIP = "pip install" if _ACTIVE else f"{sys.executable} -m pip install"
"""`pip` alone would be another Python's where this one's environment isn't active."""
REINSTALL = f"in BDINN's source folder: {PIP} --force-reinstall --no-deps ."
REPORT = "please report this, with all that's printed here"
_LIBRARY = {"win32": "bdinn.dll", "darwin": "libbdinn.dylib"}.get(sys.platform, "libbdinn.so")
_DECODERS = "h264", "hevc", "vp9", "libdav1d", "mpeg2video", "prores", "ffv1"
"""Its `av1` wants a GPU, `libdav1d` doesn't."""
_ENCODERS = "libx265", "libx264", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks"
_SCRIPT = """import sys
import vapoursynth as vs
print(vs.__file__, file=sys.stderr)
vs.core.std.BlankClip(length=1).set_output()
"""


class Finding(NamedTuple):
    """What a check found."""

    status: Literal["ok", "warn", "fail"]
    detail: str
    """In a line."""
    fix: str = ""
    """What to do about it, if anything is to be done."""


NO_TORCH = Finding("warn", "not looked for, since torch doesn't work", "mend torch first")


class _Fault(Exception):
    """Ends a check; its arguments are what's wrong, and what to do."""


def version_of(package: str) -> str | None:
    """The version of a package by pip's record; `None` where it has none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _lowest(package: str) -> str | None:
    """The oldest version that BDINN's own record allows, if it has one: a source tree has none."""
    lines = metadata.requires("bdinn") or [] if version_of("bdinn") else []
    return next((line.split(">=")[1] for line in lines if line.startswith(f"{package}>=")), None)


def _pip(how: str, package: str) -> str:
    lowest = _lowest(package)
    return f'{PIP} {how} "{package}>={lowest}"' if lowest else f"{PIP} {how} {package}"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.split("+")[0])]


def _check_version(package: str, version: str, where: str = "") -> str:
    """What was found, unless it's too old."""
    lowest = _lowest(package)
    if lowest and _numbers(version) < _numbers(lowest):
        what = f"{package} {version}{where} is too old: BDINN needs {lowest} or newer"
        raise _Fault(what, _pip("--upgrade", package))
    return f"{package} {version}"


def one_line(error: object) -> str:
    """What an error says, in a line of no great length."""
    return shorten(str(error), 400)


def _import(package: str) -> Any:
    try:
        return import_module(package)
    except Exception as error:  # libraries fail in many ways
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            what = f"the Python in {sys.prefix} has no {package}"
            raise _Fault(what, _pip("--upgrade", package)) from error
        what = f"{package} can't be imported: {type(error).__name__}: {one_line(error)}"
        raise _Fault(what, _pip("--force-reinstall", package)) from error


def _check_vapoursynth() -> Finding:
    vs = _import("vapoursynth")
    version = str(vs.__version__).removeprefix("R")
    name = _check_version("vapoursynth", version, f" in {Path(vs.__file__).parent}")
    _check_version("vapoursynth", version_of("vapoursynth") or version, ", by pip's record,")
    found, own = shutil.which("vspipe"), shutil.which("vspipe", path=_SCRIPTS)
    if found is None:
        fix = f"activate the environment, or call {own}" if own else _pip("--force-reinstall", "vapoursynth")
        return Finding("warn", f"{name}; vspipe isn't on the PATH", fix)
    fix = f"{sys.executable} -m vapoursynth config" if own in (None, found) else f"call {own} instead"
    code, lines = _run_vspipe(found)
    if code:
        return Finding("warn", f"{name}; {found} fails: {one_line(lines[-1])}", fix)
    if vs.__file__ not in lines:
        return Finding("warn", f"{name}; {found} runs another one, {one_line(lines[-1])}", fix)
    return Finding("ok", f"{name}, and vspipe runs it")


def _run_vspipe(vspipe: str) -> tuple[int, list[str]]:
    """The exit code of a script in vspipe, and what's said: by the script, the file of its module."""
    with TemporaryDirectory() as folder:
        script = Path(folder, "script.vpy")
        script.write_text(_SCRIPT)
        command = [vspipe, "--info", str(script), "-"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return 1, [str(error)]
    return run.returncode, run.stderr.strip().splitlines() or ["it says nothing"]


def _check_plugin() -> Finding:
    try:
        vs = _import("vapoursynth")
    except _Fault as fault:
        raise _Fault("not tried, since vapoursynth can't be imported", "mend vapoursynth first") from fault
    if not hasattr(vs.core, "bdinn"):
        raise _why_absent(vs, Path(vs.__file__).parent / "plugins" / _LIBRARY)
    if find_spec("bdinn_vs") is None:
        raise _Fault(f"core.bdinn needs bdinn_vs, which the Python in {sys.prefix} hasn't", REINSTALL)
    clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=64, height=64, length=1)
    try:
        clip.bdinn.Deband(device_id=-1).get_frame(0)
    except vs.Error as error:
        raise _Fault(one_line(str(error).strip().splitlines()[-1]), REPORT) from error
    import bdinn_vs

    detail = f"core.bdinn.Deband works, from {vs.core.bdinn.plugin_path}"
    native = {argument.split(":")[0] for argument in vs.core.bdinn.Deband.signature.strip(";").split(";")}
    differing = sorted(native ^ {*inspect.signature(bdinn_vs.deband).parameters})
    if differing:
        what = f"{detail}; but bdinn_vs is of another version, with or without {', '.join(differing)}"
        return Finding("warn", what, REINSTALL)
    return Finding("ok", detail)


def _why_absent(vs: Any, library: Path) -> _Fault:
    """VapourSynth says nothing of a plugin that it couldn't load, unless it's asked to load it."""
    if not library.is_file():
        return _Fault(f"the plugin isn't where VapourSynth looks for it: there's no {library}", REINSTALL)
    try:
        vs.core.std.LoadPlugin(str(library))
    except vs.Error as error:
        return _Fault(one_line(error), REINSTALL)
    return _Fault(f"VapourSynth loads {library} only when asked to", _pip("--force-reinstall", "vapoursynth"))


def _check_torch() -> Finding:
    found = [_check_version(name, _import(name).__version__) for name in ("torch", "numba")]
    version = version_of("torchvision")
    try:
        if version is None:
            raise _Fault("torchvision is missing", _pip("--upgrade", "torchvision"))
        found.append(_check_version("torchvision", version))
    except _Fault as fault:
        what, fix = fault.args
        return Finding("warn", f"{', '.join(found)}; {what}, which is for GPUs without Triton", fix)
    return Finding("ok", ", ".join(found))


def _check_files() -> Finding:
    """The weights, where they can't be loaded for lack of torch."""
    for name in MODELS:
        path = Path(__file__).parent / "weights" / f"{name}.safetensors"
        if not path.is_file() or not path.stat().st_size:
            raise _Fault(f"{path} {'is empty' if path.is_file() else 'is missing'}", REINSTALL)
    return Finding("ok", "the files are there; not loaded, since torch doesn't work")


def _check_weights() -> Finding:
    files = _check_files()
    try:
        import torch  # noqa: F401 - whether it can be
    except Exception:  # as the check of torch says
        return files
    from .checkpoint import load_model

    try:
        for name in MODELS:
            load_model(name)
    except BdinnError as error:
        raise _Fault(str(error), REINSTALL) from error
    return Finding("ok", f"{' and '.join(MODELS)} load")


def _check_gpu() -> Finding:
    try:
        import torch

        from .jit import why_no_triton
    except Exception:  # as the check of torch says
        return NO_TORCH
    with warnings.catch_warnings(record=True) as told:  # of a driver that is too old, for example
        warnings.simplefilter("always")
        if not torch.cuda.is_available():
            return _why_no_gpu(torch, told)
        devices = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
        obstacles = [why_no_triton(device) for device in devices]
    words = []
    for device, obstacle in zip(devices, obstacles, strict=True):
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        kernels = f"PyTorch's kernels, since {one_line(obstacle)}" if obstacle else "Triton's kernels"
        words.append(f"{describe_gpu(device)}, compute capability {capability}, {kernels}")
    if any(obstacles):
        fix = "for Triton's faster kernels: Linux, compute capability 8.0 or more, gcc and python3-dev"
        return Finding("warn", "; ".join(words), fix)
    return Finding("ok", "; ".join(words))


def _why_no_gpu(torch: Any, told: Sequence[warnings.WarningMessage]) -> Finding:
    tool = shutil.which("nvidia-smi")
    listed = tool and subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60).stdout
    if not listed or "GPU" not in listed:
        fix = "nothing to do, unless there is an NVIDIA GPU: then install its driver"
        return Finding("warn", "no CUDA GPU: runs on the CPU", fix)
    gpu = listed.splitlines()[0].split(" (")[0]
    if torch.version.cuda is None:
        what = f"{gpu} isn't used: torch {torch.__version__} is built for CPUs alone"
        return Finding("warn", what, "install a torch for CUDA: https://pytorch.org/get-started/locally")
    reason = "; ".join(one_line(warning.message) for warning in told) or "CUDA doesn't find it"
    fix = "update NVIDIA's driver; if CUDA_VISIBLE_DEVICES is set, unset it"
    return Finding("warn", f"{gpu} isn't used: {reason}", fix)


def _check_codecs() -> Finding:
    version = _check_version("av", _import("av").__version__)
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError
    from av.filter import filters_available

    missing = [] if "libvmaf" in filters_available else ["filter libvmaf (CAMBI)"]
    modes: tuple[tuple[str, Literal["r", "w"], Sequence[str]], ...]
    modes = ("decoder", "r", _DECODERS), ("encoder", "w", _ENCODERS)
    for kind, mode, names in modes:
        for name in names:
            try:
                Codec(name, mode)
            except UnknownCodecError:
                missing.append(f"{kind} {name}")
    if missing:
        fix = f"{_pip('--force-reinstall', 'av')} --only-binary av"
        return Finding("warn", f"{version} lacks {', '.join(missing)}", fix)
    return Finding("ok", f"{version}, with {', '.join(_ENCODERS)}")


def _ffmpeg_versions() -> dict[str, str]:
    from .farm.fingerprint import ffmpeg_versions  # late, since it imports PyAV

    return ffmpeg_versions()


CHECKS: dict[str, Callable[[], Finding]] = {
    "vapoursynth": _check_vapoursynth,
    "plugin": _check_plugin,
    "torch": _check_torch,
    "weights": _check_weights,
    "gpu": _check_gpu,
    "codecs": _check_codecs,
}


def _answer(name: str) -> object:
    others = {"files": _check_files, "gpus": find_gpus, "ffmpeg": _ffmpeg_versions}
    try:
        found = {**CHECKS, **others}.get(name, partial(measure, name))()
    except _Fault as fault:
        return Finding("fail", *fault.args)._asdict()
    except Exception as error:
        return Finding("fail", f"{type(error).__name__}: {one_line(error)}", REPORT)._asdict()
    return found._asdict() if isinstance(found, Finding) else found


def main() -> None:
    """Prints a line of JSON for each of the process's arguments, at once: the name, and the answer.

    Names are those of `CHECKS`, answered with a `Finding`, as `files` is: the weights, without torch;
    `ffmpeg`: the versions of its libraries; `gpus`: their names; and these, or `cpu`: how fast that is.
    What can't be answered is a failing `Finding` too.
    """
    os.environ.update({**FOR_TORCH, **os.environ})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print isn't an answer
    for name in sys.argv[1:]:
        print(json.dumps([name, _answer(name)]), file=answers, flush=True)
