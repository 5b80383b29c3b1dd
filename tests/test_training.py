"""Training data, loss, metrics, and the training loop itself on a few tiny steps."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from lab import pairs, scenes
from lab.degrade import CODECS, Coding, code, random_coding, round_to_codes, round_to_step
from lab.filters import blur, resize
from lab.holdout import held_out_scenes
from lab.loss import LossWeights, restoration_loss
from lab.metrics import cambi, contour_error, psnr, smooth_mask
from lab.optimizer import Muon, make_optimizers, orthogonalized
from lab.pictures import HELD_OUT, is_posterised, list_pictures, rgb_to_planes
from lab.pool import PairPool
from lab.quantise import quantise, requantise
from lab.report import plot, print_table
from lab.score import PlaneScorer, Row

from bdinn_core.network import BDINN, CONFIGS
from bdinn_core.ycbcr import MATRICES, YCbCr

ROOT = Path(__file__).parent.parent


def ramp(height: int, width: int, codes: float) -> np.ndarray:
    """A horizontal gradient of `codes` codes from 40 up, float32."""
    return np.tile(np.linspace(40, 40 + codes, width, dtype=np.float32), (height, 1))


def test_resize_keeps_constants_and_ramps():
    assert np.allclose(resize(np.full((7, 9), 3.5, np.float32), 20, 5), 3.5, atol=1e-5)
    enlarged = resize(ramp(8, 32, 31), 16, 64)
    assert np.allclose(np.diff(enlarged, axis=1)[:, 8:-8], 0.5, atol=1e-3)
    assert np.allclose(resize(ramp(8, 32, 31), 8, 32), ramp(8, 32, 31), atol=1e-4)


def test_blur_keeps_constants_and_spreads_an_impulse():
    assert np.allclose(blur(np.full((9, 12), 7, np.float32), 3), 7, atol=1e-5)
    impulse = np.zeros((41, 41), np.float32)
    impulse[20, 20] = 1
    spread = blur(impulse, 2.0)
    distance = np.arange(41) - 20
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(0) * distance**2).sum() == pytest.approx(4, rel=0.01)  # the variance asked for


@pytest.mark.parametrize("draw", [*scenes.SCENES, scenes.scene])
def test_scenes_follow_their_seed_and_are_not_rounded(draw):
    first, again, other = (draw(np.random.default_rng(seed), 96) for seed in (5, 5, 6))
    assert first.dtype == np.float32 and first.shape == (96, 96)
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.mean(first != np.rint(first)) > 0.5


def test_a_composed_picture_is_partly_the_picture():
    picture = scenes.textured(np.random.default_rng(1), 96)
    for seed in range(8):
        both = scenes.composed(np.random.default_rng(seed), picture)
        assert both.shape == picture.shape and both.dtype == np.float32
        assert not np.array_equal(both, picture)
    shares = [np.mean(scenes.composed(np.random.default_rng(s), picture) == picture) for s in range(8)]
    assert 0.1 < np.mean(shares) < 0.9


def test_scenes_stay_within_black_and_white():
    for seed in range(30):
        plane = scenes.scene(np.random.default_rng(seed), 64)
        assert plane.min() >= 16 and plane.max() <= 235


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_hand_back_every_frame_and_repeat(codec):
    luma = round_to_codes(ramp(96, 128, 60) + np.random.default_rng(0).normal(0, 3, (96, 128)))
    grey = np.full((48, 64), 128, np.uint8)
    frames = [(np.roll(luma, 2 * i, 1), grey, grey) for i in range(3)]
    coding = random_coding(np.random.default_rng(1), codec)
    decoded, again = code(frames, coding), code(frames, coding)
    assert len(decoded) == 3
    for source, result, repeated in zip(frames, decoded, again, strict=True):
        assert [plane.shape for plane in result] == [plane.shape for plane in source]
        assert np.array_equal(result[0], repeated[0])
        error = np.abs(result[0].astype(float) - source[0]).mean()
        assert 0 < error < 6


def test_a_higher_rate_loses_more():
    luma = round_to_codes(scenes.textured(np.random.default_rng(3), 128))
    grey = np.full((64, 64), 128, np.uint8)

    def error(rate: int) -> float:
        return float(
            np.abs(
                code([(luma, grey, grey)], Coding(codec="libx264", rate=rate))[0][0].astype(float) - luma
            ).mean()
        )

    assert error(14) < error(33)


@pytest.mark.parametrize("codec", CODECS)
def test_heavy_codings_lose_more(codec):
    luma = round_to_codes(scenes.textured(np.random.default_rng(3), 128))
    grey = np.full((64, 64), 128, np.uint8)

    def error(heavy: bool) -> float:
        codings = (random_coding(np.random.default_rng(seed), codec, heavy=heavy) for seed in range(4))
        return float(
            np.mean(
                [np.abs(code([(luma, grey, grey)], c)[0][0] - luma.astype(float)).mean() for c in codings]
            )
        )

    assert error(False) < error(True)


@pytest.mark.parametrize("kind", pairs.KINDS)
def test_pairs_follow_their_generator(kind):
    first, again = (pairs.make_pair(np.random.default_rng([1, 2]), [], kind) for _ in range(2))
    assert first.kind == kind and min(first.truth.shape) >= 256
    assert np.array_equal(first.truth, again.truth)
    if kind == "quantised":
        assert first.degraded is None
        return
    assert first.degraded is not None and again.degraded is not None
    assert np.array_equal(first.degraded, again.degraded)
    assert np.abs(first.degraded - first.truth).mean() < 6  # the right frame and plane, not shifted


def test_shares_add_up():
    assert sum(pairs.KINDS.values()) == pytest.approx(1)
    assert sum(scenes.SCENES.values()) == pytest.approx(1)
    assert sum(pairs.HEAVY_CODECS_SHARES) == pytest.approx(1)


def test_coded_colour_pairs_line_up():
    found = set()
    for seed in range(24):
        pair = pairs.make_pair(np.random.default_rng(seed), [], "libx264")
        assert pair.degraded is not None and pair.degraded.shape == pair.truth.shape
        assert abs(float((pair.degraded - pair.truth).mean())) < 2.5  # a coarse step may move a flat plane
        found.add(pair.truth.shape)
    assert found == {(512, 512), (256, 256)}  # luma, and chroma of a colour clip


def test_rgb_pairs_are_coarse_in_another_matrix():
    errors = []
    for seed in range(8):
        pair = pairs.make_pair(np.random.default_rng(seed), [], "rgb")
        assert pair.degraded is not None and pair.truth.shape == (512, 512)
        assert abs(float((pair.degraded - pair.truth).mean())) < 6
        errors.append(float((pair.degraded - pair.truth).std()))
    assert max(errors) > 0.6  # more than rounding


def test_matrices_are_inverted():
    planes = np.random.default_rng(0).uniform(16, 235, (3, 8, 9)).astype(np.float32)
    white = np.array([235, 128, 128], np.float32)[:, None, None]
    for matrix in MATRICES:
        ycbcr = YCbCr(matrix=matrix)
        assert np.allclose(ycbcr.encode(ycbcr.decode(planes)), planes, atol=1e-3)
        assert np.allclose(ycbcr.decode(white), 255, atol=1e-3)
    assert YCbCr(matrix="bt601").decode(planes)[0] == pytest.approx(  # the standard's own coefficient
        (planes[0] - 16) * 255 / 219 + 1.402 * 255 / 224 * (planes[2] - 128), abs=1e-3
    )


@pytest.mark.parametrize("step", [0.25, 1, 2, 4, 8])
def test_requantised_planes_have_few_levels_about_their_truth(step):
    plane = ramp(64, 256, 60)
    for seed in range(12):
        coarse, truth = requantise(np.random.default_rng(seed), plane, step)
        assert np.allclose(coarse % step, 0)
        assert np.diff(np.unique(coarse)).min() <= max(step, 8)  # coarser only where quantised twice
        assert abs(float((coarse - truth).mean())) < 0.1 * max(step, 4)
    assert np.array_equal(round_to_step(plane, 1), np.rint(plane))


def test_quantise_rounds_to_its_step_and_never_repeats():
    truth = ramp(32, 64, 10)
    results = [quantise(np.random.default_rng(seed), truth) for seed in range(64)]
    fine = [np.any(degraded % 1) for degraded, _ in results]
    assert 0 < sum(fine) < 16
    errors = [np.abs(degraded - changed).max() for degraded, changed in results]
    assert sum(error <= 0.5 + 1e-4 for error in errors) > 32  # mostly whole codes
    assert max(errors) > 1
    assert len({changed.tobytes() for _, changed in results}) == 64


def test_pool_is_a_function_of_seed_and_step():
    options = {"initial": 3, "pairs_per_step": 0.5, "capacity": 3}
    with PairPool(7, None, **options) as pool:
        batches = [pool.batch(step, 2, 64) for step in range(6)]
    with PairPool(7, None, start_step=5, workers=2, **options) as resumed:
        batch = resumed.batch(5, 2, 64)
    assert batch.degraded.shape == batch.truth.shape == (2, 1, 64, 64)
    assert np.array_equal(batch.degraded, batches[5].degraded)
    assert np.array_equal(batch.truth, batches[5].truth)
    assert not np.array_equal(batch.truth, batches[4].truth)
    assert batches[3].truth.shape == (1, 1, 128, 128)  # every fourth looks wider


def test_pool_reports_the_end_of_its_process(tmp_path):
    missing = tmp_path / "nothing"
    with (
        PairPool(7, missing, initial=1, pairs_per_step=1, capacity=1) as pool,
        pytest.raises(RuntimeError, match="ended"),
    ):
        pool.batch(0, 1, 64)


def test_colours_become_codes():
    rgb = np.array([[[0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0]]], np.float32)
    y, u, v = rgb_to_planes(rgb)
    assert y[0, :2] == pytest.approx([16, 235], abs=1e-3)
    assert u[0, :3] == pytest.approx([128, 128, 240], abs=1e-2)
    assert v[0, 3] == pytest.approx(240, abs=1e-2)


def test_bands_in_a_truth_are_noticed():
    assert is_posterised(np.rint(ramp(32, 256, 12)))
    assert is_posterised(np.rint(ramp(32, 256, 12)).T)
    assert not is_posterised(ramp(32, 256, 12))
    assert not is_posterised(np.rint(ramp(32, 256, 12) * 16) / 16)  # a true 12-bit gradient


def test_smooth_mask_tells_gradients_from_texture_and_edges():
    gradient = ramp(64, 64, 8)
    gradient[:, 40:] += 20
    mask = smooth_mask(torch.from_numpy(gradient)[None, None])[0, 0]
    assert mask[:, :30].all() and mask[:, 52:].all()
    assert not mask[:, 38:42].any()
    texture = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert not smooth_mask(texture).any()


def test_psnr_of_rounding():
    assert psnr(1 / 12) == pytest.approx(58.92, abs=0.01)
    assert psnr(0) == 120


def test_cambi_sees_bands_and_not_a_dithered_gradient():
    truth = ramp(270, 480, 12)
    banded = (np.rint(truth) * 4).astype(np.uint16)
    dithered = np.floor(truth * 4 + np.random.default_rng(0).random(truth.shape)).astype(np.uint16)
    assert cambi([banded]) > cambi([dithered]) + 3


def test_cambi_counts_coarse_steps_when_asked():
    coarse = (round_to_step(ramp(270, 480, 40), 4) * 4).astype(np.uint16)
    assert cambi([coarse], 5) > cambi([coarse]) + 3


def test_contour_error_is_that_of_edges():
    smooth = np.ones((64, 64), bool)
    assert contour_error(np.full((64, 64), 3.0), smooth) == 0
    error = np.zeros((64, 64))
    error[:, 32:] = 2
    # Four of 60 columns see the edge from one side to the other; along the columns, nothing changes.
    assert contour_error(error, smooth) == pytest.approx(np.sqrt(4 * 4 / 60 / 2))
    smooth[:, 20:44] = False
    assert contour_error(error, smooth) == 0


def test_orthogonalized_gradients_have_equal_singular_values():
    for shape in ((5, 40), (40, 5)):
        values = torch.linalg.svdvals(
            orthogonalized(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        )
        assert values.min() > 0.5 and values.max() < 1.5


def test_optimizers_share_the_parameters_and_learn():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.GELU(), torch.nn.Conv2d(8, 1, 3))
    optimizers = make_optimizers(model, 1e-2, 0.0)
    muon, adam = ({id(p) for g in o.param_groups for p in g["params"]} for o in optimizers)
    assert isinstance(optimizers[0], Muon) and muon == {id(model[0].weight)}
    assert muon | adam == {id(p) for p in model.parameters()} and not muon & adam
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def miss() -> torch.Tensor:
        return (model(x) - 2 * x[..., 2:-2, 2:-2]).square().mean()

    first = miss().item()
    for _ in range(60):
        model.zero_grad()
        miss().backward()
        for optimizer in optimizers:
            optimizer.step()
    assert miss().item() < 0.5 * first


def test_scores_become_a_table_and_a_plot(tmp_path, capsys):
    truth = ramp(256, 256, 12)
    scorer = PlaneScorer(truth, smooth_is_true=True, with_cambi=True)
    rows = [
        Row(degradation="rounded", scene="ramp", drawn=True, method=method, plane="Y", **scorer(result))
        for method, result in (("input", np.rint(truth)), ("blur", truth + np.float32(0.01)))
    ]
    before, after = rows
    assert before.smooth == pytest.approx(psnr(1 / 12), abs=0.2)
    assert after.smooth == pytest.approx(psnr(1e-4), abs=0.1)
    assert before.detail is None and after.contour == pytest.approx(0, abs=1e-5)
    assert before.cambi is not None and after.cambi is not None and before.cambi > after.cambi + 3
    print_table(rows)
    assert "blur" in capsys.readouterr().out
    plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def crops() -> tuple[torch.Tensor, torch.Tensor]:
    """Degraded and truth (half gradient, half texture) of one crop."""
    truth = ramp(128, 128, 8)
    truth[:, 64:] += np.random.default_rng(0).normal(0, 2, (128, 64)).astype(np.float32)
    tensor = torch.from_numpy(truth)[None, None]
    return tensor.round(), tensor


def loss(restored: torch.Tensor, smooth_is_true: bool = True) -> torch.Tensor:
    """The loss of a result for `crops()`."""
    degraded, truth = crops()
    return restoration_loss(restored, degraded, truth, torch.tensor([smooth_is_true]), LossWeights())


def test_loss_rewards_removed_bands_and_punishes_lost_texture():
    degraded, truth = crops()
    debanded, flattened = degraded.clone(), degraded.clone()
    debanded[..., :56] = truth[..., :56]
    flattened[..., 72:] = truth[..., 72:].mean()
    assert loss(truth) < 0.2 * loss(degraded)
    assert loss(debanded) < loss(degraded) - 1
    assert loss(flattened) > loss(degraded) + 1


def test_loss_ignores_smooth_regions_of_an_untrue_truth():
    degraded, truth = crops()
    restored = degraded.clone().requires_grad_()
    loss(restored, smooth_is_true=False).backward()
    assert restored.grad is not None
    smooth = smooth_mask(truth)
    assert not restored.grad[smooth].any()
    assert restored.grad[~smooth].any()


def test_held_out_pictures_are_apart_from_training(shared_dir):
    folder = shared_dir / "data" / "train"
    training = {path.name for path, _ in list_pictures(folder, held_out=False)}
    held_out = {path.name for path, _ in list_pictures(folder, held_out=True)}
    assert held_out == set(HELD_OUT)
    assert not training & held_out
    assert len(training | held_out) == len(list(folder.glob("*.png")))


def test_every_training_picture_is_attributed(shared_dir):
    text = (ROOT / "ATTRIBUTION").read_text(encoding="utf-8")
    for line in (shared_dir / "data" / "train" / "INDEX.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        name, *_, source, licence = line.split("\t")
        assert name in text and source in text and licence in text


def test_held_out_scenes_need_no_pictures():
    drawn = held_out_scenes(None)
    assert len(drawn) == 12
    for scene in drawn:
        height, width = scene.planes[0].shape
        assert scene.planes[1].shape == scene.planes[2].shape == (height // 2, width // 2)
        assert all(plane.min() >= 16 and plane.max() <= 240 for plane in scene.planes)
    dark = next(scene for scene in drawn if scene.name == "dark 1").planes[0]
    assert np.ptp(dark) < 12  # bands at least 60 px wide over 768


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    from lab.recipe import Recipe
    from train import Run

    monkeypatch.setattr("lab.validation.PAIRS_PER_KIND", 1)
    recipe = Recipe(
        config="fast", steps=4, seed=3, threads=1, batch=1, crop=64, warmup=2, initial_pairs=2, pool=2
    )
    whole = Run(recipe, tmp_path / "whole", None)
    whole.train(report_every=2, validate_every=4)
    Run(recipe, tmp_path / "halves", None).train(report_every=2, validate_every=4, stop_after_seconds=0)
    with (tmp_path / "halves" / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "loss": 9}\n{"step": 3, "lo')  # later than the checkpoint; torn by a crash
    resumed = Run(recipe, tmp_path / "halves", None)
    resumed.resume()
    assert resumed.step == 1
    resumed.train(report_every=2, validate_every=4)
    finished = resumed.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, finished[name]), name
    torch.manual_seed(recipe.seed)
    untrained = BDINN(CONFIGS["fast"]).state_dict()
    assert any(not torch.equal(value, untrained[name]) for name, value in finished.items())
    averages = whole.average.state_dict(), resumed.average.state_dict()
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("whole", "halves")]
    reports, again = ([e for e in map(json.loads, log) if "loss" in e] for log in logs)
    assert [e["step"] for e in reports] == [e["step"] for e in again] == [2, 4]
    assert [e["loss"] for e in reports] == [e["loss"] for e in again]
    assert (tmp_path / "whole" / "fast.safetensors").exists()
    assert (tmp_path / "whole" / "steps" / "000004.safetensors").exists()
    resumed.picture_names = ["another.png"]
    with pytest.raises(click.ClickException, match="pictures"):
        resumed.resume()
    longer = Run(replace(recipe, steps=9), tmp_path / "halves", None)
    with pytest.raises(click.ClickException, match="too late"):
        longer.resume()


def test_half_precision_that_overflows_changes_no_weights(tmp_path, monkeypatch):
    from lab.pool import Batch
    from lab.recipe import Recipe
    from train import Run

    monkeypatch.setattr("lab.validation.PAIRS_PER_KIND", 1)
    run = Run(Recipe(config="fast", steps=4, seed=3, threads=1, batch=1, crop=64), tmp_path, None)
    run.scaler = torch.amp.GradScaler("cpu", init_scale=1)
    monkeypatch.setattr("torch.autocast", lambda *args, **kwargs: nullcontext())  # the CPU has no such half
    plane = ramp(64, 64, 8)[None, None]
    broken = plane.copy()
    broken[..., 5, 5] = np.inf

    class Pool:
        def batch(self, step: int, size: int, crop: int) -> Batch:
            return Batch(degraded=broken, truth=plane, smooth_is_true=np.array([True]))

    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train_step(Pool())
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert run.scaler.get_scale() == 0.5
