"""Long jobs: cut into chunks, done by one process or many, gone on with after a stop."""

from .folder import has_status, read_status
from .options import FarmOptions
from .run import Outcome, run_all, run_one

__all__ = ["FarmOptions", "Outcome", "has_status", "read_status", "run_all", "run_one"]
