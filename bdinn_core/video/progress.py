"""What a job says while it runs."""

__all__ = ["Progress"]


class Progress:
    """Receives news of a job; this one keeps them to itself."""

    def begin(self, total: int | None, done: int = 0) -> None:
        """Work begins; `total` pictures are expected, `None` if that's not known, of which some are done."""

    def advance(self, frames: int) -> None:
        """So many more pictures are written."""

    def note(self, line: str) -> None:
        """How the job is done, where that's not as usual."""

    def warn(self, line: str) -> None:
        """Something in the source isn't in the result, or not as it was."""
