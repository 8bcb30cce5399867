"""Figures of one size and style, readable on TensorBoard's light and dark page.

matplotlib is imported when the first one is drawn. Text and axes are what takes its time, 10 ms a
panel, so a sheet keeps a picture of its empty panels and draws only lines and numbers anew.
"""

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np

WIDTH, HEIGHT = 960, 520  # pixels
# Okabe and Ito's colours, which colour-blind people can tell apart
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
_DPI = 100
_SHADES = 20  # of a colour; with more of them white would become nearly white


class Sheet:
    """Panels in a grid. Limits and ticks are set on `axes`, before the first `begin`.

    Args:
        titles: Title, x label and y label of each panel.
        columns: Panels in a row.

    Attributes:
        axes: matplotlib's axes, one for each panel.
    """

    def __init__(self, titles: Sequence[tuple[str, str, str]], columns: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white")
        self._canvas: Any = FigureCanvasAgg(self._figure)
        self._heading = self._figure.text(0.01, 0.965, "", fontsize=11)
        self._empty: Any = None
        rows = math.ceil(len(titles) / columns)
        self.axes: list[Any] = []
        for index, (title, x, y) in enumerate(titles):
            row, column = divmod(index, columns)
            wide, high = 1 / columns, 0.95 / rows
            left, bottom = column * wide + 0.065, 0.95 - (row + 1) * high + 0.11
            # add_axes, since subplots with their layout take three times as long
            axes = self._figure.add_axes((left, bottom, wide - 0.08, high - 0.17))
            axes.set_title(title, fontsize=10, y=1)  # else its place is sought: 2 ms
            axes.set_xlabel(x, fontsize=9)
            axes.set_ylabel(y, fontsize=9, labelpad=2)
            axes.tick_params(labelsize=8, length=3)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            self.axes.append(axes)

    def begin(self, heading: str) -> None:
        """Takes the old data out; what is added to `axes` from here on is drawn by `png`."""
        if self._empty is None:
            with _unhinted():
                self._canvas.draw()
            self._empty = self._canvas.copy_from_bbox(self._figure.bbox)
        self._heading.set_text(heading)
        for axes in self.axes:
            for artist in _data(axes):
                artist.remove()

    def png(self) -> bytes:
        """The drawn sheet, in few colours and compressed lightly.

        All colours take 7 ms more, and twice the bytes, of which TensorBoard's writer makes a sum
        in Python: 5 ms.
        """
        from PIL import Image

        self._canvas.restore_region(self._empty)
        with _unhinted():
            self._figure.draw_artist(self._heading)
            for axes in self.axes:
                for artist in _data(axes):
                    axes.draw_artist(artist)
        size = self._canvas.get_width_height()
        image = Image.frombuffer("RGBA", size, self._canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
        target = io.BytesIO()
        few = image.convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
        few.save(target, "png", compress_level=1)
        return target.getvalue()


def line(axes: Any, x: Any, y: Any, **style: Any) -> None:
    """Adds a line; `axes.plot` takes four times as long, and a tensor would be taken apart."""
    from matplotlib.lines import Line2D

    axes.add_line(Line2D(np.asarray(x), np.asarray(y), **style))


def _unhinted() -> AbstractContextManager[None]:
    """Letters as they are, not moved to whole pixels: better spaced, a fifth of the time less."""
    from matplotlib import rc_context

    return rc_context({"text.hinting": "none"})


@cache
def _palette() -> Any:
    """White, and the way from it to each colour: what a smooth edge of a line or a letter has."""
    from PIL import Image, ImageColor

    palette = [255, 255, 255]
    for colour in ("#000000", BLUE, ORANGE, GREEN, GREY):
        for step in range(1, _SHADES + 1):
            ends = ImageColor.getrgb(colour)
            palette += [255 - round((255 - end) * step / _SHADES) for end in ends]
    image = Image.new("P", (1, 1))
    image.putpalette(palette)
    return image


def _data(axes: Any) -> list[Any]:
    return [*axes.patches, *axes.lines, *axes.texts]
