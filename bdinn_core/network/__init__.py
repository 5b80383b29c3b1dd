"""The network: a learned lifting pyramid with banded deformable convolutions in its latent edits."""

from .bdinn import BDINN, Latents
from .config import CONFIGS, BDINNConfig
from .fastest import fastest, has_half_precision
from .pyramid import Coarse, Pyramid

__all__ = ["BDINN", "CONFIGS", "BDINNConfig", "Coarse", "Latents", "Pyramid", "fastest", "has_half_precision"]
