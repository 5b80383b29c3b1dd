"""`bdinn-video IN OUT`: parses the command line, builds the option objects, runs the job.

Flags, defaults and help come from the fields of option classes and the docstrings under them, so that each is
written once. A job prints nothing on standard output: it may be y4m.
"""

import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from threading import Timer
from typing import Any, NoReturn

import click

from .console import KINDS, Console, open_console
from .environment import FOR_TORCH
from .errors import BdinnError, OptionError, is_out_of_memory, unexpected
from .farm import FarmOptions, has_status, read_status, run_all, run_one
from .farm.batch import find_files, is_batch, longest_first, make_folders, pair_outputs
from .flags import Parsed, flag_fields, flags_of, times
from .options import DebandOptions
from .show.files import check_report, refuse_pipe, write_preview, write_report
from .video import VideoJob
from .video.opening import STDIO
from .video.output import check_output

__all__ = ["Terminated", "main"]

os.environ.update({**FOR_TORCH, **os.environ})

EXIT_INPUT, EXIT_USAGE, EXIT_DAMAGED, EXIT_INTERRUPTED, EXIT_SIGNAL = 1, 2, 3, 130, 128
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _command() -> click.Command:
    parameters: list[click.Parameter] = [
        click.Argument(["source"], metavar="IN"),
        click.Argument(["output"], metavar="OUT", required=False),
    ]
    for options in (DebandOptions, VideoJob, FarmOptions):
        parameters += flags_of(options)
    parameters += _modes()
    progress = """How progress is told on standard error: by a bar, or a line every 10 s where there is no
    terminal; in json, for programs; or not at all (none), but for warnings, notes and errors."""
    how = {"type": click.Choice(KINDS), "default": "bar", "show_default": True, "help": progress}
    parameters.append(click.Option(["--progress"], **how))
    about = """Removes banding from the video IN and writes OUT, with its sound, subtitles and all else.

    IN and OUT may be -, for y4m on standard input and output, or image sequences such as frames/%05d.png.
    If IN is a folder, or a .txt with a file a line, OUT is a folder for the results of all.
    """
    return click.Command("bdinn-video", params=parameters, callback=_run, help=about)


def _modes() -> list[click.Parameter]:
    """Flags for what else can be done with a job than doing it, or besides."""
    status = "Say how far the job is that makes OUT, running or stopped, and do nothing."
    preview = """Draw source and result at these times, or where there's most banding (auto), into OUT, a
    .png: as they are, with contrast raised, and what was changed. Do nothing else."""
    analyze = "Say what is found in IN, plane by plane, and the settings that would be used; write nothing."
    report = "Make a page about the job, too: pictures to compare, curves of the banding before and after."
    moments = Parsed(times, "auto, or times separated by commas")
    return [
        click.Option(["--status"], is_flag=True, help=status),
        click.Option(["--preview"], type=moments, metavar="TIME[,TIME]|auto", help=preview),
        click.Option(["--analyze"], is_flag=True, help=analyze),
        click.Option(["--report"], metavar="FILE.html", help=report),
    ]


def _run(console: Console, **values: Any) -> int:
    preview, analysis, report = values["preview"], values["analyze"], values["report"]
    given = [name for name in ("status", "preview", "analyze", "report") if values[name] not in (None, False)]
    if len(given) > 1:
        raise OptionError(f"{' and '.join(given)} are asked for: give one at a time")
    values["output"] = _output(values)
    values["device"], *others = devices = values["device"].split(",")
    values["devices"] = devices if others else ()
    deband = DebandOptions(**{f.name: values[f.name] for f in flag_fields(DebandOptions)})
    job = VideoJob(**{f.name: values[f.name] for f in fields(VideoJob)})
    farm = FarmOptions(**{f.name: values[f.name] for f in fields(FarmOptions)})
    if is_batch(job.source):
        if given not in ([], ["status"]):
            raise OptionError("preview, analyze and report are for one video: name it, instead of many")
        return _run_batch(job, deband, farm, values["status"], console)
    if values["status"]:
        print(read_status(job.output))
        return 0
    if preview:
        write_preview(job, deband, preview, console.note)
        console.note(f"{job.output} is there to be looked at")
        return 0
    if analysis:
        from .show.analysis import analyze  # late, since it imports torch

        refuse_pipe(job)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names may be of any characters
        print(*analyze(job, deband), sep="\n")
        return 0
    if report is not None:
        return _run_with_report(job, deband, farm, report, values["command"], console)
    with console:
        ended = run_one(job, deband, farm, console)
    return EXIT_DAMAGED if ended.damaged else 0


def _run_with_report(
    job: VideoJob, deband: DebandOptions, farm: FarmOptions, report: str, command: str, console: Console
) -> int:
    """Does a job and makes its report; of a result that's there already, the report alone."""
    check_report(job, report)
    if os.path.isfile(job.output) and not job.overwrite:
        check_output(replace(job, overwrite=True))
        if has_status(job.output):
            raise OptionError(f"output {job.output} is being made anew: add -y to go on with that")
        with console:
            console.stop()
            console.note(f"{job.output} is there already: the report is made of it, by the options given now")
            write_report(job, deband, report, {}, [], command, console.note)
        return 0
    with console:
        ended = run_one(job, deband, farm, console)
        console.stop()
        console.note(f"{job.output} is complete; looking at it and the source for {report}")
        write_report(job, deband, report, console.figures(), ended.lines, command, console.note)
    return EXIT_DAMAGED if ended.damaged else 0


def _output(values: dict[str, Any]) -> str:
    """OUT, or what stands for it where there needn't be one."""
    output, source = values["output"], values["source"]
    if output is not None:
        return output
    if values["preview"]:
        name = Path(source)
        return f"{name.parent.absolute().name if '%' in name.name else name.stem}.preview.png"
    if values["analyze"]:
        return STDIO
    raise click.UsageError("Missing argument 'OUT'.")


def _run_batch(
    batch: VideoJob, deband: DebandOptions, farm: FarmOptions, status: bool, console: Console
) -> int:
    outputs = pair_outputs(find_files(batch.source, batch.output), batch.output, farm.extension)
    if status:
        found = [read_status(output) for output in filter(has_status, outputs.values())]
        print(*found or [f"no job for {batch.output} is running or stopped"], sep="\n")
        return 0
    make_folders(outputs.values())
    jobs = [replace(batch, source=name, output=outputs[name]) for name in longest_first([*outputs])]
    with console:
        outcomes = run_all(jobs, deband, farm, console, console.tell_file)
    console.tell_files(outcomes)
    return EXIT_DAMAGED if {outcome.state for outcome in outcomes} & {"failed", "damaged"} else 0


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
    console = Console()
    try:
        with _command().make_context("bdinn-video", list(arguments)) as context:
            context.params["console"] = console = open_console(context.params.pop("progress"))
            context.params["command"] = _in_shell(arguments)
            return context.command.invoke(context)
    except click.exceptions.Exit as done:  # --help
        return done.exit_code
    except BaseException as error:
        message, code = _explain(error)
        message = " ".join(message.split())
        kept = "; ".join(getattr(error, "__notes__", []))
        if kept:
            command = _in_shell(word for word in arguments if word != "--restart")
            message = f"{message}; {kept}; go on by `{command}`, or begin anew by `{command} --restart`"
        console.fail(message, code)
        return code
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_shell(arguments: Iterable[str]) -> str:
    """The command line that has these arguments."""
    words = ["bdinn-video", *arguments]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


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
        case BrokenPipeError():
            return "standard output was closed", EXIT_INPUT
        case Exception():
            if is_out_of_memory(error):
                return "out of memory; try a smaller --tile-size", EXIT_INPUT
            return unexpected(error), EXIT_INPUT
    raise error
