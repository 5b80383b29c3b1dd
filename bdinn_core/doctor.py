"""`bdinn-doctor`: says whether an installation works; where it doesn't, what's at fault, and what to do.

Everything is tried in other processes, for what doesn't work may crash.
"""

import json
import platform
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import Any

import click

from .checks import CHECKS, NO_TORCH, PIP, REPORT, Finding, one_line, version_of

__all__ = ["main"]

SLOW_SECONDS, MOST_SECONDS = 10, 300
_PACKAGES = (
    *("bdinn", "vapoursynth", "torch", "torchvision", "triton", "numba"),
    *("numpy", "safetensors", "av", "click", "rich"),
)
_USED = {"vapoursynth": "vapoursynth", "torch": "torch", "weights": "torch", "gpu": "torch", "codecs": "av"}
"""The package to install again where a check of it crashes."""


@click.command("bdinn-doctor")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def main(context: click.Context, as_json: bool) -> None:
    """Says whether BDINN works here and how fast; what's at fault, and what to do about it.

    The exit code is 1 if there is a fault, else 0.
    """
    report = _examine()
    click.echo(json.dumps(report, indent=1) if as_json else "\n".join(_lines(report)))
    context.exit(0 if report["ok"] else 1)


def _examine() -> dict[str, Any]:
    """What `--json` prints."""
    answers = _ask("vapoursynth") | _ask("plugin") | _ask("torch", "weights", "gpu", "gpus", "cpu")
    answers |= _ask("codecs", "ffmpeg")
    if "weights" not in answers:  # torch crashed
        answers["weights"] = _ask("files")["files"]
    checks: dict[str, dict[str, str]] = {name: answers.get(name, NO_TORCH._asdict()) for name in CHECKS}
    gpus = answers.get("gpus")
    gpus = gpus if isinstance(gpus, list) else []
    for gpu in gpus:
        answers |= _ask(gpu)
    devices = []
    for device, check in (("cpu", "torch"), *((gpu, "gpu") for gpu in gpus)):
        speed = answers.get(device, {})
        if "frames_per_second_1080p" in speed:
            devices.append(speed)
        elif speed and not _failed(checks, "torch", "weights"):
            checks[check] = {**speed, "detail": f"{device} can't deband: {speed['detail']}"}
    causes = _failed(checks, "vapoursynth", "torch", "weights")
    if causes and _failed(checks, "plugin"):
        checks["plugin"]["fix"] = f"mend {' and '.join(causes)} first"
    return {
        "ok": not _failed(checks, *checks),
        "checks": [{"name": name, **check} for name, check in checks.items()],
        "versions": _versions(answers.get("ffmpeg", {})),
        "devices": devices,
    }


def _failed(checks: dict[str, dict[str, str]], *names: str) -> list[str]:
    return [name for name in names if checks[name]["status"] == "fail"]


def _versions(ffmpeg: dict[str, str]) -> dict[str, str]:
    found = {name: version_of(name) for name in _PACKAGES}
    packages = {name: version for name, version in found.items() if version is not None}
    libraries = {} if "status" in ffmpeg else ffmpeg
    return {"python": platform.python_version(), "platform": platform.platform(), **packages, **libraries}


def _ask(*names: str) -> dict[str, Any]:
    """What `checks.main` answers to names, in a process of its own; if that crashes, as far as it came.

    What it was at then has failed.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from bdinn_core.checks import main; main()"
    command = [sys.executable, "-P", "-c", code, *names]
    note = "still at work: the first time, loops are compiled, which takes 10 to 20 seconds"
    slow = Timer(SLOW_SECONDS, click.echo, [note], {"err": True})
    with TemporaryFile("w+") as answers, TemporaryFile("w+", errors="replace") as said:
        slow.start()
        try:
            run = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=answers, stderr=said, timeout=MOST_SECONDS
            )
            end = _end(run.returncode)
        except subprocess.TimeoutExpired:
            end = f"took more than {MOST_SECONDS} s"
        finally:
            slow.cancel()
        answers.seek(0)
        said.seek(0)
        found: dict[str, Any] = dict(json.loads(line) for line in answers)
        last_words = said.read().strip().splitlines()[-1:]
    crashed = next((name for name in names if name not in found), None)
    if crashed is not None:
        detail = ": ".join([f"the process that tried it {end}", *last_words])
        fix = f"{PIP} --force-reinstall {_USED[crashed]}" if crashed in _USED else REPORT
        found[crashed] = Finding("fail", one_line(detail), fix)._asdict()
    return found


def _end(code: int) -> str:
    """How a process ended that didn't do all it was asked to."""
    if code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"ended with exit code {code:#x}" if sys.platform == "win32" else f"ended with exit code {code}"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    """The report in words."""
    yield f"BDINN in {Path(__file__).parent.parent}, with the Python in {sys.prefix}"
    yield ""
    for check in report["checks"]:
        yield f"{check['status']:4}  {check['name']:11}  {check['detail']}"
        if check["fix"]:
            yield f"{'':19}fix: {check['fix']}"
    yield ""
    for device in report["devices"]:
        speed = f"{device['frames_per_second_1080p']:.1f} frames of 1080p a second with the model fast"
        yield f"{device['name']}: {speed} ({device['backend']}; {device['detail']})"
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    yield from textwrap.wrap(versions, 110, break_on_hyphens=False, break_long_words=False)
    yield ""
    yield _verdict(report["checks"])


def _verdict(checks: list[dict[str, str]]) -> str:
    words = []
    for status, what in (("fail", "fault"), ("warn", "warning")):
        names = [check["name"] for check in checks if check["status"] == status]
        if names:
            words.append(f"{len(names)} {what}{'s' if len(names) > 1 else ''}: {', '.join(names)}")
    return "; ".join(words) or "all fine"


if __name__ == "__main__":
    main()
