import pytest
from jobs import info

from bdinn_core.errors import OptionError, OutputError
from bdinn_core.video.codecs import choose_pixel, plan_encoding
from bdinn_core.video.formats import PixelFormat


@pytest.mark.parametrize(
    ("codec", "source", "expected"),
    [
        ("libx265", "yuv420p", "yuv420p10le"),
        ("libx265", "yuv422p", "yuv422p10le"),
        ("libx265", "yuv420p12le", "yuv420p12le"),
        ("libx265", "yuvj444p", "yuv444p10le"),
        ("libx265", "gray", "gray10le"),
        ("libx265", "rgb24", "gbrp10le"),
        ("libx264", "yuv420p", "yuv420p10le"),
        ("libsvtav1", "nv12", "yuv420p10le"),
        ("libvpx-vp9", "yuva420p", "yuva420p"),  # no more bits there
        ("ffv1", "yuv420p9le", "yuv420p10le"),
        ("ffv1", "yuv411p", "yuv411p"),
        ("ffv1", "yuva444p", "yuva444p10le"),
        ("ffv1", "yuv444p14le", "yuv444p14le"),
        ("ffv1", "bgra", "gbrap10le"),
        ("prores_ks", "yuv422p", "yuv422p10le"),
    ],
)
def test_default_format_keeps_planes_and_takes_ten_bits_or_more(codec, source, expected):
    plan = plan_encoding(codec, info(source))
    assert (plan.pix_fmt, plan.pixel.name) == (expected, expected)


@pytest.mark.parametrize(
    ("source", "depths", "expected"),
    [
        (8, (8, 16), 16),
        (8, (8, 10, 16), 10),
        (12, (8, 10, 16), 16),
        (8, (8, 9), 9),
        (8, (8,), 8),
        (10, (8,), None),
    ],
)
def test_default_depth_is_the_smallest_that_is_enough_or_else_the_largest(source, depths, expected):
    formats = [PixelFormat(family="gray", bit_depth=depth) for depth in depths]
    chosen = choose_pixel("auto", -1, PixelFormat(family="gray", bit_depth=source), formats)
    assert (chosen and chosen.bit_depth) == expected


@pytest.mark.parametrize(
    ("codec", "source", "pix_fmt", "depth", "expected"),
    [
        ("libx265", "yuv420p", "source", -1, "yuv420p"),
        ("libx265", "yuv420p", "auto", 8, "yuv420p"),
        ("libx265", "yuv420p", "auto", 12, "yuv420p12le"),
        ("libx265", "yuv420p12le", "yuv420p10le", -1, "yuv420p10le"),  # asked for, so it may have fewer bits
        ("libx264", "yuv420p", "nv12", -1, "nv12"),
        ("ffv1", "gbrp", "source", -1, "bgr0"),  # 8-bit planes of RGB it takes packed
        ("ffv1", "yuv420p", "yuv420p10le", 10, "yuv420p10le"),
        ("ffv1", "gbrp", "auto", 32, "gbrpf32le"),
    ],
)
def test_format_asked_for(codec, source, pix_fmt, depth, expected):
    assert plan_encoding(codec, info(source), pix_fmt=pix_fmt, output_depth=depth).pix_fmt == expected


@pytest.mark.parametrize(
    ("codec", "source", "size", "why", "others"),
    [
        ("libx265", "yuv420p", (161, 121), r"odd size \(161x121\)", "libsvtav1, libvpx-vp9, ffv1"),
        ("libx265", "yuv422p", (161, 120), r"odd size \(161x120\)", "libvpx-vp9, ffv1"),
        ("libx264", "yuv420p", (160, 121), "odd size", "libsvtav1, libvpx-vp9, ffv1"),
        ("libx265", "yuva420p", (128, 96), "no alpha", "libvpx-vp9, ffv1"),
        ("libx265", "yuv420p", (48, 64), "under 64 px", "libx264, libsvtav1, libvpx-vp9, ffv1"),
        ("libx265", "yuv440p", (128, 96), "no yuv440p", "libvpx-vp9, ffv1"),
        ("libsvtav1", "yuv444p", (128, 96), "no yuv444p", "libx265, libx264, libvpx-vp9, prores_ks, ffv1"),
        ("libsvtav1", "yuv420p12le", (128, 96), "8, 10 bits, not 12", "libx265, ffv1"),
        ("libvpx-vp9", "yuv420p10le", (128, 96), "8 bits, not 10", "libx265, libx264, libsvtav1, ffv1"),
    ],
)
def test_what_does_not_fit_is_refused_with_codecs_that_take_it(codec, source, size, why, others):
    with pytest.raises(OutputError, match=rf"{codec} .*{why}.*codecs that can: {others}$"):
        plan_encoding(codec, info(source, *size))


@pytest.mark.parametrize("size", [(161, 121), (65, 64), (64, 65)])
def test_odd_sizes_without_subsampling_are_fine(size):
    assert plan_encoding("libx265", info("yuv444p", *size)).pix_fmt == "yuv444p10le"
    assert plan_encoding("libx265", info("yuv422p", 64, 65)).pix_fmt == "yuv422p10le"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "nosuch"}, "nosuch"),
        ({"codec": "aac"}, "aac"),
        ({"pix_fmt": "nosuch"}, "nosuch"),
        ({"pix_fmt": "yuv444p"}, "hasn't the source's planes"),
        ({"pix_fmt": "yuv420p", "output_depth": 10}, "contradicts"),
        ({"crf": 20.0, "encoder_options": [("qp", "3")]}, "crf 20 contradicts the encoder option qp"),
        ({"codec": "libsvtav1", "crf": 0.0}, r"crf must be a whole number 1\.\.63 for libsvtav1, not 0"),
        ({"codec": "libsvtav1", "crf": 20.5}, "not 20.5"),
        ({"crf": 70.0}, "crf must be 0..51 for libx265, not 70"),
        ({"codec": "ffv1", "crf": 3.0}, "ffv1 has no crf"),
        ({"codec": "ffv1", "preset": "slow"}, "ffv1 has no preset"),
        ({"codec": "ffv1", "encoder_options": [("tune", "film")]}, "ffv1 has no option 'tune'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=message):
        plan_encoding(**{"codec": "libx265", "info": info(), **options})


def test_defaults_of_the_encoders():
    assert plan_encoding("libx265", info()).options == {
        "crf": "16",
        "preset": "medium",
        "x265-params": "log-level=error",
        "a53cc": "1",
    }
    assert plan_encoding("libx264", info()).options == {"crf": "16", "preset": "medium"}
    assert plan_encoding("libvpx-vp9", info()).options == {"b": "0", "crf": "16"}
    assert plan_encoding("ffv1", info()).options == {}


@pytest.mark.parametrize("extra", [("qp", "3"), ("b", "500k"), ("x265-params", "aq-mode=1:bitrate=500")])
def test_another_rate_control_takes_the_place_of_crf(extra):
    assert "crf" not in plan_encoding("libx265", info(), encoder_options=[extra]).options


def test_a_depth_asked_for_is_looked_for_elsewhere():
    with pytest.raises(OutputError, match=r"not 9; codecs that can: ffv1$"):
        plan_encoding("libx265", info(), output_depth=9)


def test_encoder_options_go_where_they_are_known():
    extra = [
        ("psy-rd", "1.5"),
        ("tune", "grain"),
        ("x265-params", "aq-mode=3"),
        ("deblock", "-1:-1"),
        ("crf", "20"),
    ]
    options = plan_encoding("libx265", info(), encoder_options=extra).options
    assert options == {
        "crf": "20",
        "preset": "medium",
        "tune": "grain",
        "a53cc": "1",
        "x265-params": r"log-level=error:psy-rd=1.5:aq-mode=3:deblock=-1\:-1",
    }
