"""Flags of the command line, made from the fields of option classes and the docstrings under them."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from fractions import Fraction
from itertools import pairwise
from typing import Any

import click

from .farm import FarmOptions
from .options import DITHERS, DebandOptions

__all__ = ["Parsed", "flag_fields", "flags_of", "seconds", "times"]


class Parsed(click.ParamType):
    """A parameter type from a function of the argument's text that raises `ValueError` or divides by zero."""

    def __init__(self, parse: Callable[[str], object], name: str) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the text means; click's error where it means nothing."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} isn't {self.name}", param, ctx)


def _numbers(text: str) -> float | tuple[float, ...]:
    values = [float(part) for part in text.split(",")]
    return tuple(values) if len(values) > 1 else values[0]


def _step(text: str) -> float | str:
    return text if text == "auto" else float(text)


def _planes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def seconds(text: str) -> Fraction:
    """A time, from seconds or hh:mm:ss.ms; `ValueError` for anything else."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?|\.\d+)", text)
    if match is None:
        raise ValueError(text)
    hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
    time = hours * 3600 + minutes * 60 + seconds
    if time > MOST_SECONDS:
        raise ValueError(text)
    return time


def times(text: str) -> tuple[Fraction, ...] | str:
    """Times separated by commas, or `auto`; `ValueError` for anything else."""
    return text if text == "auto" else tuple(seconds(part.strip()) for part in text.split(","))


def _stream(text: str) -> int | str:
    return text if text == "all" else int(text)


def _rate(text: str) -> Fraction:
    return _NTSC_RATES.get(text) or Fraction(text)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(text)
    return key, value


_NO_FLAGS = {(DebandOptions, "mask"), (FarmOptions, "devices")}
MOST_SECONDS = 10**8
"""Three years."""
_NTSC_RATES = {
    f"{rate * 1000 / 1001:.{digits}f}": Fraction(rate * 1000, 1001)
    for rate in (24, 30, 48, 60, 120)
    for digits in (2, 3)
}
"""Rates that people round when they write them."""
_NUMBERS = Parsed(_numbers, "a number, or three separated by commas")
_TIME = Parsed(seconds, "seconds or hh:mm:ss.ms")
_FLAGS: dict[str, dict[str, Any]] = {
    "strength": {"type": _NUMBERS, "metavar": "X[,X,X]"},
    "grain": {"type": _NUMBERS, "metavar": "X[,X,X]"},
    "step": {"type": Parsed(_step, "auto or a number"), "metavar": "auto|X"},
    "planes": {"type": Parsed(_planes, "plane numbers separated by commas"), "metavar": "0,1,2"},
    "dither": {"metavar": "|".join(DITHERS)},
    "dynamic_grain": {"names": ["--dynamic-grain/--no-dynamic-grain"]},
    "fp16": {"names": ["--fp16/--no-fp16"]},
    "output_depth": {
        "help": "Bits of the result, 8..16, or 32 for single-precision float. "
        "-1 is at least 10, and no fewer than the source's, where the encoder has them."
    },
    "tile_size": {"type": int},
    "overlap": {"type": int},
    "batch": {"type": int},
    "mask": {"metavar": "FILE"},
    "crf": {"type": float},
    "encoder_options": {
        "names": ["-e", "--encoder-option"],
        "type": Parsed(_pair, "key=value"),
        "metavar": "KEY=VALUE",
        "multiple": True,
    },
    "video_stream": {"type": Parsed(_stream, "a number or all"), "metavar": "N|all"},
    "rate": {"type": Parsed(_rate, "a rate such as 24, 23.976 or 24000/1001"), "metavar": "RATE"},
    "chunk_seconds": {"type": Parsed(Fraction, "a number of seconds"), "metavar": "SECONDS"},
    "workers": {"metavar": "N"},
    "extension": {"metavar": ".EXT"},
    "ray": {"metavar": "auto|ADDRESS"},
    "device": {"metavar": "auto|cpu|cuda[:N][,cuda:N]"},
    "start": {"type": _TIME, "metavar": "TIME"},
    "end": {"type": _TIME, "metavar": "TIME"},
    "overwrite": {"names": ["-y", "--overwrite"]},
}
"""What a flag's name and its field's default don't tell of how it's written."""


def _field_docs(options: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    body = ast.parse(textwrap.dedent(inspect.getsource(options))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for above, below in pairwise(body.body):
        if isinstance(above, ast.AnnAssign) and isinstance(below, ast.Expr):
            doc = " ".join(ast.literal_eval(below.value).replace("`", "").split())
            docs[ast.unparse(above.target)] = doc.replace("None is", "Left out, it's")
    return docs


def flag_fields(options: type) -> list[Field[Any]]:
    """The fields of an option class that have a flag.

    `mask` is the job's file, not the engine's array; devices are named together.
    """
    flags = [field for field in fields(options) if field.default is not MISSING]
    return [field for field in flags if (options, field.name) not in _NO_FLAGS]


def _flag(field: Field[Any], doc: str) -> click.Option:
    settings: dict[str, Any] = {"default": field.default, **_FLAGS.get(field.name, {})}
    if field.default is False:
        settings["is_flag"] = True
    names = settings.pop("names", [f"--{field.name.replace('_', '-')}"])
    settings.setdefault("help", doc)
    return click.Option([*names, field.name], show_default=field.default not in (None, ()), **settings)


def flags_of(options: type) -> list[click.Parameter]:
    """A flag for each field of a dataclass that has one."""
    docs = _field_docs(options)
    return [_flag(field, docs[field.name]) for field in flag_fields(options)]
