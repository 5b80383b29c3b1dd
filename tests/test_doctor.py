"""`bdinn-doctor` on real faults: what's missing or broken goes before the installed one on the path."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import vapoursynth

from bdinn_core import Debander, DebandOptions

ROOT = Path(__file__).parent.parent
NAMES = ["vapoursynth", "plugin", "torch", "weights", "gpu", "codecs"]
NO_TORCH = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"


@pytest.fixture
def overlay(tmp_path) -> Path:
    """The first folder on the path of `launch`'s and `examine`'s processes."""
    (tmp_path / "overlay").mkdir()
    return tmp_path / "overlay"


@pytest.fixture
def launch(overlay, tmp_path):
    """Runs `bdinn-doctor`, with this Python's vspipe on the PATH."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(overlay), str(ROOT)]),
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    def launch(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "bdinn_core.doctor", *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    return launch


@pytest.fixture
def examine(launch):
    """The checks by their names, and the devices, of a report that has the form it should have."""

    def examine() -> tuple[dict[str, dict[str, str]], list[dict]]:
        done = launch("--json")
        report = json.loads(done.stdout)
        assert report.keys() == {"ok", "checks", "versions", "devices"}
        checks = {check.pop("name"): check for check in report["checks"]}
        assert [*checks] == NAMES
        for check in checks.values():
            assert check.keys() == {"status", "detail", "fix"}
            assert check["status"] in ("ok", "warn", "fail")
            assert check["detail"] and "\n" not in check["detail"] + check["fix"]
            assert bool(check["fix"]) == (check["status"] != "ok")
        assert report["ok"] == (done.returncode == 0) == ("fail" not in statuses(checks).values())
        assert done.returncode in (0, 1)
        for device in report["devices"]:
            assert device.keys() == {"name", "detail", "backend", "frames_per_second_1080p"}
        assert {"python", "platform", "torch", "vapoursynth", "numpy"} <= report["versions"].keys()
        assert all(isinstance(version, str) for version in report["versions"].values())
        return checks, report["devices"]

    return examine


def statuses(checks: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: check["status"] for name, check in checks.items()}


def failed(checks: dict[str, dict[str, str]]) -> list[str]:
    return [name for name, status in statuses(checks).items() if status == "fail"]


def copy_vapoursynth(overlay: Path) -> Path:
    """This Python's VapourSynth again, in links."""
    source = Path(vapoursynth.__file__).parent
    return shutil.copytree(source, overlay / "vapoursynth", copy_function=os.symlink)


def library(package: Path) -> Path:
    (path,) = package.glob("plugins/*bdinn.*")
    return path


def test_a_sound_installation(examine):
    checks, devices = examine()
    found = statuses(checks)
    assert found.pop("gpu") == "warn" or torch.cuda.is_available()
    assert found.pop("plugin") != "fail"  # a warning where plugin.c was changed, but not compiled
    assert {*found.values()} == {"ok"}, checks
    assert devices[0]["name"] == "cpu"
    assert devices[0]["backend"].startswith("numba, ")
    assert devices[0]["backend"] == Debander(DebandOptions(device="cpu")).backend
    assert devices[0]["frames_per_second_1080p"] > 0


def test_plugin_missing(overlay, examine):
    path = library(copy_vapoursynth(overlay))
    path.unlink()
    checks, devices = examine()
    assert failed(checks) == ["plugin"]
    assert str(path) in checks["plugin"]["detail"]
    assert "pip install" in checks["plugin"]["fix"]
    assert len(devices) >= 1


def test_plugin_broken(overlay, examine):
    (overlay / "torch.py").write_text(NO_TORCH)  # or the speed would be measured
    path = library(copy_vapoursynth(overlay))
    path.unlink()
    path.write_text("This is no library.\n")
    checks, _ = examine()
    assert checks["plugin"]["detail"].startswith(f"Failed to load {path}. Error given: ")


def test_torch_missing(overlay, examine, launch):
    (overlay / "torch.py").write_text(NO_TORCH)
    checks, devices = examine()
    assert failed(checks) == ["plugin", "torch"]
    assert "has no torch" in checks["torch"]["detail"]
    assert 'pip install --upgrade "torch>=' in checks["torch"]["fix"]
    assert "No module named 'torch'" in checks["plugin"]["detail"]
    assert checks["plugin"]["fix"] == "mend torch first"
    assert "the files are there" in checks["weights"]["detail"]
    assert devices == []

    text = launch()
    assert text.returncode == 1
    assert text.stderr == ""
    lines = text.stdout.splitlines()
    assert [line.split()[1] for line in lines if line[:4] in ("ok  ", "warn", "fail")] == NAMES
    assert f"fix: {checks['torch']['fix']}" in map(str.strip, lines)
    assert lines[-1] == "2 faults: plugin, torch; 1 warning: gpu"


@pytest.mark.parametrize("what", ["is missing", "is empty"])
def test_weights_missing(what, overlay, examine):
    for package in ("bdinn_core", "bdinn_vs"):
        shutil.copytree(ROOT / package, overlay / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = overlay / "bdinn_core" / "weights" / "fast.safetensors"
    path.unlink()
    if what == "is empty":
        path.touch()
        (overlay / "torch.py").write_text(NO_TORCH)
    checks, devices = examine()
    assert "weights" in failed(checks)
    assert checks["weights"]["detail"] == f"{path} {what}"
    assert "pip install --force-reinstall" in checks["weights"]["fix"]
    assert failed(checks) == (["plugin", "torch", "weights"] if what == "is empty" else ["plugin", "weights"])
    assert devices == []


@pytest.mark.parametrize("says_so", ["module", "record"])
def test_vapoursynth_too_old(says_so, overlay, examine):
    (overlay / "torch.py").write_text(NO_TORCH)  # or the speed would be measured
    if says_so == "module":
        module = copy_vapoursynth(overlay) / "__init__.py"
        text = module.read_text()
        module.unlink()
        module.write_text(f"{text}\n__version__ = 'R70'\n")
    else:
        (overlay / "vapoursynth-70.dist-info").mkdir()
        record = "Metadata-Version: 2.1\nName: vapoursynth\nVersion: 70\n"
        (overlay / "vapoursynth-70.dist-info" / "METADATA").write_text(record)
    checks, _ = examine()
    assert checks["vapoursynth"]["status"] == "fail"
    assert "vapoursynth 70" in checks["vapoursynth"]["detail"]
    (lowest,) = re.findall(r"BDINN needs (\d+) or newer", checks["vapoursynth"]["detail"])
    assert checks["vapoursynth"]["fix"].endswith(f'pip install --upgrade "vapoursynth>={lowest}"')


def test_what_crashes_has_failed_and_the_rest_is_looked_at(overlay, examine):
    for name in ("vapoursynth", "torch"):
        (overlay / f"{name}.py").write_text("import os, sys\nprint('Alas.', file=sys.stderr)\nos.abort()\n")
    checks, devices = examine()
    assert failed(checks) == ["vapoursynth", "plugin", "torch"]
    assert checks["torch"]["detail"].startswith("the process that tried it died of SIGABRT: Alas.")
    assert checks["plugin"]["fix"] == "mend vapoursynth and torch first"
    assert checks["weights"]["status"] == checks["codecs"]["status"] == "ok"
    assert devices == []


def test_an_unusable_vspipe_is_a_warning(overlay, examine):
    (overlay / "torch.py").write_text(NO_TORCH)  # or the speed would be measured
    (overlay / "av.py").write_text("raise ImportError('libx.so.1: no such file')\n")
    module = copy_vapoursynth(overlay) / "vspipe"
    module.unlink()
    module.write_text("#!/bin/sh\necho 'Error: Alas.' >&2\nexit 1\n")
    module.chmod(0o755)
    checks, _ = examine()
    assert checks["vapoursynth"]["status"] == "warn"
    assert checks["vapoursynth"]["detail"].endswith("vspipe fails: Error: Alas.")
    assert checks["vapoursynth"]["fix"].endswith("vapoursynth config")
    assert checks["codecs"]["detail"] == "av can't be imported: ImportError: libx.so.1: no such file"


def test_imports_nothing_that_may_be_broken():
    code = "import sys, bdinn_core.doctor; print({'av', 'numba', 'torch', 'vapoursynth'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.cuda
def test_a_gpu(examine):
    checks, devices = examine()
    gpu = torch.cuda.get_device_properties(0)
    assert checks["gpu"]["status"] != "fail"
    assert f"{gpu.name}, " in checks["gpu"]["detail"]
    assert f"compute capability {gpu.major}.{gpu.minor}" in checks["gpu"]["detail"]
    (first,) = [device for device in devices if device["name"] == "cuda:0"]
    assert first["backend"] == Debander(DebandOptions(device="cuda:0")).backend
    assert first["detail"].startswith(gpu.name)
    assert first["frames_per_second_1080p"] > 0
