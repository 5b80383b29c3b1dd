"""Hearing what FFmpeg and its libraries say while they open something, and keeping it off stderr."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import av.logging

__all__ = ["listen", "overhear", "rejections"]

# SVT-AV1 announces itself at length on stderr unless told to keep to errors.
os.environ.setdefault("SVT_LOG", "1")

_ONE_AT_A_TIME = Lock()
"""FFmpeg has one log and one level for all threads."""
_REJECTION = re.compile(r"Unknown option|Invalid value|Error parsing option", re.IGNORECASE)
_PREFIX = re.compile(r"^\S+ \[(error|warning)\]: |^Svt\[\w+\]: ")


@contextmanager
def listen() -> Iterator[list[str]]:
    """Collects the lines written inside, by FFmpeg's log and by libraries straight to stderr.

    Nothing else may write to stderr meanwhile. The list is filled when the context ends.
    """
    lines: list[str] = []
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as sink, av.logging.Capture(local=False) as log:
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        stderr = os.dup(2)
        os.dup2(sink.fileno(), 2)
        av.logging.set_level(av.logging.WARNING)
        av.logging.set_skip_repeated(False)  # what it said to somebody before counts too
        try:
            yield lines
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)
            os.dup2(stderr, 2)
            os.close(stderr)
            sink.seek(0)
            written = sink.read().decode(errors="replace").splitlines()
            said = [_PREFIX.sub("", line).strip() for line in written if "error" in line.lower()]
            said += [message.strip() for _, _, message in log]
            lines.extend(dict.fromkeys(filter(None, said)))


@contextmanager
def overhear(name: str) -> Iterator[list[str]]:
    """Collects the errors that FFmpeg's part of that name logs inside, in whatever thread; at its end."""
    errors: list[str] = []
    with _ONE_AT_A_TIME, av.logging.Capture(local=False) as log:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            yield errors
        finally:
            av.logging.set_level(level)
    errors += [message for _, who, message in log if who == name]


def rejections(lines: list[str]) -> list[str]:
    """The lines that say an option isn't known or its value isn't taken: libraries go on without."""
    return [line for line in lines if _REJECTION.search(line)]
