"""What encoders take, in one table, and how the picture of a job is going to be encoded.

FFmpeg knows an encoder's pixel formats and options; the table adds what it doesn't say, or says
wrongly, as tried with the libraries inside PyAV 19. Nothing is resampled, padded or stripped to fit:
what an encoder can't hold is refused, with the names of encoders that can.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from av.codec import Codec, CodecContext
from av.codec.codec import UnknownCodecError
from av.codec.context import OptionFlags
from av.packet import Packet
from av.video.format import VideoFormat

from ..errors import FormatError, OptionError, OutputError
from .formats import PixelFormat
from .hdr import HDR, svtav1_params, x264_params, x265_params
from .probe import VideoInfo

__all__ = [
    "IMAGE_CODECS", "Encoding", "choose_codec", "choose_pixel", "keeps_aspect", "keeps_captions",
    "keeps_colours", "keeps_location", "keeps_profile", "order_few", "plan_encoding", "why_not_joined",
]  # fmt: skip

IMAGE_CODECS = {".png": "png", ".tif": "tiff", ".tiff": "tiff"}
"""Encoders of pictures in files of their own, by the files' extensions."""
_DEFAULT_CODECS = {**IMAGE_CODECS, ".avif": "libsvtav1", ".webm": "libvpx-vp9"}
"""Where libx265 won't do."""
DEFAULT_CRF = 16
DEFAULT_DEPTH = 10
"""Bits a result gets at least, where the encoder has them: room for what debanding restores."""


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What FFmpeg doesn't tell of an encoder."""

    params: str | None = None
    """The option that takes the library's own `key=value:key=value`."""
    threads: Callable[[int], str] | None = None
    """What says there how many threads it may have; `None`: FFmpeg's own option."""
    fixed_params: str = ""
    """What goes in there always."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Options set always."""
    preset: str | None = None
    """Preset where the user names none."""
    min_crf: float = 0
    max_crf: float = 63
    whole_crf: bool = False
    """Cuts off a crf's decimals."""
    even_chroma: bool = False
    """Refuses a width or height that subsampling doesn't divide."""
    min_side: int = 1
    min_side_deep: int = 1
    """The same above 8 bits."""
    alpha: bool = True
    """False: lists formats with alpha, but fails on them."""
    experimental: frozenset[str] = frozenset()
    """Formats that it lists, but refuses without being asked twice."""
    keeps_aspect: bool = True
    """Whether the stream itself says the sample aspect ratio, where the container doesn't."""
    hdr: Callable[[HDR], str] | None = None
    """What says there how high the dynamic range is; `None`: nothing does."""
    interlaced: Mapping[str, str] | None = None
    """Options by which it encodes interlaced pictures, and says so; `None`: it can't."""
    profiles: bool = False
    """Whether the stream holds ICC profiles."""
    captions: bool = False
    """Whether the stream holds closed captions (A53)."""
    joins: bool = False
    """Whether videos it makes with the same options can be joined packet by packet."""
    joint: str = ""
    """What goes into `params` to that end."""
    locations: range | tuple[int, ...] = ()
    """Chroma locations, as FFmpeg numbers them, that the stream itself can say."""


def _parallelism(threads: int) -> str:
    """SVT-AV1 has six levels of it, by the number of cores."""
    return f"lp={1 + bisect_left((1, 3, 5, 11, 23), threads)}"


_RULES = {
    # x265 below 64 px wide corrupts its heap above 8 bits; its log goes straight to stderr.
    "libx265": _Rules(
        joins=True,
        joint="open-gop=0",
        params="x265-params",
        threads=lambda count: f"pools={count}",
        fixed_params="log-level=error",
        fixed={"a53cc": "1"},
        captions=True,
        preset="medium",
        max_crf=51,
        even_chroma=True,
        min_side=16,
        min_side_deep=64,
        alpha=False,
        hdr=x265_params,
        locations=range(1, 7),
    ),
    "libx264": _Rules(
        joins=True,
        params="x264-params",
        preset="medium",
        max_crf=51,
        even_chroma=True,
        hdr=x264_params,
        interlaced={"flags": "+ildct+ilme"},
        captions=True,
        locations=range(1, 7),
    ),
    # To SVT-AV1's wrapper a crf of 0 means that none is given.
    "libsvtav1": _Rules(
        joins=True,
        params="svtav1-params",
        threads=_parallelism,
        preset="6",
        min_crf=1,
        whole_crf=True,
        min_side=2,
        min_side_deep=2,
        keeps_aspect=False,
        hdr=svtav1_params,
        locations=(1, 3),
    ),
    # Without a bitrate of 0 libvpx takes crf as a mere limit.
    "libvpx-vp9": _Rules(
        joins=True, fixed={"b": "0"}, whole_crf=True, keeps_aspect=False, experimental=frozenset({"gbrap"})
    ),
    "prores_ks": _Rules(joins=True, even_chroma=True, keeps_aspect=False, interlaced={"flags": "+ildct"}),
    # It says the ratio in every frame, but FFmpeg's readers of Matroska don't find it there.
    "ffv1": _Rules(joins=True, keeps_aspect=False, interlaced={}),
    # Without prediction, gradients take thrice the space. It mixes up the numbers of a mastering display.
    "png": _Rules(fixed={"pred": "mixed"}, keeps_aspect=False, profiles=True),
}
_OTHERS = _Rules(keeps_aspect=False)
_COLOURS = {
    **dict.fromkeys(("av1", "h264", "hevc", "png"), frozenset({"range", "matrix", "primaries", "transfer"})),
    "mjpeg": frozenset({"range"}),
    "mpeg2video": frozenset({"matrix", "primaries", "transfer"}),
    "vp9": frozenset({"range", "matrix"}),
}
"""Tags of colour that a stream says itself, by FFmpeg's name of its format; others say none."""
_FOR_THE_WHOLE = {
    "2pass", "abr", "b", "bitrate", "maxrate", "pass", "passes", "rc", "stats", "tbr", "vbv-maxrate",
}  # fmt: skip
"""Options by which what's spent on one picture depends on those long before."""
_CLOSED = {"bluray-compat": "0", "intra-refresh": "0", "irefresh-type": "2", "open-gop": "0", "open_gop": "0"}
"""Options that let pictures refer to those before a key picture, and the value at which they don't."""
_RATE_CONTROL = {"b", "bitrate", "crf", "lossless", "qp", "rc", "tbr"}
"""Options, of FFmpeg or a library, that decide how good the picture is: no default beside them."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a picture is encoded."""

    codec: str
    """FFmpeg's name of the encoder."""
    pixel: PixelFormat
    """The planes handed to it."""
    pix_fmt: str
    """The format it takes them in: `pixel`'s own, or a packed one with the same values."""
    options: dict[str, str]
    """FFmpeg options of the encoder."""
    drops_hdr: bool = False
    """Whether nothing is said of high dynamic range but the colour tags."""


def choose_codec(codec: str, output: str) -> str:
    """The encoder asked for, or for `auto` the one that suits the output's extension.

    Raises:
        OptionError: if it's asked to make something else of a picture.
    """
    extension = Path(output).suffix.lower()
    image = IMAGE_CODECS.get(extension)
    if codec == "auto":
        return _DEFAULT_CODECS.get(extension, "libx265")
    if image not in (None, codec):
        raise OptionError(f"codec {codec} contradicts {output}, which is {image}; leave codec out")
    return codec


def _find_encoder(name: str) -> str:
    """FFmpeg's name of the video encoder `name`, which may be that of a format (`av1`).

    Raises:
        OptionError: if there's none.
    """
    try:
        codec = Codec(name, "w")
    except UnknownCodecError:
        codec = None
    if codec is None or codec.type != "video":
        raise OptionError(f"codec must be a video encoder such as {', '.join(_RULES)}; not {name!r}")
    return codec.name


def _rules(codec: str) -> _Rules:
    return _RULES.get(codec, _OTHERS)


def _able(rule: str) -> str:
    """The codecs in the table that have such a rule, in words."""
    return "codecs that can: " + ", ".join(name for name in _RULES if getattr(_rules(name), rule) is not None)


def keeps_aspect(codec: str) -> bool:
    """Whether the stream that `codec` makes says how wide a pixel is, without the container's help."""
    return _rules(codec).keeps_aspect


def keeps_captions(codec: str) -> bool:
    """Whether the stream that `codec` makes holds the closed captions of its pictures."""
    return _rules(codec).captions


def keeps_colours(codec: str) -> frozenset[str]:
    """The tags of colour that the stream `codec` makes says, without the container's help."""
    return _COLOURS.get(Codec(codec, "w").canonical_name, frozenset())


def keeps_profile(codec: str) -> bool:
    """Whether the stream that `codec` makes holds the ICC profiles of its pictures."""
    return _rules(codec).profiles


def keeps_location(codec: str, location: int) -> bool:
    """Whether the stream that `codec` makes says where chroma samples lie, without the container's help."""
    return location in _rules(codec).locations


def order_few(packets: Sequence[Packet], pictures: int) -> None:
    """Sets the decoding times of a video of one picture or two, which can't be stored in another order.

    x265 takes them from memory that it only writes at the third picture.

    Args:
        packets: All that the encoder gave.
        pictures: How many it was given.
    """
    if pictures <= 2:
        for packet in packets:
            packet.dts = packet.pts


@cache
def _pix_fmts(codec: str) -> dict[PixelFormat, str]:
    """The planar formats whose values `codec` takes, and the name it takes each under."""
    formats: dict[PixelFormat, str] = {}
    for candidate in Codec(codec, "w").video_formats or []:
        try:
            pixel = PixelFormat.from_name(candidate.name)
        except FormatError:
            continue
        bits = min(part.bits for part in VideoFormat(candidate.name).components)
        if candidate.name in _rules(codec).experimental:
            continue
        if candidate.has_palette or bits < pixel.bit_depth or candidate.name.startswith("yuvj"):
            continue
        if candidate.name == pixel.name or pixel not in formats:
            formats[pixel] = candidate.name
    return formats


def _depths(formats: Iterable[PixelFormat], like: PixelFormat) -> list[int]:
    """Bit depths at which `formats` have planes like those of `like`; 32 is single precision."""
    return sorted(p.bit_depth for p in formats if p == like.with_depth(p.bit_depth))


def _default_pixel(formats: Iterable[PixelFormat], source: PixelFormat) -> PixelFormat | None:
    """That of `formats` to put `source` in: its planes, never fewer bits."""
    if source.is_float:
        return source if source in formats else None
    depths = [d for d in _depths(formats, source) if source.bit_depth <= d <= 16]
    enough = [d for d in depths if d >= DEFAULT_DEPTH]
    return source.with_depth((enough or depths[::-1])[0]) if depths else None


def _obstacle(codec: str, pixel: PixelFormat, width: int, height: int) -> str | None:
    """Why `codec` can't hold pictures of this format and size; `None` if it can."""
    rules = _rules(codec)
    if pixel.alpha and not rules.alpha:
        return "it takes no alpha"
    if pixel not in _pix_fmts(codec):
        planes, depths = pixel.with_depth(8).name, _depths(_pix_fmts(codec), pixel)
        if not depths:
            return f"it takes no {planes}"
        return f"it takes {planes} at {', '.join(map(str, depths))} bits, not {pixel.bit_depth}"
    w, h = pixel.subsampling
    if rules.even_chroma and (width % (1 << w) or height % (1 << h)):
        return f"it takes no odd size ({width}x{height}) with {pixel.name}"
    min_side = rules.min_side if pixel.bit_depth == 8 else rules.min_side_deep
    if min(width, height) < min_side:
        return f"it takes no side under {min_side} px ({width}x{height}) at {pixel.bit_depth} bits"
    return None


def _takers(pix_fmt: str, output_depth: int, info: VideoInfo) -> list[str]:
    """Encoders that take such pictures in the format asked for."""
    found = []
    for codec in (name for name in _RULES if name not in IMAGE_CODECS.values()):
        pixel = choose_pixel(pix_fmt, output_depth, info.pixel, _pix_fmts(codec))
        if pixel is not None and _obstacle(codec, pixel, info.width, info.height) is None:
            found.append(codec)
    return found


def choose_pixel(
    pix_fmt: str, output_depth: int, source: PixelFormat, formats: Iterable[PixelFormat]
) -> PixelFormat | None:
    """The format asked for, or the best of `formats` for `source`; `None` if none of them will do.

    Raises:
        OptionError: if the two options contradict each other or would resample the picture.
    """
    if pix_fmt == "auto":
        return _default_pixel(formats, source) if output_depth == -1 else source.with_depth(output_depth)
    try:
        asked = source if pix_fmt == "source" else PixelFormat.from_name(pix_fmt)
    except FormatError as error:
        raise OptionError(str(error)) from error
    if asked.with_depth(8) != source.with_depth(8):
        raise OptionError(f"pix_fmt {pix_fmt} hasn't the source's planes ({source.name}); resample first")
    depth = 32 if asked.is_float else asked.bit_depth
    if output_depth not in (-1, depth):
        raise OptionError(f"output_depth {output_depth} contradicts pix_fmt {pix_fmt} ({depth} bits)")
    return asked


def plan_encoding(
    codec: str,
    info: VideoInfo,
    *,
    pix_fmt: str = "auto",
    output_depth: int = -1,
    crf: float | None = None,
    preset: str | None = None,
    encoder_options: Sequence[tuple[str, str]] = (),
    threads: int = 0,
    drop_hdr: bool = False,
    joint: bool = False,
) -> Encoding:
    """Decides format and options of the encoder; the arguments are those of `VideoJob`.

    With `joint`, what it makes can be joined with other videos.

    Raises:
        OptionError: for an encoder or option that doesn't exist.
        OutputError: if the encoder can't hold the picture, or say what the source says of its fields and its
            dynamic range; the message names some that can.
    """
    codec = _find_encoder(codec)
    source = info.pixel
    pixel = choose_pixel(pix_fmt, output_depth, source, _pix_fmts(codec)) or source
    obstacle = _obstacle(codec, pixel, info.width, info.height)
    if obstacle is not None:
        others = ", ".join(_takers(pix_fmt, output_depth, info)) or "none known"
        raise OutputError(f"{codec} can't encode this picture: {obstacle}; codecs that can: {others}")
    hdr = HDR() if drop_hdr else info.hdr
    _refuse_lost_hdr(codec, hdr)
    interlaced = _interlaced_options(codec) if info.interlaced else {}
    names = {f.name for f in Codec(codec, "w").video_formats or [] if not f.name.startswith("yuvj")}
    return Encoding(
        codec=codec,
        pixel=pixel,
        pix_fmt=pix_fmt if pix_fmt in names else _pix_fmts(codec)[pixel],
        options=_options(codec, crf, preset, encoder_options, threads, hdr, interlaced, joint),
        drops_hdr=drop_hdr,
    )


def _refuse_lost_hdr(codec: str, hdr: HDR) -> None:
    if hdr.dynamic:
        lost = f"{' and '.join(hdr.dynamic)} can't be encoded again"
    elif hdr and _rules(codec).hdr is None:
        lost = f"{codec} can't say the source's {hdr}; {_able('hdr')}"
    else:
        return
    raise OutputError(f"{lost}; or give --hdr drop, to keep no more than the colour tags")


def _interlaced_options(codec: str) -> dict[str, str]:
    options = _rules(codec).interlaced
    if options is None:
        raise OutputError(
            f"{codec} can't say that a picture is interlaced; {_able('interlaced')}; "
            "or deinterlace it first, with `ffmpeg -vf bwdif` or in VapourSynth"
        )
    return dict(options)


def _pairs(rules: _Rules, extra: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The user's options one by one, also those that were given in the library's own list."""
    pairs: list[tuple[str, str]] = []
    for key, value in extra:
        if key == rules.params:
            parts = [part.partition("=") for part in value.split(":")]
            pairs += [(name, said) for name, _, said in parts]
        else:
            pairs.append((key, value))
    return pairs


def _rate_control(rules: _Rules, extra: Sequence[tuple[str, str]]) -> str | None:
    """The encoder option of the user's that rules how many bits are spent; `None` if there's none."""
    return next((key for key, _ in _pairs(rules, extra) if key in _RATE_CONTROL), None)


def why_not_joined(codec: str, extra: Sequence[tuple[str, str]]) -> str | None:
    """Why videos that `codec` makes, with such options of the user's, can't be joined; `None` if they can."""
    rules = _rules(codec)
    if not rules.joins:
        return f"nobody has tried to join what {codec} makes"
    for key, value in _pairs(rules, extra):
        if key in _FOR_THE_WHOLE:
            return f"the encoder option {key} is for the whole"
        if value != _CLOSED.get(key, value):
            return f"the encoder option {key}={value} leaves no place to cut"
    return None


def _check_crf(codec: str, crf: float) -> None:
    rules = _rules(codec)
    if not rules.min_crf <= crf <= rules.max_crf or (rules.whole_crf and crf != int(crf)):
        whole = "a whole number " if rules.whole_crf else ""
        raise OptionError(f"crf must be {whole}{rules.min_crf:g}..{rules.max_crf:g} for {codec}, not {crf:g}")


def _options(
    codec: str,
    crf: float | None,
    preset: str | None,
    extra: Sequence[tuple[str, str]],
    threads: int,
    hdr: HDR,
    interlaced: Mapping[str, str],
    joint: bool,
) -> dict[str, str]:
    """FFmpeg options of `codec`: what isn't one goes into the library's own list."""
    rules = _rules(codec)
    known = CodecContext.create(codec, "w").supported_options
    names = {option.name for option in known.private}
    options = {**rules.fixed, **interlaced}
    rival = _rate_control(rules, extra)
    if crf is not None and rival is not None:
        raise OptionError(f"crf {crf:g} contradicts the encoder option {rival}; give only one of them")
    default_crf = DEFAULT_CRF if rival is None else None
    for name, value, default in (("crf", crf, default_crf), ("preset", preset, rules.preset)):
        if value is not None and name not in names:
            raise OptionError(f"{codec} has no {name}; leave {name} out, or choose another codec")
        if name in names and (value if value is not None else default) is not None:
            options[name] = f"{default if value is None else value}"
    if crf is not None:
        _check_crf(codec, crf)
    ours = OptionFlags.ENCODING_PARAM | OptionFlags.VIDEO_PARAM
    names |= {option.name for option in known.generic if option.flags & ours == ours}
    params = [rules.fixed_params] if rules.fixed_params else []
    if joint and rules.joint:
        params.append(rules.joint)
    if hdr and rules.hdr is not None:
        params.append(rules.hdr(hdr))
    if threads and rules.threads is not None:
        params.append(rules.threads(threads))
    elif threads:
        options["threads"] = f"{threads}"
    for key, value in extra:
        if rules.params is not None and key == rules.params:
            params.append(value)
        elif key == "flags" and value[:1] in ("+", "-"):
            options[key] = options.get(key, "") + value
        elif key in names:
            options[key] = value
        elif rules.params is not None:
            params.append(f"{key}={value.replace(':', chr(92) + ':')}")
        else:
            raise OptionError(f"{codec} has no option {key!r}")
    if rules.params is not None and params:
        options[rules.params] = ":".join(params)
    return options
