"""Long jobs: cut into chunks, done by one process or many, gone on with after a stop."""

from .folder import read_status
from .options import FarmOptions
from .run import run_one

__all__ = ["FarmOptions", "read_status", "run_one"]
