"""What was found wrong with a source while it was read."""

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from ..errors import InputError

__all__ = ["Damage", "Kind"]

Kind = Literal["lost", "faulty", "misplaced", "unsound", "unreadable", "missing"]
_WORDS: dict[Kind, tuple[str, str]] = {
    "lost": ("picture", "couldn't be decoded"),
    "faulty": ("picture", "decoded with faults"),
    "misplaced": ("picture", "out of order"),
    "unsound": ("packet", "of other streams out of order"),
    "unreadable": ("place", "that couldn't be read"),
    "missing": ("picture", "missing at the end"),
}
"""What is counted, and what is wrong with it."""


class Damage:
    """Counts of what's wrong with a source; false if nothing is.

    Args:
        name: the source's, for messages.
    """

    def __init__(self, name: str) -> None:
        self.strict = False
        """Whether any more of it is an error."""
        self.counts: Counter[Kind] = Counter()
        self.name = name
        self._first: Fraction | None = None

    def add(self, kind: Kind, why: str, *, count: int = 1, time: Fraction | None = None) -> None:
        """Counts so many more, if any, found after a time in seconds of the file.

        Raises:
            InputError: if `strict`.
        """
        if count <= 0:
            return
        if self.strict:
            where = "" if time is None else f" after {float(time):.3f} s"
            raise InputError(f"{self.name} is damaged{where} ({why})")
        if not self:
            self._first = time
        self.counts[kind] += count

    def forget(self) -> None:
        """Starts anew: what was read isn't wanted."""
        self.counts.clear()

    def merge(self, other: "Damage") -> None:
        """Counts what was found in a later part of the same source."""
        moments = [damage._first for damage in (self, other) if damage and damage._first is not None]
        self._first = min(moments, default=None)
        self.counts += other.counts

    def keep(self, *kinds: Kind) -> None:
        """Forgets what's of other kinds."""
        self.counts = Counter({kind: count for kind, count in self.counts.items() if kind in kinds})
        if not self:
            self._first = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        first = None if self._first is None else str(self._first)
        return {"name": self.name, "counts": dict(self.counts), "first": first}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Damage":
        """What `to_dict` made."""
        damage = cls(values["name"])
        damage.counts.update(values["counts"])
        damage._first = None if values["first"] is None else Fraction(values["first"])
        return damage

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """In words, for a warning."""
        found = [(count, *_WORDS[kind]) for kind, count in self.counts.items()]
        parts = [f"{count} {thing}{'s' * (count > 1)} {wrong}" for count, thing, wrong in found]
        begins = "" if self._first is None else f"; it begins at {float(self._first):.3f} s"
        return f"{self.name} is damaged: {', '.join(parts)}{begins}"
