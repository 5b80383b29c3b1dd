"""The network's configurations: its shape in numbers."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

from ..errors import OptionError

__all__ = ["CONFIGS", "BDINNConfig"]


@dataclass(frozen=True, kw_only=True)
class BDINNConfig:
    """Shape of a BDINN; the tuples have one entry a level, two or more, the finest first.

    Raises:
        OptionError: for numbers no network can have; the message names them.
    """

    in_channels: int = 1
    """1: planes one by one. 3: RGB jointly, as in the paper."""
    widths: tuple[int, ...]
    """Hidden channels of the latent edits."""
    depths: tuple[int, ...]
    """Hidden 3x3 layers of the latent edits, after their first; may be 0."""
    banded_from_level: int
    """First level, counted from 1, whose hidden layers are banded deformable convolutions."""

    def __post_init__(self) -> None:
        for name, least in (("widths", 1), ("depths", 0)):
            given = getattr(self, name)
            values = tuple(given) if isinstance(given, Iterable) else (given,)
            object.__setattr__(self, name, values)
            if (
                len(values) != self.levels
                or len(values) < 2
                or any(not isinstance(v, int) or v < least for v in values)
            ):
                raise OptionError(
                    f"{name} must be {max(self.levels, 2)} whole numbers >= {least}, not {values!r}"
                )
        for name in ("in_channels", "banded_from_level"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise OptionError(f"{name} must be a whole number >= 1, not {value!r}")

    @property
    def levels(self) -> int:
        """Number of scales; the coarsest sees the picture in blocks of `2**levels` pixels a side."""
        return len(self.widths)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The configuration that `to_dict` gave.

        Raises:
            OptionError: an entry is missing, unknown or out of range.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise OptionError(f"not a BDINN configuration: {error}") from error


CONFIGS = {
    "fast": BDINNConfig(widths=(8, 24, 32, 48, 48, 48), depths=(0, 1, 2, 2, 2, 2), banded_from_level=3),
    "quality": BDINNConfig(widths=(16, 48, 64, 96, 96, 96), depths=(0, 2, 2, 3, 3, 3), banded_from_level=3),
}
"""The two models by name: `fast` takes at most 3 kMAC a pixel of a plane, `quality` at most 100."""
