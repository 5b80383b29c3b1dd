"""What the READMEs say holds: examples run, tables list what the code has, links lead somewhere."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from lab.media import Clip, banded, make

import bdinn_core
from bdinn_core import cli
from bdinn_core.flags import flag_fields
from bdinn_core.show.png import encode_png

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", *sorted(ROOT.glob("bdinn_*/**/README.md")), ROOT / "scripts" / "README.md"]
NAMES = [str(path.relative_to(ROOT).parent) for path in READMES]
MAIN = (ROOT / "README.md").read_text(encoding="utf-8")
OPTIONS = MAIN.split("\n## Options\n", 1)[1].split("\n## ", 1)[0]


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    name: str
    """What follows the language: how a block of commands is to be run, or the file that a script is to be."""
    code: str


def blocks(readme: Path) -> list[Block]:
    found = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.M | re.S)
    return [Block(*parts) for parts in found]


def commands(kind: str, readmes: Sequence[Path] = READMES) -> list[str]:
    """The commands of READMEs in blocks of a kind, without comments."""
    lines = [
        line
        for readme in readmes
        for block in blocks(readme)
        if (block.language, block.name) == ("sh", kind)
        for line in block.code.splitlines()
    ]
    return [shlex.join(shlex.split(line, comments=True)) if "|" not in line else line for line in lines]


@pytest.fixture
def workplace(tmp_path) -> Path:
    """A folder with all that the examples read."""
    folder = tmp_path
    rate = Fraction(12)
    clip = Clip(
        draw=banded, width=128, height=96, times=range(48), time_base=1 / rate, rate=rate, sound="flac"
    )
    for name in ("in.mkv", "episode.mkv", "film.mkv", "season1/01.mkv", "season1/02.mkv"):
        (folder / name).parent.mkdir(exist_ok=True)
        make(folder / name, clip)
    for name, codec in (("in.mp4", "libx264"), ("in.webm", "libvpx-vp9")):
        make(folder / name, draw=banded, width=128, height=96, codec=codec)
    (folder / "results").mkdir()
    (folder / "frames").mkdir()
    picture = np.tile(np.linspace(60, 70, 128).round().astype(np.uint8), (96, 1))
    for name in ("in.png", *(f"frames/{number:05}.png" for number in range(1, 4))):
        (folder / name).write_bytes(encode_png(np.stack([picture] * 3, -1)))
    return folder


def named_output(words: list[str]) -> str | None:
    """OUT, if a command names one."""
    plain = [word for word in words[1:] if re.fullmatch(r"[\w%/]+\.\w{3,4}|results", word)]
    return plain[1] if len(plain) > 1 else None


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_commands_run(workplace, monkeypatch, capfd, readme):
    monkeypatch.chdir(workplace)
    for line in (line for line in commands("", [readme]) if "|" not in line):
        words = shlex.split(line)
        assert words[0] == "bdinn-video", line
        code = cli.main(words[1:])
        out, err = capfd.readouterr()
        # So short a video is done in one go, of which nothing is kept.
        assert code == 0 or ("--status" in words and "no job for" in err), (line, err)
        output = named_output(words)
        if output is not None and "--status" not in words:
            there = Path(output.replace("%05d", "00001"))
            assert there.stat().st_size if there.is_file() else [*there.iterdir()], line
        assert bool(out) == ("--analyze" in words), line
    if readme == READMES[0]:
        assert all(Path(name).stat().st_size for name in ("in.preview.png", "report.html"))


def test_commands_for_gpus_and_clusters_can_be_parsed():
    found = commands("gpu")
    assert found
    for line in found:
        cli._command().make_context("bdinn-video", shlex.split(line)[1:])


def test_commands_that_set_up_are_there():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    found = commands("setup")
    assert found
    for line in found:
        word, *arguments = shlex.split(line)
        assert word in scripts or line == "pip install ." or (ROOT / word).is_file(), line
        if word == "scripts/deband":
            cli._command().make_context("bdinn-video", arguments)


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_pipelines_run(workplace):
    for tool in ("x265", "SvtAv1EncApp"):
        if not shutil.which(tool):
            pytest.skip(f"no {tool}: .ci/run installs it on Debian")
    scripts = {block.name: block.code for block in blocks(ROOT / "README.md") if block.name.endswith(".vpy")}
    assert scripts.keys() == {"episode.vpy", "film.vpy"}
    for name, code in scripts.items():
        (workplace / name).write_text(code, encoding="utf-8")
    pipelines = [line.split("#")[0] for line in commands("") if "|" in line]
    assert len(pipelines) == 3
    for line in pipelines:
        run = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=workplace, capture_output=True, text=True, timeout=300
        )
        assert run.returncode == 0, (line, run.stderr)
        with av.open(str(workplace / line.split()[-1])) as container:
            frames = list(container.decode(video=0))
        assert len(frames) == 48
        assert frames[0].format.name == "yuv420p10le"


def test_python_runs():
    [code] = [b.code for b in blocks(ROOT / "README.md") if b.language == "python" and not b.name]
    names: dict = {}
    exec(code, names)
    assert names["clean"].dtype == "uint16"
    assert names["exact"].dtype == "float32"
    assert names["result"].format.bit_depth == 10


def test_every_block_is_tried_by_a_test_here():
    kinds = {(b.language, b.name) for readme in READMES for b in blocks(readme)}
    kinds -= {("python", ""), ("python", "episode.vpy"), ("python", "film.vpy")}
    assert kinds == {("sh", ""), ("sh", "gpu"), ("sh", "setup")}


def test_the_table_has_every_option_with_its_default():
    table = OPTIONS.split("| option | range, default |", 1)[1].split("\n\n", 1)[0]
    for name, default in vars(bdinn_core.DebandOptions()).items():
        rows = [line for line in table.splitlines() if f"`{name}`" in line.split("|")[:2][-1]]
        assert len(rows) == 1, name
        if isinstance(default, bool):
            assert str(default).lower() in rows[0], name
        elif default is not None:
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert re.search(rf"(?<![\w.]){re.escape(shown)}(?![\w.])", rows[0].split("|")[2]), name


def test_the_text_below_has_what_the_plugin_alone_has():
    import inspect

    import bdinn_vs

    alone = inspect.signature(bdinn_vs.deband).parameters.keys() - vars(bdinn_core.DebandOptions()).keys()
    assert alone == {"clip", "device_id", "num_streams", "props"}
    assert all(f"`{name}`" in OPTIONS for name in alone - {"clip"})


def test_the_second_table_has_every_flag_of_the_command():
    above = {"mask", *(field.name for field in flag_fields(bdinn_core.DebandOptions))}
    own = [parameter for parameter in cli._command().params if parameter.name not in above]
    flags = {name for parameter in own for name in parameter.opts if name.startswith("-")}
    flags -= {"--encoder-option"}  # -e, in full
    table = OPTIONS.split("| option | default |", 1)[1]
    missing = [flag for flag in flags if not re.search(rf"`{flag}[` ]", table) and f"`{flag}," not in table]
    assert not missing
    named = set(re.findall(r"`(--?[a-z-]+)", table))
    assert named <= flags | {"--device"}


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_links_lead_somewhere(readme):
    text = readme.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (readme.parent / target).exists(), target


def test_the_map_names_files_that_are_there():
    section = MAIN.split("\n## Contributing\n", 1)[1].split("\n`scripts/test --all`", 1)[0]
    folders = [ROOT / name for name in ("bdinn_core", "bdinn_vs", "scripts")]
    there = {path.name for folder in folders for path in folder.rglob("*")}
    for name in re.findall(r"\b(\w+\.(?:py|c|html))\b", section):
        assert name in there, name
