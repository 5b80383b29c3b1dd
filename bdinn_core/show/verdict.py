"""What a report says in words: whether bands are gone, or brought back by the encoder, and what to do."""

from collections.abc import Iterator
from statistics import mean
from typing import NamedTuple

from ..video.codecs import Encoding
from .samples import clock
from .watch import Watched

__all__ = ["Sentence", "judge"]

CAMBI_SEEN, SHARE_SEEN = 1.0, 0.02
"""Banding that's seen, by either measure; a difference of less isn't worth a word."""
BROUGHT_BACK = 1 / 3
"""Share of what was taken away that an encoder may bring back: gradients without bands lose dither too."""
CRF_STEP = 4
LEAST_DEPTH = 10


class Sentence(NamedTuple):
    """Something to be told."""

    text: str
    warn: bool = False
    """Whether something should be done."""


def judge(watched: Watched) -> Iterator[Sentence]:
    """What there's to say about the bands of a result."""
    series, seen = (watched.banding, SHARE_SEEN) if watched.cambi is None else (watched.cambi, CAMBI_SEEN)
    before, filtered, encoded = (mean(series[name]) for name in ("source", "filtered", "encoded"))

    def shown(value: float) -> str:
        return f"{100 * value:.1f} %" if watched.cambi is None else f"{value:.1f}"

    what = "banding" if watched.cambi is None else "CAMBI"

    if before < seen:
        yield Sentence(f"The source has hardly any banding ({what} {shown(before)}).")
    elif filtered < before:
        yield Sentence(f"Debanding took {what} from {shown(before)} to {shown(filtered)}.")
    else:
        yield Sentence(
            f"Debanding didn't lower {what} ({shown(before)}, then {shown(filtered)}): look at the "
            "picture with contrast raised; a larger --step or --limit takes more.",
            warn=True,
        )
    if encoded - filtered <= max(seen, BROUGHT_BACK * (before - filtered)):
        yield Sentence(f"The encoder keeps the gradients: {what} {shown(encoded)} in the file.")
        return
    rise = [after - free for after, free in zip(series["encoded"], series["filtered"], strict=True)]
    worst = clock(watched.times[rise.index(max(rise))])
    yield Sentence(
        f"The encoder brings bands back: {what} {shown(filtered)} before encoding, {shown(encoded)} in the "
        f"file, most at {worst}. What helps: {'; '.join(_advice(watched.encoding))}.",
        warn=True,
    )


def _advice(encoding: Encoding) -> Iterator[str]:
    """What to change so that gradients survive the encoder."""
    codec, options = encoding.codec, encoding.options
    if encoding.pixel.depth < LEAST_DEPTH:
        yield f"{LEAST_DEPTH} bits, which {codec} has not here: --codec libx265 or libsvtav1"
    crf = options.get("crf")
    if crf is not None and float(crf) > CRF_STEP:
        yield f"a lower --crf, as {float(crf) - CRF_STEP:g} instead of {float(crf):g}"
    if codec in ("libx264", "libx265") and "aq-mode=3" not in _flat(options):
        yield "-e aq-mode=3, which gives dark and flat areas more bits"
    if codec == "libsvtav1" and "enable-variance-boost=1" not in _flat(options):
        yield "-e enable-variance-boost=1, which gives flat areas more bits"
    yield "--grain 0.5, which hides what's left and costs bits"


def _flat(options: dict[str, str]) -> str:
    """All options in one line, those that encoders have inside of one too."""
    return ":".join(f"{key}={value}" for key, value in options.items())
