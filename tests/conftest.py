"""Options and fixtures that all tests share."""

import os
from pathlib import Path

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
