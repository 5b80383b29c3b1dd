"""The network's configurations: its shape in numbers."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from ..errors import OptionError

__all__ = ["CONFIGS", "BDINNConfig"]


@dataclass(frozen=True, kw_only=True)
class BDINNConfig:
    """Shape of a BDINN; the tuples have one entry a level, the finest first.

    Raises:
        OptionError: for numbers no network can have; the message names them.
    """

    in_channels: int = 1
    """1: planes one by one. 3: RGB jointly, as in the paper."""
    lifting_widths: tuple[int, ...]
    """Hidden channels of the predict and update subnets."""
    edit_widths: tuple[int, ...]
    """Hidden channels of the latent-edit subnets."""
    edit_depths: tuple[int, ...]
    """Hidden 3x3 layers of the latent-edit subnets, after their first."""
    context_channels: int
    """Channels handed from each level's edit to the next finer one."""
    banded_from_level: int
    """First level, counted from 1, whose hidden layers are banded deformable convolutions."""

    def __post_init__(self) -> None:
        for name in ("lifting_widths", "edit_widths", "edit_depths"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if (
                len(values) != self.levels
                or not values
                or any(not isinstance(v, int) or v < 1 for v in values)
            ):
                raise OptionError(
                    f"{name} must be {self.levels or 'some'} whole numbers >= 1, not {values!r}"
                )
        for name in ("in_channels", "context_channels", "banded_from_level"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise OptionError(f"{name} must be a whole number >= 1, not {value!r}")

    @property
    def levels(self) -> int:
        """Number of scales; bands up to about `2**levels` pixels from an edge are within reach."""
        return len(self.edit_widths)

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
    "fast": BDINNConfig(
        lifting_widths=(8, 12, 16, 16, 16, 16),
        edit_widths=(16, 24, 32, 32, 32, 32),
        edit_depths=(1, 1, 2, 2, 2, 2),
        context_channels=8,
        banded_from_level=2,
    ),
    "quality": BDINNConfig(
        lifting_widths=(24, 32, 48, 48, 48, 48),
        edit_widths=(64, 96, 128, 128, 128, 128),
        edit_depths=(2, 3, 3, 3, 3, 3),
        context_channels=32,
        banded_from_level=2,
    ),
}
"""The two models by name: `fast` takes at most 3 kMAC a pixel of a plane, `quality` at most 100."""
