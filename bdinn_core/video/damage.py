"""What was found wrong with a source while it was read."""

from collections import Counter
from fractions import Fraction
from typing import Literal

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
    """Counts of what's wrong; false if nothing is."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self.first: Fraction | None = None
        """When the first of it is, in seconds of the file, where that's known."""

    def add(self, kind: Kind, count: int = 1, time: Fraction | None = None) -> None:
        """Counts so many more, at a time."""
        if not self:
            self.first = time
        self.counts[kind] += count

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """In words, for a warning."""
        found = [(count, *_WORDS[kind]) for kind, count in self.counts.items()]
        parts = [f"{count} {thing}{'s' * (count > 1)} {wrong}" for count, thing, wrong in found]
        begins = "" if self.first is None else f"; it begins at {float(self.first):.3f} s"
        return f"{', '.join(parts)}{begins}"
