"""Compiles plugin.c into the wheel, to where VapourSynth loads plugins from: run by pip, not imported.

The compiler is the ziglang package: it needs nothing installed, and builds for other systems too.
"""

import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGETS = {
    "manylinux_2_28_x86_64": ("x86_64-linux-gnu.2.28", "libbdinn.so"),
    "manylinux_2_28_aarch64": ("aarch64-linux-gnu.2.28", "libbdinn.so"),
    "win_amd64": ("x86_64-windows-gnu", "bdinn.dll"),
    "macosx_11_0_arm64": ("aarch64-macos.11.0", "libbdinn.dylib"),
}
"""The compiler's target and the library's name by the wheel's platform tag."""
NATIVE = {
    ("linux", "x86_64"): "manylinux_2_28_x86_64",
    ("linux", "aarch64"): "manylinux_2_28_aarch64",
    ("win32", "AMD64"): "win_amd64",
    ("darwin", "arm64"): "macosx_11_0_arm64",
}
"""The platform tag by `sys.platform` and `platform.machine()`."""


class PluginBuildHook(BuildHookInterface):
    """Adds the library to a wheel, editable or not; `BDINN_WHEEL_PLATFORM` names another platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the plugin for the wheel about to be built."""
        tag = os.environ.get("BDINN_WHEEL_PLATFORM") or NATIVE.get((sys.platform, platform.machine()))
        if tag not in TARGETS:
            machine = tag or f"{sys.platform} {platform.machine()}"
            raise RuntimeError(f"the VapourSynth plugin can't be built for {machine}, only for {[*TARGETS]}")
        target, library = TARGETS[tag]
        self._folder = TemporaryDirectory()
        path = Path(self._folder.name, library)
        self._compile(target, path)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{tag}"
        files = build_data["force_include" if version == "standard" else "force_include_editable"]
        files[str(path)] = f"vapoursynth/plugins/{library}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what was compiled, now that the wheel holds it."""
        self._folder.cleanup()

    def _compile(self, target: str, path: Path) -> None:
        major, minor = self.metadata.version.split(".")[:2]
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target]
        command += ["-shared", "-O2", "-s", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
        command += [f"-DBDINN_MAJOR={major}", f"-DBDINN_MINOR={minor}", f"-I{_headers()}"]
        command += [str(Path(self.root, "bdinn_vs", "plugin.c")), "-o", str(path)]
        if "linux" in target:
            command.append("-ldl")  # a library of its own until glibc 2.34
        subprocess.run(command, check=True)


def _headers() -> Path:
    """VapourSynth's headers; found, not imported: its library may be for another Python."""
    spec = find_spec("vapoursynth")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the vapoursynth package, which holds the headers to build with, isn't installed")
    return Path(spec.submodule_search_locations[0], "include")
