"""The Lightning hooks of the report: numbers while it trains, pictures and tables at the end."""

import base64
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.files import whole_file
from lit_imdb.report.answers import Answers
from lit_imdb.report.figures import Table
from lit_imdb.report.gradients import measure
from lit_imdb.report.page import html_of
from lit_imdb.report.panels import PANELS, Panel, Run
from lit_imdb.training.history import History

# TensorBoard's CUSTOM SCALARS: several tags in one chart.
_PAIRS = {name: ["Multiline", [f"train/{name}", f"val/{name}"]] for name in ("loss", "acc")}


class Report(Callback):
    """Shows what the model has learned, where it fails and whether it can learn.

    It draws no random number: a run has the same weights with and without it. With several
    processes the pictures show the reviews of the first, and the numbers are means over all.

    Args:
        history: The metrics of the whole run.
    """

    def __init__(self, history: History) -> None:
        self._history = history

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        for writer in _writers(trainer):
            writer.add_custom_scalars({"Training and validation": _PAIRS})

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if pl_module.logs_now:
            with self._guard("the gradient norm"):
                norm = _gradient_norm(trainer, pl_module, optimizer)
                pl_module.log("train/gradient_norm", norm)
                pl_module.log("train/lr", optimizer.param_groups[0]["lr"])

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        with self._guard("the validation"):
            answers = Answers.of(trainer, pl_module, "val")
            pl_module.log_dict(answers.scalars(), sync_dist=True)
            if pl_module.net.cells:
                _, scalars = measure(pl_module.net, trainer.datamodule.splits["val"])
                pl_module.log_dict(scalars, sync_dist=True)
            for writer in _writers(trainer):
                # the step of val/loss: a run that resumes after it must not repeat it
                step = trainer.global_step - 1
                writer.add_pr_curve("val/pr_curve", answers.labels, answers.probabilities, step)

    def write(self, trainer: Any, module: Any, results: Mapping[str, Any]) -> dict[str, bytes]:
        """Write `report.html`, of the weights just tested.

        Returns:
            The pictures that TensorBoard shows too, by their tags: PNG files.
        """
        pictures: dict[str, bytes] = {}
        if results["test_acc"] is None or not module.evaluated:
            rank_zero_warn("there is no report.html: this process has tested no review")
            return pictures
        with self._guard("its page"):
            answers = Answers.of(trainer, module, "test")
            run = Run(module.net, trainer.datamodule, self._history, answers)
            sections = {}
            for heading, panels in PANELS.items():
                drawn = [(panel, self._draw(panel, run, pictures)) for panel in panels]
                sections[heading] = [(panel, content) for panel, content in drawn if content]
            with whole_file(Path(results["run"], "report.html")) as file:
                file.write(html_of(results, sections).encode())
        return pictures

    def _draw(self, panel: Panel, run: Run, pictures: dict[str, bytes]) -> str | Table | None:
        """Return a panel's table, or its picture in base64; `pictures` gains it if it has a tag."""
        if panel.of_cells and not run.net.cells:
            return None
        with self._guard(f"the panel {panel.title}"):
            content = panel.draw(run)
            if not isinstance(content, Figure):
                return content
            file = io.BytesIO()
            # twice as fast as the default
            content.savefig(file, format="png", pil_kwargs={"compress_level": 1})
            if panel.tag:
                pictures[panel.tag] = file.getvalue()
            return base64.b64encode(file.getvalue()).decode()
        return None

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """Turn an exception into a warning: a broken panel must not end a run."""
        try:
            yield
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
            rank_zero_warn(f"the report continues without {what}: {found}")


def _writers(trainer: Any) -> list[Any]:
    """Return TensorBoard's writers, which do nothing in any process but the first."""
    return [each.experiment for each in trainer.loggers if isinstance(each, TensorBoardLogger)]


def _gradient_norm(trainer: Any, pl_module: Any, optimizer: Any) -> float:
    """Return the norm over all weights, before clipping."""
    gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
    scaler: Any = getattr(trainer.precision_plugin, "scaler", None)  # of 16-bit training
    norm = float(torch.nn.utils.get_total_norm(gradients))
    if scaler and optimizer.defaults.get("fused"):  # others' gradients are unscaled by now
        norm /= scaler.get_scale()
    return norm
