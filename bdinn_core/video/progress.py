"""What a job says while it runs."""

__all__ = ["Progress"]


class Progress:
    """Receives news of a job; this one keeps them to itself."""

    def begin(self, total: int | None) -> None:
        """Work begins; `total` pictures are expected, `None` if that's not known."""

    def advance(self, frames: int) -> None:
        """So many more pictures are written."""

    def warn(self, line: str) -> None:
        """Something in the source isn't in the result, or not as it was."""
