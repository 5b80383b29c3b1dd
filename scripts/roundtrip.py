"""Send files through `bdinn-video` at strength 0, read both ends with plain FFmpeg, and compare all there is.

A row is a file and a job, a column a part: = equal, - nothing of the kind, ~ coded by a lossy codec, a number
one of the reasons below the table; DIFFERS is a fault, and then the exit code is 1. Of frames and planes that
are equal, it says how many. Without FILES: the clips of --shared, and some made here.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import click
from lab.compare import PARTS, Cell, compare
from lab.media import join, make, make_captioned, make_interlaced, smooth
from lab.parts import read_parts

from bdinn_core import DebandOptions
from bdinn_core.errors import BdinnError, OutputError
from bdinn_core.video import Progress, VideoJob, run_job

SHARED = Path(__file__).parent.parent.parent / "shared"
JOBS: dict[str, dict[str, Any]] = {
    "ffv1 in mkv": {"output": "out.mkv", "codec": "ffv1", "pix_fmt": "source", "video_stream": "all"},
    "ffv1 in mp4": {"output": "out.mp4", "codec": "ffv1", "pix_fmt": "source"},
    "x265 in mp4": {"output": "out.mp4", "codec": "libx265", "preset": "ultrafast"},
    "x264 in mkv": {"output": "out.mkv", "codec": "libx264", "preset": "ultrafast"},
    "x264 in mov": {"output": "out.mov", "codec": "libx264", "preset": "ultrafast"},
    "x264 in ts": {"output": "out.ts", "codec": "libx264", "preset": "ultrafast"},
    "vp9 in webm": {
        "output": "out.webm",
        "codec": "libvpx-vp9",
        "encoder_options": [("deadline", "realtime"), ("cpu-used", "8")],
    },
}
"""Name of a job, and its options."""
_OF_ALL = [*JOBS][:4]
"""Jobs of large files too: the others are about containers, not pictures."""
SMALL_BYTES = 2**16
_SIZE = {"width": 96, "height": 64}
_ODD = {"width": 37, "height": 23}
_CHAPTERS = [(0, 80, "One"), (80, 240, "Two")]
_X264 = {"codec": "libx264", "draw": smooth, **_SIZE}
_VP9 = {"codec": "libvpx-vp9", "draw": smooth, **_SIZE}
_PRORES = {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "draw": smooth, **_SIZE}
_HDR10 = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
)
MADE: dict[str, dict[str, Any]] = {
    "everything.mkv": {
        "times": (0, 30, 100, 107, 200),
        "time_base": Fraction(1, 1000),
        "sound": "flac",
        "subtitles": "subrip",
        "fonts": [("a.ttf", b"font")],
        "chapters": _CHAPTERS,
        "metadata": {"title": "All", "x": "y"},
        **_SIZE,
    },
    "everything.mp4": {
        "sound": "aac",
        "subtitles": "mov_text",
        "chapters": _CHAPTERS,
        "metadata": {"title": "All", "location": "+40.680-074.500+012.300/"},
        **_X264,
    },
    "cover.mkv": {"covers": [("cover.jpg", "mjpeg"), ("back.png", "png")], **_X264},
    "cover.mp4": {"covers": [("", "png"), ("", "mjpeg")], **_X264},
    "source.mkv": {"sound": "aac", "sound_metadata": {"SOURCE": "a disc", "comment": "c"}, **_X264},
    "early.mp4": {"times": range(-3, 6), "sound": "aac", **_X264},
    "late.mp4": {"times": range(40, 46), **_X264},
    "late.mkv": {"times": range(40, 46), "sound": "aac", **_X264},
    "webvtt.mkv": {"subtitles": "webvtt", **_X264},
    "webvtt.webm": {"subtitles": "webvtt", "sound": "libopus", **_VP9},
    "alpha.webm": {"pix_fmt": "yuva420p", **_VP9},
    "rotated.mov": {"rotation": 90, **_PRORES},
    "timecode.mov": {"metadata": {"timecode": "01:00:00:00"}, **_PRORES},
    "wide.mkv": {
        "tags": {"sample_aspect_ratio": Fraction(4, 3), "color_range": 2, "chroma_sample_location": 3},
        **_X264,
    },
    "matrix.mkv": {"tags": {"colorspace": 9}, **_SIZE},
    "srgb.mkv": {
        "tags": {"color_primaries": 1, "color_trc": 13, "colorspace": 0},
        "pix_fmt": "gbrp10le",
        **_SIZE,
    },
    "hdr10.mkv": {
        "tags": {"color_primaries": 9, "color_trc": 16, "colorspace": 9},
        "options": {"x265-params": f"log-level=error:{_HDR10}", "preset": "ultrafast"},
        **{**_X264, "codec": "libx265"},
    },
    **{
        f"{pix_fmt}.mkv": {"pix_fmt": pix_fmt, **_ODD}
        for pix_fmt in ("yuva420p", "gray16le", "yuv411p", "yuv440p12le", "gbrp10le", "gbrap16le")
    },
    **{
        f"{pix_fmt}.nut": {"pix_fmt": pix_fmt, "codec": "rawvideo", "width": 36, "height": 23}
        for pix_fmt in ("rgb48le", "bgra", "yuyv422", "pal8")
    },
}
"""Names of files with what the clips lack, and what they are made of."""
SIGNS = {"equal": "=", "coded": "~"}


class Row(NamedTuple):
    """What became of a file in a job."""

    file: str
    job: str
    cells: dict[str, Cell]
    """By the part's name; `refused` alone where the job won't start."""


class Said(Progress):
    """Keeps what a job says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, line: str) -> None:
        """Kept."""
        self.lines.append(line)


def go_round(source: Path, folder: Path, jobs: Iterable[str] = JOBS) -> Iterator[Row]:
    """Sends a file through `jobs`, whose results are written into `folder`."""
    before: dict[str, Any] | None = None
    for name in jobs:
        job, said = JOBS[name], Said()
        output = folder / job["output"]
        try:
            _run({**job, "source": str(source), "output": str(output)}, said)
        except BdinnError as error:
            yield Row(source.name, name, {"refused": Cell("refused", str(error).replace(f"{source}", "it"))})
            continue
        before = before or read_parts(source, from_zero=True)
        lossless = job["codec"] == "ffv1"
        # All of it may begin later, by the same.
        begin = before["begin"] if output.suffix == ".ts" else None
        after = read_parts(output, begin=begin, with_planes=lossless)
        cells = compare(before, after, output.suffix[1:], said.lines, lossless=lossless)
        yield Row(source.name, name, cells)


def _run(job: dict[str, Any], said: Said) -> None:
    """Runs a job that keeps what it can."""
    job = {**job, "drop_incompatible": True, "overwrite": True}
    deband = DebandOptions(strength=0, device="cpu")
    try:
        run_job(VideoJob(**job), deband, said)
    except OutputError as error:
        if "--hdr drop" not in str(error):
            raise
        run_job(VideoJob(**job, hdr="drop"), deband, said)


def make_clips(folder: Path) -> list[Path]:
    """Files with what the clips lack."""
    made = [make(folder / name, **clip) for name, clip in MADE.items()]
    sizes = [make(folder / f"{height}.mkv", height=height, times=range(6)) for height in (48, 32)]
    return [
        *made,
        join(folder / "two_videos.mkv", sizes),
        make_interlaced(folder / "interlaced.mkv", "bff"),
        make_captioned(folder),
    ]


def jobs_of(path: Path) -> list[str]:
    """Those that a clip is sent through, so that all of them end in minutes."""
    return [*JOBS] if path.stat().st_size < SMALL_BYTES else _OF_ALL


class Table:
    """Prints rows as they come, and what they come to."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self._reasons: dict[tuple[str, str], list[int]] = {}
        self._faults: list[str] = []
        self._planes: list[int] = []
        click.echo(f"{'file':46}{'job':12}" + "".join(f"{part:>{_width(part)}}" for part in PARTS))

    def add(self, row: Row) -> None:
        """Prints a row and takes note of it."""
        shown = {part: self._sign(cell) for part, cell in row.cells.items()}
        for part, cell in row.cells.items():
            self.kinds[cell.kind] += 1
            if cell.kind == "DIFFERS":
                self._faults.append(f"{row.file}, {row.job}, {part}: {cell.why}")
        text = f"{row.file:46}{row.job:12}"
        if "refused" in shown:
            click.echo(f"{text} refused {shown['refused']}")
            return
        click.echo(text + "".join(f"{shown[part]:>{_width(part)}}" for part in PARTS))
        if row.cells["planes"].kind == "equal":
            self._planes.append(int(row.cells["planes"].why))

    def finish(self) -> None:
        """Prints the reasons, and how many cells there are of each kind."""
        for (kind, why), (number, count) in self._reasons.items():
            click.echo(f"{number:4} {kind}, {count} times: {why}")
        click.echo(", ".join(f"{count} {kind}" for kind, count in self.kinds.items() if kind != "-"))
        click.echo(f"ffv1: {sum(self._planes)} planes in {len(self._planes)} files came back bit for bit")
        for fault in self._faults:
            click.echo(f"DIFFERS: {fault}")

    def _sign(self, cell: Cell) -> str:
        if cell.kind not in ("impossible", "told", "refused"):
            return cell.why if cell.kind == "equal" and cell.why else SIGNS.get(cell.kind, cell.kind)
        entry = self._reasons.setdefault((cell.kind, cell.why), [len(self._reasons) + 1, 0])
        entry[1] += 1
        return f"{entry[0]}"


def _width(part: str) -> int:
    return max(len(part), len("DIFFERS")) + 1


@click.command(help=__doc__)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--shared", type=click.Path(path_type=Path), default=SHARED, help="folder with the real clips")
@click.option("--job", "jobs", multiple=True, type=click.Choice(list(JOBS)), help="these jobs alone")
def main(files: tuple[Path, ...], shared: Path, jobs: tuple[str, ...]) -> None:
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = {path: [*JOBS] for path in files}
        if not files:
            clips = sorted(path for path in (shared / "data" / "clips").glob("*.*") if path.suffix != ".md")
            work = {path: jobs_of(path) for path in clips} | {path: [*JOBS] for path in make_clips(folder)}
        for path, names in work.items():
            for row in go_round(path, folder, jobs or names):
                table.add(row)
    table.finish()
    sys.exit(bool(table.kinds["DIFFERS"]))


if __name__ == "__main__":
    main()
