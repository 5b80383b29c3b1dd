"""Options and fixtures that all tests share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bdinn_core.environment import FOR_TORCH

os.environ.update({**FOR_TORCH, **os.environ})

import pytest
import torch

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the long runs too")
    parser.addoption(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="cuda: a missing GPU fails"
    )
    parser.addoption(
        "--shared", type=Path, default=ROOT.parent / "shared", help="folder with the real clips and pictures"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    has_gpu = torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--all"):
            item.add_marker(pytest.mark.skip(reason="a long run: give --all"))
        if item.get_closest_marker("cuda") and not has_gpu and config.getoption("--device") != "cuda":
            item.add_marker(pytest.mark.skip(reason="no GPU: --device cuda makes this a failure"))


@pytest.fixture(scope="session")
def shared_dir(request: pytest.FixtureRequest) -> Path:
    """The folder of real clips and pictures; tests that ask for it skip where it isn't."""
    folder: Path = request.config.option.shared
    if not (folder / "data").is_dir():
        pytest.skip(f"no {folder / 'data'}: give --shared")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The small files kept in the repository."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a small network with random weights: it changes every pixel."""
    from bdinn_core.checkpoint import save_model
    from bdinn_core.network import BDINN, CONFIGS

    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    torch.manual_seed(0)
    network = BDINN(CONFIGS["fast"])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    save_model(network, path, {})
    return str(path)


@pytest.fixture(scope="session")
def run(model: str) -> Callable[..., Any]:
    """Runs a job, by default at strength 0; returns what it said."""
    from jobs import News

    from bdinn_core.options import DebandOptions
    from bdinn_core.video import VideoJob, run_job

    def run(
        source: Path | str, output: Path | str, options: dict[str, Any] | None = None, **job: Any
    ) -> News:
        news = News()
        deband = DebandOptions(**{"model": model, "device": "cpu", **(options or {"strength": 0})})
        news.report = run_job(VideoJob(source=str(source), output=str(output), **job), deband, news)
        assert news.frames == news.report.frames
        return news

    return run


@pytest.fixture(scope="session")
def launch(tiny: str) -> Callable[..., Any]:
    """Starts `bdinn-video ARGUMENT...` with a very small network, in a context at whose end it's gone."""
    from jobs import heed_ctrl_c

    @contextmanager
    def launch(*arguments: object, **settings: Any) -> Iterator["subprocess.Popen[str]"]:
        command = [sys.executable, "-m", "bdinn_core", *map(str, arguments), "--model", tiny]
        files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        settings = {"preexec_fn": heed_ctrl_c, "env": os.environ, **files, **settings}
        environment = {**settings.pop("env"), "PYTHONPATH": str(ROOT)}
        command += ["--device", "cpu"]
        with subprocess.Popen(command, **settings, env=environment, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    return launch


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a folder on a disk of so many KiB."""
    folder = tmp_path / "disk"

    def mount(kibibytes: int) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", folder]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root may mount a small disk")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a very small network, for many frames."""
    from bdinn_core.checkpoint import save_model
    from bdinn_core.network import BDINN, BDINNConfig

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(BDINN(BDINNConfig(widths=(4, 4), depths=(1, 1), banded_from_level=2)), path, {})
    return str(path)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many planes or fields the network gets to see, call by call."""
    from bdinn_core.restorer import Restorer

    counts: list[int] = []
    restore = Restorer.__call__

    def count(self: Restorer, planes: list[torch.Tensor]) -> list[torch.Tensor]:
        counts.append(len(planes))
        return restore(self, planes)

    monkeypatch.setattr(Restorer, "__call__", count)
    return counts
