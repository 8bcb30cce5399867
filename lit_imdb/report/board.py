"""Where the report goes: TensorBoard's events, and files in the run folder."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.files import whole_file
from lit_imdb.report import panels
from lit_imdb.report.evaluation import Run
from lit_imdb.report.page import page
from lit_imdb.report.tables import Table, clean


class Board:
    """A run's SummaryWriter and folder."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        self._writer: Any = logger.experiment
        self._folder = Path(logger.log_dir)
        self._failed: set[str] = set()
        self._writer.add_custom_scalars(panels.CHARTS)

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
        drawn: dict[str, bytes | Table] = {}
        for panel in chain(*panels.PANELS.values()):
            with self.guard(f"the panel {panel.tag}"):
                shown = panel.draw(run)
                if isinstance(shown, Table):
                    self._writer.add_text(panel.tag, shown.markdown(), step)
                    drawn[panel.tag] = shown
                    continue
                file = io.BytesIO()
                shown.suptitle(panel.title)
                shown.savefig(file, format="png")
                drawn[panel.tag] = file.getvalue()
                pixels = np.asarray(Image.open(file).convert("RGB"))
                self._writer.add_image(panel.tag, pixels, step, dataformats="HWC")
                self._write(f"plots/{panel.tag.replace('/', '_')}.png", file.getvalue())
        self._write("report.html", page(summary, drawn).encode())

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as file:
            file.write(content)
