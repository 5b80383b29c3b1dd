"""The evaluation on methods whose scores are known; the ablation's variants; the data pack."""

from dataclasses import replace

import ablate
import evaluate
import numpy as np
import pack
import pytest
import torch
from click.testing import CliRunner
from lab.holdout import Scene
from lab.methods import PEERS, bdinn, nothing
from lab.pictures import read_png
from lab.score import Row
from lab.targets import HEAVY, LIGHT, TARGETS, Extras, check_targets

from bdinn_core import DebandOptions
from bdinn_core.show.png import encode_png
from bdinn_core.ycbcr import YCbCr

SMOOTH = "sky 1"
DEGRADATIONS = ("quantised", *LIGHT, *HEAVY)


def scene(size: int = 64) -> Scene:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    full = np.stack([60 + 0.15 * x + 0.1 * y, 120 + 0.1 * x, 130 - 0.1 * y])
    planes = full[0], full[1, ::2, ::2], full[2, ::2, ::2]
    return Scene(name=SMOOTH, planes=planes, full=full, smooth_is_true=True, drawn=True)


def row(method: str, degradation: str, name: str = SMOOTH, **scores) -> Row:
    values = {"smooth": 50.0, "detail": 40.0, "contour": 0.5, "cambi": 4.0, "cambi_coarse": 4.0, **scores}
    return Row(degradation=degradation, scene=name, drawn=True, method=method, plane="Y", **values)


def rows(**ours) -> list[Row]:
    """The input, a peer 3 dB above it, and a `fast` that keeps every promise but for `ours`."""
    good = {"smooth": 71.0, "detail": 40.5, "contour": 0.2, "cambi": 0.1, **ours}
    found = []
    for degradation in DEGRADATIONS:
        found += [row("input", degradation), row("vszip", degradation, smooth=53)]
        found.append(row("fast", degradation, **good))
    for name in ("texture 1", "grain 1"):
        found += [row("input", "quantised", name), row("fast", "quantised", name, **good)]
    return found


def extras(**changed) -> Extras:
    values = {
        "coarse": {"coarse 6/6": {"fast": 2.0}},
        "flicker": {"input": 1.0, "fast": 0.5},
        "clean": {"fast": {SMOOTH: 0.1}},
        **changed,
    }
    return Extras(**values)


def test_a_model_that_keeps_every_promise_passes(capsys):
    assert check_targets(rows(), extras(), "fast", TARGETS["fast"])
    assert "MISSED" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "ours",
    [{"smooth": 56}, {"contour": 0.3}, {"detail": 39.8}, {"cambi": 0.7}, {"cambi": -0.4}],
    ids=lambda ours: next(iter(ours)),
)
def test_a_broken_promise_is_named(ours, capsys):
    assert not check_targets(rows(**ours), extras(), "fast", TARGETS["fast"])
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [
        {"coarse": {"coarse 6/6": {"fast": 1.0}}},
        {"flicker": {"input": 1.0, "fast": 1.1}},
        {"clean": {"fast": {SMOOTH: 0.2}}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_broken_promise_of_the_extras_is_named(changed):
    assert not check_targets(rows(), extras(**changed), "fast", TARGETS["fast"])


def test_another_model_is_no_peer():
    better = [row("fast-015000", degradation, smooth=90) for degradation in DEGRADATIONS]
    assert check_targets(rows() + better, extras(), "fast", TARGETS["fast"])


@pytest.mark.parametrize(("cambi", "good"), [(-0.1, True), (0.2, False)])
def test_where_the_input_has_no_bands_none_may_be_made(cambi, good):
    clean = [replace(r, cambi=-0.1) if r.method == "input" else r for r in rows(cambi=cambi)]
    assert check_targets(clean, extras(), "fast", TARGETS["fast"]) == good


@pytest.mark.parametrize("as_rgb", [False, True])
def test_coarse_gains_are_those_over_the_input(as_rgb):
    drawn = scene()
    truth = [*YCbCr(matrix="bt709").decode(drawn.full)] if as_rgb else [*drawn.full]
    gains = evaluate.coarse_gains(drawn, {"none": nothing, "perfect": lambda frame: truth}, 8, as_rgb)
    assert gains["none"] == 0
    assert gains["perfect"] > 60


def test_flicker_and_change_of_known_methods():
    drawn = scene()
    still = evaluate.flicker(drawn, {"input": nothing, "still": lambda frame: [*drawn.planes]})
    assert still["input"] > 0.1 and still["still"] < 1e-4
    assert evaluate.clean_change(drawn, nothing) == 0
    assert evaluate.clean_change(drawn, lambda frame: [nothing(frame)[0] + 2]) == pytest.approx(2)


def test_scenes_of_ten_bits_have_them():
    drawn = scene()
    for name in ("10 bits", "x265 crf 26, 10 bits"):
        frame = evaluate.degrade(drawn, *evaluate.DEGRADATIONS[name])
        assert frame.format.bit_depth == 10
        assert np.abs(nothing(frame)[0] - drawn.planes[0]).mean() < 1


def test_a_peer_of_eight_bits_is_given_them():
    frame = evaluate.degrade(scene(), None, 10)
    result = PEERS["ffmpeg gradfun"]()(frame)
    assert np.abs(result[0] - nothing(frame)[0]).max() < 3
    assert np.array_equal(result[0], np.rint(result[0]))


def test_wrong_requests_are_named(tmp_path):
    record = tmp_path / "fast.json"
    record.write_text("{}")
    for options, named in (
        (["--truth", str(record)], "--degraded"),
        (["--truth", str(record), "--degraded", str(record), "--record"], "--record"),
        (["--model", "fast", "--model", "elsewhere/fast.safetensors"], "fast, fast"),
        (["--model", "nosuch"], "nosuch"),
        (["--step", "much"], "much"),
        (["--pictures", str(tmp_path / "nothing")], "nothing"),
        (["--pictures", str(tmp_path)], "INDEX.tsv"),
        (["--json", str(tmp_path / "nowhere" / "a.json")], "nowhere"),
        (["--plot", "plot.txt"], "plot.txt"),
        (["--record", "--step", "2"], "--record"),
        (["--frames", "0"], "--frames"),
    ):
        result = CliRunner().invoke(evaluate.main, ["--no-peers", *options])
        assert result.exit_code == 2 and named in result.output, (options, result.output)
    assert record.read_text() == "{}"


def test_our_own_method_keeps_what_it_does_not_touch():
    frame = evaluate.degrade(scene(), None)
    untouched = bdinn(DebandOptions(planes=[0]))(frame)
    assert np.array_equal(untouched[1], nothing(frame)[1])
    assert not np.array_equal(untouched[0], nothing(frame)[0])


@pytest.mark.parametrize("name", ablate.VARIANTS)
def test_variants_start_as_the_identity_and_learn(name):
    model, x = ablate.VARIANTS[name](), 9 * torch.rand(1, 1, 128, 128)
    assert torch.allclose(model(x), x, atol=1e-4)
    model(x).square().mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


def test_a_packed_picture_is_the_picture_made_smaller(tmp_path):
    y, x = np.mgrid[:40, :60]
    rgb = np.stack([x * 1000, y * 1600, x * 500 + y * 800], -1).astype(np.uint16)
    path = tmp_path / "picture.png"
    path.write_bytes(encode_png(rgb))
    smaller = tmp_path / "smaller.png"
    smaller.write_bytes(pack.reduced_png(path, 0.5))
    packed = read_png(smaller)
    assert packed.shape == (20, 30, 3)
    blocks = rgb.astype(float).reshape(20, 2, 30, 2, 3).mean((1, 3))
    assert np.abs(packed - blocks)[2:-2, 2:-2].max() < 40
