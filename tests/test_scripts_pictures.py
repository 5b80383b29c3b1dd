import draw_receptive_field as drawing
import numpy as np
import pytest
import torch
from lab.looking import dependence, measure, radii, run
from torch.nn import functional as F

from bdinn_core import load_model
from bdinn_core.show.lettering import PAPER

SIZE = 96, 128


@pytest.fixture(scope="module")
def glow():
    return drawing.Glow.of_size(*SIZE)


@pytest.fixture(scope="module")
def layers(glow):
    with torch.no_grad():
        return run(load_model("fast"), torch.from_numpy(np.rint(glow.truth)).float()[None, None])[1]


def test_every_layer_reads_at_the_positions_that_are_drawn(layers):
    assert [(layer.scale, layer.number) for layer in layers] == [(s, n) for s in (3, 4, 5, 6) for n in (1, 2)]
    for layer in layers:
        y, x = ((torch.from_numpy(p) + 0.5) / layer.pitch + 0.5 for p in layer.positions())  # with the margin
        size = torch.tensor(layer.seen.shape[-2:])
        grid = torch.stack([x, y], -1).float() / (size.flip(0) - 1) * 2 - 1  # (taps, rows, columns, 2)
        read = F.grid_sample(layer.seen.expand(9, -1, -1, -1), grid, align_corners=True)
        conv = layer.module.conv
        output = torch.einsum("kchw,ock->ohw", read, conv.weight.flatten(2)) + conv.bias[:, None, None]
        assert (output - layer.module(layer.seen)[0]).abs().max() < 1e-3 * output.abs().max()


@pytest.mark.parametrize("sense", [1, -1, 0])
def test_grids_that_turn_with_the_bands_are_told_from_others(layers, glow, monkeypatch, sense):
    layer = layers[0]
    y, x = (positions[4] for positions in layer.positions())
    angle = sense * np.arctan2(y - glow.centre[0], x - glow.centre[1]) + 0.5  # clockwise, as y points down
    rotation = torch.from_numpy(np.stack([np.sin(angle), np.cos(angle)])[None])
    stretch = torch.full_like(rotation[:, :1], 2.0)
    monkeypatch.setattr(layer.module, "predict_grid", lambda seen: (rotation, stretch, 1.5 * stretch))
    figures = measure(layer, glow.centre, SIZE)
    assert figures.following == pytest.approx(float(sense == 1), abs=0.05)
    assert figures.turned[2] - figures.turned[1] == pytest.approx(162 if sense else 0, abs=8)
    assert sense or figures.turned[0] == pytest.approx(np.degrees(0.5))
    assert figures.stretched == pytest.approx((2, 2, 2))
    assert figures.reach_px == pytest.approx([8 * 3 * 5**0.5] * 3)


def test_what_a_pixel_depends_on():
    picture = torch.rand(1, 1, 9, 11, requires_grad=True)
    result = picture + 0.5 * picture.roll((3, 4), (2, 3))
    field = dependence(result, picture, (5, 6))
    assert (field[5, 6], field[2, 2], field.sum()) == (1, 0.5, 1.5)
    assert radii(field, (5, 6), (0.5, 0.9)) == [0, 5]


def test_the_picture():
    picture, lines = drawing.draw(load_model("fast"), "fast", *SIZE)
    assert picture.dtype == np.uint8
    assert picture.shape == (SIZE[0] // 2 + 5 * drawing.LINE_PX, SIZE[1] + drawing.GAP_PX, 3)
    for panel in (picture[:, : SIZE[1] // 2], picture[:, -SIZE[1] // 2 :]):
        assert (panel[:, -1] == PAPER).all(1).sum() >= 5 * drawing.LINE_PX - 1  # words are cut off before
        assert len(np.unique(panel[drawing.LINE_PX : -4 * drawing.LINE_PX], axis=0)) > 20
    assert len(lines) == 12
    assert all(line.count("|") == 8 for line in lines[:10])
