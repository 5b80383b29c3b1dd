"""The machines of a Ray cluster.

Parts are Ray's tasks; it carries out those of a lost machine elsewhere. Files that a machine hasn't got under
the same path are sent through Ray's object store, and kept there until the job is done. Segments come back
the same way.
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..environment import FOR_TORCH
from ..errors import InputError, OptionError, OutputError, WorkerError
from ..video.part_files import PartFile
from ..video.progress import Progress, Work
from .fingerprint import describe_file, versions
from .lock import FileLock
from .segments import Segment
from .work import MOST_ATTEMPTS, Order, Part, ProgressOf, Result, Whole, attempt

try:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise OptionError("ray isn't installed here: pip install 'bdinn[cluster]'") from error

__all__ = ["Cluster"]

_PIECE = 2**26
"""Bytes of a file that are sent at once."""
_MOST_THREADS = 4
"""Of a task, where nobody says: with more, chunks are done sooner, but fewer at a time."""
_WAITING = 2
"""Tasks submitted beyond those that can run, so that no machine waits for us."""
_KNOCK_SECONDS = _FORGET_SECONDS = 10
_SECONDS = 1
"""How long one look at what is done takes at most."""


@dataclass(frozen=True)
class _Missing:
    """What a machine hasn't got."""

    names: Sequence[str]


class _Done(NamedTuple):
    """What became of an order."""

    result: Result | _Missing
    data: bytes = b""
    """The file of a segment."""
    work: Work = Work()


class _Tally(Progress):
    """Adds up the work on an order, of which nobody is told while it's done."""

    total = Work()

    def work(self, work: Work) -> None:
        self.total += work


class Cluster:
    """A Ray cluster's machines.

    Args:
        address: `auto` for the cluster that this machine is in, or where one is.
        device: whether a part needs a GPU; `auto` takes one if the cluster has any.
        threads: CPUs that a part needs; 0 is automatic.

    Raises:
        OptionError: if there's no such cluster, or no machine of it has what a part needs.
    """

    def __init__(self, address: str, device: str, threads: int) -> None:
        self._described: dict[str, dict[str, Any]] = {}
        self._sent: dict[str, list[Any]] = {}
        self._flying: dict[Any, Part] = {}
        before = signal.getsignal(signal.SIGTERM)
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RayError, RuntimeError, ValueError) as error:
            raise OptionError(f"there's no Ray cluster at {address} ({_first_line(error)})") from error
        finally:
            signal.signal(signal.SIGTERM, before)  # Ray has one of its own, which would end us in silence
        has_gpus = any(node.get("GPU") for node in _nodes())
        gpus = int(device.startswith("cuda") or (device == "auto" and has_gpus))
        cores = [int(node.get("CPU", 0)) for node in _nodes() if node.get("GPU", 0) >= gpus]
        self.threads = threads or min([_MOST_THREADS, *(count for count in cores if count)])
        self.device = "cuda" if gpus else "cpu"
        self._needs = {"CPU": self.threads, "GPU": gpus}
        if not self._slots():
            self.close()
            needs = f"{self.threads} CPUs" + " and a GPU" * gpus
            raise OptionError(f"no machine of the Ray cluster at {address} has {needs}; give fewer --threads")
        remote = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=MOST_ATTEMPTS - 1)
        self._carry_out = remote(_carry_out)

    def carry_out(self, orders: Iterator[Order], progress_of: ProgressOf) -> Iterator[tuple[Order, Result]]:
        """As `Crew`; what can't be cut is done here."""
        flying = self._flying
        while True:
            while len(flying) < self._slots() + _WAITING and (order := next(orders, None)) is not None:
                if isinstance(order, Whole):
                    yield order, attempt(order, progress_of(order))
                elif (failed := self._submit(order)) is not None:
                    yield order, failed
            if not flying:
                return
            for reference in ray.wait([*flying], timeout=_SECONDS)[0]:
                order = flying.pop(reference)
                result = self._take(reference, order, progress_of(order))
                if isinstance(result, _Missing):
                    result = self._submit(order, result.names)
                if result is not None:
                    yield order, result

    def close(self) -> None:
        """Lets the cluster go; what was sent is removed."""
        if not ray.is_initialized():
            return
        for reference in self._flying:
            ray.cancel(reference, force=True)
        self._flying.clear()
        asked: list[Any] = []
        for node in ray.nodes() if self._sent else []:
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)
                asked.append(ray.remote(_forget).options(num_cpus=0, scheduling_strategy=there).remote())
        ray.wait(asked, num_returns=len(asked), timeout=_FORGET_SECONDS) if asked else None
        ray.shutdown()

    def _slots(self) -> int:
        """How many parts can be done at a time, by the machines that there are now."""
        wanted = {name: amount for name, amount in self._needs.items() if amount}
        each = (min(node.get(name, 0) // amount for name, amount in wanted.items()) for node in _nodes())
        return int(sum(each))

    def _submit(self, order: Part, missing: Sequence[str] = ()) -> WorkerError | InputError | None:
        """Hands out an order, and what's missing of its files; else says why not."""
        moved = _absolute(order)
        names = _files(moved)
        try:
            for name in names:
                if name not in self._described:
                    self._described[name] = describe_file(name)
            for name in missing:
                self._send(name)
        except InputError as error:
            return error
        except (OSError, RayError) as error:
            return WorkerError(f"{order}: its files can't be sent ({_first_line(error)})")
        described = {name: self._described[name] for name in names}
        sent = {name: self._sent[name] for name in names if name in self._sent}
        reference = self._carry_out.remote(moved.on(self.device), described, sent, versions())
        self._flying[reference] = order
        return None

    def _take(self, reference: Any, order: Part, progress: Progress) -> Result | _Missing:
        try:
            done: _Done = ray.get(reference)
        except RayError as error:
            return WorkerError(
                f"{order} failed on the cluster ({_first_line(getattr(error, 'cause', error))})"
            )
        progress.work(done.work)
        if not isinstance(done.result, Segment):
            return done.result
        part = PartFile(str(order.path), overwrite=True)
        try:
            with open(part.path, "wb") as file:
                file.write(done.data)
                os.fsync(file.fileno())
            part.commit()
        except OutputError as error:
            return error
        except OSError as error:
            part.discard()
            return OutputError(f"{order.path} can't be written ({error.strerror})")
        progress.advance(done.result.pictures)
        return done.result

    def _send(self, name: str) -> None:
        """Puts a file where every machine gets it from."""
        if name not in self._sent:
            with open(name, "rb") as file:
                self._sent[name] = [ray.put(piece) for piece in iter(lambda: file.read(_PIECE), b"")]


def _knock(address: str) -> None:
    """Raises `OSError` where nobody answers: Ray would try for minutes."""
    host, colon, port = address.rpartition("/")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


def _nodes() -> list[dict[str, float]]:
    """What each machine has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _absolute(order: Part) -> Part:
    """The same order, for processes that work in other folders."""
    return _moved(order, {name: os.path.abspath(name) for name in _files(order)}, order.path)


def _files(order: Part) -> list[str]:
    """The files that a part is made of; models that we ship are everywhere."""
    model = str(order.task.options.model)
    names = [order.job.source, order.job.mask, model if model.endswith(".safetensors") else None]
    return [name for name in names if name is not None]


def _carry_out(
    order: Part,
    described: Mapping[str, Mapping[str, Any]],
    sent: Mapping[str, Sequence[Any]],
    asked: Mapping[str, str],
) -> _Done:
    """Carries out an order on a machine of the cluster."""
    os.environ.update({**FOR_TORCH, **os.environ})
    mine = versions()
    for name, wanted in asked.items():
        if mine.get(name) != wanted:
            here = f"{socket.gethostname()} has {name} {mine.get(name)}"
            return _Done(WorkerError(f"{here}, but {wanted} asks; install the same on all machines"))
    places = {name: name for name in described if _is_here(name, described[name])}
    missing = [name for name in described if name not in places and name not in sent]
    if missing:
        return _Done(_Missing(missing))
    for name in set(described) - set(places):
        places[name] = str(_receive(name, described[name]["digest"], sent[name]))
    with tempfile.TemporaryDirectory(prefix="bdinn-") as folder:
        path = Path(folder, order.path.name)
        tally = _Tally()
        result = attempt(_moved(order, places, path), tally)
        data = path.read_bytes() if isinstance(result, Segment) else b""
        return _Done(_named(result, places), data, tally.total)


def _is_here(name: str, described: Mapping[str, Any]) -> bool:
    """Whether a file is under the same path; copies may have other dates."""
    if not Path(name).is_file():
        return False
    here = describe_file(name)
    return (here["bytes"], here["digest"]) == (described["bytes"], described["digest"])


def _folder() -> Path:
    """Where a machine keeps the files that were sent for this command."""
    return Path(tempfile.gettempdir(), f"bdinn-{ray.get_runtime_context().get_job_id()}")


def _receive(name: str, digest: str, pieces: Sequence[Any]) -> Path:
    """The place of a file that was sent: put together by the first on this machine that needs it."""
    folder = _folder() / digest
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / Path(name).name
    lock = FileLock(folder / "lock", wait=True)
    try:
        if not path.exists():
            part = PartFile(str(path), overwrite=True)
            with open(part.path, "wb") as file:
                for piece in pieces:
                    file.write(ray.get(piece))
            part.commit()
    finally:
        lock.release()
    return path


def _forget() -> None:
    """Removes what was sent to this machine."""
    shutil.rmtree(_folder(), ignore_errors=True)


def _first_line(error: object) -> str:
    """The first words of an error, which may be long."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _moved(order: Part, places: Mapping[str, str], path: Path) -> Part:
    """The same order, for a machine that has its files elsewhere."""
    mask, model = order.job.mask, str(order.task.options.model)
    job = replace(order.job, source=places[order.job.source], mask=mask and places[mask])
    options = replace(order.task.options, model=places.get(model, model))
    return Part(task=replace(order.task, job=job, options=options), path=path)


def _named(result: Result, places: Mapping[str, str]) -> Result:
    """The same result, in which files are called as where the job began."""
    if not isinstance(result, Segment):
        return result
    text = [*result.warnings]
    for name, place in places.items():
        text = [line.replace(place, name) for line in text]
        for damage in result.damages:
            damage.name = damage.name.replace(place, name)
    failure = result.failure
    for name, place in places.items():
        failure = failure and failure.replace(place, name)
    return replace(result, warnings=tuple(text), failure=failure)
