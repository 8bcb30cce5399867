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
from lit_imdb.report.run import Run
from lit_imdb.report.tables import Table, clean


class Board:
    """A run's SummaryWriter and folder."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        self.writer: Any = logger.experiment
        self.folder = Path(logger.log_dir)
        self._failed: set[str] = set()

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Turn an exception into one warning: a broken panel must not end a run."""
        try:
            yield
        except Exception as error:
            if what not in self._failed:
                self._failed.add(what)
                message = " ".join(f"{type(error).__name__}: {error}".split())
                rank_zero_warn(f"the report continues without {what}: {message}", stacklevel=4)

    def scalars(self, numbers: Mapping[str, float], step: int) -> None:
        for tag, value in numbers.items():
            self.writer.add_scalar(tag, value, step)

    def answers(self, run: Run, split: str, step: int) -> None:
        """Log what TensorBoard draws itself, with a slider for the steps."""
        with self.guard(f"the curves of {split}"):
            evaluation = run.evaluations[split]
            probabilities, labels = evaluation.probabilities, evaluation.labels
            self.writer.add_pr_curve(f"{split}/precision_recall", labels, probabilities, step)
            for label, name in enumerate(("neg", "pos")):
                chosen = probabilities[labels == label]
                if len(chosen):
                    self.writer.add_histogram(f"{split}/probability_{name}", chosen, step)

    def weights(self, run: Run, step: int) -> None:
        """Log histograms of the recurrent matrices and of the last layer."""
        with self.guard("the histograms of weights"):
            for name, weight in run.net.named_parameters():
                if "weight_hh" in name or name == "head.weight":
                    self.writer.add_histogram(f"weights/{name}", weight.detach(), step)

    def projector(self, run: Run, step: int) -> None:
        """Write the frequent words and their vectors for TensorBoard's projector."""
        with self.guard("the projector"):
            space = run.word_space
            columns = map(clean, space.words), space.polarity.tolist(), space.leaning
            rows = [
                [word, f"{share:.3f}", side] for word, share, side in zip(*columns, strict=True)
            ]
            vectors = (1000 * space.vectors).round().int()  # only angles matter; writes faster
            header = ["word", "polarity", "leaning"]
            self.writer.add_embedding(vectors, rows, None, step, "words", header)

    def panels(self, run: Run, step: int) -> dict[str, bytes | Table]:
        """Log every panel and return it by tag; pictures become files in `plots/` too."""
        drawn: dict[str, bytes | Table] = {}
        for panel in chain(*panels.PANELS.values()):
            with self.guard(f"the panel {panel.tag}"):
                shown = panel.draw(run)
                if isinstance(shown, Table):
                    self.writer.add_text(panel.tag, shown.markdown(), step)
                    drawn[panel.tag] = shown
                    continue
                file = io.BytesIO()
                shown.suptitle(panel.title)
                shown.savefig(file, format="png")
                drawn[panel.tag] = file.getvalue()
                pixels = np.asarray(Image.open(file).convert("RGB"))
                self.writer.add_image(panel.tag, pixels, step, dataformats="HWC")
                self.write(f"plots/{panel.tag.replace('/', '_')}.png", file.getvalue())
        return drawn

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as file:
            file.write(content)
