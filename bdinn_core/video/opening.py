"""Opening a media file: that one file, and nothing else unless the user says so."""

import os
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError
from av.format import formats_available

from ..errors import InputError, OptionError
from .ffmpeg_log import listen
from .sequences import Pattern

__all__ = ["STDIO", "Y4M_FRAME", "Y4M_MAGIC", "Opened", "holds_stills", "open_input", "reason"]

STDIO = "-"
"""As a file name: y4m on standard input or output."""
Y4M_MAGIC = b"YUV4MPEG2 "
Y4M_FRAME = len(b"FRAME\n")
REFERRING = {
    "avisynth", "concat", "dash", "hls", "imf", "lavfi", "mlv", "rtp", "rtsp", "sap", "sdp", "vapoursynth",
    "vobsub",
}  # fmt: skip
"""FFmpeg's formats that open what their content, or a file's name, tells them to."""
_Y4M_HEADER_MAX = 256
_STILL_RATE = 25
"""Pictures a second of a sequence, where nobody says."""


class Opened(NamedTuple):
    """An open media file."""

    container: InputContainer
    start: bytes
    """Its first bytes: the whole header where it's y4m."""
    size: Callable[[], int]
    """Bytes it has; of a pipe, those read so far."""
    first: int | None = None
    """The number of the first file, if it's a sequence of them."""
    seekable: bool = True
    """Whether reading can go on at another place."""


class _PipeInput:
    """A pipe for FFmpeg to read, its first line read before: Ctrl-C works while it's awaited."""

    def __init__(self, file: int | str) -> None:
        # Unbuffered: a thread stuck in a buffered read would block the interpreter's exit.
        self._raw = open(file, "rb", buffering=0, closefd=file != 0)  # noqa: SIM115 - closed with the process
        self.start = _first_line(self._raw)
        self._held = self.start
        self.size = 0

    def read(self, size: int) -> bytes:
        held, self._held = self._held, b""
        found = held or self._raw.read(size)
        self.size += len(found)
        return found


def _first_line(file: FileIO) -> bytes:
    """The header if `file` is y4m, and no more bytes of anything else than tell that it isn't."""
    line = b""
    while Y4M_MAGIC.startswith(line[: len(Y4M_MAGIC)]) and len(line) < _Y4M_HEADER_MAX:
        byte = file.read(1)
        if not byte or byte == b"\n":
            return line + (byte or b"")
        line += byte
    return line


def reason(error: FFmpegError) -> str:
    """FFmpeg's own words for `error`, without its call."""
    return (error.strerror or str(error)).lower()


@cache
def _local_only() -> dict[str, str]:
    """Options for FFmpeg to open the one file it's given, and nothing that this one names."""
    allowed = ",".join(formats_available - REFERRING)
    # Else a picture's name, such as %03d.png, could stand for many.
    return {"protocol_whitelist": "file", "format_whitelist": allowed, "pattern_type": "none"}


def holds_stills(container: InputContainer) -> bool:
    """Whether it's a picture or a sequence of them, which tell no times."""
    name = container.format.name
    return name == "image2" or name.endswith("_pipe")


def open_input(
    name: str,
    accelerator: HWAccel | None = None,
    allow_url: bool = False,
    rate: Fraction | None = None,
) -> Opened:
    """Opens a media file, an image sequence, or y4m on standard input for `-`.

    Args:
        name: A file's path, or where there's none of that name, a sequence's such as frames/%05d.png; with
            `allow_url` also an address.
        accelerator: What decodes its video if it can.
        allow_url: Whether files that name others, or addresses, may have them opened.
        rate: Pictures a second of what doesn't say.

    Raises:
        InputError: if it's missing, empty, a directory or not media; the message names it.
        OptionError: if it has times of its own beside a `rate`.
    """
    shown = "standard input" if name == STDIO else name
    try:
        opened = _open(name, accelerator, allow_url, {} if rate is None else {"framerate": f"{rate}"})
    except FFmpegError as error:
        raise InputError(f"{shown} isn't media FFmpeg can read ({reason(error)})") from error
    except OSError as error:
        raise InputError(f"{shown} can't be read ({error.strerror})") from error
    if rate is not None and not holds_stills(opened.container):
        opened.container.close()
        raise OptionError(f"rate is for image sequences and single pictures; {shown} has times of its own")
    return opened


def _open(name: str, accelerator: HWAccel | None, allow_url: bool, options: dict[str, str]) -> Opened:
    if name == STDIO:
        if os.isatty(0):
            raise InputError("standard input is a terminal; pipe y4m into it")
        pipe = _PipeInput(0)
        if not pipe.start.startswith(Y4M_MAGIC):
            raise InputError(
                "standard input isn't y4m; `vspipe -c y4m` and `ffmpeg -f yuv4mpegpipe` write it"
            )
        container = av.open(pipe, "r", format="yuv4mpegpipe", buffer_size=1 << 20)
        return Opened(container, pipe.start, lambda: pipe.size, seekable=False)
    if "://" in name and not Path(name).exists():
        if not allow_url:
            raise InputError(f"{name} is an address: give --allow-url to open it")
        return Opened(av.open(name, "r", options=options, hwaccel=accelerator), b"", lambda: 0)
    options = options if allow_url else {**options, **_local_only()}
    path = Path(name)
    if not path.exists():
        pattern = Pattern.parse(name)
        if pattern is None:
            raise InputError(f"{name}: no such file")
        return _open_sequence(pattern, options, accelerator)
    if path.is_dir():
        raise InputError(f"{name} is a directory, not a file")
    if path.is_fifo():
        pipe = _PipeInput(name)
        container = av.open(pipe, "r", options=options, buffer_size=1 << 20, hwaccel=accelerator)
        return Opened(container, pipe.start, lambda: pipe.size, seekable=False)
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{name} is empty")
    with open(name, "rb", buffering=0) as file:
        start = _first_line(file)
    return Opened(_open_file(name, options, accelerator), start, lambda: path.stat().st_size)


def _open_sequence(pattern: Pattern, options: dict[str, str], accelerator: HWAccel | None) -> Opened:
    first = pattern.first_of_all()
    numbered = {"pattern_type": "sequence", "start_number": f"{first}"}
    options = {"framerate": f"{_STILL_RATE}", **options, **numbered}
    container = av.open(f"file:{pattern.for_ffmpeg}", "r", "image2", options=options, hwaccel=accelerator)
    return Opened(container, b"", lambda: 0, first)


def _open_file(name: str, options: dict[str, str], accelerator: HWAccel | None) -> InputContainer:
    with listen() as lines:
        try:
            return av.open(f"file:{name}", "r", options=options, hwaccel=accelerator)
        except FFmpegError as error:
            failed = error
    if any("whitelist" in line for line in lines):
        raise InputError(f"{name} is a list of other files: give --allow-url to open them") from failed
    raise failed
