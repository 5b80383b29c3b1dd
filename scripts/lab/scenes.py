"""Procedural ground truth: planes in model units (luma codes 16..235, as floats) from a generator.

Every function takes a `numpy.random.Generator` and draws all it needs from it, so that a seed fixes
the scene. Nothing here is rounded: rounding is what `degrade` does.
"""

import numpy as np

from .filters import blur, resize

__all__ = [
    "SCENES",
    "cel",
    "clip_to_range",
    "composed",
    "faded",
    "flare",
    "foggy",
    "gradient",
    "grainy",
    "log_uniform",
    "night",
    "scene",
    "smooth_shape",
    "specked",
    "textured",
]

BLACK, WHITE = 16.0, 235.0


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number between two, of which each octave is as likely."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Column (size, 1) and row (1, size) of pixel positions in 0..1."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    return axis[:, None], axis[None, :]


def clip_to_range(plane: np.ndarray) -> np.ndarray:
    """Limits a plane to black..white; float32."""
    return np.clip(plane, BLACK, WHITE).astype(np.float32)


def smooth_shape(rng: np.random.Generator, size: int) -> np.ndarray:
    """A smooth function of (size, size), scaled to 0..1."""
    y, x = _axes(size)
    kind = rng.integers(6)
    if kind == 0:  # linear
        angle = rng.uniform(0, 2 * np.pi)
        t = np.cos(angle) * x + np.sin(angle) * y
    elif kind == 1:  # radial
        t = np.hypot(x - rng.uniform(-0.5, 1.5), y - rng.uniform(-0.5, 1.5))
    elif kind == 2:  # one to three glows
        t = np.zeros((size, size), np.float32)
        for _ in range(rng.integers(1, 4)):
            spread = log_uniform(rng, 0.01, 0.5)
            distance = (x - rng.uniform()) ** 2 + rng.uniform(0.5, 2) * (y - rng.uniform()) ** 2
            t = t + rng.uniform(0.3, 1) * np.exp(-distance / spread)
    elif kind == 3:  # low-frequency noise
        grid = rng.standard_normal(rng.integers(4, 10, 2)).astype(np.float32)
        t = resize(grid, size, size)
    elif kind == 4:  # clouds: a few octaves, all of them smooth
        t = sum(
            resize(rng.standard_normal((n, n)).astype(np.float32), size, size) * 0.45**i
            for i, n in enumerate((4, 7, 13))
        )
    else:  # polynomial
        c = rng.standard_normal(6)
        t = c[0] * x + c[1] * y + c[2] * x * y + c[3] * x * x + c[4] * y * y + c[5] * x * x * y
    t = np.broadcast_to(np.asarray(t, np.float32), (size, size))
    t = (t - t.min()) / (np.ptp(t) + 1e-9)
    return t if rng.random() < 0.5 else t ** np.float32(rng.uniform(0.6, 2))


def gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    """A gradient of 0.5 to 160 codes over the patch: bands from a few pixels to wider than the patch."""
    amplitude = log_uniform(rng, 0.5, 160)
    if rng.random() < 0.3:  # dark scenes band most visibly
        base = rng.uniform(BLACK, BLACK + 24)
        amplitude = min(amplitude, 40.0)
    else:
        base = rng.uniform(BLACK, WHITE - amplitude)
    shape = smooth_shape(rng, size)
    return (base + amplitude * (shape if rng.random() < 0.5 else 1 - shape)).astype(np.float32)


def _distance(rng: np.random.Generator, size: int) -> np.ndarray:
    """Signed distance in pixels to a random outline: negative inside; (size, size)."""
    y, x = (axis * size for axis in _axes(size))
    kind = rng.integers(4)
    if kind == 0:  # ellipse
        stretch = rng.uniform(0.6, 1.6)
        return np.hypot(x - rng.uniform(0, size), (y - rng.uniform(0, size)) * stretch) - rng.uniform(10, 150)
    if kind == 1:  # strip
        angle = rng.uniform(0, np.pi)
        across = np.cos(angle) * (x - rng.uniform(0, size)) + np.sin(angle) * (y - rng.uniform(0, size))
        return np.abs(across) - rng.uniform(1, 60)
    if kind == 2:  # blobs
        noise = blur(rng.standard_normal((size, size)).astype(np.float32), rng.uniform(8, 40))
        return -noise / noise.std() * rng.uniform(10, 40) + rng.uniform(0, 30)
    dx, dy = np.abs(x - rng.uniform(0, size)), np.abs(y - rng.uniform(0, size))
    return np.maximum(dx - rng.uniform(8, 120), dy - rng.uniform(8, 120))  # rectangle


def cel(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cel-shaded drawing: shapes filled with gradients or texture, hard or soft edges, line art."""
    plane = gradient(rng, size)
    for _ in range(rng.integers(1, 7)):
        distance = _distance(rng, size)
        softness = log_uniform(rng, 0.7, 12)
        cover = np.clip(0.5 - distance / softness, 0, 1)
        fill = gradient(rng, size) if rng.random() < 0.8 else textured(rng, size)
        plane = plane + cover * (fill - plane)
        if rng.random() < 0.45:
            line = np.clip(1.5 - np.abs(distance) / rng.uniform(0.6, 2), 0, 1)
            plane = plane + line * (rng.uniform(BLACK, 70) - plane)
    return plane.astype(np.float32)


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise of a power-law spectrum, (size, size), standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    lowest = log_uniform(rng, 1 / size, 0.1)
    weight = np.maximum(frequency, lowest) ** -rng.uniform(0, 1.8)
    if rng.random() < 0.4:  # finest scales missing: a slightly blurred picture
        weight = weight * np.exp(-((frequency / rng.uniform(0.12, 0.5)) ** 2))
    weight[0, 0] = 0
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * weight, s=(size, size))
    return (noise / noise.std()).astype(np.float32)


def _weave(rng: np.random.Generator, size: int) -> np.ndarray:
    """Gratings that drift in phase: fabric, hatching, brushed metal; standard deviation 1."""
    y, x = (axis * size for axis in _axes(size))
    plane = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 4)):
        angle, period = rng.uniform(0, np.pi), log_uniform(rng, 2.2, 24)
        phase = resize(rng.standard_normal((6, 6)).astype(np.float32), size, size) * rng.uniform(0, 3)
        plane += np.sin(2 * np.pi / period * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    if rng.random() < 0.5:
        plane = np.tanh(plane * rng.uniform(1, 4))
    return (plane / (plane.std() + 1e-6)).astype(np.float32)


def textured(rng: np.random.Generator, size: int) -> np.ndarray:
    """A gradient under texture of standard deviation 0.3 to 40 codes, everywhere or in parts."""
    texture = _noise(rng, size) if rng.random() < 0.7 else _weave(rng, size)
    strength = log_uniform(rng, 0.3, 3) if rng.random() < 0.5 else log_uniform(rng, 2, 40)
    if rng.random() < 0.5:  # fades in and out, as texture in pictures does
        strength = strength * np.clip(smooth_shape(rng, size) * rng.uniform(1, 3) - rng.uniform(0, 1), 0, 1)
    return (gradient(rng, size) + strength * texture).astype(np.float32)


def grainy(rng: np.random.Generator, size: int) -> np.ndarray:
    """Film grain of standard deviation 0.3 to 6 codes over a gradient or a drawing."""
    plane = gradient(rng, size) if rng.random() < 0.6 else cel(rng, size)
    grain = rng.standard_normal((size, size)).astype(np.float32)
    if rng.random() < 0.8:
        grain = blur(grain, rng.uniform(0.4, 1.4))
    strength = log_uniform(rng, 0.3, 6) / grain.std()
    if rng.random() < 0.5:  # less grain in the dark and in the light
        tone = (plane - BLACK) / (WHITE - BLACK)
        strength = strength * (0.4 + 2.4 * np.clip(tone * (1 - tone), 0, 0.25))
    return (plane + strength * grain).astype(np.float32)


def night(rng: np.random.Generator, size: int) -> np.ndarray:
    """A dark scene whose few codes spread over the whole patch: bands of 100 px and more."""
    amplitude = log_uniform(rng, 1, 8)
    plane = rng.uniform(BLACK, BLACK + 30) + amplitude * smooth_shape(rng, size)
    if rng.random() < 0.4:  # a second light of another shape
        plane = plane + log_uniform(rng, 0.3, 4) * smooth_shape(rng, size)
    if rng.random() < 0.3:  # something stands in it
        cover = np.clip(0.5 - _distance(rng, size) / log_uniform(rng, 0.7, 20), 0, 1)
        plane = plane + cover * (rng.uniform(BLACK, BLACK + 12) - plane)
    return plane.astype(np.float32)


def faded(rng: np.random.Generator, size: int) -> np.ndarray:
    """A drawing, texture or grain on its way to black, white or grey: little contrast is left."""
    plane = (cel, textured, grainy)[rng.integers(3)](rng, size)
    level = rng.choice((BLACK, WHITE, rng.uniform(BLACK, WHITE)))
    return (level + (plane - level) * np.float32(log_uniform(rng, 0.03, 0.6))).astype(np.float32)


def foggy(rng: np.random.Generator, size: int) -> np.ndarray:
    """Contrast that drowns in fog from one side to the other, so that detail runs out into a gradient."""
    plane = (cel, textured)[rng.integers(2)](rng, size)
    clear = np.clip(smooth_shape(rng, size) * rng.uniform(1, 1.6) - rng.uniform(0, 0.5), 0, 1)
    fog = rng.uniform(60, WHITE) + rng.uniform(-25, 25) * smooth_shape(rng, size)
    return (fog + (plane - fog) * clear ** np.float32(rng.uniform(1, 3))).astype(np.float32)


def flare(rng: np.random.Generator, size: int) -> np.ndarray:
    """A light into the lens: a halo, a streak, and rings and discs along a line, over a dim scene."""
    y, x = _axes(size)
    plane = night(rng, size) if rng.random() < 0.6 else gradient(rng, size)
    centre_y, centre_x = rng.uniform(0, 1, 2)
    across, along = y - centre_y, x - centre_x
    halo = 1 / (1 + (np.hypot(across, along) / log_uniform(rng, 0.02, 0.3)) ** 2)
    plane = plane + log_uniform(rng, 5, 150) * halo
    if rng.random() < 0.5:
        streak = np.exp(-((across / rng.uniform(0.005, 0.05)) ** 2)) / (1 + np.abs(along) * rng.uniform(2, 9))
        plane = plane + log_uniform(rng, 3, 60) * streak
    for _ in range(rng.integers(0, 5)):
        place = rng.uniform(-1, 2)
        distance = np.hypot(
            y - (centre_y + place * (0.5 - centre_y)), x - (centre_x + place * (0.5 - centre_x))
        )
        radius, softness = log_uniform(rng, 0.02, 0.25), log_uniform(rng, 0.003, 0.1)
        disc = np.clip(0.5 - (distance - radius) / softness, 0, 1)
        if rng.random() < 0.4:
            disc = disc * (distance / radius) ** 2
        plane = plane + log_uniform(rng, 0.7, 20) * disc
    return plane.astype(np.float32)


def specked(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stars, sparks, dust or hot pixels over a gradient: what is lone and small, and no fault of a codec."""
    plane = (night, gradient, cel)[rng.choice(3, p=(0.5, 0.35, 0.15))](rng, size).copy()
    reach = np.arange(-6, 7)
    sharp = rng.random() < 0.3  # single pixels
    for _ in range(int(log_uniform(rng, 3, 400))):
        y, x = rng.integers(6, size - 6, 2)
        height = log_uniform(rng, 3, 200) * (1 if rng.random() < 0.8 else -1)
        if sharp:
            plane[y, x] += height
            continue
        spread, (dy, dx) = 2 * log_uniform(rng, 0.35, 1.6) ** 2, rng.uniform(-0.5, 0.5, 2)
        spot = np.exp(-((reach[:, None] - dy) ** 2 + (reach[None, :] - dx) ** 2) / spread)
        plane[y - 6 : y + 7, x - 6 : x + 7] += (height * spot).astype(np.float32)
    return plane


SCENES = {
    gradient: 0.20,
    cel: 0.22,
    textured: 0.18,
    grainy: 0.10,
    night: 0.10,
    faded: 0.06,
    foggy: 0.05,
    flare: 0.05,
    specked: 0.04,
}
"""Every kind of scene and its share."""


def scene(rng: np.random.Generator, size: int) -> np.ndarray:
    """One scene of any kind: (size, size) float32 in model units, within black..white."""
    draw = list(SCENES)[rng.choice(len(SCENES), p=list(SCENES.values()))]
    return clip_to_range(draw(rng, size))


def composed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A plane (size, size) of a picture, part of which is drawn: a sky behind it, a glow or fog over it."""
    size = picture.shape[0]
    drawn = (gradient, night, cel)[rng.choice(3, p=(0.5, 0.3, 0.2))](rng, size)
    if rng.random() < 0.6:
        cover = np.clip(0.5 - _distance(rng, size) / log_uniform(rng, 0.7, 60), 0, 1)
    else:
        cover = np.clip(smooth_shape(rng, size) * rng.uniform(1, 2) - rng.uniform(0, 0.5), 0, 1)
    return (picture + cover * (drawn - picture)).astype(np.float32)
