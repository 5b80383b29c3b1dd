"""What a report says in words: whether bands are gone, or brought back by the encoder, and what to do."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from av.codec import Codec

from ..options import DebandOptions
from ..video.codecs import Encoding
from .samples import LEAST_DEPTH, clock
from .watch import Watched

__all__ = ["Sentence", "judge"]

CAMBI_SEEN, SHARE_SEEN = 2.0, 0.03
"""Banding that's seen, by either measure; a difference of less isn't worth a word."""
FELL = 0.8
"""What at most is left of banding where debanding did something."""
BROUGHT_BACK = 1 / 3
"""Share of what was taken away that an encoder may bring back: gradients without bands lose dither too."""
RARE = 0.03
"""Share of pictures in which it may bring back more."""
CRF_STEP = 4


class Sentence(NamedTuple):
    """Something to be told."""

    text: str
    warn: bool = False
    """Whether something should be done."""


class _Measure(NamedTuple):
    """Banding of the pictures in each version, by one measure."""

    words: str
    source: Sequence[float]
    filtered: Sequence[float]
    encoded: Sequence[float]
    seen: float
    unit: str = ""

    def show(self, value: float) -> str:
        return f"{value:.1f}{self.unit}"

    @property
    def is_seen(self) -> bool:
        """Whether some of the source's pictures have banding."""
        return bool(np.percentile(self.source, 95) >= self.seen)

    def brought_back(self) -> list[float]:
        """By how much more than it may, the encoder raises each picture's banding."""
        return [
            after - free - max(self.seen, BROUGHT_BACK * (before - free))
            for before, free, after in zip(self.source, self.filtered, self.encoded, strict=True)
        ]


def judge(watched: Watched, options: DebandOptions, output: str) -> Iterator[Sentence]:
    """What there's to say about the bands of a result.

    Args:
        watched: what was seen.
        options: how it was debanded.
        output: the result's name.
    """
    shares = {version: [100 * share for share in found] for version, found in watched.banding.items()}
    measures = [_Measure(words="pixels at edges of bands", **shares, seen=100 * SHARE_SEEN, unit=" %")]
    if watched.cambi is not None:
        measures.insert(0, _Measure(words="CAMBI", **watched.cambi, seen=CAMBI_SEEN))
    seen = [measure for measure in measures if measure.is_seen]
    if not seen:
        found = ", ".join(f"{measure.words} {measure.show(mean(measure.source))}" for measure in measures)
        yield Sentence(f"The source has hardly any banding: {found}.")
    else:
        yield _tell_debanding(seen, watched.encoding, options, output)
    yield _tell_encoding(measures, watched, options, output)


def _tell_debanding(
    seen: Sequence[_Measure], encoding: Encoding, options: DebandOptions, output: str
) -> Sentence:
    means = [(m, mean(m.source), mean(m.filtered)) for m in seen]
    found = " and ".join(f"{m.words} from {m.show(before)} to {m.show(after)}" for m, before, after in means)
    if all(after <= FELL * before for _, before, after in means):
        return Sentence(f"Debanding took {found}.")
    if encoding.pixel.depth < LEAST_DEPTH and options.dither == "none":
        bits = f"{encoding.pixel.depth} bits without dither keep them"
        cause = f"{bits}: {_more_bits(encoding, output)}, or dither"
    else:
        cause = "look at the picture with contrast raised; a larger --step or --limit takes more"
    return Sentence(f"Debanding left bands ({found}): {cause}.", warn=True)


def _tell_encoding(
    measures: Sequence[_Measure], watched: Watched, options: DebandOptions, output: str
) -> Sentence:
    worst = max(measures, key=lambda measure: sum(rise > 0 for rise in measure.brought_back()))
    rises = worst.brought_back()
    bad = sum(rise > 0 for rise in rises)
    if bad <= RARE * len(rises):
        found = ", ".join(f"{m.words} {m.show(mean(m.encoded))}" for m in measures)
        return Sentence(f"The encoder keeps the gradients; in the file: {found}.")
    at = rises.index(max(rises))
    values = f"{worst.show(worst.filtered[at])} before encoding, {worst.show(worst.encoded[at])} in the file"
    where = f"in {bad} of {len(rises)} pictures, most at {clock(watched.times[at])}"
    advice = "; ".join(_advice(watched.encoding, options, output))
    return Sentence(
        f"The encoder brings bands back {where} ({worst.words} {values}). What helps: {advice}.", warn=True
    )


def _advice(encoding: Encoding, options: DebandOptions, output: str) -> Iterator[str]:
    """What to change so that gradients survive the encoder."""
    codec, given = encoding.codec, encoding.options
    crf = given.get("crf")
    flat = ":".join(f"{key}={value}" for key, value in given.items())
    if encoding.pixel.depth < LEAST_DEPTH:
        yield _more_bits(encoding, output)
    if crf is not None and float(crf) > CRF_STEP:
        yield f"a lower --crf, as {float(crf) - CRF_STEP:g} instead of {float(crf):g}"
    if codec in ("libx264", "libx265") and "aq-mode=3" not in flat:
        yield "-e aq-mode=3, which gives dark and flat areas more bits"
    if codec == "libsvtav1" and "enable-variance-boost=1" not in flat:
        yield "-e enable-variance-boost=1, which gives flat areas more bits"
    if not np.any(options.grain):
        yield "--grain 0.5, which hides what's left and costs bits"


def _more_bits(encoding: Encoding, output: str) -> str:
    """How to get `LEAST_DEPTH` bits."""
    formats = Codec(encoding.codec, "w").video_formats or ()
    if any(part.bits >= LEAST_DEPTH for pixels in formats for part in pixels.components):
        return f"{LEAST_DEPTH} bits, by leaving out --pix-fmt and --output-depth"
    others = "libsvtav1" if Path(output).suffix.lower() == ".webm" else "libx265 or libsvtav1"
    return f"{LEAST_DEPTH} bits, which {encoding.codec} hasn't here: --codec {others}"
