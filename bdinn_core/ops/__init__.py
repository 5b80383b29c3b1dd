"""Operators with a plain-PyTorch ground truth beside every fast version."""

from .banded_deform_conv import banded_deform_conv2d
from .layers import BandedDeformConv2d

__all__ = ["BandedDeformConv2d", "banded_deform_conv2d"]
