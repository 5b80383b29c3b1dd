"""Draws the letters of previews: printable ASCII in DejaVu Sans Mono. Overwrites the shipped file.

Needs matplotlib, which has the font (`pip install '.[bench]'`).
"""

from pathlib import Path

import click
import numpy as np

TARGET = Path(__file__).parent.parent / "bdinn_core" / "show" / "lettering.npy"
PIXELS = 15
"""Size of the font."""


def draw(font: Path) -> np.ndarray:
    """How much ink is where, uint8 (95, height, width): the characters from space to tilde."""
    from matplotlib.ft2font import FT2Font, LoadFlags

    face = FT2Font(str(font))
    face.set_size(PIXELS, 72)
    face.set_text("g", flags=LoadFlags.FORCE_AUTOHINT)
    width = round(face.load_char(ord("0")).linearHoriAdvance / 65536)
    ascent, descent = (round(value * PIXELS / face.units_per_EM) for value in (face.ascender, face.descender))
    cells = np.zeros((95, ascent - descent, width), np.uint8)
    for cell, code in zip(cells, range(32, 127), strict=True):
        face.clear()
        glyph = face.load_char(code, flags=LoadFlags.FORCE_AUTOHINT)
        face.set_text(chr(code), flags=LoadFlags.FORCE_AUTOHINT)
        face.draw_glyphs_to_bitmap()
        ink = np.asarray(face.get_image())
        left, _, _, top = (int(value) for value in np.floor(np.array(glyph.bbox) / 64))
        rows = min(ink.shape[0], len(cell) - max(0, ascent - top))
        columns = min(ink.shape[1], width - max(0, left))
        at = max(0, ascent - top), max(0, left)
        cell[at[0] : at[0] + rows, at[1] : at[1] + columns] = ink[:rows, :columns]
    return cells


@click.command(help=__doc__)
def main() -> None:
    import matplotlib

    np.save(TARGET, draw(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSansMono.ttf")))


if __name__ == "__main__":
    main()
