"""Many files: which, in what order, and what became of them."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import av

from ..errors import InputError, OptionError
from ..video.opening import STDIO, open_input
from .folder import FOLDER_SUFFIX

__all__ = ["find_files", "is_batch", "longest_first", "make_folders", "pair_outputs"]

_LIST = ".txt"
"""The extension of a list of files, one a line."""
_VIDEOS = {
    ".264", ".265", ".3gp", ".avi", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogv", ".ts", ".vob", ".webm", ".wmv",
    ".y4m",
}  # fmt: skip
"""What is taken for a video in a folder, where there are many other files."""


def is_batch(source: str) -> bool:
    """Whether `source` stands for many files: a folder, or a list."""
    return Path(source).is_dir() or (source.lower().endswith(_LIST) and Path(source).is_file())


def find_files(source: str, folder: str) -> list[tuple[Path, Path]]:
    """The videos of a batch: each with its place among them, which its result has too.

    Args:
        source: a folder, searched with all it holds, or a list of files, one a line; # begins a comment.
        folder: where results go, in which nothing is searched.

    Raises:
        InputError: if there's none, or it can't be read.
    """
    path = Path(source)
    if folder == STDIO:
        raise OptionError("standard output (-) can't take the results of many files; name a folder")
    try:
        if path.is_dir():
            if _same(path, Path(folder)):
                raise OptionError(f"results can't go where the sources are ({folder}); name another folder")
            found = sorted(file for file in path.rglob("*") if _is_video(file, path, Path(folder)))
            pairs = [(file, file.relative_to(path)) for file in found]
        else:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            named = [line.strip().strip('"') for line in lines if not line.startswith("#")]
            files = [Path(name) for name in dict.fromkeys(named) if name]
            pairs = [(path.parent / file, Path(file.name)) for file in files]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{source} can't be read ({error})") from error
    if not pairs:
        raise InputError(f"{source} has no video in it")
    return pairs


def pair_outputs(files: Sequence[tuple[Path, Path]], folder: str, extension: str) -> dict[str, str]:
    """The result of each file.

    Args:
        files: as `find_files` returns them.
        folder: where results go.
        extension: of the results, with its dot.

    Raises:
        OptionError: if two would have the same name.
    """
    outputs: dict[str, str] = {}
    sources: dict[Path, Path] = {}
    for file, place in files:
        output = Path(folder) / place.with_suffix(extension)
        if output in sources:
            raise OptionError(f"{sources[output]} and {file} would both become {output}; rename one of them")
        sources[output] = file
        outputs[str(file)] = str(output)
    return outputs


def make_folders(outputs: Iterable[str]) -> None:
    """Makes the folders that results go into.

    Raises:
        OptionError: if one can't be made.
    """
    try:
        for folder in {Path(output).parent for output in outputs}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"output folder {error.filename} can't be made ({error.strerror})") from error


def longest_first(names: Sequence[str]) -> list[str]:
    """Files by what they take, about: so that none that takes long is left for the end."""
    return sorted(names, key=_weight, reverse=True)


def _weight(name: str) -> float:
    """Pixels there are to do, about; of what can't be read, none."""
    try:
        with closing(open_input(name).container) as container:
            seconds = (container.duration or 0) / av.time_base
            return seconds * max((v.width * v.height for v in container.streams.video), default=0)
    except InputError:
        return 0


def _is_video(file: Path, searched: Path, results: Path) -> bool:
    """Whether a file is a video, and no result or part of one."""
    if file.suffix.lower() not in _VIDEOS or file.name.startswith(".") or not file.is_file():
        return False
    folders = [searched / folder for folder in file.relative_to(searched).parents][:-1]
    return not any(folder.suffix == FOLDER_SUFFIX or _same(folder, results) for folder in folders)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)
