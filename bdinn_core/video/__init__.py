"""The PyAV front: a video file in, a debanded video file out, and everything else kept."""

from .job import VideoJob
from .pipeline import run_job
from .progress import Progress

__all__ = ["Progress", "VideoJob", "run_job"]
