"""`bdinn-video IN OUT`: parses the command line, builds the two option objects, runs the job.

Flags, defaults and help come from the fields of `DebandOptions` and `VideoJob` and the docstrings
under them, so that each is written once. Nothing is ever printed on standard output: it may be y4m.
"""

import ast
import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields, replace
from fractions import Fraction
from itertools import pairwise
from threading import Timer
from typing import Any, NoReturn

import click

from .console import Console
from .environment import FOR_TORCH
from .errors import BdinnError, OptionError, is_out_of_memory, unexpected
from .farm import FarmOptions, has_status, read_status, run_all, run_one
from .farm.batch import find_files, is_batch, longest_first, make_folders, pair_outputs
from .options import DITHERS, DebandOptions
from .video import VideoJob

__all__ = ["Terminated", "main"]

os.environ.update({**FOR_TORCH, **os.environ})

EXIT_INPUT, EXIT_USAGE, EXIT_DAMAGED, EXIT_INTERRUPTED, EXIT_SIGNAL = 1, 2, 3, 130, 128
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _Parsed(click.ParamType):
    """A parameter type from a function of the argument's text that raises `ValueError` or divides by zero."""

    def __init__(self, parse: Callable[[str], object], name: str) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
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


def _seconds(text: str) -> Fraction:
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?|\.\d+)", text)
    if match is None:
        raise ValueError(text)
    hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


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
_NTSC_RATES = {
    f"{rate * 1000 / 1001:.{digits}f}": Fraction(rate * 1000, 1001)
    for rate in (24, 30, 48, 60, 120)
    for digits in (2, 3)
}
"""Rates that people round when they write them."""
_NUMBERS = _Parsed(_numbers, "a number, or three separated by commas")
_TIME = _Parsed(_seconds, "seconds or hh:mm:ss.ms")
_FLAGS: dict[str, dict[str, Any]] = {
    "strength": {"type": _NUMBERS, "metavar": "X[,X,X]"},
    "grain": {"type": _NUMBERS, "metavar": "X[,X,X]"},
    "step": {"type": _Parsed(_step, "auto or a number"), "metavar": "auto|X"},
    "planes": {"type": _Parsed(_planes, "plane numbers separated by commas"), "metavar": "0,1,2"},
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
        "type": _Parsed(_pair, "key=value"),
        "metavar": "KEY=VALUE",
        "multiple": True,
    },
    "video_stream": {"type": _Parsed(_stream, "a number or all"), "metavar": "N|all"},
    "rate": {"type": _Parsed(_rate, "a rate such as 24, 23.976 or 24000/1001"), "metavar": "RATE"},
    "chunk_seconds": {"type": _Parsed(Fraction, "a number of seconds"), "metavar": "SECONDS"},
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


def _flag_fields(options: type) -> list[Field[Any]]:
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


def _command() -> click.Command:
    parameters: list[click.Parameter] = [
        click.Argument(["source"], metavar="IN"),
        click.Argument(["output"], metavar="OUT"),
    ]
    for options in (DebandOptions, VideoJob, FarmOptions):
        docs = _field_docs(options)
        parameters += [_flag(field, docs[field.name]) for field in _flag_fields(options)]
    status = "Say how far the job is that makes OUT, running or stopped, and do nothing."
    parameters.append(click.Option(["--status"], is_flag=True, help=status))
    about = """Removes banding from the video IN and writes OUT, with its sound, subtitles and all else.

    IN and OUT may be -, for y4m on standard input and output, or image sequences such as frames/%05d.png.
    If IN is a folder, or a .txt with a file a line, OUT is a folder for the results of all.
    """
    return click.Command("bdinn-video", params=parameters, callback=_run, help=about)


def _run(**values: Any) -> int:
    values["device"], *others = devices = values["device"].split(",")
    values["devices"] = devices if others else ()
    deband = DebandOptions(**{f.name: values[f.name] for f in _flag_fields(DebandOptions)})
    job = VideoJob(**{f.name: values[f.name] for f in fields(VideoJob)})
    farm = FarmOptions(**{f.name: values[f.name] for f in fields(FarmOptions)})
    if is_batch(job.source):
        return _run_batch(job, deband, farm, values["status"])
    if values["status"]:
        print(read_status(job.output))
        return 0
    with Console() as console:
        report = run_one(job, deband, farm, console)
    return EXIT_DAMAGED if report.damaged else 0


def _run_batch(batch: VideoJob, deband: DebandOptions, farm: FarmOptions, status: bool) -> int:
    outputs = pair_outputs(find_files(batch.source, batch.output), batch.output, farm.extension)
    if status:
        found = [read_status(output) for output in filter(has_status, outputs.values())]
        print(*found or [f"no job for {batch.output} is running or stopped"], sep="\n")
        return 0
    make_folders(outputs.values())
    jobs = [replace(batch, source=name, output=outputs[name]) for name in longest_first([*outputs])]
    with Console() as console:
        outcomes = run_all(jobs, deband, farm, console)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    damaged = [outcome for outcome in outcomes if outcome.report is not None and outcome.report.damaged]
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.error is not None, outcome.job.output)):
        print(outcome, file=sys.stderr)
    counts = f"{len(outcomes)} files: {len(failed)} failed, {len(damaged)} are damaged"
    print(counts, file=sys.stderr)
    return EXIT_DAMAGED if failed or damaged else 0


class Terminated(BaseException):
    """SIGTERM or SIGHUP, as an exception with its number, so that everything opened is closed."""


def _terminate(number: int, _frame: object) -> NoReturn:
    raise Terminated(number)


def _send_again(lost: "sys.UnraisableHookArgs") -> None:
    """Sends a signal anew whose exception came where Python drops it, as in a callback of its own."""
    error = lost.exc_value
    if isinstance(error, (Terminated, KeyboardInterrupt)):
        number = error.args[0] if isinstance(error, Terminated) else signal.SIGINT
        Timer(0.05, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(lost)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `bdinn-video`.

    Args:
        arguments: the command line without the program's name; `None` takes the process's.

    Returns:
        The exit code: 0 done, 1 bad input or output, 2 wrong usage, 3 done, but the source is damaged, 130
        Ctrl-C, 143 terminated, 129 hung up.
    """
    if sys.stderr is None:  # closed by the caller: print would turn to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process runs
    # What's ignored, as by nohup, stays ignored.
    ending = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _terminate) for number in ending}
    hook, sys.unraisablehook = sys.unraisablehook, _send_again
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with _command().make_context("bdinn-video", list(arguments)) as context:
            return context.command.invoke(context)
    except click.exceptions.Exit as done:  # --help
        return done.exit_code
    except BaseException as error:
        message, code = _explain(error)
        message = " ".join(message.split())
        kept = "; ".join(getattr(error, "__notes__", []))
        if kept:
            words = ["bdinn-video", *(word for word in arguments if word != "--restart")]
            command = subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
            message = f"{message}; {kept}; go on by `{command}`, or begin anew by `{command} --restart`"
        print(f"Error: {message}", file=sys.stderr)
        return code
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _explain(error: BaseException) -> tuple[str, int]:
    """What has ended a job, in words, and the exit code that says so."""
    match error:
        case click.ClickException():
            return error.format_message(), EXIT_USAGE
        case OptionError():
            return str(error), EXIT_USAGE
        case BdinnError():
            return str(error), EXIT_INPUT
        case KeyboardInterrupt():
            return "interrupted; nothing incomplete is left", EXIT_INTERRUPTED
        case Terminated():
            return "terminated; nothing incomplete is left", EXIT_SIGNAL + error.args[0]
        case Exception():
            if is_out_of_memory(error):
                return "out of memory; try a smaller --tile-size", EXIT_INPUT
            return unexpected(error), EXIT_INPUT
    raise error
