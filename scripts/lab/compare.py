"""A verdict on every part of a file that should hold what another one holds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from .excuses import EXCUSES

__all__ = ["PARTS", "Cell", "compare", "judge"]

PARTS = [
    "frames", "planes", "begin", "times", "fields", "captions", "tags", "aspect", "location", "rotation",
    "HDR", "side data", "timecode", "sound", "sound at", "texts", "texts at", "chapters", "attached",
    "cover art", "streams", "of streams", "metadata",
]  # fmt: skip
_NOTHING: dict[str, Any] = {"aspect": 1, "location": 1, "HDR": [(0, "")]}
"""What means that a stream hasn't a part, beside what is empty."""


@dataclass(frozen=True)
class Cell:
    """The verdict on a part."""

    kind: Literal["equal", "-", "coded", "impossible", "told", "refused", "DIFFERS"]
    """`-`: the source has nothing of the kind. Coded: by a lossy codec. Impossible: in that container. Told:
    by the job, as it was lost. Refused: the job. DIFFERS: a fault."""
    why: str = ""
    """Of a fault, the first difference; of equal frames and planes, how many they are."""


def compare(
    before: dict[str, Any], after: dict[str, Any], container: str, said: Iterable[str], *, lossless: bool
) -> dict[str, Cell]:
    """The cells of a row, by the name of the part.

    Args:
        before: parts of the source.
        after: parts of the result.
        container: its file name's extension.
        said: the job's lines.
        lossless: whether the planes have to be equal.
    """
    # A container may add something of its own.
    keys = before["metadata"]
    after = {**after, "metadata": {key: after["metadata"].get(key) for key in keys}}
    after["of streams"] = _without_more(before["of streams"], after["of streams"])
    cells = {part: judge(part, before[part], after[part], container, said) for part in PARTS}
    if not lossless:
        cells["planes"] = Cell("coded")
    counts = {
        "frames": sum(before["frames"].values()),
        "planes": sum(len(planes) for pictures in before["planes"].values() for planes in pictures),
    }
    return {
        k: Cell(v.kind, f"{counts[k]}") if v.kind == "equal" and k in counts else v for k, v in cells.items()
    }


def judge(part: str, before: Any, after: Any, container: str, said: Iterable[str]) -> Cell:
    """The verdict on one part."""
    if _same(before, after):
        values = [*before.values()] if isinstance(before, dict) else [before]
        return Cell("equal" if any(value and value != _NOTHING.get(part) for value in values) else "-")
    expected, kind, reasons = before, "impossible", []
    for excuse in EXCUSES:
        for reason in excuse.reasons(container, said) if part in excuse.parts else ():
            became = excuse.becomes(expected, after, reason)
            if not _same(became, expected):
                reasons.append(reason)
                kind = "told" if excuse.said else kind
                expected = became
    if _same(expected, after):
        return Cell(kind, "; ".join(reasons))
    return Cell("DIFFERS", _difference(expected, after)[:200])


def _without_more(before: dict[int, Any], after: dict[int, Any]) -> dict[int, Any]:
    """The metadata of streams `after`, with no other keys than those `before`."""
    if len(before) != len(after):
        return after
    pairs = zip(before.values(), after.items(), strict=True)
    return {index: {key: found[key] for key in keys if key in found} for keys, (index, found) in pairs}


def _same(one: Any, other: Any) -> bool:
    """Whether they are equal; the indices of streams don't count."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [*one.values()] == [*other.values()]
    return one == other


def _difference(one: Any, other: Any) -> str:
    """The first one, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        one, other = [*one.values()], [*other.values()]
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{len(other)} of {len(one)}"
        where = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        return f"number {where}: {_difference(one[where], other[where])}"
    return f"{one!r} is {other!r}"
