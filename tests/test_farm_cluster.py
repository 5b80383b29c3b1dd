"""Jobs on a Ray cluster of two machines, both on this one."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from jobs import LIMIT_SECONDS, Start, end, names, wait_until
from lab.media import make, read, smooth
from test_farm import CHUNKED, X264, assert_equal, journal

pytest.importorskip("ray", reason="the cluster extra isn't installed")
CLIP = {"width": 96, "height": 64, "draw": smooth, "times": range(150), "sound": "aac"}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **QUIET}
"""With this, Ray looks for this machine's own part of the cluster on the loopback."""


class Nodes:
    """The cluster's machines."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.address = self._ask(None)

    def kill_one(self) -> None:
        assert self._ask("kill") == "killed"

    def _ask(self, line: str | None) -> str:
        assert self._process.stdin and self._process.stdout
        if line is not None:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.fixture
def cluster(tmp_path: Path) -> Callable[..., AbstractContextManager[Nodes]]:
    @contextmanager
    def start(*before: str) -> Iterator[Nodes]:
        command = [*before, sys.executable, str(Path(__file__).with_name("ray_nodes.py"))]
        files = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, **QUIET}
        with subprocess.Popen(
            command, **files, text=True, env=environment, start_new_session=True
        ) as process:
            try:
                yield Nodes(process)
                process.communicate(timeout=LIMIT_SECONDS)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    return start


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("shared") / "in.mkv", **CLIP, **X264)


@pytest.fixture(scope="module")
def whole(launch: Start, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "whole.mkv"
    with launch(source, path, *CHUNKED[:2], "--chunk-seconds", 0, "--threads", 1) as process:
        assert end(process) == (0, "")
    return path


def test_the_job_is_done_though_a_machine_is_lost(launch, cluster, tmp_path, source, whole):
    output = tmp_path / "out.mkv"
    with cluster() as nodes:
        environment = {**os.environ, **LOOPBACK}
        with launch(source, output, *CHUNKED, "--ray", nodes.address, env=environment) as process:
            wait_until(process, lambda: len(journal(output)) >= 3)
            nodes.kill_one()
            _, said = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0
    assert re.search(r"^150 frames in .*, deband \d+ %, .*, banding ", said, re.MULTILINE)
    assert_equal(read(output), read(whole))
    assert names(tmp_path) == ["out.mkv"]


@pytest.mark.slow
def test_a_source_that_the_machines_have_not_got_is_sent(launch, cluster, tmp_path, source, whole):
    if not shutil.which("unshare") or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("only root may hide a folder")
    output = tmp_path / "out.mkv"
    hide = f'mount -t tmpfs tmpfs {source.parent} && exec "$@"'
    with cluster("unshare", "--mount", "sh", "-c", hide, "sh") as nodes:
        environment = {**os.environ, **LOOPBACK}
        with launch(
            source.name, output, *CHUNKED, "--ray", nodes.address, env=environment, cwd=source.parent
        ) as process:
            code, _ = end(process)
    assert code == 0
    assert_equal(read(output), read(whole))


@pytest.mark.slow
def test_a_batch_of_short_files(launch, cluster, tmp_path, source):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        make(tmp_path / "in" / f"{name}.mkv", **{**CLIP, "times": range(10)})
    (tmp_path / "in" / "c.mkv").write_text("nothing")
    with cluster() as nodes:
        environment = {**os.environ, **LOOPBACK}
        arguments = [tmp_path / "in", tmp_path / "out", *CHUNKED, "--ray", nodes.address]
        with launch(*arguments, env=environment) as process:
            code, said = end(process)
    assert (code, said.splitlines()[-1]) == (3, "3 files: 1 failed, 0 are damaged")
    assert [len(read(tmp_path / "out" / f"{name}.mkv").frames) for name in ("a", "b")] == [10, 10]


def test_where_ray_is_missing_a_line_says_how_to_install_it(launch, tmp_path, source):
    (tmp_path / "ray.py").write_text("raise ImportError\n")
    command = "import sys; sys.modules['ray'] = None; from bdinn_core.cli import main; sys.exit(main())"
    run = [sys.executable, "-c", command, source, tmp_path / "out.mkv", "--ray", "auto"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: ray isn't installed here: pip install 'bdinn[cluster]'\n"


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_where_no_cluster_is_a_line_says_so(launch, tmp_path, source, address):
    with launch(source, tmp_path / "out.mkv", "--ray", address, env={**os.environ, **LOOPBACK}) as process:
        code, said = end(process)
    assert code == 2
    assert said.startswith(f"Error: there's no Ray cluster at {address} (")
    assert names(tmp_path) == []
