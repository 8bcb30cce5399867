"""Figures of one size and style, readable on TensorBoard's light and dark page.

matplotlib is imported when the first one is drawn. Axes cost more to build than to draw (5 ms
each), so a sheet is built once and drawn again with other data.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 960, 520  # pixels
# Okabe and Ito's colours, which colour-blind people can tell apart
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
_DPI = 100


class Sheet:
    """Panels in a grid.

    Args:
        titles: Title, x label and y label of each panel.
        columns: Panels in a row.
    """

    def __init__(self, titles: Sequence[tuple[str, str, str]], columns: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor="white")
        self._canvas: Any = FigureCanvasAgg(figure)
        self._heading = figure.text(0.01, 0.965, "", fontsize=11, weight="bold")
        rows = math.ceil(len(titles) / columns)
        self.axes: list[Any] = []
        for index, (title, x, y) in enumerate(titles):
            row, column = divmod(index, columns)
            wide, high = 1 / columns, 0.95 / rows
            left, bottom = column * wide + 0.065, 0.95 - (row + 1) * high + 0.11
            # add_axes, since subplots with their layout take three times as long
            axes = figure.add_axes((left, bottom, wide - 0.08, high - 0.17))
            axes.set_title(title, fontsize=10)
            axes.set_xlabel(x, fontsize=9)
            axes.set_ylabel(y, fontsize=9, labelpad=2)
            axes.tick_params(labelsize=8, length=3)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            self.axes.append(axes)

    def clear(self, heading: str) -> None:
        """Takes the old data out and writes a new heading."""
        self._heading.set_text(heading)
        for axes in self.axes:
            for artist in (*axes.lines, *axes.patches, *axes.texts, *axes.images):
                artist.remove()

    def png(self) -> bytes:
        """The drawn sheet, with 128 colours: a third of the bytes."""
        from PIL import Image

        self._canvas.draw()
        size = self._canvas.get_width_height()
        image = Image.frombuffer("RGBA", size, self._canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
        palette = image.convert("RGB").quantize(128, method=Image.Quantize.FASTOCTREE)
        target = io.BytesIO()
        palette.save(target, "png", compress_level=6)
        return target.getvalue()
