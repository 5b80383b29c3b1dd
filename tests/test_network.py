import json
from pathlib import Path

import numpy as np
import pytest
import torch

import bdinn_core.network
from bdinn_core import BDINN, BDINNConfig, FormatError, ModelError, OptionError, checkpoint, load_model
from bdinn_core.checkpoint import WEIGHTS, save_model
from bdinn_core.network import CONFIGS
from bdinn_core.network.blocks import LiftingStep
from bdinn_core.network.haar import haar_merge, haar_split
from bdinn_core.network.subnet import limited

SMALL = BDINNConfig(
    widths=(6, 8, 8),
    depths=(0, 1, 2),
    banded_from_level=2,
)
SIZES = [(1, 1), (7, 5), (64, 64), (67, 131)]


def shaken(config: BDINNConfig, dtype: torch.dtype = torch.float64) -> BDINN:
    """A model whose every weight matters: none of its subnets is zero any more."""
    torch.manual_seed(0)
    model = BDINN(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def picture(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1)) * 255


@pytest.mark.parametrize("size", [(2, 2), (6, 4), (66, 130)])
@pytest.mark.parametrize("channels", [1, 3])
def test_invertible_blocks(size, channels):
    step = LiftingStep(channels).double()
    with torch.no_grad():
        for parameter in step.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    x = picture(2, channels, *size)
    for encode, decode in ((haar_split, haar_merge), (step.encode, step.decode)):
        low, high = encode(x)
        assert (low.shape[1], high.shape[1]) == (channels, 3 * channels)
        assert (decode(low, high) - x).abs().max() < 1e-10
        assert (encode(decode(low, high))[1] - high).abs().max() < 1e-10


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("config", [CONFIGS["fast"], SMALL], ids=["fast", "small"])
def test_decode_inverts_encode(config, size):
    model, x = shaken(config), picture(2, 1, *size)
    assert (model.decode(model.encode(x)) - x).abs().max() < 1e-10


@pytest.mark.parametrize("size", SIZES)
def test_untrained_network_is_the_identity(size):
    x = picture(2, 1, *size)
    assert (BDINN(CONFIGS["fast"]).double()(x) - x).abs().max() < 1e-10


@pytest.mark.parametrize("size", SIZES)
def test_any_size(size):
    with torch.no_grad():
        assert shaken(CONFIGS["fast"])(picture(1, 1, *size)).shape == (1, 1, *size)


def test_joint_channels():
    config = BDINNConfig.from_dict({**SMALL.to_dict(), "in_channels": 3})
    model, x = shaken(config), picture(1, 3, 21, 18)
    assert (model.decode(model.encode(x)) - x).abs().max() < 1e-10
    assert model(x).shape == x.shape


def test_result_does_not_depend_on_the_level():
    model, x = shaken(CONFIGS["fast"]), picture(1, 1, 70, 90)
    with torch.no_grad():
        assert (model(x + 500) - 500 - model(x)).abs().max() < 1e-9


def test_latents_hold_as_many_numbers_as_the_padded_picture():
    latents = BDINN(SMALL).encode(picture(1, 1, 23, 9).float())
    assert latents.low.numel() + sum(high.numel() for high in latents.highs) == 24 * 16
    assert latents.size == (23, 9)


@pytest.mark.parametrize("level", [0.0, 16.25, 235.0])
def test_a_flat_plane_comes_back_bit_for_bit(level):
    plane = torch.full((1, 1, 40, 72), level)
    with torch.no_grad():
        assert torch.equal(shaken(SMALL, torch.float32)(plane), plane)


def test_features_are_limited_and_small_ones_hardly_change():
    features = 1e-3 * torch.randn(2, 5, 3, 3)
    torch.testing.assert_close(limited(features), features, rtol=1e-4, atol=0)
    for dtype in (torch.float64, torch.float32, torch.float16):
        rms = limited((1e6 * features).to(dtype)).double().square().mean(1).sqrt()
        torch.testing.assert_close(rms, torch.ones_like(rms), rtol=0, atol=2e-3)


def test_every_parameter_learns_once_the_last_layers_moved():
    model = shaken(SMALL, torch.float32)
    model(picture(1, 1, 32, 32).float()).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(("name", "limit"), [("fast", 3), ("quality", 100)])
def test_multiply_accumulates(name, limit):
    assert 0 < BDINN(CONFIGS[name]).kmac_per_pixel <= limit


@pytest.mark.parametrize("name", CONFIGS)
def test_readme_has_the_cost(name):
    model = BDINN(CONFIGS[name])
    parameters = sum(p.numel() for p in model.parameters())
    row = f"| `{name}` | {parameters:,} | {model.kmac_per_pixel:.2f} |"
    assert row in (Path(bdinn_core.network.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_multiply_accumulates_are_those_of_a_count_by_hand():
    config = BDINNConfig(widths=(4, 5), depths=(1, 0), banded_from_level=1)
    predict = 2 * 9 * 2 * 3  # in encode and in decode
    describe, first, hidden, grid, last = 9 * 6 * 4, 9 * 7 * 4, 9 * 4 * 4, 9 * 4 * 4, 9 * 4 * 6
    fine = predict + describe + first + hidden + grid + last
    context_of_fine = 5 * 4  # computed at the coarser scale's resolution, as all that follows
    describe, context, first, last = 9 * 10 * 5, 5 * 5, 9 * 8 * 5, 9 * 5 * 6
    coarse = predict + describe + context + first + last
    top = 9 * (8 * 5 + 5 * 5 + 5 * 1)  # first, hidden, last
    macs = fine / 4 + (context_of_fine + coarse + top) / 16
    assert BDINN(config).kmac_per_pixel == pytest.approx(macs / 1000)


def test_a_straight_gradient_leaves_no_details():
    y, x = torch.arange(64, dtype=torch.float64), torch.arange(96, dtype=torch.float64)
    for high in BDINN(SMALL).double().encode((0.7 * y[:, None] + 1.3 * x)[None, None]).highs:
        assert high[..., 1:-1, 1:-1].abs().max() < 1e-10
        assert high.abs().max() > 0.1  # at the border, where nothing lies beyond


def test_wrong_input_is_named():
    with pytest.raises(FormatError, match=r"\(1, 3, 8, 8\)"):
        BDINN(SMALL)(torch.zeros(1, 3, 8, 8))
    with pytest.raises(OptionError, match="widths"):
        BDINNConfig.from_dict({**SMALL.to_dict(), "widths": (0, 1, 2)})
    with pytest.raises(OptionError, match="widths"):
        BDINNConfig.from_dict({**SMALL.to_dict(), "widths": 5})
    with pytest.raises(OptionError, match="depths"):
        BDINNConfig.from_dict({**SMALL.to_dict(), "depths": (4,)})


def test_checkpoint_round_trip(tmp_path):
    model, path = shaken(SMALL, torch.float32), tmp_path / "m.safetensors"
    save_model(model, path, {"steps": 7})
    loaded = load_model(str(path))
    assert not loaded.training
    assert loaded.config == SMALL
    x = picture(1, 1, 20, 20).float()
    with torch.no_grad():
        assert torch.equal(loaded(x), model.eval()(x))
    assert json.loads(path.with_suffix(".json").read_text())["steps"] == 7


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_model_and_its_record(name):
    model = load_model(name)
    assert model.config == CONFIGS[name]
    assert not model.training
    assert all(p.isfinite().all() for p in model.parameters())
    record = json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))
    assert record["steps_done"] == record["recipe"]["steps"]
    assert {"seed", "learning_rate", "loss"} <= record["recipe"].keys()
    scores = record["held_out"].values()
    assert len(scores) == 9 and all(isinstance(value, float) for score in scores for value in score.values())


def test_missing_weights_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match=r"lacks the weights of 'quality'.*quality\.safetensors"):
        load_model("quality")


def test_unusable_models_are_named(tmp_path):
    with pytest.raises(ModelError, match="nosuch"):
        load_model("nosuch")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not safetensors at all")
    with pytest.raises(ModelError, match="broken"):
        load_model(str(broken))
    from safetensors.torch import save_file

    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(ModelError, match="bdinn_config"):
        load_model(str(foreign))
    save_file({"a": torch.zeros(1)}, foreign, {"bdinn_config": json.dumps(SMALL.to_dict())})
    with pytest.raises(ModelError, match="foreign"):
        load_model(str(foreign))


def test_what_lies_afar_in_a_large_picture_does_no_harm():
    """Coarse layers of `fast` ask for grids of thousands of pixels, never inside when it was trained."""
    height, width = 1088, 1920
    y, x = np.mgrid[0:height, 0:width]
    truth = 40 + 30 * np.exp(-((y - 0.45 * height) ** 2 + (x - 0.4 * width) ** 2) / 700**2)
    below = slice(int(0.6 * height), None)
    truth[below] += np.random.default_rng(0).normal(0, 3, truth[below].shape)
    degraded = np.rint(truth).astype(np.float32)
    with torch.no_grad():
        restored = load_model("fast")(torch.from_numpy(degraded)[None, None])[0, 0].numpy()
    errors = [np.square(picture - truth)[below].mean() for picture in (degraded, restored)]
    assert errors[1] < 1.03 * errors[0]
