"""`core.bdinn.Deband` in Python: formats, properties, batches, errors."""

import inspect
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vapoursynth as vs
from banded import FORMATS, banded_frame, equal, name_of

import bdinn_vs
import bdinn_vs.props
from bdinn_core import BDINN, BDINNConfig, Debander, DebandOptions, Frame, FrameFormat, engine
from bdinn_core.checkpoint import save_model
from bdinn_core.measure import mean_change, measure_plane
from bdinn_core.restorer import Restorer
from bdinn_vs.frames import format_of, mask_weights, read, video_format, write

core: Any = vs.core


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Path of a small model of random weights, for many frames where any change will do."""
    torch.manual_seed(0)
    shape = {"widths": (4, 4), "depths": (1, 1)}
    model = BDINN(BDINNConfig(**shape, banded_from_level=2))
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(model, path, {})
    return str(path)


def clip_of(frames: Sequence[Frame], **props: Any) -> vs.VideoNode:
    """A clip of frames, that their properties tell all about."""
    first = frames[0]
    blank = core.std.BlankClip(
        format=video_format(first.format),
        width=first.width,
        height=first.height,
        length=len(frames),
        keep=True,
    )

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        result = write([frames[n]])
        result.props.update(f.props)
        full = 1 if frames[n].format.range == "full" else 0
        result.props.update({"_Range": full, "Number": n, "_FieldBased": 2 * frames[n].interlaced, **props})
        return result

    return core.std.ModifyFrame(blank, blank, fill)


def banded_frames(fmt: FrameFormat, count: int, width: int = 61, height: int = 43) -> list[Frame]:
    """Frames that differ, of a size that VapourSynth takes: whole chroma pixels."""
    w, h = fmt.subsampling
    width, height = width >> w << w, height >> h << h
    return [banded_frame(fmt, width, height, offset=7.0 * i) for i in range(count)]


def read_all(clip: vs.VideoNode) -> list[Frame]:
    """Copies of a clip's frames."""
    fmt = format_of(clip)
    frames = [read(f, fmt) for f in clip.frames(collect_garbage=False)]
    return [Frame(tuple(p.copy() for p in f.planes), f.format, f.interlaced) for f in frames]


def assert_same(clip: vs.VideoNode, expected: Sequence[Frame]) -> None:
    results = read_all(clip)
    assert len(results) == len(expected)
    for number, (a, b) in enumerate(zip(results, expected, strict=True)):
        assert equal(a, b), number


MORE_FORMATS = [
    FrameFormat(family="yuv", subsampling=(1, 0)),
    FrameFormat(family="yuv"),
    FrameFormat(family="yuv", subsampling=(2, 0)),
    FrameFormat(family="rgb", bit_depth=10),
    FrameFormat(family="gray", bit_depth=16, is_float=True),
    FrameFormat(family="yuv", bit_depth=32, is_float=True, range="full"),
    FrameFormat(family="rgb", bit_depth=8, range="limited"),
]
OPTIONS = [
    {},
    {"output_depth": 10, "grain": [1.0, 0.5, 0.25], "seed": 3},
    {"strength": [0.5, 1, 2], "step": 2, "limit": 0.5, "dither": "error_diffusion", "planes": [0, 2]},
    {"output_depth": 32, "planes": [1]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("fmt", FORMATS + MORE_FORMATS, ids=name_of)
def test_result_is_the_engines(fmt, options, tiny):
    options = {"model": tiny, **options}
    if fmt.family == "gray":
        options = {k: v[0] if isinstance(v, list) else v for k, v in options.items() if k != "planes"}
    frames = banded_frames(fmt, 3)
    debander = Debander(DebandOptions(**options))
    expected = [debander(frame, number) for number, frame in enumerate(frames)]
    clip = clip_of(frames)
    assert_same(core.bdinn.Deband(clip, **options), expected)
    assert_same(bdinn_vs.deband(clip, **options), expected)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("num_streams", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_batches_and_streams_change_nothing_but_speed(batch, num_streams, count, tiny):
    frames = banded_frames(FORMATS[2], count, 66, 50)
    options = {"model": tiny, "batch": batch, "grain": 1}
    debander = Debander(DebandOptions(**options))
    expected = [debander(frame, number) for number, frame in enumerate(frames)]
    clip = core.bdinn.Deband(clip_of(frames), num_streams=num_streams, **options)
    assert_same(clip, expected)
    for number in (count - 1, 0, count // 2, count - 1):
        assert equal(read(clip.get_frame(number), format_of(clip)), expected[number])


@pytest.mark.parametrize("batch", [1, 4])
def test_any_order_from_8_threads_gives_the_same_bytes(batch):
    frames = banded_frames(FORMATS[2], 16, 66, 50)
    clip = core.bdinn.Deband(clip_of(frames), batch=batch, grain=1, output_depth=10)
    expected = read_all(core.bdinn.Deband(clip_of(frames), batch=batch, grain=1, output_depth=10))
    wrong: list[object] = []

    def ask(seed: int) -> None:
        try:
            for number in np.random.default_rng(seed).permutation(len(frames)).tolist():
                with clip.get_frame(number) as f:
                    if not equal(read(f, format_of(clip)), expected[number]):
                        wrong.append(number)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("num_streams", [1, 2])
def test_frames_that_come_again_reuse_the_networks_result(batch, num_streams, seen):
    frames = [frame for frame in banded_frames(FORMATS[2], 10) for _ in range(3)]
    options = {"batch": batch, "grain": 1}
    results = read_all(core.bdinn.Deband(clip_of(frames), num_streams=num_streams, **options))
    assert sum(seen) <= (30 if num_streams == 1 else 45)  # of 90; streams may overtake each other
    debander = Debander(DebandOptions(**options))
    assert all(equal(a, debander(frame, i)) for i, (frame, a) in enumerate(zip(frames, results, strict=True)))


def test_other_threads_run_while_the_network_does():
    """Had it the GIL, another thread would wait as long as it runs."""
    clip = clip_of(banded_frames(FORMATS[0], 4, 1920, 1080))
    result = core.bdinn.Deband(clip, num_streams=1)
    result.get_frame(0)
    waits: list[float] = []
    done = threading.Event()

    def wait() -> None:
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.001)
            last, before = time.perf_counter(), last
            waits.append(last - before)

    thread = threading.Thread(target=wait)
    thread.start()
    start = time.perf_counter()
    for number in (1, 2, 3):
        result.get_frame(number)
    spent = time.perf_counter() - start
    done.set()
    thread.join()
    assert spent > 0.1  # else there's nothing to see
    assert sum(w for w in waits if w > 0.03) < 0.3 * spent


@pytest.mark.parametrize("name", ["GRAY8", "YUV420P8", "YUV411P8", "RGB24"])
def test_sizes_from_1_to_67(name, tiny):
    fmt = format_of(core.std.BlankClip(format=getattr(vs, name), length=1))
    w, h = (1 << log2 for log2 in fmt.subsampling)
    widths, heights = range(w, 68, w), range(h, 68, h)
    debander = Debander(DebandOptions(model=tiny))
    for i in range(max(len(widths), len(heights))):
        frames = banded_frames(fmt, 1, widths[i % len(widths)], heights[-1 - i % len(heights)])
        expected = debander(frames[0], 0)
        flat = all(np.ptp(plane) == 0 for plane in frames[0].planes)  # nothing to change in
        assert equal(expected, frames[0]) == flat
        assert_same(core.bdinn.Deband(clip_of(frames), model=tiny), [expected])


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
@pytest.mark.parametrize("options", [{"strength": 0}, {"limit": 0}, {"planes": []}], ids=str)
def test_doing_nothing_returns_the_input_bit_for_bit(fmt, options):
    frames = banded_frames(fmt, 2)
    assert_same(core.bdinn.Deband(clip_of(frames), **options), frames)


def test_planes_not_chosen_come_through():
    frames = banded_frames(FORMATS[2], 1)
    (result,) = read_all(core.bdinn.Deband(clip_of(frames), planes=[1], grain=4))
    same = [np.array_equal(a, b) for a, b in zip(result.planes, frames[0].planes, strict=True)]
    assert same == [True, False, True]


def test_properties_size_length_and_rate_are_kept_and_none_invented():
    frames = banded_frames(FORMATS[2], 5)
    clip = core.std.AssumeFPS(
        clip_of(frames, _Matrix=9, _SARNum=4, Words=["a", "b"], _DurationNum=3), fpsnum=24000, fpsden=1001
    )
    for batch in (1, 2):
        result = core.bdinn.Deband(clip, batch=batch, output_depth=10)
        assert (result.width, result.height, result.num_frames, result.fps) == (
            clip.width, clip.height, clip.num_frames, clip.fps,
        )  # fmt: skip
        for number in (3, 0, 4):
            assert dict(result.get_frame(number).props) == dict(clip.get_frame(number).props)
    bare = core.std.RemoveFrameProps(core.std.BlankClip(format=vs.YUV420P8, width=64, height=64, length=1))
    assert not dict(core.bdinn.Deband(bare).get_frame(0).props)


def measured(clip: vs.VideoNode, number: int) -> dict[str, list[float]]:
    """What `props` adds to a frame; a list of one is a number in Python."""
    props: Any = clip.get_frame(number).props
    values = {name: props[name] for name in ("BdinnBanding", "BdinnChange")}
    return {name: value if isinstance(value, list) else [value] for name, value in values.items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output_depth": 10, "step": 2, "grain": 1, "batch": 2},
        {"output_depth": 32, "planes": [0], "num_streams": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("fmt", FORMATS + MORE_FORMATS, ids=name_of)
def test_props_are_the_engines_measures(fmt, options, tiny):
    frames = banded_frames(fmt, 3)
    frames[1] = replace(frames[1], interlaced=True)
    other = "full" if fmt.range == "limited" else "limited"
    frames[2] = replace(frames[2], format=replace(fmt, range=other))
    clip = clip_of(frames)
    results = read_all(core.bdinn.Deband(clip, model=tiny, **options))
    marked = core.bdinn.Deband(clip, model=tiny, props=1, **options)
    assert_same(marked, results)
    planes = range(fmt.num_planes)
    for number, (before, after) in enumerate(zip(frames, results, strict=True)):
        expected = {
            "BdinnBanding": [measure_plane(before, p, options.get("step")).banding for p in planes],
            "BdinnChange": [mean_change(before, after, p) for p in planes],
        }
        assert measured(marked, number) == expected
        assert expected["BdinnChange"][0] > 0.01
        kept = {name: value for name, value in marked.get_frame(number).props.items() if name not in expected}
        assert kept == dict(clip.get_frame(number).props)


def test_props_tell_banded_frames_from_clean_ones():
    banded = banded_frames(FrameFormat(family="gray", bit_depth=16), 1)[0]
    y, x = np.mgrid[0 : banded.height, 0 : banded.width]
    clean = replace(banded, planes=(np.rint(256 * (90 + 0.05 * x + 0.03 * y)).astype(np.uint16),))
    result = core.bdinn.Deband(clip_of([banded, clean]), props=1)
    assert measured(result, 0)["BdinnBanding"][0] > 0.3
    assert measured(result, 1)["BdinnBanding"] == [0]


@pytest.mark.parametrize("options", [{}, {"output_depth": 10}, {"output_depth": 16}], ids=str)
def test_props_of_untouched_planes_tell_no_change(options):
    clip = clip_of(banded_frames(FORMATS[2], 1))
    untouched = measured(core.bdinn.Deband(clip, strength=0, props=1, **options), 0)
    assert untouched["BdinnChange"] == [0, 0, 0]
    assert min(untouched["BdinnBanding"]) > 0
    some = measured(core.bdinn.Deband(clip, planes=[1], props=1, **options), 0)
    assert [change > 0 for change in some["BdinnChange"]] == [False, True, False]
    assert some["BdinnBanding"] == untouched["BdinnBanding"]


def test_props_of_an_earlier_call_are_kept_or_replaced():
    first = core.bdinn.Deband(clip_of(banded_frames(FORMATS[2], 1)), output_depth=16, props=1)
    assert measured(core.bdinn.Deband(first), 0) == measured(first, 0)
    assert measured(core.bdinn.Deband(first, strength=0, props=1), 0)["BdinnChange"] == [0, 0, 0]


def test_damaged_floats_have_props_too():
    (frame,) = banded_frames(FrameFormat(family="gray", bit_depth=32, is_float=True), 1)
    frame.planes[0][20, 30], frame.planes[0][30, 50] = np.nan, np.inf
    for depth in (-1, 10):
        found = measured(core.bdinn.Deband(clip_of([frame]), output_depth=depth, props=1), 0)
        assert 0 < found["BdinnBanding"][0] < 1
        assert 0 < found["BdinnChange"][0] < 1


def test_a_frame_that_cannot_be_measured_is_an_error(monkeypatch):
    def fail(*_: Any) -> None:
        raise RuntimeError("no measure")

    monkeypatch.setattr(bdinn_vs.props, "banding_share", fail)
    result = core.bdinn.Deband(clip_of(banded_frames(FORMATS[2], 3)), props=1)
    with pytest.raises(vs.Error, match=r"Deband: frame 2: .*no measure"):
        result.get_frame(2)


def test_range_is_the_frames_own_and_absent_as_vapoursynth_has_it():
    limited = banded_frames(FrameFormat(family="yuv", bit_depth=8), 2)
    full = [Frame(f.planes, replace(f.format, range="full")) for f in limited]
    clip = clip_of([limited[0], full[1]])
    debander = Debander(DebandOptions(output_depth=16))
    expected = [debander(limited[0], 0), debander(full[1], 1)]
    assert not equal(expected[1], debander(limited[1], 1))
    assert_same(core.bdinn.Deband(clip, output_depth=16), expected)
    for family, usual in (("yuv", "limited"), ("gray", "limited"), ("rgb", "full")):
        (frame,) = banded_frames(FrameFormat(family=family), 1)
        assert frame.format.range == usual
        bare = core.std.RemoveFrameProps(clip_of([frame]), "_Range")
        assert_same(core.bdinn.Deband(bare, output_depth=16), [debander(frame, 0)])


def test_interlaced_frames_are_debanded_field_by_field():
    y, x = np.mgrid[0:120, 0:200]
    fields = [np.rint(60 + 0.03 * (x + 8 * parity) + 0.02 * y).astype(np.uint8) for parity in (0, 1)]
    woven = np.where(y % 2 == 0, *fields)
    fmt = FrameFormat(family="gray")
    parts = [Debander().restore([Frame((woven[parity::2],), fmt)], 0)[0][0].numpy() for parity in (0, 1)]
    whole = read_all(core.bdinn.Deband(clip_of([Frame((woven,), fmt, True)]), output_depth=32))[0].planes[0]
    steps = whole * 219 + 16
    for parity in (0, 1):
        np.testing.assert_allclose(steps[parity::2], parts[parity], rtol=0, atol=1e-4)
    one_line = Frame((woven[:1],), fmt, True)
    assert_same(core.bdinn.Deband(clip_of([one_line])), [Debander()(one_line, 0)])


@pytest.mark.parametrize("mask_format", [vs.GRAY8, vs.GRAY10, vs.GRAY16, vs.GRAYH, vs.GRAYS])
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_mask_scales_strength(mask_format, length, batch):
    frames = banded_frames(FORMATS[2], 3)
    clip = clip_of(frames)
    peak = (
        1
        if mask_format in (vs.GRAYH, vs.GRAYS)
        else 2 ** vs.core.get_video_format(mask_format).bits_per_sample - 1
    )
    half = core.std.BlankClip(clip, width=30, format=mask_format, length=length, color=[peak])
    mask = core.std.StackHorizontal([half, core.std.BlankClip(half, color=[0])])
    weights = mask_weights(mask.get_frame(0))
    assert (weights[:, :30] == 1).all() and (weights[:, 30:] == 0).all()
    debander = Debander(DebandOptions(mask=weights, batch=batch))
    expected = [debander(frame, number) for number, frame in enumerate(frames)]
    assert not equal(expected[0], Debander(DebandOptions(batch=batch))(frames[0], 0))
    assert_same(core.bdinn.Deband(clip, mask=mask, batch=batch), expected)


def varying(**how: Any) -> vs.VideoNode:
    return core.std.BlankClip(format=vs.YUV420P8, width=64, height=64, length=3, **how)


BAD = [
    ({"strength": 3}, "strength must be a number 0..2, not 3"),
    ({"strength": [1, 1]}, r"strength takes one value or one for each of three planes, not \[1"),
    ({"step": "abc"}, "step must be .* not 'abc'"),
    ({"step": 17}, "step must be .* not 17"),
    ({"limit": -1}, "limit must be .* not -1"),
    ({"limit": float("nan")}, "limit must be .* not nan"),
    ({"planes": [3]}, "planes must be .* not 3"),
    ({"planes": [0, 0]}, r"planes must be .* not \[0, 0\]"),
    ({"grain": 65}, "grain must be .* not 65"),
    ({"dynamic_grain": 2}, "dynamic_grain must be 0 or 1, not 2"),
    ({"seed": -1}, "seed must be .* not -1"),
    ({"output_depth": 7}, "output_depth must be .* not 7"),
    ({"dither": "silly"}, "dither must be .* not 'silly'"),
    ({"model": "nosuch"}, "no model 'nosuch'"),
    ({"model": ""}, "model must be .* not ''"),
    ({"device_id": -2}, "device_id must be .* not -2"),
    ({"device_id": 97}, "device_id must be .* not 97"),
    ({"fp16": 2}, "fp16 must be 0 or 1, not 2"),
    ({"tile_size": 100}, "tile_size must be .* not 100"),
    ({"overlap": 1}, "overlap must be .* not 1"),
    ({"batch": 0}, "batch must be .* not 0"),
    ({"num_streams": 33}, "num_streams must be .* not 33"),
    ({"props": 2}, "props must be 0 or 1, not 2"),
    ({"nosuch": 1}, "nosuch"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda v: str(v)[:40])
def test_bad_arguments_are_named(arguments, words):
    clip = core.std.BlankClip(format=vs.YUV420P8, width=64, height=64, length=1)
    with pytest.raises(vs.Error, match=f"^Deband: .*{words}") as caught:
        core.bdinn.Deband(clip, **arguments)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)
    if "nosuch" not in arguments:
        with pytest.raises(vs.Error, match=f"^Deband: .*{words}"):
            bdinn_vs.deband(clip, **arguments)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ({"format": vs.YUV420P8}, "mask must be a Gray clip, not YUV420P8"),
        ({"format": vs.GRAY8, "varformat": True}, "mask must be a Gray clip, not one that changes"),
        ({"format": vs.GRAY8, "width": 66}, "mask must be of the clip's size 64x64, not 66x64"),
        ({"format": vs.GRAY8, "length": 2}, "mask must have 1 frame or the clip's 3, not 2"),
    ],
)  # fmt: skip
def test_bad_masks_are_named(mask, words):
    clip = varying()
    with pytest.raises(vs.Error, match=f"^Deband: {words}"):
        core.bdinn.Deband(clip, mask=core.std.BlankClip(**{"width": 64, "height": 64, "length": 3, **mask}))


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (lambda: varying(varformat=True), "changes its format midway"),
        (lambda: varying(varsize=True), "changes its size midway"),
        (lambda: core.std.BlankClip(format=vs.GRAY32), "Gray32: integers must have 8..16 bits"),
    ],
)
def test_clips_that_cannot_be_done_are_refused(clip, words):
    with pytest.raises(vs.Error, match=f"^Deband: clip .*{words}"):
        core.bdinn.Deband(clip())


@pytest.mark.parametrize(
    "arguments", [{"strength": [1, 1, 1]}, {"grain": [0, 0, 1]}, {"planes": [1]}], ids=str
)
def test_planes_that_grey_has_not_are_refused(arguments):
    name = next(iter(arguments))
    with pytest.raises(vs.Error, match=f"^Deband: {name} .*grey"):
        core.bdinn.Deband(core.std.BlankClip(format=vs.GRAY8, length=1), **arguments)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_failing_frame_is_an_error_and_the_core_goes_on(batch, monkeypatch):
    frames = banded_frames(FORMATS[2], 6, 64, 64)
    clip = core.bdinn.Deband(clip_of(frames), batch=batch)
    restore = Restorer.__call__

    def fail_once(self: Any, planes: Any) -> Any:
        monkeypatch.setattr(Restorer, "__call__", restore)
        raise RuntimeError("the network failed")

    monkeypatch.setattr(Restorer, "__call__", fail_once)
    with pytest.raises(vs.Error, match=f"Deband: frames? {4 // batch * batch}.*the network failed"):
        clip.get_frame(4)
    debander = Debander(DebandOptions(batch=batch))
    assert_same(clip, [debander(frame, number) for number, frame in enumerate(frames)])


@pytest.mark.parametrize("prop", [{"_Range": 7}, {"_FieldBased": 3}, {"_FieldBased": "x"}], ids=str)
def test_a_property_that_means_nothing_is_an_error_of_its_frame(prop):
    clip = clip_of(banded_frames(FORMATS[2], 4, 64, 64))
    clip = clip[:1] + core.std.SetFrameProps(clip[1:2], **prop) + clip[2:]
    name = next(iter(prop))
    for batch in (1, 2):
        result = core.bdinn.Deband(clip, batch=batch)
        with pytest.raises(vs.Error, match=f"Deband: frame 1: {name} must be .* not .*{prop[name]}"):
            result.get_frame(1)
        result.get_frame(2)


@pytest.mark.parametrize(
    "arguments",
    [{"clip": None}, {"clip": 3}, {"mask": 5}, {"num_streams": 1.5}, {"device_id": "0"}],
    ids=str,
)
def test_wrong_types_in_python_are_named_too(arguments):
    name = next(iter(arguments))
    with pytest.raises(vs.Error, match=f"^Deband: {name} must be .*{arguments[name]}"):
        bdinn_vs.deband(**{"clip": varying(), **arguments})


@pytest.mark.parametrize(("batch", "num_streams"), [(1, 1), (1, 2), (2, 1), (3, 2), (256, 1)])
def test_the_longest_clip(batch, num_streams):
    blank = core.std.BlankClip(format=vs.GRAY8, width=16, height=16, length=2**31 - 1, keep=True)
    clip = core.bdinn.Deband(blank, batch=batch, num_streams=num_streams, strength=0)
    assert clip.num_frames == 2**31 - 1
    clip.get_frame(2**31 - 2)


def test_nothing_is_printed_or_logged(capfd):
    messages: list[tuple[vs.MessageType, str]] = []
    handle = core.add_log_handler(lambda kind, text: messages.append((kind, text)))
    try:
        clip = core.bdinn.Deband(clip_of(banded_frames(FORMATS[2], 3)), batch=2, output_depth=10)
        read_all(clip)
        with pytest.raises(vs.Error):
            core.bdinn.Deband(clip, seed=-1)
    finally:
        core.remove_log_handler(handle)
    assert not [text for kind, text in messages if kind >= vs.MESSAGE_TYPE_INFORMATION]
    assert capfd.readouterr() == ("", "")


def test_run_is_not_for_users():
    with pytest.raises(vs.Error, match=r"Run: .* call Deband"):
        core.bdinn.Run(impl=lambda: None)


def test_one_signature_everywhere():
    """The plugin, `bdinn_vs.deband` and `DebandOptions`: same names, order and defaults."""
    parameters = inspect.signature(bdinn_vs.deband).parameters
    declared = [argument.split(":")[0] for argument in core.bdinn.Deband.signature.strip(";").split(";")]
    assert declared == list(parameters)
    assert core.bdinn.Deband.return_signature == "clip:vnode;"
    own = {"device": "device_id"}
    for name, default in vars(DebandOptions()).items():
        assert parameters[own.get(name, name)].default == (None if name in own else default), name
    extra = set(parameters) - {own.get(name, name) for name in vars(DebandOptions())}
    assert extra == {"clip", "num_streams", "props"}
    doc = inspect.getdoc(bdinn_vs.deband) or ""
    assert all(f"\n    {name}: " in doc for name in parameters)


def test_readme_has_the_whole_signature():
    text = (Path(bdinn_vs.__file__).parent / "README.md").read_text(encoding="utf-8")
    shown = text.split("core.bdinn.Deband(clip, float[]", 1)[1].split(")", 1)[0]
    declared = core.bdinn.Deband.signature.strip(";").split(";")[1:]
    kinds = {"vnode": "clip"}
    expected = [(kinds.get(kind, kind), name) for name, kind, *_ in (d.split(":") for d in declared)]
    assert [tuple(part.split("=")[0].split()) for part in f"float[]{shown}".split(",")] == expected
    for part in shown.split(","):
        name, default = part.split()[-1].split("=")
        value = inspect.signature(bdinn_vs.deband).parameters[name].default
        if isinstance(value, str):
            assert default == f'"{value}"'
        elif value is None:
            assert default in ("auto", "all", "None")
        else:
            assert float(default) == value


def test_instances_share_a_model_and_the_last_releases_it():
    import gc

    clip = core.std.BlankClip(format=vs.YUV420P8, width=64, height=64, length=1)
    gc.collect()
    before = len(engine._networks)
    first, second = core.bdinn.Deband(clip, step=2), core.bdinn.Deband(clip, step=3)
    first.get_frame(0)
    second.get_frame(0)
    assert len(engine._networks) <= before + 1
    del first, second
    gc.collect()
    assert len(engine._networks) == before
