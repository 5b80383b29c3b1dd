import importlib
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import bdinn_core

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run_python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", bdinn_core.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(bdinn_core, name).__doc__


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nosuch"):
        bdinn_core.nosuch  # noqa: B018


def test_options_need_no_torch():
    loaded = run_python("import sys, bdinn_core; bdinn_core.DebandOptions(); print('torch' in sys.modules)")
    assert loaded.strip() == "False"


def test_engine_needs_no_vapoursynth_and_no_av():
    run_python(
        "import sys; sys.modules['vapoursynth'] = sys.modules['av'] = sys.modules['click'] = None\n"
        "import numpy as np, bdinn_core\n"
        "bdinn_core.deband(np.zeros((8, 8), np.uint8))"
    )


def test_needs_no_triton():
    run_python(
        "import sys; sys.modules['triton'] = None\n"
        "import torch, bdinn_core\n"
        "from bdinn_core.jit import has_triton\n"
        "assert not has_triton(torch.device('cuda')) and not has_triton(torch.device('cpu'))\n"
        "bdinn_core.BandedDeformConv2d(2, 3)(torch.zeros(1, 2, 5, 5))"
    )


def test_every_module_imports_and_has_a_docstring():
    for path in [*ROOT.glob("bdinn_core/**/*.py"), *ROOT.glob("bdinn_vs/**/*.py")]:
        if "import triton" in path.read_text(encoding="utf-8") and not find_spec("triton"):
            continue  # as on Windows: nothing else may import these
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        assert module.__doc__, path


def test_versions_meet_the_lower_bounds():
    """Run with scripts/test --lowest, this tests the oldest versions that pyproject.toml allows."""
    from importlib.metadata import version

    for requirement in PROJECT["dependencies"]:
        name, lowest = requirement.split(">=")
        installed = [int(part) for part in version(name).split("+")[0].split(".") if part.isdigit()]
        assert installed >= [int(part) for part in lowest.split(".")], requirement


def test_scripts_say_so_where_there_is_no_new_python(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for tool in ("dirname", "cat", "cksum", "tr", "mkdir", "sed", "bash"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "scripts", clone / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "bdinn_vs", clone / "bdinn_vs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", clone)
    for script in ("deband", "test"):
        result = subprocess.run(
            [clone / "scripts" / script],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert "needs Python 3.12 or newer" in result.stderr
