"""What was found wrong with a source while it was read."""

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Damage"]


@dataclass
class Damage:
    """Counts of what's wrong; false if nothing is."""

    lost: int = 0
    """Pictures that couldn't be decoded."""
    faulty: int = 0
    """Pictures that were decoded with faults, as far as the decoder knows."""
    misplaced: int = 0
    """Pictures that came with a time before the last one's."""
    unreadable: int = 0
    """Places where the file couldn't be read on from."""
    missing: int = 0
    """Pictures fewer than the file says."""
    first: Fraction | None = None
    """When the first of it is, in seconds of the file; `None` if that's the beginning or the end."""

    def note(self, what: str, time: Fraction | None) -> None:
        """Counts one more of `what`, a field's name, at a time."""
        if not self:
            self.first = time
        setattr(self, what, getattr(self, what) + 1)

    def __bool__(self) -> bool:
        return any((self.lost, self.faulty, self.misplaced, self.unreadable, self.missing))

    def __str__(self) -> str:
        """In words, for a warning."""
        found = {
            "couldn't be decoded": self.lost,
            "were decoded with faults": self.faulty,
            "came with times that go back": self.misplaced,
            "are missing at the end": self.missing,
        }
        parts = [f"{count} pictures {what}" for what, count in found.items() if count]
        if self.unreadable:
            parts.append(f"at {self.unreadable} places it couldn't be read on")
        begins = "" if self.first is None else f"; it begins at {float(self.first):.3f} s"
        return f"{', '.join(parts)}{begins}"
