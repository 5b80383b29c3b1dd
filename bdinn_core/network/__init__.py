"""The network: a learned lifting pyramid with banded deformable convolutions in its latent edits."""

from .bdinn import BDINN, Coarse, Latents
from .config import CONFIGS, BDINNConfig

__all__ = ["BDINN", "CONFIGS", "BDINNConfig", "Coarse", "Latents"]
