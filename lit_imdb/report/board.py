"""Where the report goes: TensorBoard, `plots/`, and `report.html`, which needs no network."""

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.files import whole_file
from lit_imdb.report.evaluation import Run
from lit_imdb.report.panels import CHARTS, PANELS, Panel
from lit_imdb.report.tables import Table, clean


class Board:
    """A run's SummaryWriter and folder."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        self._writer: Any = logger.experiment
        self._folder = Path(logger.log_dir)
        self._failed: set[str] = set()
        self._writer.add_custom_scalars(CHARTS)

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Turn an exception into one warning: a broken panel must not end a run."""
        try:
            yield
        except Exception as error:
            if what not in self._failed:
                self._failed.add(what)
                message = " ".join(f"{type(error).__name__}: {error}".split())
                rank_zero_warn(f"the report continues without {what}: {message}")

    def scalars(self, numbers: Mapping[str, float], step: int) -> None:
        for tag, value in numbers.items():
            self._writer.add_scalar(tag, value, step)

    def answers(self, run: Run, split: str, step: int) -> None:
        """Log what TensorBoard draws itself, with a slider for the steps."""
        found = run.evaluations[split]
        numbers = {"calibration_error": found.calibration_error(), "roc_auc": found.roc_auc()}
        self.scalars({f"{split}/{name}": value for name, value in numbers.items()}, step)
        self._writer.add_pr_curve(
            f"{split}/precision_recall", found.labels, found.probabilities, step
        )
        for label, name in enumerate(("neg", "pos")):
            chosen = found.probabilities[found.labels == label]
            if len(chosen):
                self._writer.add_histogram(f"{split}/probability_{name}", chosen, step)

    def weights(self, run: Run, step: int) -> None:
        """Log histograms of the recurrent matrices and of the last layer."""
        for name, weight in run.net.named_parameters():
            if "weight_hh" in name or name == "head.weight":
                self._writer.add_histogram(f"weights/{name}", weight.detach(), step)

    def projector(self, run: Run, step: int) -> None:
        """Write the frequent words and their vectors for TensorBoard's projector."""
        space = run.word_space
        rows = [
            [clean(word), f"{share:.3f}"]
            for word, share in zip(space.words, space.polarity.tolist(), strict=True)
        ]
        self._writer.add_embedding(space.vectors, rows, None, step, "words", ["word", "polarity"])

    def panels(self, run: Run, summary: Mapping[str, str], step: int) -> None:
        """Show every panel: in TensorBoard, as a picture in `plots/`, in `report.html`."""
        parts = []
        for heading, section in PANELS.items():
            parts += [f"<h2>{html.escape(heading)}</h2>", '<div class="panels">']
            for panel in section:
                with self.guard(f"the panel {panel.tag}"):
                    parts.append(self._panel(panel, run, step))
            parts.append("</div>")
        fields = {"summary": Table(["run", ""], list(summary.items())).html()}
        template = files("lit_imdb.report").joinpath("page.html").read_text("utf-8")
        page = Template(template).substitute(fields, sections="\n".join(parts))
        self._write("report.html", page.encode())

    def _panel(self, panel: Panel, run: Run, step: int) -> str:
        """Show a panel in TensorBoard and return it for the page."""
        shown = panel.draw(run)
        title = html.escape(panel.title)
        caption = re.sub(r"(--[\w.]+)", r"<code>\1</code>", html.escape(panel.caption))
        if isinstance(shown, Table):
            self._writer.add_text(panel.tag, shown.markdown(), step)
            return f'<div class="wide"><h3>{title}</h3><p>{caption}</p>\n{shown.html()}</div>'
        file = io.BytesIO()
        shown.suptitle(panel.title)
        shown.savefig(file, format="png")
        pixels = np.asarray(Image.open(file).convert("RGB"))
        self._writer.add_image(panel.tag, pixels, step, dataformats="HWC")
        self._write(f"plots/{panel.tag.replace('/', '_')}.png", file.getvalue())
        source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        image = f'<img alt="{title}" width="600" height="450" src="{source}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as file:
            file.write(content)
