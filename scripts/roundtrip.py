"""Send files through `bdinn-video` at strength 0, read both ends with plain FFmpeg, and compare all there is.

Every cell says `equal`, `-` where the source has nothing of the kind, or why the container or codec can't
have it; DIFFERS is a fault. Without FILES: the clips of --shared, and some made here.
"""

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
from av.packet import Packet
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle
from lab.media import make, make_captioned, make_interlaced, planes, seconds, smooth

from bdinn_core import DebandOptions
from bdinn_core.errors import BdinnError, OutputError
from bdinn_core.video import Progress, VideoJob, run_job
from bdinn_core.video.formats import PixelFormat, Repacker
from bdinn_core.video.hdr import read_hdr

SHARED = Path(__file__).parent.parent.parent / "shared"
JOBS: dict[str, dict[str, Any]] = {
    "ffv1 in mkv": {"output": "out.mkv", "codec": "ffv1", "pix_fmt": "source"},
    "ffv1 in mp4": {"output": "out.mp4", "codec": "ffv1", "pix_fmt": "source"},
    "x265 in mp4": {"output": "out.mp4", "codec": "libx265", "preset": "ultrafast"},
    "x264 in mkv": {"output": "out.mkv", "codec": "libx264", "preset": "ultrafast"},
}
"""Name of a job, and its options."""
MILLISECOND = Fraction(1, 1000)
TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
"""Metadata that describes the file, not what it holds."""


@dataclass
class Read:
    """What a file holds beside its pictures."""

    tags: dict[str, int]
    aspect: Fraction
    location: int
    shift: Fraction
    """What is taken off all times, so that the picture doesn't begin before 0."""
    turn: tuple[int, ...]
    """Rotation and flips a player applies."""
    hdr: str
    sound: list[list[tuple[Fraction, bytes]]] = field(default_factory=list)
    texts: list[list[tuple[Fraction, str]]] = field(default_factory=list)
    chapters: list[tuple[Fraction, Fraction, str]] = field(default_factory=list)
    attachments: dict[str, bytes] = field(default_factory=dict)
    streams: list[tuple[str, str, str]] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def read_rest(path: Path) -> Read:
    """All of a file but its pictures; of those, what the first one says."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        first = next(container.decode(video))
        matrix = first.side_data.get("DISPLAYMATRIX")
        found = Read(
            tags={
                "range": first.color_range or (2 if first.format.is_rgb else 1),  # unsaid means that
                "matrix": first.colorspace,
                "primaries": first.color_primaries,
                "transfer": first.color_trc,
            },
            aspect=seconds(1, video.sample_aspect_ratio) if video.sample_aspect_ratio else Fraction(1),
            location=first.chroma_location or 1,
            shift=min(seconds(first.pts, first.time_base), Fraction(0)),
            turn=()
            if matrix is None
            else tuple(memoryview(bytes(matrix)).cast("i").tolist()[i] for i in (0, 1, 3, 4)),
            hdr=str(read_hdr(first)),
        )
    with av.open(str(path)) as container:
        sound: dict[int, list[tuple[Fraction, bytes]]] = {s.index: [] for s in container.streams.audio}
        texts: dict[int, list[tuple[Fraction, str]]] = {s.index: [] for s in container.streams.subtitles}
        for packet in container.demux(*container.streams.audio, *container.streams.subtitles):
            time = seconds(packet.pts, packet.time_base)
            if packet.size and packet.stream.index in sound:
                sound[packet.stream.index].append((time, bytes(packet)))
            elif packet.size and isinstance(packet.stream, SubtitleStream):
                texts[packet.stream.index] += [(time, line) for line in read_text(packet) if line]
        found.sound, found.texts = list(sound.values()), list(texts.values())
        for chapter in container.chapters():
            start, end = (seconds(chapter[key], chapter["time_base"]) for key in ("start", "end"))
            found.chapters.append((start, end, chapter["metadata"].get("title", "")))
        found.attachments = {s.name or "": s.data for s in container.streams.attachments}
        for stream in container.streams:
            if stream.type != "data":
                language = {k.lower(): v for k, v in stream.metadata.items()}.get("language", "und")
                found.streams.append((stream.type, language, f"{Disposition(stream.disposition)!r}"))
        found.metadata = {
            key.lower(): re.sub(r"(\d)[T ](\d\d:\d\d:\d\d).*", r"\1 \2", value)  # a time, however written
            for key, value in container.metadata.items()
            if key.lower() not in TECHNICAL
        }
    return found


def read_text(packet: Packet) -> list[str]:
    """What a packet of subtitles says; its bytes, where FFmpeg can't read that kind."""
    assert isinstance(packet.stream, SubtitleStream)
    if packet.stream.codec_context is None:
        return [bytes(packet).hex()]
    shown = packet.stream.decode(packet)
    return [text.dialogue.decode() for text in shown if isinstance(text, AssSubtitle)]


def decoded(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """The pictures of a file and when they are shown."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        video.thread_type = "AUTO"
        for frame in container.decode(video):
            yield seconds(frame.pts, frame.time_base), frame


def verdict(before: object, after: object, said: Iterable[str] = (), word: str = "") -> str:
    """A cell; what's lost must have been `said` by the job, in a line with that word."""
    if not before:
        return "-" if not after else "DIFFERS"
    if before == after:
        return "equal"
    return next((line for line in said if word and word in line), f"DIFFERS: {before} is {after}"[:200])


def compare_pictures(source: Path, output: Path, lossless: bool, said: list[str]) -> dict[str, str]:
    """Number, times, values, fields and captions of the pictures."""
    counts, fields = [0, 0], [set[bool](), set[bool]()]
    captions: list[list[bytes]] = [[], []]
    off, same = Fraction(0), True
    start: list[Fraction] = []
    for pair in zip_longest(decoded(source), decoded(output)):
        for i, found in enumerate(pair):
            if found is not None:
                counts[i] += 1
                fields[i].add(found[1].interlaced_frame)
                data = found[1].side_data.get("A53_CC")
                captions[i] += [] if data is None else [bytes(data)]
        one, other = pair
        if one is not None and other is not None:
            start = start or [min(one[0], Fraction(0))]  # a result never begins before 0
            off = max(off, abs(one[0] - start[0] - other[0]))
            same = same and (not lossless or all(map(np.array_equal, values(one[1]), values(other[1]))))
    return {
        "frames": f"{counts[0]}" if counts[0] == counts[1] else f"DIFFERS: {counts[1]} of {counts[0]}",
        "times": "equal" if not off else "to the ms" if off <= MILLISECOND / 2 else "DIFFERS",
        "planes": ("equal" if same else "DIFFERS") if lossless else "coded",
        "fields": verdict(fields[0] - {False}, fields[1] - {False}, said, "interlaced"),
        "captions": verdict(captions[0], captions[1], said, "captions"),
    }


def values(frame: av.VideoFrame) -> list[np.ndarray]:
    """A frame's planes; those of a packed or palette format as its planar one has them."""
    planar = frame.format.name.startswith("yuvj")
    return planes(frame if planar else Repacker()(frame, PixelFormat.from_name(frame.format.name).name))


def compare_rest(before: Read, after: Read, said: list[str]) -> dict[str, str]:
    """All else."""

    def timed(kind: str, word: str, tolerance: Fraction) -> str:
        one, other = getattr(before, kind), getattr(after, kind)
        was, now = ([[what for _, what in stream] for stream in streams] for streams in (one, other))
        if was == now and one:
            pairs = zip(chain(*one), chain(*other), strict=True)
            late = max((abs(a - before.shift - b) for (a, _), (b, _) in pairs), default=0)
            return "equal" if late <= tolerance else f"DIFFERS: {float(late):.4f} s"
        return verdict(was, now, said, word)

    return {
        "tags": verdict(before.tags, after.tags),
        "aspect": verdict(before.aspect - 1, after.aspect - 1, said, "aspect"),
        "location": verdict(before.location, after.location, said, "chroma location"),
        "rotation": verdict(before.turn, after.turn),
        "HDR": verdict(before.hdr, after.hdr, said, "the colour tags are kept"),
        "sound": timed("sound", "audio stream", MILLISECOND + Fraction(1, 44100)),
        "subtitles": timed("texts", "subtitle stream", MILLISECOND),
        "chapters": verdict(before.chapters, after.chapters),
        "attachments": verdict(before.attachments, after.attachments, said, "attachment"),
        "streams": verdict(before.streams, after.streams, said, "left out"),
        "metadata": verdict(before.metadata, {k: after.metadata.get(k) for k in before.metadata}),
    }


class Said(Progress):
    """Keeps what a job says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, line: str) -> None:
        """Kept."""
        self.lines.append(line)


def go_round(source: Path, folder: Path, job: dict[str, Any]) -> dict[str, str]:
    """A file's cells, by name; `refused` alone where the job won't start."""
    output, said = folder / job["output"], Said()
    deband = DebandOptions(strength=0, device="cpu")
    job = {**job, "source": str(source), "output": str(output), "drop_incompatible": True, "overwrite": True}
    try:
        try:
            run_job(VideoJob(**job), deband, said)
        except OutputError as error:
            if "--hdr drop" not in str(error):
                raise
            run_job(VideoJob(**job, hdr="drop"), deband, said)
    except BdinnError as error:
        return {"refused": str(error).replace(f"{source}", source.name)}
    lossless = job["codec"] == "ffv1"
    rest = compare_rest(read_rest(source), read_rest(output), said.lines)
    return compare_pictures(source, output, lossless, said.lines) | rest


def make_clips(folder: Path) -> list[Path]:
    """Files with what the clips lack."""
    chapters = [(0, 80, "One"), (80, 240, "Two")]
    lines = {"subtitles": "subrip", "fonts": [("a.ttf", b"font")], "chapters": chapters}
    uneven = {"times": (0, 30, 100, 107, 200), "time_base": MILLISECOND}
    made = [
        make(folder / "everything.mkv", sound="flac", metadata={"title": "All"}, **uneven, **lines),
        make(folder / "rotated.mov", codec="prores_ks", pix_fmt="yuv422p10le", draw=smooth, rotation=90),
        make(folder / "wide.mkv", tags={"sample_aspect_ratio": Fraction(4, 3), "color_range": 2}),
        make_interlaced(folder / "interlaced.mkv", "bff"),
        make_captioned(folder),
    ]
    for pix_fmt in ("yuva420p", "gray16le", "yuv411p", "yuv440p12le", "gbrp10le", "gbrap16le"):
        made.append(make(folder / f"{pix_fmt}.mkv", pix_fmt=pix_fmt, width=37, height=23))
    for pix_fmt in ("rgb48le", "bgra", "yuyv422"):
        made.append(make(folder / f"{pix_fmt}.nut", pix_fmt=pix_fmt, codec="rawvideo", width=36, height=23))
    return made


@click.command(help=__doc__)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--shared", type=click.Path(path_type=Path), default=SHARED, help="folder with the real clips")
@click.option("--job", "jobs", multiple=True, type=click.Choice(list(JOBS)), help="these jobs alone")
def main(files: tuple[Path, ...], shared: Path, jobs: tuple[str, ...]) -> None:
    differing = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = sorted(path for path in (shared / "data" / "clips").glob("*.*") if path.suffix != ".md")
        for path in files or [*clips, *make_clips(folder)]:
            for job in jobs or JOBS:
                cells = go_round(path, folder, JOBS[job])
                differing += sum(cell.startswith("DIFFERS") for cell in cells.values())
                told = {name: cell for name, cell in cells.items() if cell not in ("-", "equal", "coded")}
                equal = [name for name, cell in cells.items() if cell == "equal"]
                click.echo(f"{path.name}, {job}: " + "; ".join(f"{k}: {v}" for k, v in told.items()))
                if equal:
                    click.echo(f"    equal: {', '.join(equal)}")
    click.echo(f"{differing} differences that nobody told of")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
