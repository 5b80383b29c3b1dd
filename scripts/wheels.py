"""Build wheels for several platforms on one machine, and check what's in them.

Prints a line a wheel. A wheel without the plugin, or whose plugin doesn't export its entry, ends it with
exit code 1.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import click
import lief

lief.logging.disable()  # it reports on stderr what it tries on the way

ROOT = Path(__file__).parent.parent
LIBRARIES = {
    "manylinux_2_28_x86_64": (lief.Binary.FORMATS.ELF, "libbdinn.so"),
    "win_amd64": (lief.Binary.FORMATS.PE, "bdinn.dll"),
    "macosx_11_0_arm64": (lief.Binary.FORMATS.MACHO, "libbdinn.dylib"),
}
"""The plugin's file format and name by platform tag."""
ENTRY = "VapourSynthPluginInit2"
NEEDED = ("bdinn_core/engine.py", "bdinn_core/weights/fast.safetensors", "bdinn_vs/plugin.py")


def build(platform: str, folder: Path) -> Path:
    """Build the wheel for a platform into a folder, with the build tools installed here; its path."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, env={**os.environ, "BDINN_WHEEL_PLATFORM": platform}, check=True)
    (wheel,) = folder.glob(f"bdinn-*-py3-none-{platform}.whl")
    return wheel


def check(wheel: Path) -> str:
    """Check that a wheel holds the package and a plugin for its platform.

    Returns:
        The plugin's path in the wheel.

    Raises:
        ValueError: something is missing, or there is more than should be.
    """
    platform = wheel.stem.split("-py3-none-")[1]
    kind, library = LIBRARIES[platform]
    path = f"vapoursynth/plugins/{library}"
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        missing = {path, *NEEDED} - set(names)
        foreign = [name for name in names if not name.startswith(("bdinn_core/", "bdinn_vs/", "bdinn-"))]
        if missing or foreign != [path]:
            raise ValueError(f"{wheel.name} lacks {sorted(missing)}; beside the package it holds {foreign}")
        plugin: Any = lief.parse(archive.read(path))
    if plugin is None or plugin.format != kind:
        raise ValueError(f"{path} in {wheel.name} isn't a {kind}")
    exported = {str(function.name).removeprefix("_") for function in plugin.exported_functions}
    if ENTRY not in exported:
        raise ValueError(f"{path} in {wheel.name} exports {sorted(exported)}, not {ENTRY}")
    return path


@click.command(help=__doc__)
@click.argument("platforms", nargs=-1, type=click.Choice(list(LIBRARIES)))
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "dist", help="folder for the wheels")
def main(platforms: tuple[str, ...], out: Path) -> None:
    for platform in platforms or LIBRARIES:
        wheel = build(platform, out)
        try:
            path = check(wheel)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {path} exports {ENTRY}")


if __name__ == "__main__":
    main()
