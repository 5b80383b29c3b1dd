"""The folder OUT.bdinn, in which a job keeps what it has done, so that it can go on after any stop."""

import json
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, OptionError, OutputError
from ..video.part_files import PartFile, sync
from .chunks import Chunk
from .lock import FileLock, holder_of
from .segments import Segment, file_digest

__all__ = ["FOLDER_SUFFIX", "Plan", "Status", "WorkFolder", "has_status", "is_joined", "read_status"]

FOLDER_SUFFIX = ".bdinn"
_SHORT_SECONDS = 0.1
_OURS = re.compile(
    r"(manifest|joined)\.json|segments\.jsonl|lock|\d{5,}\.(nut|mov)|\.[0-9a-f]{8}\.part(\.\w+)?"
)
"""Names of files that we make there."""


class Plan(NamedTuple):
    """How a job is going to be done."""

    chunks: Sequence[Chunk]
    threads: int
    """Of each encoder, which may put their number into the header; 0 is automatic."""


class WorkFolder:
    """Holds the folder of a job, alone.

    Args:
        output: the job's.

    Raises:
        OptionError: if another process is at work on it, or it's somebody else's.
        OutputError: if the system won't have it.
    """

    def __init__(self, output: str) -> None:
        self.path = folder_of(output)
        try:
            self.path.mkdir(exist_ok=True)
            foreign = [file.name for file in self.path.iterdir() if not _OURS.fullmatch(file.name)]
            if foreign and not has_status(output):
                raise OptionError(f"{self.path} is for the work on {output}, but holds {foreign[0]}; move it")
            self._lock = self._take_lock()
        except BlockingIOError as error:
            raise OptionError(f"{output} is being made by another process; --status shows how far") from error
        except OSError as error:
            raise OutputError(f"{self.path} can't be written ({error.strerror})") from error
        self._journal = self.path / "segments.jsonl"
        self._removed = False

    def _take_lock(self) -> FileLock:
        try:
            return FileLock(self.path / "lock")
        except BlockingIOError:
            time.sleep(_SHORT_SECONDS)  # somebody may only have asked how far the job is
            return FileLock(self.path / "lock")

    def resume(self, what: Mapping[str, Any], restart: bool) -> tuple[Plan, list[Segment]] | None:
        """What an earlier run of the same job has planned and done; `None` if there's none.

        Args:
            what: all that the result depends on.
            restart: whether it's discarded.

        Raises:
            OptionError: if it was another job.
        """
        manifest = None if restart else _read_manifest(self.path)
        if manifest is None:
            try:
                self._clear()
            except OSError as error:
                raise OutputError(f"{self.path} can't be cleared ({error.strerror})") from error
            return None
        before = manifest["what"]
        for key in dict.fromkeys([*what, *before]):
            if before.get(key) != what.get(key):
                raise OptionError(
                    f"{self.path} holds parts of another result: {key} was {_shown(before.get(key))}, now is "
                    f"{_shown(what.get(key))}; go on as it was begun, or discard it by --restart"
                )
        segments = [segment for segment in _read_journal(self._journal) if self._is_whole(segment)]
        self._clear({segment.file for segment in segments} | {"manifest.json", "segments.jsonl"})
        self._write(self._journal, "".join(_line(segment) for segment in segments))
        return _plan(manifest), segments

    def begin(self, what: Mapping[str, Any], plan: Plan) -> None:
        """Writes down what is going to be done."""
        chunks = [chunk.to_dict() for chunk in plan.chunks]
        manifest = {"what": what, "threads": plan.threads, "chunks": chunks}
        self._write(self.path / "manifest.json", json.dumps(manifest, indent=1) + "\n")

    def add(self, segment: Segment) -> None:
        """Takes note that a segment is done, once its file is complete.

        Raises:
            OutputError: if the disk is full.
        """
        try:
            with open(self._journal, "a", encoding="utf-8") as file:
                file.write(_line(segment))
                file.flush()
                os.fsync(file.fileno())
            sync(self.path)
        except OSError as error:
            raise OutputError(f"{self._journal} can't be written ({error.strerror})") from error

    def close(self) -> None:
        """Lets go of the folder; it's kept if there's anything in it to go on with."""
        if not self._removed and not (self.path / "manifest.json").exists():
            self.remove()
        self._lock.release()

    def segments(self) -> list[Segment]:
        """What's done."""
        return _read_journal(self._journal)

    def mark_joined(self, part: Path) -> None:
        """Takes note which file is the result, before it gets its name."""
        self._write(self.path / "joined.json", json.dumps(_identity(part)))

    def remove(self) -> None:
        """Removes the folder: the job is done, or nothing was begun."""
        self._removed = True
        with suppress(OSError):  # what is left harms nobody, and the result is there
            self._clear({"manifest.json"})
            (self.path / "manifest.json").unlink(missing_ok=True)  # till then it's a job
            (self.path / "joined.json").unlink(missing_ok=True)
            if os.name == "nt":  # where no open file can be removed
                self._lock.release()
            (self.path / "lock").unlink(missing_ok=True)
            self.path.rmdir()

    def _clear(self, but: Collection[str] = ()) -> None:
        """Removes our files, but for the lock and some others."""
        for file in self.path.iterdir():
            if _OURS.fullmatch(file.name) and file.name not in {*but, "lock"}:
                file.unlink()

    def _is_whole(self, segment: Segment) -> bool:
        path = self.path / segment.file
        return path.is_file() and file_digest(path) == segment.digest

    def _write(self, path: Path, text: str) -> None:
        """Writes a file whole or not at all."""
        part = PartFile(str(path), overwrite=True)
        try:
            part.path.write_text(text, encoding="utf-8")
            sync(part.path)
            part.commit()
            sync(self.path)
        except OSError as error:
            part.discard()
            raise OutputError(f"{path} can't be written ({error.strerror})") from error


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a job is that has a folder."""

    folder: Path
    holder: int | None
    """The process at work on it; `None`: it has stopped."""
    chunks: int
    done: int
    """Chunks that are."""
    pictures: int
    pictures_done: int
    seconds: float
    """What the chunks that are done took, one after the other."""

    def __str__(self) -> str:
        """In a line."""
        state = "stopped" if self.holder is None else f"running (process {self.holder})"
        share = f"{self.pictures_done} of {self.pictures} pictures"
        speed = f", {self.pictures_done / self.seconds:.2f} fps a worker" if self.seconds else ""
        return f"{self.folder}: {state}, {self.done} of {self.chunks} chunks, {share}{speed}"


def is_joined(output: str) -> bool:
    """Whether a job was stopped when its result was in place."""
    path = folder_of(output) / "joined.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) == _identity(Path(output))
    except (OSError, ValueError):
        return False


def _identity(path: Path) -> list[int]:
    """What tells a file from others, whatever its name."""
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def folder_of(output: str) -> Path:
    """Where a job keeps what it has done."""
    return Path(f"{output}{FOLDER_SUFFIX}")


def has_status(output: str) -> bool:
    """Whether there's a job that makes `output`, running or stopped."""
    return (folder_of(output) / "manifest.json").exists()


def read_status(output: str) -> Status:
    """How far the job is that makes `output`.

    Raises:
        InputError: if there's none.
    """
    path = folder_of(output)
    manifest = _read_manifest(path) if path.is_dir() else None
    if manifest is None:
        raise InputError(f"no job for {output} is running or stopped: there's no {path / 'manifest.json'}")
    chunks, segments = _plan(manifest).chunks, _read_journal(path / "segments.jsonl")
    return Status(
        folder=path,
        holder=holder_of(path / "lock"),
        chunks=len(chunks),
        done=len(segments),
        pictures=sum(chunk.pictures for chunk in chunks),
        pictures_done=sum(segment.pictures for segment in segments),
        seconds=sum(segment.seconds for segment in segments),
    )


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """What was going to be done; `None` where nothing has begun."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        _plan(manifest)
        manifest["what"].items()
        return manifest
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} isn't one of this version's ({error}); --restart makes it anew") from error


def _plan(manifest: Mapping[str, Any]) -> Plan:
    return Plan([Chunk.from_dict(chunk) for chunk in manifest["chunks"]], manifest["threads"])


def _line(segment: Segment) -> str:
    return json.dumps(segment.to_dict()) + "\n"


def _read_journal(path: Path) -> list[Segment]:
    """The segments that are done, by number; a line that a stop has cut off counts for nothing."""
    segments: dict[int, Segment] = {}
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                segment = Segment.from_dict(json.loads(line))
                segments[segment.number] = segment
    return [segments[number] for number in sorted(segments)]


def _shown(value: object) -> str:
    """A value in words."""
    if isinstance(value, dict) and "changed" in value:
        changed = datetime.fromtimestamp(value["changed"] / 1e9).isoformat(" ", "milliseconds")
        return f"{value['bytes']} bytes, changed at {changed}, with the digest {value['digest'][:8]}..."
    if isinstance(value, str) and re.fullmatch(r"\d+/\d+", value):
        return f"{float(Fraction(value)):g}"
    return "left out" if value is None else f"{value}"
